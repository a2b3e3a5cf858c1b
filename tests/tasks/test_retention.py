"""What the night clears away: what is old and over, in portions; never what is young or under way, nor books."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.ids import new_id
from portal.models import (
    Ban,
    Base,
    Delivery,
    Event,
    EventStep,
    LedgerEntry,
    Notification,
    OneTimeCode,
    User,
    UserSession,
)
from portal.services import retention
from portal.services.sessions import Browser, begin
from portal.tasks import chores
from tests.notifications.outside import customer, reading
from tests.services.portal_app import MakeApp

NOW = dt.datetime(2026, 11, 21, 1, 30, tzinfo=dt.UTC)


@pytest.fixture
def portal(make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """On each of the three databases, at half past four in Kuwait."""
    monkeypatch.setattr("portal.clock.utcnow", lambda: NOW)
    return make_app(database_url)


def ago(days: float) -> dt.datetime:
    return NOW - dt.timedelta(days=days)


def left(model: type[Base], column: Any) -> list[Any]:
    with reading() as connection:
        return sorted(connection.scalars(sa.select(column).select_from(model)))


def add(*rows: Base) -> None:
    for row in rows:
        db.session.add(row)
        db.session.flush()  # one by one: keys are as old as their rows
    db.session.commit()


def event(days: float, state: str = "done") -> Event:
    return Event(id=new_id(), kind="x", occasion=f"{days} {state}", facts={}, state=state, created_at=ago(days))


def note(days: float, *states: str) -> list[Base]:
    one = Notification(
        id=new_id(), recipient="staff", kind="x", occasion=" ".join([str(days), *states]), facts={}, language="ar",
        created_at=ago(days),
    )  # fmt: skip
    ways = [
        Delivery(notification_id=one.id, channel="whatsapp", address=f"+9655{n:07}", state=state, created_at=ago(days))
        for n, state in enumerate(states)
    ]
    return [one, *ways]


def ban(address: str, days: float, *, until: float | None = None, lifted: float | None = None) -> Ban:
    standing = None if lifted is not None else f"jail {address}"
    until_at, lifted_at = (None if value is None else ago(value) for value in (until, lifted))
    return Ban(
        address=address, jail="jail", banned_at=ago(days), until=until_at, lifted_at=lifted_at, standing=standing
    )


def test_what_is_old_and_over_goes_and_all_else_stays(portal: Flask) -> None:
    """never-again: tables that only grow. Each kind of row by its own time; what hangs on it goes along."""
    with portal.app_context():
        user = customer(credit=5_000)
        values = {"user_id": user.id, "phone": user.phone, "purpose": "verify", "expires_at": NOW}
        add(*[OneTimeCode(id=f"code {days}", created_at=ago(days), **values) for days in (29, 31)])
        add(
            *[
                UserSession(user_id=user.id, token_hash=str(hours), expires_at=NOW + dt.timedelta(hours=hours))
                for hours in (-1, 1)
            ]
        )
        events = [event(179), event(181), event(181, "dead"), event(900, "new"), event(900, "running")]
        add(*events, *[EventStep(event_id=one.id, name="a", state="done", due_at=ago(1)) for one in events])
        for one in (
            note(900), note(402, "done", "dead"), note(401.5, "waiting", "done"), note(401, "running"),
            note(400.5, "expired"), note(399, "done"), note(1, "waiting"),
        ):  # fmt: skip
            add(*one)
        add(
            ban("198.51.100.1", 500, lifted=401), ban("198.51.100.2", 500, until=401), ban("198.51.100.3", 500),
            ban("198.51.100.4", 500, lifted=399), ban("198.51.100.5", 500, until=-9),
            ban("198.51.100.6", 300, until=299),
        )  # fmt: skip
        assert chores.clear_away() == 1 + 1 + 1 + 3 + 2
        assert left(OneTimeCode, OneTimeCode.id) == ["code 29"]
        assert left(UserSession, UserSession.token_hash) == ["1"]
        assert left(Event, Event.occasion) == ["179 done", "181 dead", "900 new", "900 running"]
        assert len(left(EventStep, EventStep.id)) == 4
        assert left(Notification, Notification.occasion) == [
            "1 waiting",
            "399 done",
            "401 running",
            "401.5 waiting done",
        ]
        assert len(left(Delivery, Delivery.id)) == 5
        assert [address[-1] for address in left(Ban, Ban.address)] == ["3", "4", "5", "6"]
        assert len(left(User, User.id)) == 1 == len(left(LedgerEntry, LedgerEntry.id))
        assert chores.clear_away() == 0


def test_it_goes_in_portions_and_ends_in_time(portal: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """ROB-04: no long transaction; a night that is too short leaves the rest to the next."""
    monkeypatch.setattr(retention, "PORTION", 10)
    with portal.app_context():
        for number in range(35):
            kept = ("waiting",) if number < 12 else ()  # more than a portion of what stays, the oldest of all
            add(*note(500 - number / 100, *kept), event(200 + number))
        began: list[int] = []
        sa.event.listen(db.engine, "before_cursor_execute", lambda *given: began.append(len(given[3] or ())))
        monkeypatch.setattr(retention, "ENOUGH_SECONDS", 0)
        assert retention.clear_away() == 0
        monkeypatch.setattr(retention, "ENOUGH_SECONDS", 60)
        assert retention.clear_away() == 23 + 35
        assert max(began) <= 10 + 3
        assert len(left(Notification, Notification.id)) == 12


def test_somebody_who_is_signed_in_stays_so(app: Flask) -> None:
    """AUTH-03: by the real clock."""
    with app.app_context():
        begin(customer().id, Browser("203.0.113.1"))
        db.session.commit()
        chores.clear_away()
        assert len(left(UserSession, UserSession.id)) == 1
