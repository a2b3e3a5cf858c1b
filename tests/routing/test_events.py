"""An event is written with what happened, once an occasion, and never at the cost of the transaction it is part of."""

import datetime as dt
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.extensions import db
from portal.models import Event
from portal.services import events
from tests.ledger.books import Threads
from tests.routing.days import FIRST, NOON, Days, set_clock
from tests.services.portal_app import MakeApp

KIND = events.PROVIDER_DOWN


@pytest.fixture
def days(make_app: MakeApp, database_url: str) -> Days:
    """On each of the three databases in turn."""
    return Days(make_app(database_url))


def record(occasion: str, kind: str = KIND) -> bool:
    """In a transaction of its own, under an app context."""
    with db.engine.begin() as connection:
        return events.record(connection, kind, occasion, provider="ollama-1")


def test_an_occasion_is_recorded_once_with_its_facts(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-07..10: the first one's facts and instant stay; another kind or another occasion is another event."""
    set_clock(monkeypatch, NOON)
    assert days.call(record, "a") is True
    set_clock(monkeypatch, NOON + dt.timedelta(hours=1))
    assert days.call(record, "a") is False
    assert days.call(record, "A") is True
    assert days.call(record, "a", events.PROVIDER_UP) is True
    with days.app.app_context():
        first = db.session.scalars(sa.select(Event).where(Event.kind == KIND, Event.occasion == "a")).one()
        assert (first.facts, first.created_at) == ({"provider": "ollama-1"}, NOON)
    assert days.told() == [(KIND, "A"), (KIND, "a"), (events.PROVIDER_UP, "a")]


def test_of_twenty_who_tell_it_at_once_one_does(days: Days) -> None:
    """NOTIF-08: twenty workers see the same thing in the same instant; administrators hear of it once."""
    results = Threads(*[partial(days.call, record, "at once") for _ in range(20)]).wait()
    assert sorted(results, key=str) == [False] * 19 + [True]
    assert days.told() == [(KIND, "at once")]


def test_an_event_that_is_there_already_leaves_the_transaction_whole(days: Days) -> None:
    """NOTIF-08: on PostgreSQL a refused INSERT ended the transaction around it, and what had happened was lost."""
    days.call(record, "known")
    days.put(FIRST, 3)
    with days.app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text("UPDATE cloud_days SET used = used + 1"))
        assert events.record(connection, KIND, "known") is False
        connection.execute(sa.text("UPDATE cloud_days SET used = used + 1"))
    assert days.used() == {FIRST: 5}
    assert days.told() == [(KIND, "known")]


def test_what_is_rolled_back_was_never_told(days: Days) -> None:
    """Never again, People: a message of something that didn't last. The same occasion can happen afterwards."""
    with days.app.app_context():
        with db.engine.connect() as connection:
            assert events.record(connection, KIND, "undone") is True
            connection.rollback()
        assert days.events() == []
        assert record("undone") is True


def test_a_session_takes_it_into_its_own_transaction(days: Days) -> None:
    """House habit: services own the commit, whether they write by rows or by statements."""
    with days.app.app_context():
        assert events.record(db.session, KIND, "scoped") is True
        db.session.rollback()
        with Session(db.engine) as session:
            assert events.record(session, KIND, "plain", seconds=5) is True
            session.commit()
    assert days.events() == [(KIND, "plain", {"seconds": 5})]


def test_what_is_no_event_is_refused_before_anything_is_written(days: Days) -> None:
    """NOTIF-07..10: a mistyped kind is never told to anybody; MariaDB would cut occasions and take two for one."""
    with days.app.app_context(), db.engine.begin() as connection:
        for kind, occasion in (("cloud_budget_warnin", "a"), (KIND, ""), (KIND, "x" * 121)):
            with pytest.raises(ValueError, match=r"no event|characters"):
                events.record(connection, kind, occasion)
        assert events.record(connection, KIND, "x" * events.LONGEST) is True
    assert days.told() == [(KIND, "x" * 120)]


def test_every_kind_fits_its_column() -> None:
    """Each is named once, and fits."""
    assert {kind for name, kind in vars(events).items() if name.isupper() and isinstance(kind, str)} == events.KINDS
    assert max(map(len, events.KINDS)) <= 40
