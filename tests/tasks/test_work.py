"""Rows that are work: of many who want one, one gets it; who comes back late writes nothing; none is forgotten."""

import datetime as dt
import threading
from functools import partial

import pytest

from portal.clock import utcnow
from portal.extensions import db
from portal.models import EventStep
from portal.services import work
from portal.services.work import Claim
from tests.ledger.books import Threads
from tests.runs.rows import MovingClock, Rows
from tests.services.portal_app import MakeApp

MINUTE = 60


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> MovingClock:
    return MovingClock(monkeypatch)


@pytest.fixture
def rows(make_app: MakeApp, database_url: str) -> Rows:
    """On each of the three databases in turn."""
    return Rows(make_app(database_url))


@pytest.fixture
def one(make_app: MakeApp, sqlite_url: str) -> Rows:
    """Where the database is all one."""
    return Rows(make_app(sqlite_url))


def claim(rows: Rows, step_id: str, seconds: float = 120) -> Claim | None:
    held: Claim | None = rows.call(work.claim, EventStep, step_id, seconds)
    return held


def write(rows: Rows, held: Claim, **values: object) -> bool:
    with rows.app.app_context(), db.engine.begin() as connection:
        return work.write(connection, EventStep, held, **values)


def hand_out(rows: Rows) -> list[str]:
    ids: list[str] = rows.call(work.hand_out, EventStep)
    return ids


def test_of_twenty_who_want_it_one_gets_it(rows: Rows, time: MovingClock) -> None:
    """Never again, Money: same voucher won by many. Five pieces of work, each wanted by twenty at the same instant."""
    for step_id in rows.steps(5, due_at=time.now):
        gate = threading.Barrier(20)

        def at_once(wanted: str = step_id, gate: threading.Barrier = gate) -> Claim | None:
            gate.wait(20)
            return claim(rows, wanted)

        got = [held for held in Threads(*[at_once] * 20).wait() if held is not None]
        assert got == [Claim(step_id, 1, crashed=False)]
        row = rows.step(step_id)
        assert (row.state, row.attempts, row.lease_until) == ("running", 1, time.now + dt.timedelta(seconds=120))


def test_a_lease_that_ended_is_claimed_again_and_the_late_one_writes_nothing(rows: Rows, time: MovingClock) -> None:
    """NOTIF-01: a killed worker's message goes out all the same; one that was only slow does not undo its successor."""
    (step_id,) = rows.steps(1, due_at=time.now)
    first = claim(rows, step_id)
    assert first is not None
    time.on(120)
    assert claim(rows, step_id) is None, "the lease has not ended yet"
    time.on(0.001)
    gate = threading.Barrier(20)

    def at_once() -> Claim | None:
        gate.wait(20)
        return claim(rows, step_id)

    (second,) = [held for held in Threads(*[at_once] * 20).wait() if held is not None]
    assert second == Claim(step_id, 2, crashed=True)
    assert isinstance(second, Claim)
    assert write(rows, first, state="done", error="late") is False
    assert rows.step(step_id).state == "running"
    assert write(rows, second, state="waiting", error="x" * 1000, due_at=time.now) is True
    row = rows.step(step_id)
    assert (row.state, row.lease_until, len(row.error)) == ("waiting", None, work.ERROR)
    assert write(rows, second, state="done") is False, "an outcome is written once"
    third = claim(rows, step_id)
    assert third == Claim(step_id, 3, crashed=False)
    assert [write(rows, held, state="done") for held in (first, second, third)] == [False, False, True]


@pytest.mark.parametrize("state", ["pending", "done", "dead", "blocked"])
def test_what_is_not_due_is_nobody_s(one: Rows, time: MovingClock, state: str) -> None:
    """NOTIF-01: a job that was queued twice, or too early, does nothing."""
    later = time.now + dt.timedelta(microseconds=1)
    (over,) = one.steps(1, due_at=time.now, state=state)
    (early,) = one.steps(1, due_at=later)
    assert [claim(one, step_id) for step_id in (over, early, "0" * 32)] == [None, None, None]
    assert hand_out(one) == []
    assert one.step(over).attempts == one.step(early).attempts == 0


def test_each_row_is_handed_over_once_in_two_minutes_the_oldest_first(rows: Rows, time: MovingClock) -> None:
    """NOTIF-01: what the store has is not given to it again and again; what it lost is."""
    due = [time.now - dt.timedelta(seconds=age) for age in (10, 30, 20)]
    young, old, middle = (rows.steps(1, due_at=at)[0] for at in due)
    assert hand_out(rows) == [old, middle, young]
    for _ in range(4):
        assert hand_out(rows) == []
        time.on(30)
    assert hand_out(rows) == []
    time.on(0.001)
    assert hand_out(rows) == [old, middle, young]
    time.on(2 * MINUTE + 1)
    assert claim(rows, old) is not None
    assert hand_out(rows) == [middle, young]


def test_what_is_tried_again_is_handed_over_the_moment_it_is_due(rows: Rows, time: MovingClock) -> None:
    """NOTIF-01: a pause of five seconds is not one of two minutes because the first try was handed over just before."""
    (step_id,) = rows.steps(1, due_at=time.now)
    assert hand_out(rows) == [step_id]
    held = claim(rows, step_id)
    assert held is not None
    write(rows, held, state="waiting", due_at=time.now + dt.timedelta(seconds=5))
    assert hand_out(rows) == []
    time.on(5)
    assert hand_out(rows) == [step_id]
    assert hand_out(rows) == []


def test_what_a_dead_worker_held_is_handed_over_after_its_lease(rows: Rows, time: MovingClock) -> None:
    """Shown by kill -9: nothing is lost with a worker."""
    (step_id,) = rows.steps(1, due_at=time.now)
    assert hand_out(rows) == [step_id]
    assert claim(rows, step_id, 150) is not None
    time.on(150)
    assert hand_out(rows) == []
    time.on(0.001)
    assert hand_out(rows) == [step_id]
    assert hand_out(rows) == []
    assert claim(rows, step_id) == Claim(step_id, 2, crashed=True)


def test_thousands_are_handed_over_in_portions_and_none_is_left(rows: Rows, time: MovingClock) -> None:
    """NOTIF-01: after a night without workers. Each portion is a bounded statement, each row is handed over once."""
    ids = rows.steps(work.SWEEP + 1_234, due_at=time.now)
    first, second, third = hand_out(rows), hand_out(rows), hand_out(rows)
    assert (len(first), len(second), third) == (work.SWEEP, 1_234, [])
    assert sorted(first + second) == sorted(ids)
    portions = work.batches(first)
    assert {len(portion) for portion in portions} == {work.BATCH}
    assert [one for portion in portions for one in portion] == first
    assert work.batches([]) == []


def test_two_sweeps_at_once_lose_nothing(rows: Rows, time: MovingClock) -> None:
    """Two schedulers by mistake do no harm: a row in the queue twice is claimed once."""
    ids = rows.steps(300, due_at=time.now)
    handed = Threads(*[partial(hand_out, rows)] * 4).wait()
    assert {one for ids in handed if isinstance(ids, list) for one in ids} == set(ids)
    assert hand_out(rows) == []


@pytest.mark.parametrize("minutes", [-60, 60])
def test_leases_go_by_the_databases_clock_and_no_hosts(
    make_app: MakeApp, database_url: str, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOTIF-11 (once), on every database: a host whose own clock is wrong neither takes what another is at, nor keeps
    what it holds itself for longer than anybody else."""
    rows = Rows(make_app(database_url))
    long_ago = utcnow() - dt.timedelta(days=1)
    (step_id,) = rows.steps(1, due_at=long_ago)
    with monkeypatch.context() as patch:
        patch.setattr("portal.clock.utcnow", lambda: utcnow() + dt.timedelta(minutes=minutes))
        assert claim(rows, step_id) is not None
        left = (rows.step(step_id).lease_until - utcnow()).total_seconds()  # type: ignore[operator]
        assert 90 < left <= 121
        assert claim(rows, step_id) is None
        assert hand_out(rows) == []
        assert rows.call(work.due, EventStep, 9) == []
        rows.change(step_id, lease_until=utcnow() - dt.timedelta(seconds=2))
        assert rows.call(work.due, EventStep, 9) == [step_id]
        assert hand_out(rows) == [step_id]
        assert claim(rows, step_id) == Claim(step_id, 2, crashed=True)
