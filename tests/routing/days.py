"""The cloud's days and the events as rows, for the tests of what is told and counted; and a clock that a test sets."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import clock
from portal.extensions import db
from portal.models import CloudDay, Event

NOON = dt.datetime(2026, 3, 1, 9, 0, tzinfo=dt.UTC)
"""In Kuwait, on the first of March."""
FIRST, SECOND = dt.date(2026, 3, 1), dt.date(2026, 3, 2)


class Days:
    """One portal's days and events. Every method opens and ends a transaction of its own."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def put(self, day: dt.date, used: int) -> None:
        """A day on which so many requests went to the cloud, of which nobody was told."""
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.insert(CloudDay).values(day=day, used=used, warned=False, exhausted=False))

    def used(self) -> dict[dt.date, int]:
        """Every day there is, and how much of it is used."""
        with self.app.app_context():
            return {row.day: row.used for row in db.session.scalars(sa.select(CloudDay))}

    def events(self) -> list[tuple[str, str, Any]]:
        """(kind, occasion, facts) of all events, in the order of their writing."""
        with self.app.app_context():
            rows = db.session.scalars(sa.select(Event).order_by(Event.created_at, Event.id))
            return [(row.kind, row.occasion, row.facts) for row in rows]

    def told(self) -> list[tuple[str, str]]:
        """(kind, occasion) of all events, sorted."""
        return sorted((kind, occasion) for kind, occasion, _ in self.events())

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's result, under the app's context."""
        with self.app.app_context():
            return function(*arguments)


def set_clock(monkeypatch: pytest.MonkeyPatch, instant: dt.datetime) -> None:
    """The time for whoever asks through `portal.clock`."""
    monkeypatch.setattr(clock, "utcnow", lambda: instant)


class Written:
    """What is sent to the database meanwhile. `changes` are the statements that need a lock."""

    def __init__(self, app: Flask) -> None:
        with app.app_context():
            self._engine = db.engine
        self.statements: list[str] = []

    def __enter__(self) -> "Written":
        sa.event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._note)

    @property
    def changes(self) -> list[str]:
        return [s for s in self.statements if s.split()[0] not in ("SELECT", "BEGIN") or "IMMEDIATE" in s]

    def _note(self, _connection: object, _cursor: object, statement: str, *_more: object) -> None:
        self.statements.append(statement)
