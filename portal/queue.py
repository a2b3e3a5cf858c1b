"""Handing work to the workers: by name, with ids, and only when what it is about has been committed.

A job that ran before its row was there found nothing, and nothing was ever sent. So a name is held until the session's
transaction commits, and dropped with it. The queue only wakes: rows say what is due, and a sweep finds what the store
lost. Of everything outside `tasks/`, this file alone knows RQ.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis
import sqlalchemy as sa
from rq import Queue, Worker
from sqlalchemy.orm import Session, SessionTransaction

from portal import store
from portal.extensions import db
from portal.ids import new_id

log = logging.getLogger("portal.queue")
URGENT, DEFAULT, LOW = "urgent", "default", "low"
QUEUES: Final = (URGENT, DEFAULT, LOW)
"""In the order that workers serve them: somebody waits for a code; events and the timetable, with the sweeps and the
holds of the dead; messages, which a slow carrier may keep for hours."""
WAITS_SECONDS = 900
"""So long the store keeps a job that nobody takes: rows say the same, and the sweeps hand it over again. Without it the
store of a host that has nothing but `flask tick` grew until it was full."""
FAILED_SECONDS = 7 * 86_400
"""So long the store keeps what a failed job said; rows say the same for ever."""


class Task(NamedTuple):
    """What a name stands for. function: a path under `portal.tasks`. timeout: seconds, after which it is ended."""

    function: str
    queue: str
    timeout: int


TASKS: Final = {
    "deliver code": Task("notifications.deliver", URGENT, 120),
    "deliver": Task("notifications.deliver", LOW, 180),
    "unfold": Task("events.unfold", DEFAULT, 120),
    "run steps": Task("events.run_steps", DEFAULT, 600),
    "run job": Task("schedule.run_job", DEFAULT, 900),
}
"""Every name that work is handed over by."""

_HELD = "portal.queue"


class _Held(NamedTuple):
    name: str
    ids: tuple[str, ...]
    savepoint: SessionTransaction | None


def enqueue(name: str, *ids: str) -> None:
    """Have a task done once the transaction of the moment commits; never, when it is rolled back.

    name: one of TASKS, else KeyError. Never fails for want of a store: what is due is then found by the sweep.
    """
    _ = TASKS[name]
    session = db.session()
    session.info.setdefault(_HELD, []).append(_Held(name, ids, session.get_nested_transaction()))
    session.connection()  # begins the transaction that decides over it


def enqueue_now(name: str, batches: Sequence[Sequence[str]]) -> bool:
    """Hand over what is committed already: one job a batch of ids. Returns False when the store is away.

    name: one of TASKS, else KeyError.
    """
    task = TASKS[name]
    queue = Queue(task.queue, connection=store.client())
    jobs = [
        Queue.prepare_data(
            f"portal.tasks.{task.function}", tuple(ids), timeout=task.timeout, ttl=WAITS_SECONDS, result_ttl=0,
            failure_ttl=FAILED_SECONDS, job_id=new_id(), description=f"{name} ({len(ids)})",
        )
        for ids in batches
    ]  # fmt: skip
    try:
        if jobs:
            queue.enqueue_many(jobs)
    except redis.RedisError as error:
        log.warning("store away: left to the sweep", extra={"task": name, "error": type(error).__name__})
        return False
    return True


def waiting() -> dict[str, int]:
    """How many jobs each queue has. Raises redis.RedisError when the store is away."""
    return {name: Queue(name, connection=store.client()).count for name in QUEUES}


def empty_unserved() -> int:
    """Forget what is in the queues where no worker serves them, as beside `flask tick` alone: the rows say it all.

    Returns how many jobs that were; none when a worker lives, and none when the store is away.
    """
    connection = store.client()
    try:
        if Worker.all(connection=connection):
            return 0
        counts: list[int] = [Queue(name, connection=connection).empty() for name in QUEUES]  # type: ignore[no-untyped-call]
        return sum(counts)
    except redis.RedisError as error:
        log.warning("store away: its queues are left as they are", extra={"error": type(error).__name__})
        return 0


def _committed(session: Session) -> None:
    savepoint = session.get_nested_transaction()
    if savepoint is None:
        for held in session.info.pop(_HELD, ()):
            enqueue_now(held.name, [held.ids])
        return
    # A savepoint was released: what it held is now that of the transaction around it, which may still be rolled back.
    around = savepoint.parent if savepoint.parent is not None and savepoint.parent.nested else None
    session.info[_HELD] = [
        held._replace(savepoint=around) if held.savepoint is savepoint else held
        for held in session.info.get(_HELD, ())
    ]  # fmt: skip


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """Nothing outlives its transaction or savepoint, however that ended; a commit has taken its own before."""
    if transaction.parent is None:
        session.info.pop(_HELD, None)
    elif transaction.nested:
        session.info[_HELD] = [held for held in session.info.get(_HELD, ()) if held.savepoint is not transaction]


_listeners: tuple[tuple[str, Any], ...] = (("after_commit", _committed), ("after_transaction_end", _ended))
for _name, _listener in _listeners:
    sa.event.listen(db.session, _name, _listener)
