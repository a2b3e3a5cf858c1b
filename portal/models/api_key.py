"""API keys. The key itself is shown once and never stored: only its SHA-256 and its first characters are here."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.account import Account
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact

SCOPES = ("read", "write", "delete")


class ApiKey(Base):
    __tablename__ = "api_keys"
    __table_args__ = (sa.Index("ix_api_keys_account_id_created_at", "account_id", "created_at"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id"), index=True)
    """Who made it. A member's keys for an account end with the membership."""
    label: Mapped[str] = mapped_column(sa.String(80))
    prefix: Mapped[str] = mapped_column(exact(12))
    """The first 12 characters, for people to tell keys apart."""
    hash: Mapped[str] = mapped_column(exact(64), unique=True)
    scopes: Mapped[str] = mapped_column(exact(40), default="read write")
    """Words of SCOPES, parted by blanks."""
    failover: Mapped[bool] = mapped_column(default=True)
    """Whether its requests may go to a model's cloud twin while the local servers are busy."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    account: Mapped[Account] = relationship()

    def state(self, now: dt.datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"
