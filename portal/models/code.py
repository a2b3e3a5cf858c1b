"""One-time codes, and how much of a day's allowance is used.

A code's digits are nowhere: they are computed from the row's id with the portal's secret, so that a copy of the
database opens nothing. The story is in `services/codes.py`.
"""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact


class OneTimeCode(Base):
    __tablename__ = "one_time_codes"
    __table_args__ = (
        sa.CheckConstraint("purpose in ('verify', 'reset', 'phone')", name="purpose"),
        sa.Index("ix_one_time_codes_user_id_purpose", "user_id", "purpose"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    purpose: Mapped[str] = mapped_column(exact(8))
    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"))
    phone: Mapped[str] = mapped_column(exact(16))
    """Where it was sent, E.164: for `phone` the number that is to become theirs."""
    tries: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    """Used, or replaced by a newer one."""


class Allowance(Base):
    """How often something happened on a day in Kuwait, so that it happens no more than it may."""

    __tablename__ = "allowances"
    __table_args__ = (sa.CheckConstraint("used >= 0", name="used"), MYSQL)

    day: Mapped[dt.date] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(exact(80), primary_key=True)
    """What is counted, such as `codes` or `codes:phone:<hash>`."""
    used: Mapped[int] = mapped_column(default=0)
    last_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
