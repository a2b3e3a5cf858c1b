"""Carrying out what follows from events: each event is a run of its kind's graph, each step a row that is claimed.

The graph comes from `tasks/graph.py`; here is what is true of every graph. A step begins when all of its parents are
done, is tried again with growing pauses, and is given up in the open: it is dead, what depends on it is blocked, staff
are told, and anybody may run it again. Whoever changes steps locks their event first, or two parents that end at the
same moment would each take the other for unfinished and their child would wait for ever.
"""

import datetime as dt
import json
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
    try:
        if held.crashed and held.attempt % TRIES == 1:  # its last try took the process along: that is a failure too
            raise WorkerDied("the process that ran it ended with it")
        step = next(step for step in graph[run.kind] if step.name == row.step)
        result = dict(step.does(run) or {})
        json.dumps(result)  # what can't be kept is the step's failure, not ours in the middle of writing it down
    except Exception as error:
        # Whatever it was: it is tried again, and seen.
        log.exception("step failed", extra={"run": run.id, "kind": run.kind, "step": row.step})
        db.session.rollback()
        return _failed(graph, run, row.step, held, began, time.monotonic() - started, error)
    finally:
        db.session.remove()
    return _done(graph, run, row.step, held, began, time.monotonic() - started, result)


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
        # A last try that killed its process was noticed one number later: all tries are given from the next round on.
        counted = EventStep.attempts + (TRIES - EventStep.attempts % TRIES) % TRIES
        fresh: dict[str, Any] = {
            "state": "waiting", "attempts": counted, "due_at": now, "handed_at": now, "error": "", "ended_at": None,
        }  # fmt: skip
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
    known = Event.kind.in_(list(graph))
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        query = sa.select(Event.id).where(Event.state == "new", known).order_by(Event.created_at).limit(SWEEP)
        new = list(connection.scalars(query))
        # Of a newer release than this worker's: left to a worker of that one, and not in the way of what is known here.
        unknown = list(connection.scalars(sa.select(Event.kind).where(Event.state == "new", ~known).distinct()))
    if unknown:
        log.warning("no graph for these kinds", extra={"kinds": sorted(unknown)})
    for event_id in new:
        unfold(graph, event_id)
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
    tried = held.attempt % TRIES
    dead = tried == 0 or isinstance(error, WorkerDied)
    why = work.plain(f"{type(error).__name__}: {error}")
    told: dict[str, Any] = {"error": why, "started_at": began, "ended_at": now, "duration_ms": round(seconds * 1000)}
    if dead:
        told |= {"state": "dead"}
    else:
        told |= {"state": "waiting", "due_at": now + dt.timedelta(seconds=PAUSES[tried - 1])}
    # One transaction: killed between the two, the step would be dead and nobody would know.
    connection = db.session.connection()
    _lock(connection, run.id)
    if not work.write(connection, EventStep, held, **told):
        db.session.rollback()
        return None
    _settle(connection, graph.get(run.kind, ()), run.id)
    if dead:
        log.error("step given up", extra={"run": run.id, "kind": run.kind, "step": step})
        occasion = f"{held.id}:{now.isoformat()}"
        notify_staff("step_dead", occasion, event=run.kind, step=step, run=run.id, error=why[:100])
    db.session.commit()
    return "dead" if dead else "waiting"


def _lock(connection: sa.Connection, event_id: str) -> None:
    """Changes nothing: who came too late must leave the run as it is."""
    connection.execute(sa.update(Event).where(Event.id == event_id).values(state=Event.state))


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
