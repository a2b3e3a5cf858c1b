"""Events and steps as they stand in rows, and a clock that is moved, for tests of work that is claimed.

Every method opens and ends a transaction of its own, so that what the product does beside it is all that happens.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Event, EventStep, Notification
from portal.services import runs
from portal.services.runs import Graph, Step
from tests.services import database_clock

KIND = "provider_up"
NOON = dt.datetime(2026, 3, 1, 9, 0, tzinfo=dt.UTC)
"""In Kuwait, on the first of March."""


class MovingClock:
    """The time for whoever asks `portal.clock`, and the database's for leases; it stands still until it is moved."""

    def __init__(self, patch: pytest.MonkeyPatch, now: dt.datetime = NOON) -> None:
        self.now = now
        patch.setattr("portal.clock.utcnow", lambda: self.now)
        database_clock.follow(patch, lambda: self.now)

    def on(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


class Rows:
    """One portal's events and steps."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def event(self, kind: str = KIND, *, state: str = "new", at: dt.datetime | None = None) -> str:
        """A recorded event. Returns its id."""
        with self.app.app_context(), db.engine.begin() as connection:
            row = {"id": new_id(), "kind": kind, "occasion": new_id(), "facts": {}, "state": state}
            connection.execute(sa.insert(Event).values(**row, created_at=at or utcnow()))
            return str(row["id"])

    def unfolded(self, graph: Graph, kind: str = KIND) -> str:
        """A new event whose steps are there. Returns its id."""
        event_id = self.event(kind)
        assert self.call(runs.unfold, graph, event_id) is True
        return event_id

    def steps(self, count: int, **values: Any) -> list[str]:
        """So many steps of one event, all alike. Returns their ids."""
        event_id = self.event(state="running")
        alike: dict[str, Any] = {
            "event_id": event_id,
            "result": {},
            "attempts": 0,
            "error": "",
            "state": "waiting",
            "handed_at": None,
        }
        rows = [alike | {"id": new_id(), "name": str(number)} | values for number in range(count)]
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.insert(EventStep), rows)
        return [str(row["id"]) for row in rows]

    def change(self, step_id: str, **values: Any) -> None:
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.update(EventStep).where(EventStep.id == step_id).values(**values))

    def step(self, step_id: str) -> EventStep:
        with self.app.app_context():
            return db.session.get_one(EventStep, step_id)

    def ids(self, event_id: str) -> dict[str, str]:
        """The steps' ids by their names."""
        with self.app.app_context():
            query = sa.select(EventStep.name, EventStep.id).where(EventStep.event_id == event_id)
            return {row.name: row.id for row in db.session.execute(query)}

    def states(self, event_id: str) -> dict[str, str]:
        """The steps' states by their names."""
        with self.app.app_context():
            query = sa.select(EventStep.name, EventStep.state).where(EventStep.event_id == event_id)
            return {row.name: row.state for row in db.session.execute(query)}

    def found(self, event_id: str) -> Event:
        with self.app.app_context():
            return db.session.get_one(Event, event_id)

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and facts of all that was told, in its order."""
        with self.app.app_context():
            rows = db.session.scalars(sa.select(Notification).order_by(Notification.created_at, Notification.id))
            return [(row.kind, row.facts) for row in rows]

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The function's result, under the app's context."""
        with self.app.app_context():
            return function(*arguments, **named)


def graph_of(*steps: Step, kind: str = KIND) -> dict[str, Sequence[Step]]:
    """A graph of one kind of event."""
    return {kind: steps}
