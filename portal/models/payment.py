"""Money that customers pay: a payment before they leave for the provider, its trail, refunds, papers, kept cards.

Amounts are fils, credits milli-credits. What a payment buys is written down with it: a price that was changed
meanwhile changes nothing for whoever was on the way. Rows here are never deleted.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact

STATES = ("opening", "pending", "failed", "expired", "cancelled", "held", "paid", "returned")


class Payment(Base):
    """One attempt to buy something, one invoice at the provider; its id is the reference that the provider is given.

    opening: the provider is being asked for an invoice. pending: it can be paid. failed: it was tried in vain, and can
    still be paid until it expires. expired, cancelled: it was not paid in time; should money come all the same, it
    counts. held: it is paid, and people must look before it counts. paid: it counted. returned: it was held, and the
    money was given back. What may follow what is `services/payments/transitions.py`.
    """

    __tablename__ = "payments"
    __table_args__ = (
        sa.CheckConstraint(f"state in {STATES!r}", name="state"),
        sa.CheckConstraint("kind in ('plan', 'pack')", name="kind"),
        sa.CheckConstraint("amount_fils > 0 and amount_fils % 10 = 0", name="amount"),
        sa.CheckConstraint("credits >= 0", name="credits"),
        sa.CheckConstraint("refunded_fils >= 0 and refunded_fils <= coalesce(came_fils, amount_fils)", name="refunded"),
        sa.Index("ix_payments_account_id_created_at", "account_id", "created_at"),
        sa.Index("ix_payments_state_created_at", "state", "created_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id"))
    actor: Mapped[str] = mapped_column(exact(64))
    """`user:<id>`, or `renewal`."""
    kind: Mapped[str] = mapped_column(exact(8))
    item: Mapped[str] = mapped_column(exact(32))
    """The plan's or pack's id."""
    name_ar: Mapped[str] = mapped_column(sa.String(120))
    name_en: Mapped[str] = mapped_column(sa.String(120))
    credits: Mapped[int] = mapped_column(sa.BigInteger)
    period_days: Mapped[int] = mapped_column(default=0)
    """How long it prolongs a subscription; 0 for a pack."""
    amount_fils: Mapped[int]
    came_fils: Mapped[int | None]
    """What the provider says that came, where that is another amount in the same currency."""
    currency: Mapped[str] = mapped_column(exact(3), default="KWD")
    method: Mapped[str] = mapped_column(exact(12))
    """The provider's code: `kn`, `vm` …"""
    state: Mapped[str] = mapped_column(exact(10), default="opening")
    reason: Mapped[str] = mapped_column(exact(40), default="")
    """Why it failed or is held: the provider's code (`MF004`) or a word of ours (`services/payments/reasons.py`)."""
    invoice: Mapped[str | None] = mapped_column(exact(40), unique=True)
    """The provider's id of it. Whatever a browser or a webhook says, this is what is asked about."""
    url: Mapped[str] = mapped_column(sa.Text, default="")
    """Where the customer pays."""
    keeps_card: Mapped[bool] = mapped_column(default=False)
    """The customer asked for renewals by itself: the card is kept if the provider gives a token."""
    occasion: Mapped[str | None] = mapped_column(exact(120), unique=True)
    """A renewal's own: a subscription, its end and which try. Two workers make one."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    """From then on the provider takes no money for it."""
    due_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime, index=True)
    """When the provider is asked next; none: not any more."""
    asked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    asks: Mapped[int] = mapped_column(default=0)
    paid_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    closed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    provider_payment: Mapped[str] = mapped_column(exact(64), default="")
    """The provider's id of the attempt that paid: what a customer's bank and the provider's people know it by."""
    gateway: Mapped[str] = mapped_column(exact(40), default="")
    """Who took the money, in the provider's word: KNET, VISA/MASTER."""
    card_number: Mapped[str] = mapped_column(exact(30), default="")
    """Masked."""
    subscription_id: Mapped[str | None] = mapped_column(Id, sa.ForeignKey("subscriptions.id"))
    """What a plan's payment started or prolonged."""
    seconds_given: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Of its time, what was paid for with it: what a whole refund takes back, as far as it is still to come."""
    refunded_fils: Mapped[int] = mapped_column(default=0)
    """Asked for or given back: never more than was paid."""
    concern: Mapped[str] = mapped_column(exact(20), default="", index=True)
    """Why people must look at it although its state is right (`services/payments/concerns.py`); mostly empty."""

    @property
    def paid_fils(self) -> int:
        """The money that came, or is to come."""
        return self.amount_fils if self.came_fils is None else self.came_fils


class PaymentEvent(Base):
    """What happened to a payment or to a refund of it, as it was learned. Only grows."""

    __tablename__ = "payment_events"
    __table_args__ = (sa.Index("ix_payment_events_payment_id_created_at", "payment_id", "created_at"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    payment_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("payments.id"))
    what: Mapped[str] = mapped_column(exact(20))
    """The state it came to, or `refund:<state>`."""
    source: Mapped[str] = mapped_column(exact(64))
    """Who brought it: `checkout`, `return`, `webhook`, `sweep`, `console`, `user:<id>`."""
    facts: Mapped[Any] = mapped_column(sa.JSON, default=dict)
    """What the provider told, for people who must find out: ids, states, amounts. No names, no cards, no tokens."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)


class Refund(Base):
    """Money given back, in two steps: asked for at the provider, and confirmed by it.

    waiting: the provider has not been asked, or may not have heard. filed: it has it. done: the money is on its way.
    cancelled: the provider did not carry it out. refused: it did not take it. Until it is over, its credits are held.
    """

    __tablename__ = "refunds"
    __table_args__ = (
        sa.CheckConstraint("state in ('waiting', 'filed', 'done', 'cancelled', 'refused')", name="state"),
        sa.CheckConstraint("amount_fils > 0 and amount_fils % 10 = 0", name="amount"),
        sa.CheckConstraint("credits >= 0", name="credits"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    payment_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("payments.id"), index=True)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id"), index=True)
    open_of: Mapped[str | None] = mapped_column(Id, unique=True)
    """The payment while it is open: one at a time, since the provider knows no second asking from a repeated one."""
    amount_fils: Mapped[int]
    credits: Mapped[int] = mapped_column(sa.BigInteger)
    """Milli-credits taken back; part of the wallet's `held` until it is over. None for a payment that never counted."""
    ends_period: Mapped[bool] = mapped_column(default=False)
    """Whether the time that the payment gave goes back as well."""
    reason: Mapped[str] = mapped_column(sa.String(300))
    actor: Mapped[str] = mapped_column(exact(64))
    state: Mapped[str] = mapped_column(exact(10), default="waiting")
    provider_refund: Mapped[str | None] = mapped_column(exact(40), unique=True)
    in_doubt: Mapped[bool] = mapped_column(default=False)
    """It may have been asked for: it is looked for at the provider before it is asked for again."""
    error: Mapped[str] = mapped_column(exact(300), default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    due_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime, index=True)
    lease_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    asks: Mapped[int] = mapped_column(default=0)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class Paper(Base):
    """A receipt or a credit note as it was issued: whoever prints it in ten years gets the same."""

    __tablename__ = "papers"
    __table_args__ = (
        sa.UniqueConstraint("series", "place"),
        sa.CheckConstraint("kind in ('receipt', 'credit_note')", name="kind"),
        sa.Index("ix_papers_account_id_issued_at", "account_id", "issued_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(exact(12))
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id"))
    payment_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("payments.id"), index=True)
    about: Mapped[str] = mapped_column(Id, unique=True)
    """The payment or the refund that it is the paper of: each has one."""
    number: Mapped[str] = mapped_column(exact(24), unique=True)
    """As people write it: `R-2026-000042`."""
    series: Mapped[str] = mapped_column(exact(12))
    place: Mapped[int]
    """Its place in the series, from 1, without a gap."""
    amount_fils: Mapped[int]
    content: Mapped[Any] = mapped_column(sa.JSON)
    """Seller, buyer, line, tax, means of payment: as they were on that day."""
    issued_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)


class PaperSeries(Base):
    """The latest number of a series. Taken in the transaction that issues the paper, so that none is ever missing."""

    __tablename__ = "paper_series"
    __table_args__ = (MYSQL,)

    name: Mapped[str] = mapped_column(exact(12), primary_key=True)
    """`R-2026`."""
    latest: Mapped[int] = mapped_column(default=0)


class SavedCard(Base):
    """A card that the provider keeps for a customer. Its token is of use to whoever has our key, and to nobody else."""

    __tablename__ = "saved_cards"
    __table_args__ = (sa.UniqueConstraint("account_id", "token"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id"))
    token: Mapped[str] = mapped_column(exact(190))
    number: Mapped[str] = mapped_column(exact(30))
    """Masked."""
    brand: Mapped[str] = mapped_column(exact(30), default="")
    expiry_month: Mapped[str] = mapped_column(exact(2), default="")
    expiry_year: Mapped[str] = mapped_column(exact(4), default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    removed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    """By its owner; from then on it is not charged."""
    forgotten_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    """When the provider had forgotten it too."""
