"""Rows that are work (`models/work`): who may do one now, and what is to be handed to the queue.

A piece of work is claimed by one conditional UPDATE on the attempt that was read, for the length of a lease. Whoever
comes back after their lease ended writes nothing any more: their attempt is not the latest. Leases go by the database's
clock: a host whose own was two minutes ahead took what another was about to send. Knows no kind of work.
"""

import datetime as dt
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Delivery, EventStep
from portal.models.base import beside_id, database_now

HANDED = dt.timedelta(minutes=2)
"""So long the queue is believed to have what it was given."""
SWEEP = 5_000
BATCH = 50
"""Rows a job: forking a worker costs more than sending a message."""
ERROR = 300
Row = TypeVar("Row", type[Delivery], type[EventStep])


class Claim(NamedTuple):
    """The right to do a piece of work until the lease ends. crashed: the attempt before this one never ended."""

    id: str
    attempt: int
    crashed: bool


def claim(model: Row, row_id: str, seconds: float) -> Claim | None:
    """Take the row for so many seconds. None when it is not due, somebody has it, or it is over.

    Costs one read where there is nothing to take.
    """
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        row = connection.execute(
            sa.select(
                model.state, model.attempts, model.due_at, model.lease_until, database_now().label("now")
            ).where(model.id == row_id)
        ).one_or_none()  # fmt: skip
    if row is None:
        return None
    due = row.state == "waiting" and row.due_at <= clock.utcnow()
    crashed = row.state == "running" and (row.lease_until is None or row.lease_until < row.now)
    if not due and not crashed:
        return None
    seen = (model.id == row_id, beside_id(model.state) == row.state, model.attempts == row.attempts)
    taken = {"state": "running", "attempts": row.attempts + 1, "lease_until": row.now + dt.timedelta(seconds=seconds)}
    with db.engine.begin() as connection:
        if connection.execute(sa.update(model).where(*seen).values(**taken)).rowcount != 1:
            return None
    return Claim(row_id, row.attempts + 1, crashed)


def write(connection: sa.Connection, model: Row, held: Claim, **values: Any) -> bool:
    """Write the outcome of a claimed attempt, in the caller's transaction. False, and nothing written, when the lease
    ended meanwhile and somebody else took it."""
    mine = (model.id == held.id, beside_id(model.state) == "running", model.attempts == held.attempt)
    values = {"lease_until": None, **values}
    if "error" in values:
        values["error"] = plain(values["error"])
    return connection.execute(sa.update(model).where(*mine).values(**values)).rowcount == 1


def plain(error: str) -> str:
    """An error's text as every database takes it: no zero byte, no half of a character, not too long."""
    return error.replace("\0", "").encode(errors="replace").decode()[:ERROR]


def hand_out(model: Row) -> list[str]:
    """Ids of what is due and not believed to be in the queue, marked as handed over. At most SWEEP, the oldest first.

    What a dead worker held is due as soon as its lease has ended.
    """
    now = clock.utcnow()
    unhanded = sa.or_(model.handed_at.is_(None), model.handed_at < now - HANDED, model.handed_at < model.due_at)
    waiting = sa.and_(model.state == "waiting", model.due_at <= now, unhanded)
    dead = sa.and_(model.state == "running", model.lease_until < database_now(), unhanded)
    query = sa.select(model.id).where(sa.or_(waiting, dead)).order_by(model.due_at).limit(SWEEP)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        ids = list(connection.scalars(query))
    for batch in batches(ids, 500):
        with db.engine.begin() as connection:
            connection.execute(sa.update(model).where(model.id.in_(batch)).values(handed_at=now))
    return ids


def due(model: Row, limit: int) -> list[str]:
    """Ids of what could be claimed now, the oldest first, whether the queue has them or not."""
    now = clock.utcnow()
    waiting = sa.and_(model.state == "waiting", model.due_at <= now)
    dead = sa.and_(model.state == "running", model.lease_until < database_now())
    query = sa.select(model.id).where(sa.or_(waiting, dead)).order_by(model.due_at).limit(limit)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        return list(connection.scalars(query))


def batches(ids: list[str], size: int = BATCH) -> list[list[str]]:
    """Ids in the portions that jobs are made of."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]
