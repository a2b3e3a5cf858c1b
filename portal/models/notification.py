"""Who was told what: a notification an occasion, a delivery for each way it goes, and the wording staff may edit.

A notification is unique by recipient, kind and occasion, which is what makes every message be told once. Its text is
made when it is sent, from facts; codes and other secrets are never among them.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact
from portal.models.work import Work

CHANNELS = ("whatsapp", "email")


class Notification(Base):
    __tablename__ = "notifications"
    __table_args__ = (
        sa.UniqueConstraint("recipient", "kind", "occasion"),
        sa.CheckConstraint("language in ('ar', 'en')", name="language"),
        sa.Index("ix_notifications_account_id_created_at", "account_id", "created_at"),
        sa.Index("ix_notifications_account_id_read_at", "account_id", "read_at"),  # the bell, on every page
        sa.Index("ix_notifications_recipient_created_at", "recipient", "created_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    recipient: Mapped[str] = mapped_column(exact(60))
    """`account:<id>`, `user:<id>`, `phone:<number>` for somebody without an account, or `staff`."""
    account_id: Mapped[str | None] = mapped_column(Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"))
    """Whose notification centre shows it; none for staff's and for what only goes to a telephone."""
    kind: Mapped[str] = mapped_column(exact(40))
    """Such as `credit_low`; `services/notifications/kinds` has the list."""
    occasion: Mapped[str] = mapped_column(exact(120))
    facts: Mapped[Any] = mapped_column(sa.JSON)
    language: Mapped[str] = mapped_column(exact(2))
    """The reader's own, which stands first in the text."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    read_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    deliveries: Mapped[list["Delivery"]] = relationship(back_populates="notification")


class Delivery(Work, Base):
    """One way of one notification: to a number by WhatsApp, to an address by e-mail.

    done: the provider accepted it, which is not yet on somebody's screen (`delivered_at`, `read_at`). dead: a final
    fault, or the last try was made. expired: it would have come too late. cancelled: staff stopped it.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        sa.UniqueConstraint("notification_id", "channel", "address"),
        sa.CheckConstraint("channel in ('whatsapp', 'email')", name="channel"),
        sa.CheckConstraint("state in ('waiting', 'running', 'done', 'dead', 'expired', 'cancelled')", name="state"),
        sa.Index("ix_deliveries_state_due_at", "state", "due_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    """Also the reference that the provider is given, by which a message is found again."""
    notification_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("notifications.id", ondelete="CASCADE"))
    channel: Mapped[str] = mapped_column(exact(8))
    address: Mapped[str] = mapped_column(exact(190))
    """E.164, or an e-mail address."""
    text: Mapped[str] = mapped_column(sa.Text, default="")
    """As it was sent, so that every try says the same; empty for what must not be kept (codes)."""
    in_doubt: Mapped[bool] = mapped_column(default=False)
    """The latest attempt may have reached the provider: it is looked for there before anything is sent again."""
    provider_id: Mapped[str] = mapped_column(exact(64), default="", index=True)
    """The provider's own id of the message."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)
    expires_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    """Of no use to anybody afterwards."""
    accepted_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    delivered_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    read_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    notification: Mapped[Notification] = relationship(back_populates="deliveries")


class MessageTemplate(Base):
    """A kind's wording in one language. The highest version is in force; the older ones stay."""

    __tablename__ = "message_templates"
    __table_args__ = (
        sa.UniqueConstraint("kind", "language", "version"),
        sa.CheckConstraint("language in ('ar', 'en')", name="language"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(exact(40))
    language: Mapped[str] = mapped_column(exact(2))
    version: Mapped[int]
    title: Mapped[str] = mapped_column(sa.String(120))
    body: Mapped[str] = mapped_column(sa.Text)
    author: Mapped[str] = mapped_column(exact(64), default="seed")
    """`seed`, `console`, `user:<id>`."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)


class OptOut(Base):
    """A kind that an account does not want by this channel. The notification centre has it all the same."""

    __tablename__ = "opt_outs"
    __table_args__ = (sa.UniqueConstraint("account_id", "kind", "channel"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(exact(40))
    channel: Mapped[str] = mapped_column(exact(8))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
