"""How much of something may happen on a day in Kuwait, exactly, whatever the store forgot: rows that count.

A place is taken by a conditional UPDATE before the thing happens, in a transaction of its own; so of two that come at
once for the last place, one gets it. The next day is another row: nothing has to be reset.
"""

import datetime as dt

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Allowance
from portal.services.insertion import insert_missing

KEPT = dt.timedelta(days=40)


def take(name: str, limit: int, *, apart: int = 0) -> bool:
    """Take one of today's `limit` places. False, and nothing taken, when there is none.

    name: what is counted, at most 80 characters. apart: seconds that must lie between one and the next.
    """
    now = clock.utcnow()
    day = clock.kuwait_day(now)
    mine = (Allowance.day == day, Allowance.name == name)
    # In a transaction of its own: beside the UPDATE, two that open the day together would each wait on MariaDB for what
    # the other has locked.
    with db.engine.begin() as connection:
        insert_missing(connection, Allowance, {"day": day, "name": name, "used": 0})
    room = [Allowance.used < limit]
    if apart:  # not else: who waited for another's line came "before" it, and was refused a place that was free
        before = now - dt.timedelta(seconds=apart)
        if (last := used(name)[1]) is not None and last > before:  # yesterday's may be the latest
            return False
        room.append(sa.or_(Allowance.last_at.is_(None), Allowance.last_at <= before))
    with db.engine.begin() as connection:
        one_more = sa.update(Allowance).where(*mine, *room)
        return connection.execute(one_more.values(used=Allowance.used + 1, last_at=now)).rowcount == 1


def give_back(name: str) -> None:
    """For what was taken just now and did not happen: the place is free again, and the pause as well."""
    mine = (Allowance.day == clock.kuwait_day(), Allowance.name == name, Allowance.used > 0)
    with db.engine.begin() as connection:
        connection.execute(sa.update(Allowance).where(*mine).values(used=Allowance.used - 1, last_at=None))


def used(name: str) -> tuple[int, dt.datetime | None]:
    """How many of today's places are taken, and when the latest was, be it a moment before midnight."""
    today = clock.kuwait_day()
    query = sa.select(Allowance.day, Allowance.used, Allowance.last_at).order_by(Allowance.day.desc())
    days = query.where(Allowance.name == name, Allowance.day.in_((today, today - dt.timedelta(days=1))))
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        rows = connection.execute(days).all()
    taken = rows[0].used if rows and rows[0].day == today else 0
    return taken, next((row.last_at for row in rows if row.last_at is not None), None)


def seconds_to_wait(name: str, apart: int) -> int:
    """Until `apart` seconds lie behind the latest one; 0 when they do."""
    last = used(name)[1]
    if last is None:
        return 0
    return max(0, -(-(last + dt.timedelta(seconds=apart) - clock.utcnow()) // dt.timedelta(seconds=1)))


def forget_old() -> int:
    """Delete the rows of days long past. Returns how many."""
    with db.engine.begin() as connection:
        return connection.execute(sa.delete(Allowance).where(Allowance.day < clock.kuwait_day() - KEPT)).rowcount
