"""One-time codes: six digits by WhatsApp that prove a number, for ten minutes, five tries, one use.

The digits are stored nowhere: they are computed from the row's id with the portal's secret whenever the message is
written or an answer is checked. Six digits under a plain hash would be found in a second by whoever has the database.
Sending costs money and can annoy a stranger, so it is bounded: by number, by address, and by day for all together, with
one ceiling for forgotten passwords and one for all else.
"""

import datetime as dt
import hashlib
import hmac
import unicodedata
from typing import Final

import sqlalchemy as sa
from flask import current_app

from portal import clock
from portal.extensions import db
from portal.models import OneTimeCode
from portal.services import allowances, tunables
from portal.services.attempts import by_address
from portal.services.notifications.outbox import notify_number, notify_staff

VERIFY, RESET, PHONE = "verify", "reset", "phone"
MINUTES: Final = 10
TRIES: Final = 5
PAUSE: Final = 60
"""Seconds between two codes to one number."""
A_NUMBER_A_DAY: Final = 10
AN_ADDRESS_A_DAY: Final = 30
"""Wide enough for an office behind one router."""


class CodeRefused(Exception):
    """No code was sent."""


class TooSoon(CodeRefused):
    """One was sent to this number a moment ago. seconds: until the next may be asked for."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class TooManyCodes(CodeRefused):
    """The number, the address or the portal has had its codes for today."""


class WrongCode(Exception):
    """Not the code. tries: how many are left for this one; 0 when it is over, or there is none."""

    def __init__(self, tries: int) -> None:
        super().__init__(f"{tries} tries left")
        self.tries = tries


def send(user_id: str, phone: str, purpose: str, language: str, address: str) -> None:
    """Send a new code to the number; an older one of the same purpose is over. Commits.

    phone: E.164. address: the IP address that asks. Raises TooSoon, TooManyCodes.
    """
    names = _take_places(phone, purpose, address)
    try:
        now = clock.utcnow()
        db.session.execute(
            sa.update(OneTimeCode)
            .where(OneTimeCode.user_id == user_id, OneTimeCode.purpose == purpose, OneTimeCode.ended_at.is_(None))
            .values(ended_at=now)
            .execution_options(synchronize_session=False)
        )
        code = OneTimeCode(
            purpose=purpose, user_id=user_id, phone=phone, tries=0, created_at=now,
            expires_at=now + dt.timedelta(minutes=MINUTES),
        )  # fmt: skip
        db.session.add(code)
        db.session.flush()
        notify_number(phone, language, "one_time_code", code.id, code=code.id, minutes=MINUTES)
        db.session.commit()
    except BaseException:
        db.session.rollback()
        for name in names:
            allowances.give_back(name)
        raise


def check(user_id: str, purpose: str, typed: str) -> str:
    """Use a code up. Returns the number that it proved; the caller changes what hangs on it and commits.

    typed: as a person types it, Arabic-Indic digits and blanks too. Every try counts, durably, whatever the caller
    does afterwards; a right one is used up with the caller's commit. Raises WrongCode.
    """
    now = clock.utcnow()
    mine = (OneTimeCode.user_id == user_id, OneTimeCode.purpose == purpose, OneTimeCode.ended_at.is_(None))
    good = (OneTimeCode.expires_at > now, OneTimeCode.tries < TRIES)
    with db.engine.begin() as connection:
        query = sa.select(OneTimeCode.id, OneTimeCode.phone, OneTimeCode.tries).where(*mine, *good)
        row = connection.execute(query.order_by(OneTimeCode.created_at.desc()).limit(1)).one_or_none()
        if row is None:
            raise WrongCode(0)
        one_more = sa.update(OneTimeCode).where(OneTimeCode.id == row.id, *good).values(tries=OneTimeCode.tries + 1)
        if connection.execute(one_more).rowcount != 1:
            raise WrongCode(0)
    if not hmac.compare_digest(digits(row.id), _plain(typed)):
        raise WrongCode(max(0, TRIES - row.tries - 1))
    used = sa.update(OneTimeCode).where(OneTimeCode.id == row.id, OneTimeCode.ended_at.is_(None)).values(ended_at=now)
    result = db.session.execute(used.execution_options(synchronize_session=False))
    if result.rowcount != 1:  # type: ignore[attr-defined]
        raise WrongCode(0)
    return str(row.phone)


def digits(code_id: str) -> str:
    """The six digits of a code."""
    secret = current_app.config["PORTAL"].secret_key.encode()
    made = hmac.new(secret, b"one-time code " + code_id.encode(), hashlib.sha256).digest()
    return f"{int.from_bytes(made[:8], 'big') % 1_000_000:06d}"


def seconds_to_wait(phone: str) -> int:
    """Until this number may be sent another code; 0 when it may now."""
    return allowances.seconds_to_wait(_by_number(phone), PAUSE)


def _take_places(phone: str, purpose: str, address: str) -> list[str]:
    """A place with the number, the address and the day; those taken are given back where one is missing."""
    if wait := seconds_to_wait(phone):
        raise TooSoon(wait)
    # Of its own: with one ceiling for all, whoever signed up in crowds shut everybody out who forgot a password.
    ceiling, a_day = "codes:reset" if purpose == RESET else "codes", tunables.get("codes_a_day")
    wanted = (
        (_by_number(phone), A_NUMBER_A_DAY, PAUSE),
        (_named("address", by_address(address)), AN_ADDRESS_A_DAY, 0),
        (ceiling, a_day, 0),
    )
    db.session.commit()  # the setting was read on the session's line; what follows has transactions of its own
    taken: list[str] = []
    for name, limit, apart in wanted:
        if allowances.take(name, limit, apart=apart):
            taken.append(name)
            continue
        for other in taken:
            allowances.give_back(other)
        if apart and (wait := seconds_to_wait(phone)):  # somebody was quicker, a moment ago
            raise TooSoon(wait)
        if name == ceiling:
            _tell_exhausted(a_day)
        raise TooManyCodes
    return taken


def _tell_exhausted(a_day: int) -> None:
    """Staff hear of it once a day. Commits."""
    day = clock.kuwait_day().isoformat()
    notify_staff("codes_exhausted", day, day=day, limit=a_day)
    db.session.commit()


def _by_number(phone: str) -> str:
    return _named("phone", phone)


def _named(what: str, value: str) -> str:
    return f"codes:{what}:{hashlib.sha256(value.encode()).hexdigest()[:32]}"


def _plain(typed: str) -> str:
    """`١٢٣ ٤٥٦` → `123456`."""
    found = (unicodedata.digit(sign, None) for sign in typed[:40] if not sign.isspace())
    return "".join("x" if digit is None else str(digit) for digit in found)
