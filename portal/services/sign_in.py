"""Signing in: a stranger learns nothing from it, a guesser is slowed, and every failure leaves a line.

Unknown user and wrong password are one answer in one time. The lines go to `portal.auth` in a form that fail2ban reads:
the address stands before anything a person typed, and what was typed is stripped to harmless characters.
"""

import logging
import re

import sqlalchemy as sa

from portal.errors import TooManyAttempts
from portal.extensions import db
from portal.models import Account, User
from portal.services import attempts, passwords, phones, sessions
from portal.services.accounts import normal_email
from portal.services.sessions import Browser

log = logging.getLogger("portal.auth")


class SignInRefused(Exception):
    """Unknown, wrong or suspended: the same for all three."""


def sign_in(identifier: str, password: str, browser: Browser) -> str:
    """Start a session. Returns its token for the cookie.

    identifier: e-mail or phone, in any spelling. Raises SignInRefused; TooManyAttempts.
    """
    email = normal_email(identifier) if "@" in identifier else None
    numbers = [] if email else phones.readings(identifier)
    user = _find(email, numbers)
    address = attempts.by_address(browser.address)
    # A known user is counted as one, by whichever name; an unknown name is counted all the same.
    who = user.id if user else email or (numbers[0] if numbers else identifier.strip()[:200].casefold())

    if not attempts.allowed(attempts.PER_ADDRESS, address) or not attempts.take(attempts.PER_ACCOUNT, who):
        note_failure(browser.address, "throttled", email, numbers)
        raise TooManyAttempts
    right = passwords.matches(user.password_hash if user else None, password)
    if user is None or not right or user.suspended:
        attempts.take(attempts.PER_ADDRESS, address)
        reason = "unknown_user" if user is None else "bad_password" if not right else "suspended"
        note_failure(browser.address, reason, email, numbers)
        raise SignInRefused
    attempts.forget(attempts.PER_ACCOUNT, who)
    token = sessions.begin(user.id, browser)
    if passwords.outdated(user.password_hash):
        db.session.execute(sa.update(User).where(User.id == user.id).values(password_hash=passwords.hashed(password)))
    db.session.commit()
    log.info("auth_success ip=%s user=%s", browser.address, user.id)
    return token


def _find(email: str | None, numbers: list[str]) -> sa.Row[str, str, str, bool] | None:
    known = User.email == email if email else User.phone.in_(numbers or [""])
    suspended = sa.or_(User.suspended_at.is_not(None), Account.suspended_at.is_not(None)).label("suspended")
    rows = db.session.execute(
        sa.select(User.id, User.phone, User.password_hash, suspended)
        .outerjoin(Account, Account.owner_id == User.id)
        .where(known)
    ).all()
    db.session.commit()  # gives the connection back: the check that follows takes 30 ms
    # A local number may exist in two countries of the Gulf: the nearer one is meant, the other signs in with its code.
    return min(rows, key=lambda row: numbers.index(row.phone) if numbers else 0, default=None)


def note_failure(address: str, reason: str, email: str | None, numbers: list[str]) -> None:
    """Leave the line that fail2ban counts. address: whose; reason: one word of ours."""
    # Only what is an address or a number is written down: people type their password into the wrong field.
    if email:
        typed = re.sub(r"[^A-Za-z0-9@._+-]", "_", email)[:120]
    else:
        typed = f"phone_{numbers[0][-3:]}" if numbers else "-"
    log.warning("auth_failure ip=%s reason=%s email=%s", address, reason, typed)
