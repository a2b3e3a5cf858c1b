"""What the clock does, as people read it: runs with their steps, and the timetable with its jobs. Changes nothing.

The declarations (the graph, the timetable's tuple) are given by the caller, since rules do not know the clock. A run is
an event of `models/event`; who carries it out is `services/runs.py`.
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import redis
import sqlalchemy as sa

from portal import queue
from portal.errors import NotFound
from portal.extensions import db
from portal.models import Event, EventStep
from portal.services.runs import Graph
from portal.services.timetable import Every, Job

STATES: Final = ("new", "running", "done", "dead")
MOST: Final = 200
"""Lines of a page."""
_PREFIX = re.compile(r"[0-9a-f]{1,32}")


class Ambiguous(Exception):
    """Several runs begin like that. ids: some of them."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(", ".join(ids))
        self.ids = tuple(ids)


class RunLine(NamedTuple):
    """A run in a list. done, total: its steps; none of them are there before it is unfolded."""

    id: str
    kind: str
    occasion: str
    state: str
    done: int
    total: int
    created_at: dt.datetime
    finished_at: dt.datetime | None


class RunPage(NamedTuple):
    """Lines, the newest first. before: what the next page is asked for with; None at the end."""

    lines: tuple[RunLine, ...]
    before: str | None


class StepView(NamedTuple):
    """A step and where it stands. id, state: None of one that is not written yet. depth: 1 for one without parents."""

    name: str
    needs: tuple[str, ...]
    depth: int
    id: str | None
    state: str | None
    tries: int
    due_at: dt.datetime | None
    started_at: dt.datetime | None
    duration_ms: int | None
    error: str
    result: Mapping[str, Any]


class RunView(NamedTuple):
    """A run with its steps, parents before children."""

    line: RunLine
    facts: Mapping[str, Any]
    steps: tuple[StepView, ...]

    def dead(self, name: str | None = None) -> list[StepView]:
        """The steps that were given up, or the one of that name if it was."""
        return [step for step in self.steps if step.state == "dead" and name in (None, step.name)]


def page(*, state: str | None = None, kind: str | None = None, before: str | None = None, limit: int = 50) -> RunPage:
    """Runs, the newest first. before: the `before` of the page above. limit: 1 to MOST. Two or three statements."""
    limit = max(1, min(limit, MOST))
    query = sa.select(Event).order_by(Event.created_at.desc(), Event.id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(Event.state == state)
    if kind is not None:
        query = query.where(Event.kind == kind)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        if before is not None:
            at = connection.execute(sa.select(Event.created_at).where(Event.id == before)).scalar_one_or_none()
            if at is None:
                return RunPage((), None)
            older = sa.and_(Event.created_at == at, Event.id < before)
            query = query.where(Event.created_at <= at, sa.or_(Event.created_at < at, older))
        rows = connection.execute(query).all()
        lines = _lines(connection, rows[:limit])
    return RunPage(lines, lines[-1].id if len(rows) > limit else None)


def find(graph: Graph, run: str) -> RunView:
    """One run. run: its id, or as much of its beginning as no other has. Raises NotFound, Ambiguous."""
    if not _PREFIX.fullmatch(run):
        raise NotFound
    # A range and no LIKE: that would not use the key's index on every database. "g" follows the last hex digit.
    query = sa.select(Event).where(Event.id >= run, Event.id < run + "g").order_by(Event.id).limit(5)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        rows = connection.execute(query).all()
        if not rows:
            raise NotFound
        if len(rows) > 1:
            raise Ambiguous([row.id for row in rows])
        row = rows[0]
        written = connection.execute(sa.select(EventStep.__table__).where(EventStep.event_id == row.id)).all()
    steps = {step.name: step for step in written}
    views = tuple(_step(name, needs, depth, steps.get(name)) for name, needs, depth in _plan(graph, row.kind, steps))
    done = sum(step.state == "done" for step in written)
    return RunView(_line(row, done, len(written)), row.facts, views)


def when(job: Job) -> str:
    """`every 15 s`, `daily 08:00`: Kuwait's."""
    if isinstance(job.when, Every):
        return f"every {job.when.seconds} s"
    return f"daily {job.when.hour:02d}:{job.when.minute:02d}"


def waiting() -> dict[str, int] | None:
    """How many jobs each queue has; None while the store is away."""
    try:
        return queue.waiting()
    except redis.RedisError:
        return None


def _plan(graph: Graph, kind: str, written: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """(name, needs, depth) of every step: as declared, then those that only another release declares."""
    depth: dict[str, int] = {}
    for step in graph.get(kind, ()):
        depth[step.name] = 1 + max((depth[name] for name in step.needs), default=0)
        if step.name in written or not written:  # what this release added is none of a run that was unfolded before
            yield step.name, step.needs, depth[step.name]
    yield from ((name, (), 1) for name in sorted(written.keys() - depth.keys()))


def _step(name: str, needs: tuple[str, ...], depth: int, row: sa.Row[*tuple[Any, ...]] | None) -> StepView:
    if row is None:
        return StepView(name, needs, depth, None, None, 0, None, None, None, "", {})
    return StepView(
        name, needs, depth, row.id, row.state, row.attempts, row.due_at, row.started_at, row.duration_ms, row.error,
        row.result or {},
    )  # fmt: skip


def _lines(connection: sa.Connection, rows: Sequence[sa.Row[*tuple[Any, ...]]]) -> tuple[RunLine, ...]:
    over = sa.func.sum(sa.case((EventStep.state == "done", 1), else_=0)).label("done")
    counted = (
        sa.select(EventStep.event_id, over, sa.func.count().label("total"))
        .where(EventStep.event_id.in_([row.id for row in rows]))
        .group_by(EventStep.event_id)
    )
    counts = {row.event_id: (int(row.done), row.total) for row in connection.execute(counted)} if rows else {}
    return tuple(_line(row, *counts.get(row.id, (0, 0))) for row in rows)


def _line(row: sa.Row[*tuple[Any, ...]], done: int, total: int) -> RunLine:
    return RunLine(row.id, row.kind, row.occasion, row.state, done, total, row.created_at, row.finished_at)
