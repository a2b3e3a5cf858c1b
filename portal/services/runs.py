"""Carrying out what follows from events: each event is a run of its kind's graph, each step a row that is claimed.

The graph comes from `tasks/graph.py`; here is what is true of every graph. A step begins when all of its parents are
done, is tried again with growing pauses, and is given up in the open: it is dead, what depends on it is blocked, staff
are told, and anybody may run it again. Whoever changes steps locks their event first, or two parents that end at the
same moment would each take the other for unfinished and their child would wait for ever.
"""

import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from portal import clock, queue
from portal.extensions import db
from portal.ids import new_id
from portal.models import Event, EventStep
from portal.services import work
from portal.services.insertion import insert_missing
from portal.services.notifications import notify_staff

log = logging.getLogger("portal.events")
LEASE_SECONDS = 120
PAUSES = (5, 30, 120, 600, 1800, 7200)
"""Seconds after each failed try; the try after the last of them is the last one."""
TRIES = len(PAUSES) + 1
SWEEP = 500


class WorkerDied(Exception):
    """The process that ran the step ended with it."""


class Run(NamedTuple):
    """What a step is given. results: what each of its parents returned, by name."""

    id: str
    kind: str
    occasion: str
    facts: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]


class Step(NamedTuple):
    """A step as declared. does: safe to repeat, commits what it does, returns plain values for its children or None.

    needs: names of the steps that must be done before it.
    """

    name: str
    does: Callable[[Run], Mapping[str, Any] | None]
    needs: tuple[str, ...] = ()


Graph = Mapping[str, Sequence[Step]]


class NotRunnable(Exception):
    """The step is not dead: there is nothing to run again."""


def unfold(graph: Graph, event_id: str) -> bool:
    """Write the steps of a new event and hand over those that need none before them. False when that is done already.

    Raises KeyError for a kind that the graph does not have.
    """
    now = clock.utcnow()
    ready: list[str] = []
    with db.engine.begin() as connection:
        opened = sa.update(Event).where(Event.id == event_id, Event.state == "new").values(state="running")
        if connection.execute(opened).rowcount != 1:
            return False
        kind = connection.execute(sa.select(Event.kind).where(Event.id == event_id)).scalar_one()
        for step in graph[kind]:
            row: dict[str, Any] = {
                "id": new_id(), "event_id": event_id, "name": step.name, "result": {}, "attempts": 0, "error": "",
                "state": "pending" if step.needs else "waiting", "due_at": now, "handed_at": now,
            }  # fmt: skip
            if insert_missing(connection, EventStep, row) and not step.needs:
                ready.append(row["id"])
    queue.enqueue_now("run steps", work.batches(ready))
    return True


def run_step(graph: Graph, step_id: str) -> str | None:
    """Do a step that is due. Returns its new state; None when it was not due, or somebody else has it."""
    held = work.claim(EventStep, step_id, LEASE_SECONDS)
    if held is None:
        return None
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        query = sa.select(Event, EventStep.name.label("step")).join(EventStep, EventStep.event_id == Event.id)
        row = connection.execute(query.where(EventStep.id == step_id)).one()
        parents = connection.execute(
            sa.select(EventStep.name, EventStep.result).where(EventStep.event_id == row.id, EventStep.state == "done")
        ).all()
    run = Run(row.id, row.kind, row.occasion, row.facts, {parent.name: parent.result for parent in parents})
    began, started = clock.utcnow(), time.monotonic()
    if held.crashed and held.attempt % TRIES == 0:  # it takes every worker down with it: that is a failure too
        return _failed(graph, run, row.step, held, began, 0, WorkerDied("the process that ran it ended with it"))
    try:
        step = next(step for step in graph[run.kind] if step.name == row.step)
        result = step.does(run)
    except Exception as error:
        # Whatever it was: it is tried again, and seen.
        log.exception("step failed", extra={"run": run.id, "kind": run.kind, "step": row.step})
        db.session.rollback()
        return _failed(graph, run, row.step, held, began, time.monotonic() - started, error)
    finally:
        db.session.remove()
    return _done(graph, run, row.step, held, began, time.monotonic() - started, dict(result or {}))


def run_again(graph: Graph, step_id: str) -> None:
    """Bring a dead step back, and what was blocked by it. Raises NotRunnable when it is not dead."""
    now = clock.utcnow()
    with db.engine.begin() as connection:
        query = sa.select(EventStep.event_id, EventStep.name, Event.kind).join(Event, Event.id == EventStep.event_id)
        row = connection.execute(query.where(EventStep.id == step_id)).one_or_none()
        if row is None:
            raise NotRunnable
        _lock(connection, row.event_id)
        dead = (EventStep.id == step_id, EventStep.state == "dead")
        # Its tries are counted on, not anew: a number that came twice would let somebody long gone write a result.
        fresh = {"state": "waiting", "due_at": now, "handed_at": now, "error": "", "ended_at": None}
        if connection.execute(sa.update(EventStep).where(*dead).values(**fresh)).rowcount != 1:
            raise NotRunnable
        _settle(connection, graph[row.kind], row.event_id)
    queue.enqueue_now("run steps", [[step_id]])


def sweep(graph: Graph) -> int:
    """Unfold what was recorded and not unfolded, and hand over the steps that are due. Returns how many of both."""
    new = unfold_new(graph)
    due = work.hand_out(EventStep)
    queue.enqueue_now("run steps", work.batches(due))
    return new + len(due)


def unfold_new(graph: Graph) -> int:
    """Unfold what was recorded and not unfolded. Returns how many events there were."""
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        query = sa.select(Event.id).where(Event.state == "new").order_by(Event.created_at).limit(SWEEP)
        new = list(connection.scalars(query))
    for event_id in new:
        try:
            unfold(graph, event_id)
        except KeyError as kind:  # of a newer release than this worker's: it is left to a worker of that one
            log.warning("no graph for this kind", extra={"run": event_id, "kind": str(kind)})
    return len(new)


def _done(
    graph: Graph, run: Run, step: str, held: work.Claim, began: dt.datetime, seconds: float, result: dict[str, Any]
) -> str | None:
    now = clock.utcnow()
    with db.engine.begin() as connection:
        _lock(connection, run.id)
        told = {"started_at": began, "ended_at": now, "duration_ms": round(seconds * 1000)}
        if not work.write(connection, EventStep, held, state="done", error="", result=result, **told):
            log.warning("a step ended after its lease: somebody else has it", extra={"run": run.id, "step": step})
            return None
        ready = _settle(connection, graph[run.kind], run.id)
    queue.enqueue_now("run steps", work.batches(ready))
    return "done"


def _failed(
    graph: Graph, run: Run, step: str, held: work.Claim, began: dt.datetime, seconds: float, error: Exception
) -> str | None:
    now = clock.utcnow()
    tried = held.attempt % TRIES or TRIES
    dead = tried == TRIES
    why = f"{type(error).__name__}: {error}"
    told: dict[str, Any] = {"error": why, "started_at": began, "ended_at": now, "duration_ms": round(seconds * 1000)}
    if dead:
        told |= {"state": "dead"}
    else:
        told |= {"state": "waiting", "due_at": now + dt.timedelta(seconds=PAUSES[tried - 1])}
    with db.engine.begin() as connection:
        _lock(connection, run.id)
        if not work.write(connection, EventStep, held, **told):
            return None
        _settle(connection, graph.get(run.kind, ()), run.id)
    if not dead:
        return "waiting"
    log.error("step given up", extra={"run": run.id, "kind": run.kind, "step": step})
    notify_staff("step_dead", f"{held.id}:{now.isoformat()}", event=run.kind, step=step, run=run.id, error=why[:100])
    db.session.commit()
    return "dead"


def _lock(connection: sa.Connection, event_id: str) -> None:
    connection.execute(sa.update(Event).where(Event.id == event_id).values(finished_at=None))


def _settle(connection: sa.Connection, steps: Sequence[Step], event_id: str) -> list[str]:
    """Bring pending and blocked steps, and the event, to where their parents are. Returns what is ready now.

    In the caller's transaction, which has locked the event.
    """
    now = clock.utcnow()
    rows = connection.execute(
        sa.select(EventStep.id, EventStep.name, EventStep.state).where(EventStep.event_id == event_id)
    ).all()
    states, ids = {row.name: row.state for row in rows}, {row.name: row.id for row in rows}
    ready: list[str] = []
    for step in steps:  # parents are declared before their children
        if states.get(step.name) not in ("pending", "blocked"):
            continue
        # A need that a newer release has added is none of an event that was unfolded before it.
        parents = {name: states.get(name, "done") for name in step.needs}
        values: dict[str, Any] = {"state": "pending", "error": ""}
        if all(state == "done" for state in parents.values()):
            values = {"state": "waiting", "error": "", "due_at": now, "handed_at": now}
            ready.append(ids[step.name])
        elif causes := [name for name, state in parents.items() if state in ("dead", "blocked")]:
            values = {"state": "blocked", "error": f"{causes[0]} is {parents[causes[0]]}"}
        if values["state"] != states[step.name]:
            connection.execute(sa.update(EventStep).where(EventStep.id == ids[step.name]).values(**values))
            states[step.name] = values["state"]
    over: dict[str, Any] = {"state": "running", "finished_at": None}
    if "dead" in states.values():
        over = {"state": "dead", "finished_at": now}
    elif all(state == "done" for state in states.values()):
        over = {"state": "done", "finished_at": now}
    connection.execute(sa.update(Event).where(Event.id == event_id).values(**over))
    return ready
