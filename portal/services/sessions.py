"""Sign-in sessions: one row per signed-in browser, so that a copied cookie is dead the moment its owner signs out.

The browser has a random token, the row only its SHA-256. An expiry slides while the person is about.
"""

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from portal.clock import utcnow
from portal.extensions import db
from portal.models import Account, User, UserSession

REMEMBERED = dt.timedelta(days=30)
VISIT = dt.timedelta(hours=12)
"""Without "remember me": also gone when the browser closes, as the cookie has no date."""
SLIDE_AFTER = dt.timedelta(minutes=10)
"""How stale `seen_at` may become: a write with every page would cost more than the page."""


@dataclass(frozen=True, slots=True)
class Browser:
    """Where a sign-in comes from, and whether it is to outlive the browser's window."""

    address: str
    user_agent: str = ""
    remember: bool = False


def begin(user_id: str, browser: Browser) -> str:
    """Add a session and forget the user's expired ones. Returns the token for the cookie. The caller commits."""
    now = utcnow()
    db.session.execute(sa.delete(UserSession).where(UserSession.user_id == user_id, UserSession.expires_at <= now))
    token = secrets.token_urlsafe(32)
    db.session.add(
        UserSession(
            user_id=user_id,
            token_hash=_fingerprint(token),
            created_at=now,
            seen_at=now,
            expires_at=now + _lifetime(browser.remember),
            remember=browser.remember,
            address=browser.address[:45],
            user_agent=browser.user_agent[:255],
        )
    )
    return token


def user_of(token: str) -> User | None:
    """Who this browser is signed in as: one query. None when the session ended, expired, or its owner is suspended."""
    now = utcnow()
    row = db.session.execute(
        sa.select(User, UserSession.id, UserSession.seen_at, UserSession.remember)
        .join(UserSession, UserSession.user_id == User.id)
        .outerjoin(Account, Account.owner_id == User.id)
        .where(
            UserSession.token_hash == _fingerprint(token),
            UserSession.expires_at > now,
            User.suspended_at.is_(None),
            Account.suspended_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        return None
    if now - row.seen_at > SLIDE_AFTER:
        _slide(row.id, now, row.remember)
    user: User = row[0]
    user.session_token = token
    return user


def end(token: str) -> None:
    """Sign out: the token opens nothing from now on, wherever it was copied to."""
    db.session.execute(sa.delete(UserSession).where(UserSession.token_hash == _fingerprint(token)))
    db.session.commit()


def end_others(user_id: str, token: str | None = None) -> int:
    """End every session of a user but the one of this token. Returns how many. The caller commits."""
    theirs = sa.delete(UserSession).where(UserSession.user_id == user_id)
    if token:
        theirs = theirs.where(UserSession.token_hash != _fingerprint(token))
    result = db.session.execute(theirs.execution_options(synchronize_session=False))
    return int(result.rowcount)  # type: ignore[attr-defined]


def _slide(session_id: str, now: dt.datetime, remember: bool) -> None:
    # In a transaction of its own, after the one that read: on SQLite a reader that turns writer may be refused at once.
    db.session.commit()
    with db.engine.connect().execution_options(sqlite_read_only=False) as connection, connection.begin():
        expires = now + _lifetime(remember)
        connection.execute(
            sa.update(UserSession).where(UserSession.id == session_id).values(seen_at=now, expires_at=expires)
        )


def _lifetime(remember: bool) -> dt.timedelta:
    return REMEMBERED if remember else VISIT


def _fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
