"""The wallet and its ledger, in integer milli-credits.

The ledger only grows. `seq` numbers a wallet's entries without a gap, and each entry begins where the one before it
ended: that is what makes `balance = Σ entries` provable at every instant and not just today.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact

KINDS = ("topup", "subscription", "usage", "refund", "adjustment", "grant", "expiry")


class Wallet(Base):
    __tablename__ = "wallets"
    __table_args__ = (
        sa.CheckConstraint("balance >= 0", name="balance"),
        sa.CheckConstraint("held >= 0 and held <= balance", name="held"),
        MYSQL,
    )

    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id"), primary_key=True)
    balance: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    held: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Set aside for requests that run and refunds under way: the sum of their open holds."""
    total: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """The balance right after the latest credit; "20 % left" is measured against it."""
    seq: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """The number of the latest entry."""
    credited_seq: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """The number of the latest credit: with each a warning about what is left may be told anew."""

    @property
    def available(self) -> int:
        return self.balance - self.held


class LedgerEntry(Base):
    __tablename__ = "ledger_entries"
    __table_args__ = (
        sa.UniqueConstraint("account_id", "seq"),
        sa.UniqueConstraint("kind", "reference"),
        sa.Index("ix_ledger_entries_account_id_created_at", "account_id", "created_at"),
        sa.CheckConstraint("balance_after = balance_before + amount", name="sum"),
        sa.CheckConstraint("balance_after >= 0", name="balance_after"),
        sa.CheckConstraint(
            "kind in ('topup', 'subscription', 'usage', 'refund', 'adjustment', 'grant', 'expiry')", name="kind"
        ),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("wallets.account_id"))
    seq: Mapped[int] = mapped_column(sa.BigInteger)
    kind: Mapped[str] = mapped_column(exact(16))
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    """Positive for credit, negative for what was spent."""
    balance_before: Mapped[int] = mapped_column(sa.BigInteger)
    balance_after: Mapped[int] = mapped_column(sa.BigInteger)
    reference: Mapped[str] = mapped_column(exact(80))
    """What it is for: a request, a payment, `signup:<account>`. Unique by kind: nothing is booked twice."""
    actor: Mapped[str] = mapped_column(exact(64), default="system")
    """Who caused it: `system`, `key:<id>`, `user:<id>`."""
    meta: Mapped[dict[str, Any]] = mapped_column(sa.JSON, default=dict)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
