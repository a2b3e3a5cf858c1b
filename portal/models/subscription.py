"""A plan that an account has until an instant. At most one runs; the ended ones stay as history."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact
from portal.models.catalog import Plan


class Subscription(Base):
    __tablename__ = "subscriptions"
    __table_args__ = (
        sa.CheckConstraint("state in ('active', 'cancelled', 'grace', 'ended')", name="state"),
        sa.Index("ix_subscriptions_state_ends_at", "state", "ends_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    plan_id: Mapped[str] = mapped_column(exact(32), sa.ForeignKey("plans.id"))
    state: Mapped[str] = mapped_column(exact(10), default="active")
    """cancelled: it runs to its end and is not renewed. grace: its end is past, and it may be paid for late."""
    starts_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ends_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    price_fils: Mapped[int]
    """What `period_days` of it were had for, the latest time: what its days left are worth."""
    period_days: Mapped[int]
    running_of: Mapped[str | None] = mapped_column(Id, unique=True)
    """The account while it runs, nothing afterwards: so that two can't run at once."""
    card_id: Mapped[str | None] = mapped_column(Id, sa.ForeignKey("saved_cards.id"))
    """The card it renews itself with; none: it doesn't."""
    actor: Mapped[str] = mapped_column(exact(64), default="system")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    plan: Mapped[Plan] = relationship()
