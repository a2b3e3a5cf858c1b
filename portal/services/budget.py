"""The cloud's budget: so many requests a day in Kuwait, exact across processes and hosts, and off when they are spent.

A place is taken, durably, before the call leaves, and given back only by a call that never left; whoever dies between
the two has used it, so that more never leave than the limit says. The day is a row of its own: at midnight nothing has
to be reset. Knows no provider and no request. Needs an app context; each function is a short transaction of its own.
"""

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import CloudDay
from portal.services import events
from portal.services.insertion import insert_missing

WARN_PERCENT = 80


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The day's budget as people see it."""

    used: int
    limit: int
    """0: the cloud is off."""
    day: dt.date
    resets_at: dt.datetime

    @property
    def exhausted(self) -> bool:
        """Whether nothing more may leave for the cloud."""
        return self.used >= self.limit


def take(limit: int) -> dt.date | None:
    """A place in today's budget, durable when this returns: the day it is of, for `give_back`.

    None when there is none left, or the limit is 0 (off). Records the events of 80 % and 100 % in the same transaction,
    each once a day, whichever way they were reached: also by a limit that was lowered below what is used.
    Raises sqlalchemy.exc.DBAPIError when the database can't be written: then nothing may leave.
    """
    if limit <= 0:
        return None
    day = clock.kuwait_day()
    row = _read(day)
    if row is None:
        # In a transaction of its own: with the UPDATE behind it in the same one, two processes that open the day
        # together would each wait on MariaDB for what the other has locked.
        with db.engine.begin() as connection:
            insert_missing(connection, CloudDay, {"day": day, "used": 0, "warned": False, "exhausted": False})
    elif row.used >= limit and row.exhausted:
        return None  # all day long, and without a write lock
    with db.engine.begin() as connection:
        one_more = sa.update(CloudDay).where(CloudDay.day == day, CloudDay.used < limit).values(used=CloudDay.used + 1)
        taken = connection.execute(one_more).rowcount == 1
        _tell(connection, day, limit)
    return day if taken else None


def give_back(day: dt.date) -> bool:
    """For exactly the call that never left, once: its place is free again, on the day it was taken from.

    What was told (80 %, 100 %) stays told. Returns whether there was a place to give back.
    Raises sqlalchemy.exc.DBAPIError when the database can't be written: the place then stays used.
    """
    one_less = sa.update(CloudDay).where(CloudDay.day == day, CloudDay.used > 0).values(used=CloudDay.used - 1)
    with db.engine.begin() as connection:
        return connection.execute(one_less).rowcount == 1


def state(limit: int) -> BudgetState:
    """How much of today's budget is used, and when the next one begins. Takes no lock."""
    now = clock.utcnow()
    day = clock.kuwait_day(now)
    row = _read(day)
    return BudgetState(0 if row is None else row.used, limit, day, clock.next_kuwait_midnight(now))


def _read(day: dt.date) -> sa.Row[int, bool] | None:
    query = sa.select(CloudDay.used, CloudDay.exhausted).where(CloudDay.day == day)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        return connection.execute(query).one_or_none()


def _tell(connection: sa.Connection, day: dt.date, limit: int) -> None:
    """Record what has been reached and was not told yet."""
    query = sa.select(CloudDay.used, CloudDay.warned, CloudDay.exhausted).where(CloudDay.day == day)
    used, warned, exhausted = connection.execute(query).one()
    at_warning = -(-limit * WARN_PERCENT // 100)
    for reached, told, flag, kind in (
        (at_warning, warned, CloudDay.warned, events.CLOUD_BUDGET_WARNING),
        (limit, exhausted, CloudDay.exhausted, events.CLOUD_BUDGET_EXHAUSTED),
    ):
        if used < reached or told:
            continue
        # Claimed: of several that were refused at once after the limit was lowered, one tells it.
        claim = sa.update(CloudDay).where(CloudDay.day == day, flag.is_(False)).values({flag: True})
        if connection.execute(claim).rowcount == 1:
            events.record(connection, kind, day.isoformat(), day=day.isoformat(), used=used, limit=limit)
