"""Who is alive is told and asked by one clock, the database's: hosts whose own clocks differ take nobody for dead."""

import datetime as dt

import pytest
import sqlalchemy as sa

import portal.clock
from portal.extensions import db
from portal.models import GatewayProcess
from portal.services.gateway import sweep as sweeping
from portal.services.gateway.process import DEAD_AFTER
from tests.ledger.books import Books, a_hold
from tests.services.portal_app import MakeApp

HOUR = dt.timedelta(hours=1)


class _Clock(dt.datetime):
    """A host's clock that goes wrong by an hour, either way."""

    wrong_by = dt.timedelta()

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_Clock":
        real = dt.datetime.now(tz) + cls.wrong_by
        return cls(*real.timetuple()[:6], real.microsecond, tz)


class _Calendar:
    """`datetime`, as the module of that name, with that clock."""

    UTC, timedelta, datetime = dt.UTC, dt.timedelta, _Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[_Clock]:
    """The clock of this process, for whoever asks `utcnow`; `wrong_by` is the test's to set."""
    monkeypatch.setattr(_Clock, "wrong_by", dt.timedelta())
    monkeypatch.setattr(portal.clock, "dt", _Calendar)
    return _Clock


def swept(books: Books) -> int:
    with books.app.app_context():
        return sweeping.sweep(books.app.config["PORTAL"])


def test_a_sweep_on_a_host_with_a_wrong_clock_settles_nothing_of_the_living(
    database_url: str, make_app: MakeApp, clock: type[_Clock]
) -> None:
    """CRD-01: five minutes ahead was enough, and every running answer of the other hosts was given away."""
    books = Books(make_app(database_url))
    process = books.app.extensions["chat_door"].process()  # writes its sign of life, and keeps it up
    account, till = books.open_account(10_000), books.till()
    hold = a_hold(account, 700, process_id=process.id)
    till.hold(hold)
    for wrong_by in (dt.timedelta(minutes=2), dt.timedelta(minutes=-2), HOUR, -HOUR):
        clock.wrong_by = wrong_by
        assert portal.clock.utcnow() - dt.datetime.now(dt.UTC) - wrong_by < dt.timedelta(seconds=5)
        assert swept(books) == 0, wrong_by
    clock.wrong_by = dt.timedelta()
    assert books.open_requests() == {hold.id}
    assert books.wallet(account).held == 700
    till.close()


def test_a_sign_of_life_written_by_a_host_with_a_wrong_clock_counts(
    database_url: str, make_app: MakeApp, clock: type[_Clock]
) -> None:
    """CRD-01: a host an hour behind was dead to all others, whatever it wrote."""
    books = Books(make_app(database_url))
    clock.wrong_by = -HOUR
    process = books.app.extensions["chat_door"].process()
    process._write_sign_of_life()  # once more: the first inserts its row, the others change it
    clock.wrong_by = dt.timedelta()
    account, till = books.open_account(10_000), books.till()
    till.hold(a_hold(account, 700, process_id=process.id))
    with books.app.app_context():
        seen = db.session.scalars(sa.select(GatewayProcess.seen_at)).one()
        assert abs(dt.datetime.now(dt.UTC) - seen) < dt.timedelta(seconds=20)
    assert swept(books) == 0
    till.close()


def test_the_dead_are_found_also_by_a_host_with_a_wrong_clock(
    database_url: str, make_app: MakeApp, clock: type[_Clock]
) -> None:
    """CRD-01: with a clock an hour behind nobody was dead for an hour, and the credit stayed on hold."""
    books = Books(make_app(database_url))
    dead = "d" * 32
    books.app.extensions["chat_door"].process()  # somebody lives beside it
    silent_since = dt.datetime.now(dt.UTC) - DEAD_AFTER - dt.timedelta(seconds=10)
    with books.app.app_context():
        db.session.add(GatewayProcess(id=dead, host="h", pid=1, started_at=silent_since, seen_at=silent_since))
        db.session.commit()
    account, till = books.open_account(10_000), books.till()
    till.hold(a_hold(account, 700, process_id=dead))
    clock.wrong_by = -HOUR
    assert swept(books) == 1
    assert (books.wallet(account).held, books.wallet(account).balance) == (0, 10_000)
    till.close()
