"""The timetable's rows: when each job is due, who runs it, how it went, and which of them nobody has run.

A job is claimed by one conditional UPDATE on the number of its latest run, so that two schedulers and any number of
workers run it once; `next_at` moves on when it has ended. Times of day are Kuwait's, whatever zone the machine is in.
What was missed is caught up by one run, unless it would come too late to make sense.
"""

import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import ScheduledJob
from portal.services import events, work
from portal.services.insertion import insert_missing

log = logging.getLogger("portal.schedule")
RETRY = dt.timedelta(minutes=10)
"""After which a daily job that failed is tried again."""
STALE_AFTER = dt.timedelta(minutes=5)
"""So late, or three of its own intervals, and a job counts as stale."""
AHEAD = dt.timedelta(hours=1)
"""More than the clocks of several hosts may differ."""
DIED = "WorkerDied: the run before this one never ended"
FAILING_AFTER = 3
"""Failures in a row, after which staff are told."""


class Every(NamedTuple):
    """Again and again. seconds: from one start to the next."""

    seconds: int

    def after(self, now: dt.datetime) -> dt.datetime:
        """The next time after `now`."""
        return now + dt.timedelta(seconds=self.seconds)

    def again(self, now: dt.datetime) -> dt.datetime:
        """The next time after a failure at `now`."""
        return self.after(now)

    @property
    def look(self) -> int:
        """How often, in seconds, somebody must look whether it is due."""
        return self.seconds

    @property
    def lease(self) -> dt.timedelta:
        """A run that has not ended by then died with its worker."""
        return dt.timedelta(seconds=max(60, 2 * self.seconds))


class Daily(NamedTuple):
    """Once a day at an hour of Kuwait's. late: how long after it a missed run still makes sense; None for ever."""

    hour: int
    minute: int = 0
    late: dt.timedelta | None = None

    def after(self, now: dt.datetime) -> dt.datetime:
        """The next time after `now`."""
        local = now.astimezone(clock.KUWAIT)
        at = local.replace(hour=self.hour, minute=self.minute, second=0, microsecond=0, fold=0)
        return (at if at > local else at + dt.timedelta(days=1)).astimezone(dt.UTC)

    def again(self, now: dt.datetime) -> dt.datetime:
        """The next time after a failure at `now`: a day is too long to wait."""
        return min(now + RETRY, self.after(now))

    @property
    def look(self) -> int:
        return 60

    @property
    def lease(self) -> dt.timedelta:
        return dt.timedelta(minutes=15)


class Job(NamedTuple):
    """One line of the timetable. does: safe to repeat; commits what it does."""

    name: str
    when: Every | Daily
    does: Callable[[], object]


class JobState(NamedTuple):
    """A job as people see it. stale: it should have run by now and has not."""

    name: str
    row: ScheduledJob | None
    stale: bool

    @property
    def failing(self) -> bool:
        return self.row is not None and self.row.failures >= FAILING_AFTER


def due(job: Job) -> bool:
    """Whether the job is to be run now. Makes its row where there is none; one read otherwise."""
    now = clock.utcnow()
    row = _row(job.name)
    if row is None:
        first = now if isinstance(job.when, Every) else job.when.after(now)
        with db.engine.begin() as connection:
            insert_missing(
                connection, ScheduledJob,
                {"name": job.name, "next_at": first, "run": 0, "error": "", "failures": 0},
            )  # fmt: skip
        return first <= now
    return _is_due(job, row.next_at, now) and _is_free(job, row.running_until, now)


def run(job: Job) -> bool:
    """Run the job if it is due and nobody runs it. Returns whether it was run; its outcome stands in its row."""
    now = clock.utcnow()
    row = _row(job.name)
    if row is None or not _is_due(job, row.next_at, now) or not _is_free(job, row.running_until, now):
        return False
    # Whoever claims it or ends it writes another number or another time: what was read is what is still there.
    claim = sa.update(ScheduledJob).where(
        ScheduledJob.name == job.name, ScheduledJob.next_at == row.next_at, ScheduledJob.run == row.run,
        ScheduledJob.running_until.is_(None) if row.running_until is None
        else ScheduledJob.running_until == row.running_until,
    )  # fmt: skip
    late = job.when.late if isinstance(job.when, Daily) else None
    if late is not None and now - row.next_at > late:
        with db.engine.begin() as connection:
            connection.execute(claim.values(run=row.run + 1, next_at=job.when.after(now)))
        log.warning("missed, and too late to catch up", extra={"job": job.name, "was_due": row.next_at.isoformat()})
        return False
    values: dict[str, Any] = {"run": row.run + 1, "running_until": now + job.when.lease, "started_at": now}
    if row.running_until is not None:  # nobody lived to write down that the run before this one failed
        values |= {
            "error": DIED, "failures": ScheduledJob.failures + 1,
            "failing_since": sa.func.coalesce(ScheduledJob.failing_since, ScheduledJob.started_at, now),
        }  # fmt: skip
    with db.engine.begin() as connection:
        if connection.execute(claim.values(values)).rowcount != 1:
            return False
    started, error = time.monotonic(), ""
    try:
        job.does()
    except Exception as fault:
        log.exception("job failed", extra={"job": job.name})
        error = work.plain(f"{type(fault).__name__}: {fault}")
    finally:
        db.session.remove()
    _ended(job, row.run + 1, now, time.monotonic() - started, error)
    return True


def states(jobs: Sequence[Job]) -> list[JobState]:
    """Every job of the timetable with its row and whether it is stale: one query."""
    query = sa.select(ScheduledJob)
    rows = {row.name: row for row in db.session.scalars(query)}
    now = clock.utcnow()
    return [JobState(job.name, rows.get(job.name), _stale(job, rows.get(job.name), now)) for job in jobs]


def watch(jobs: Sequence[Job]) -> None:
    """Have staff told of jobs that are stale or keep failing, once an outage. Commits."""
    for state in states(jobs):
        row = state.row
        if row is None:
            continue
        if state.stale:
            since, reason = row.next_at, "not run"
        elif state.failing and row.failing_since is not None:
            since, reason = row.failing_since, row.error[:100]
        else:
            continue
        occasion = f"{row.name}:{since.isoformat()}"
        events.record(db.session, events.JOB_STALE, occasion, job=row.name, since=since.isoformat(), reason=reason)
    db.session.commit()


def _is_due(job: Job, next_at: dt.datetime, now: dt.datetime) -> bool:
    """Also when it is due later than it can be: a clock that was ahead wrote that, and the job would wait for ever."""
    return next_at <= now or next_at > job.when.after(job.when.after(now)) + AHEAD


def _is_free(job: Job, running_until: dt.datetime | None, now: dt.datetime) -> bool:
    return running_until is None or running_until <= now or running_until > now + job.when.lease + AHEAD


def _stale(job: Job, row: ScheduledJob | None, now: dt.datetime) -> bool:
    if row is None:
        return True
    if row.running_until is not None and row.running_until > now:
        return False
    return now - row.next_at > max(STALE_AFTER, 3 * dt.timedelta(seconds=job.when.look))


def _row(name: str) -> sa.Row[dt.datetime, int, dt.datetime | None] | None:
    query = sa.select(ScheduledJob.next_at, ScheduledJob.run, ScheduledJob.running_until)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        return connection.execute(query.where(ScheduledJob.name == name)).one_or_none()


def _ended(job: Job, number: int, began: dt.datetime, seconds: float, error: str) -> None:
    now = clock.utcnow()
    values: dict[str, Any] = {
        "running_until": None,
        "ended_at": now,
        "duration_ms": round(seconds * 1000),
        "error": error,
    }
    if error:
        values |= {
            "next_at": job.when.again(began),
            "failures": ScheduledJob.failures + 1,
            "failing_since": sa.func.coalesce(ScheduledJob.failing_since, began),
        }
    else:
        values |= {"next_at": job.when.after(began), "failures": 0, "failing_since": None, "succeeded_at": now}
    mine = sa.update(ScheduledJob).where(ScheduledJob.name == job.name, ScheduledJob.run == number)
    with db.engine.begin() as connection:
        connection.execute(mine.values(**values))
