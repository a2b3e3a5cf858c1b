"""How long rows are kept that nobody needs for ever: codes, sign-ins, what was done, what was told, bans.

Without it tables and backups grew for as long as the portal lived. Books, requests, customers and the wording of
messages are not its business; days of allowances are `allowances`'. Rows go in portions, each in a transaction of its
own, so that nobody waits long for a lock and a night that breaks off has cleared what it cleared.
"""

import datetime as dt
import time
from typing import Any, Final

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Ban, Delivery, Event, Notification, OneTimeCode, UserSession

CODES: Final = dt.timedelta(days=30)
"""Of no use after ten minutes; a month for whoever asks what was sent to a number."""
EVENTS: Final = dt.timedelta(days=180)
"""Half a year to look into. What is dead, or under way, stays until people have seen to it."""
NOTIFICATIONS: Final = dt.timedelta(days=400)
"""A year and a month: last year's notice of a renewal is still there at the next. Longer than EVENTS, so that nothing
is told twice by an event that happens once more."""
BANS: Final = dt.timedelta(days=400)
"""As long, to see who comes again every year. One that stands is kept however old it is."""
PORTION: Final = 1_000
"""Rows in one transaction: some hundredths of a second, in which SQLite lets nobody else write."""
ENOUGH_SECONDS: Final = 240
"""For one night, well within the job's lease; the rest goes the next night. The first one may have years before it."""
UNDER_WAY: Final = ("waiting", "running")
Kept = type[OneTimeCode] | type[UserSession] | type[Event] | type[Notification] | type[Ban]


def clear_away() -> int:
    """Delete what is kept long enough. Returns how many rows, without those that hang on them. Commits."""
    end = time.monotonic() + ENOUGH_SECONDS
    now = clock.utcnow()
    over = sa.or_(Ban.lifted_at < now - BANS, Ban.until < now - BANS)
    return (
        _in_portions(end, OneTimeCode, (OneTimeCode.created_at < now - CODES,), OneTimeCode.created_at)
        # At once: it opens nothing, and tells of an address and a browser that are nobody's business any more.
        + _in_portions(end, UserSession, (UserSession.expires_at <= now,), UserSession.expires_at)
        + _in_portions(end, Event, (Event.state == "done", Event.created_at < now - EVENTS), Event.created_at)
        + _notifications(end, now - NOTIFICATIONS)
        + _in_portions(end, Ban, (Ban.banned_at < now - BANS, over), Ban.banned_at)
    )


def _in_portions(end: float, model: Kept, old: tuple[sa.ColumnElement[bool], ...], by: Any) -> int:
    """Those that are `old`, found by the index of `by`."""
    gone = 0
    while time.monotonic() < end:
        ids = [row.id for row in _read(sa.select(model.id).where(*old).order_by(by).limit(PORTION))]
        if not ids:
            break
        gone += _delete(model, ids, *old)
    return gone


def _notifications(end: float, before: dt.datetime) -> int:
    """By their keys, which are as old as the rows: no index has their time alone. Ends at the first portion that has
    nothing old. One that is still to be sent is kept."""
    waits = sa.exists().where(Delivery.notification_id == Notification.id, Delivery.state.in_(UNDER_WAY))
    gone, last = 0, ""
    while time.monotonic() < end:
        query = sa.select(Notification.id, Notification.created_at).where(Notification.id > last)
        rows = _read(query.order_by(Notification.id).limit(PORTION))
        old = [row.id for row in rows if row.created_at < before]
        if not old:
            break
        last = rows[-1].id
        gone += _delete(Notification, old, ~waits)
    return gone


def _read(query: sa.Select[*tuple[Any, ...]]) -> list[sa.Row[*tuple[Any, ...]]]:
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        return list(connection.execute(query))


def _delete(model: Kept, ids: list[str], *still: sa.ColumnElement[bool]) -> int:
    """One transaction: the rows that are `still` so, and what hangs on them by the tables' own ON DELETE CASCADE."""
    with db.engine.begin() as connection:
        return connection.execute(sa.delete(model).where(model.id.in_(ids), *still)).rowcount
