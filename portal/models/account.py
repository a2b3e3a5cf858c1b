"""Who pays and who signs in: accounts, users, memberships, and the sign-in sessions of users.

An account is what pays (one wallet, keys, members); a user is a person. Everybody owns one account and may be a member
of others.
"""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact
from portal.models.catalog import Plan


class User(Base):
    __tablename__ = "users"
    __table_args__ = (
        sa.CheckConstraint("role in ('customer', 'staff')", name="role"),
        sa.CheckConstraint("language in ('ar', 'en')", name="language"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(exact(190), unique=True)
    """Lower case, normalised before it gets here: two spellings of one address are one user."""
    phone: Mapped[str] = mapped_column(exact(16), unique=True)
    """E.164: `+` and digits."""
    name: Mapped[str] = mapped_column(sa.String(120), default="")
    password_hash: Mapped[str] = mapped_column(exact(255))
    language: Mapped[str] = mapped_column(exact(2), default="ar")
    role: Mapped[str] = mapped_column(exact(16), default="customer")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    phone_verified_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    suspended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    # The words Flask-Login asks a signed-in person for. What the cookie names is the session, not the user:
    # a session can end, a user's id never does.
    session_token = ""
    is_authenticated = True
    is_anonymous = False

    @property
    def is_active(self) -> bool:
        return self.suspended_at is None

    def get_id(self) -> str:
        return self.session_token

    @property
    def is_staff(self) -> bool:
        return self.role == "staff"


class Account(Base):
    __tablename__ = "accounts"
    __table_args__ = (MYSQL,)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id"), unique=True)
    plan_id: Mapped[str] = mapped_column(exact(32), sa.ForeignKey("plans.id"), index=True)
    name: Mapped[str] = mapped_column(sa.String(120), default="")
    local_only: Mapped[bool] = mapped_column(default=False)
    """The customer's own switch: nothing of theirs goes to a cloud provider, asked for by name or not."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    suspended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    owner: Mapped[User] = relationship()
    plan: Mapped[Plan] = relationship()


class Membership(Base):
    __tablename__ = "memberships"
    __table_args__ = (
        sa.UniqueConstraint("account_id", "user_id"),
        sa.CheckConstraint("role in ('owner', 'admin', 'member')", name="role"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    role: Mapped[str] = mapped_column(exact(16))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    account: Mapped[Account] = relationship()
    user: Mapped[User] = relationship()


class UserSession(Base):
    """One sign-in on one browser. The cookie holds a token; only its SHA-256 is here, so a dump opens no door."""

    __tablename__ = "user_sessions"
    __table_args__ = (MYSQL,)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[str] = mapped_column(exact(64), unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    seen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, index=True)
    remember: Mapped[bool] = mapped_column(default=False)
    address: Mapped[str] = mapped_column(exact(45), default="")
    user_agent: Mapped[str] = mapped_column(sa.String(255), default="")

    user: Mapped[User] = relationship()
