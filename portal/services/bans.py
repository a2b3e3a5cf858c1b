"""Addresses that fail2ban shut out, as its hook or a command tells: noted once, told to staff, listed.

The portal bans nobody itself. The same ban may be told twice (fail2ban's two tries, a reconciliation): it is one row.
"""

import datetime as dt
import ipaddress
import re
from collections.abc import Sequence

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.ids import new_id
from portal.models import Ban
from portal.services import events
from portal.services.insertion import insert_missing

_JAIL = re.compile(r"[A-Za-z0-9_.@-]{1,60}")
LONGEST = dt.timedelta(days=3650)
SKEW = dt.timedelta(seconds=1)


class BadBan(ValueError):
    """`str()` says what is wrong with it."""


def ban(
    address: str, jail: str, failures: int = 0, seconds: int | None = None, *, since: dt.datetime | None = None
) -> bool:
    """Note that an address is banned, and have staff told. Commits.

    seconds: how long; None or below zero for good. since: when it began, by the clock of its host; by default now.
    Returns False when this ban stands already, or is over and was told before. Raises BadBan.
    """
    address, jail = _address(address), _jail(jail)
    if not 0 <= failures <= 1_000_000:
        raise BadBan("failures must be a number from 0 to 1000000")
    now = clock.utcnow()
    began = since or now
    if abs(now - began) > LONGEST:
        raise BadBan("time must be an instant of these years")
    until = None if seconds is None or seconds < 0 else began + min(dt.timedelta(seconds=min(seconds, 10**9)), LONGEST)
    standing = f"{jail} {address}"
    if since is not None and _known(address, jail, since):  # a list read before the ban was lifted tells it once more
        db.session.rollback()
        return False
    # One whose time is over and whose end nobody told makes room for the next.
    over = sa.update(Ban).where(Ban.standing == standing, Ban.until <= now).values(standing=None, lifted_at=Ban.until)
    db.session.execute(over.execution_options(synchronize_session=False))
    row = {
        "id": new_id(), "address": address, "jail": jail, "failures": failures, "banned_at": began, "until": until,
        "standing": standing,
    }  # fmt: skip
    new = insert_missing(db.session.connection(), Ban, row)
    if new:
        events.record(db.session, events.ADDRESS_BANNED, str(row["id"]), address=address, jail=jail, failures=failures)
    db.session.commit()
    return new


def lift(address: str, jail: str) -> bool:
    """Note that a ban is over. Commits. Returns False when none stood. Raises BadBan."""
    standing = f"{_jail(jail)} {_address(address)}"
    lifted = sa.update(Ban).where(Ban.standing == standing).values(standing=None, lifted_at=clock.utcnow())
    result = db.session.execute(lifted.execution_options(synchronize_session=False))
    db.session.commit()
    return bool(result.rowcount)  # type: ignore[attr-defined]


def latest(limit: int = 100) -> Sequence[Ban]:
    """The bans, the newest first; `Ban.standing` and `Ban.until` say which stand."""
    return db.session.scalars(sa.select(Ban).order_by(Ban.banned_at.desc(), Ban.id.desc()).limit(limit)).all()


def _known(address: str, jail: str, since: dt.datetime) -> bool:
    # A restart of fail2ban moves the second of a ban by one: its database rounds where its action cuts.
    near = Ban.banned_at.between(since - SKEW, since + SKEW)
    same = (Ban.address == address, Ban.jail == jail, near)
    return db.session.scalar(sa.select(Ban.id).where(*same).limit(1)) is not None


def _address(text: str) -> str:
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        raise BadBan("ip must be an IPv4 or IPv6 address") from None
    mapped = found.ipv4_mapped if found.version == 6 else None
    return str(mapped or found)


def _jail(text: str) -> str:
    if not _JAIL.fullmatch(text):
        raise BadBan("jail must be 1 to 60 letters, digits or signs of _.@-")
    return text
