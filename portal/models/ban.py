"""An address that fail2ban shut out of a host, as its hook told it."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact


class Ban(Base):
    __tablename__ = "bans"
    __table_args__ = (sa.CheckConstraint("failures >= 0", name="failures"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    address: Mapped[str] = mapped_column(exact(45), index=True)
    jail: Mapped[str] = mapped_column(exact(60))
    failures: Mapped[int] = mapped_column(default=0)
    banned_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)
    until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    """None where fail2ban did not say, or for good."""
    lifted_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    standing: Mapped[str | None] = mapped_column(exact(110), unique=True)
    """`<jail> <address>` while it stands, nothing afterwards: one ban told twice is one row."""
