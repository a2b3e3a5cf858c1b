"""The cloud's budget: exact to the last request, on its own day, told of once, and never below what was used."""

import datetime as dt
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.services import budget
from tests.ledger.books import Threads
from tests.routing.days import FIRST, NOON, SECOND, Days, Written, set_clock
from tests.services.environment import ROOT
from tests.services.portal_app import MakeApp

WARNING, EXHAUSTED = "cloud_budget_warning", "cloud_budget_exhausted"


@pytest.fixture
def days(make_app: MakeApp, database_url: str) -> Days:
    """On each of the three databases in turn."""
    return Days(make_app(database_url))


@pytest.fixture
def first_of_march(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon in Kuwait."""
    set_clock(monkeypatch, NOON)


class Takers:
    """Processes of `tests.routing.takers`, ready to go at once."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, how: str, limit: int, count: int) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.routing.takers", self._url, str(self._folder), how, str(limit), str(count)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def go(self) -> list[tuple[int, str]]:
        """(exit code, what each printed at its end), once all of them were ready."""
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()[-3000:]
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ended = [process.communicate(timeout=60) for process in self.processes]
        return [(p.returncode, out.strip() or err[-3000:]) for p, (out, err) in zip(self.processes, ended, strict=True)]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def takers(database_url: str, tmp_path: Path) -> Iterator[Takers]:
    takers = Takers(database_url, tmp_path)
    yield takers
    takers.end()


def not_at_midnight() -> dt.date:
    """Today, on the clock that other processes have too. Its last minute is waited out: the test may not outlive it."""
    if clock.seconds_to_kuwait_midnight() < 60:
        time.sleep(clock.seconds_to_kuwait_midnight())
    return clock.kuwait_day()


def test_a_hundred_at_once_at_495_of_500_get_exactly_five_places(days: Days, takers: Takers) -> None:
    """CLOUD-01, never again (the budget only changed a label): four processes, two of them with greenlets, 25 each."""
    today = not_at_midnight()
    days.put(today, 495)
    for how in ("threads", "greenlets", "threads", "greenlets"):
        takers.start(how, 500, 25)
    results = takers.go()
    assert [code for code, _ in results] == [0] * 4, results
    counted = [tuple(map(int, said.split())) for _, said in results]
    assert [asked for _, asked in counted] == [25] * 4
    assert sum(got for got, _ in counted) == 5
    assert days.used() == {today: 500}
    assert days.told() == [(EXHAUSTED, str(today)), (WARNING, str(today))]


@pytest.mark.usefixtures("first_of_march")
def test_those_who_open_the_day_together_each_get_a_place(days: Days) -> None:
    """CLOUD-01: the day's row is made on demand; of twenty who find none, nobody fails, and a limit of ten is kept."""
    results = Threads(*[partial(days.call, budget.take, 10) for _ in range(20)]).wait()
    assert sorted(results, key=str) == [FIRST] * 10 + [None] * 10
    assert days.used() == {FIRST: 10}
    assert days.told() == [(EXHAUSTED, "2026-03-01"), (WARNING, "2026-03-01")]


def test_the_cloud_is_back_when_midnight_passes_in_kuwait(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOUD-02: off until midnight in Kuwait (21:00 UTC), then on by itself, in a row and with events of its own."""
    midnight = dt.datetime(2026, 3, 1, 21, 0, tzinfo=dt.UTC)
    set_clock(monkeypatch, midnight - dt.timedelta(microseconds=1))
    assert [days.call(budget.take, 2) for _ in range(3)] == [FIRST, FIRST, None]
    set_clock(monkeypatch, midnight)
    assert [days.call(budget.take, 2) for _ in range(3)] == [SECOND, SECOND, None]
    assert days.used() == {FIRST: 2, SECOND: 2}
    assert days.told() == [
        (EXHAUSTED, "2026-03-01"), (EXHAUSTED, "2026-03-02"), (WARNING, "2026-03-01"), (WARNING, "2026-03-02"),
    ]  # fmt: skip


@pytest.mark.usefixtures("first_of_march")
@pytest.mark.parametrize(("limit", "at"), [(10, 8), (7, 6), (4, 4), (1, 1)])
def test_eighty_percent_are_told_by_the_first_that_reaches_them(days: Days, limit: int, at: int) -> None:
    """NOTIF-07, NOTIF-08: 80 % of a limit that five doesn't divide is the next whole request; 100 % is the last one."""
    for number in range(1, limit + 1):
        assert days.call(budget.take, limit) == FIRST
        expected = {WARNING: number >= at, EXHAUSTED: number == limit}
        assert {kind: (kind, str(FIRST)) in days.told() for kind in expected} == expected
    day = str(FIRST)
    assert sorted(days.events(), key=str) == [
        (EXHAUSTED, day, {"day": day, "used": limit, "limit": limit}),
        (WARNING, day, {"day": day, "used": at, "limit": limit}),
    ]


@pytest.mark.usefixtures("first_of_march")
def test_a_limit_lowered_below_what_is_used_tells_it_once(days: Days) -> None:
    """NOTIF-08: nothing leaves any more, so somebody is told, although nobody took the last place."""
    days.put(FIRST, 300)
    assert Threads(*[partial(days.call, budget.take, 200) for _ in range(20)]).wait() == [None] * 20
    assert days.told() == [(EXHAUSTED, str(FIRST)), (WARNING, str(FIRST))]
    assert days.call(budget.take, 301) == FIRST, "raised again, it goes on"
    assert days.call(budget.take, 301) is None
    assert len(days.events()) == 2, "and the day's events stay two"
    assert days.used() == {FIRST: 301}


@pytest.mark.usefixtures("first_of_march")
def test_a_limit_of_nothing_turns_the_cloud_off_without_a_word(days: Days) -> None:
    """CLOUD-02: 0 is an operator's decision, not a budget that ran out; the database isn't even asked."""
    with Written(days.app) as written:
        assert days.call(budget.take, 0) is None
    assert written.statements == []
    assert (days.used(), days.events()) == ({}, [])
    assert days.call(budget.state, 0).exhausted


@pytest.mark.usefixtures("first_of_march")
def test_a_day_that_is_spent_costs_no_write_lock(days: Days) -> None:
    """Speed: refused all day long, also while somebody else writes (on SQLite: holds the one lock there is)."""
    assert [days.call(budget.take, 1) for _ in range(2)] == [FIRST, None]
    with days.app.app_context(), db.engine.begin() as other, Written(days.app) as written:
        other.execute(sa.text("UPDATE cloud_days SET used = used"))
        written.statements.clear()
        assert Threads(partial(days.call, budget.take, 1), partial(days.call, budget.state, 1)).wait(5)[0] is None
        assert written.statements
        assert written.changes == []


@pytest.mark.usefixtures("first_of_march")
def test_a_place_given_back_is_free_again_and_what_was_told_stays_told(days: Days) -> None:
    """CLOUD-01: a call that never left isn't counted; nobody is told of 100 % a second time for it."""
    assert [days.call(budget.take, 2) for _ in range(3)] == [FIRST, FIRST, None]
    assert days.call(budget.give_back, FIRST) is True
    assert days.used() == {FIRST: 1}
    assert [days.call(budget.take, 2) for _ in range(2)] == [FIRST, None]
    assert len(days.events()) == 2


def test_a_place_is_given_back_to_the_day_it_was_taken_from(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOUD-01: taken before midnight, given back after it; the new day never has more than its own limit."""
    set_clock(monkeypatch, NOON)
    taken = days.call(budget.take, 5)
    set_clock(monkeypatch, NOON + dt.timedelta(days=1))
    assert days.call(budget.take, 5) == SECOND
    assert days.call(budget.give_back, taken) is True
    assert days.used() == {FIRST: 0, SECOND: 1}


@pytest.mark.usefixtures("first_of_march")
def test_nothing_is_given_back_that_was_not_taken(days: Days) -> None:
    """CLOUD-01: a day is never below nothing, and one that never was is not made by it."""
    days.put(FIRST, 1)
    results = Threads(*[partial(days.call, budget.give_back, FIRST) for _ in range(5)]).wait()
    assert sorted(results, key=str) == [False] * 4 + [True]
    assert days.call(budget.give_back, SECOND) is False
    assert days.used() == {FIRST: 0}


def test_whoever_dies_after_the_commit_has_used_its_place(days: Days, takers: Takers) -> None:
    """CLOUD-01: nobody knows whether the call left; so it counts, and never more leave than the limit says."""
    today = not_at_midnight()
    takers.start("die-after", 5, 1)
    assert takers.go()[0][0] == -9
    assert days.used() == {today: 1}


def test_whoever_dies_before_the_commit_has_taken_nothing_and_told_nothing(days: Days, takers: Takers) -> None:
    """CLOUD-01, NOTIF-08: the count and the word of it are one transaction; the next one gets the place and tells."""
    today = not_at_midnight()
    days.put(today, 4)
    takers.start("die-before", 5, 1)
    assert takers.go()[0][0] == -9
    assert days.used() == {today: 4}
    assert days.events() == []
    assert days.call(budget.take, 5) == today
    assert days.told() == [(EXHAUSTED, str(today)), (WARNING, str(today))]


@pytest.mark.usefixtures("first_of_march")
def test_the_state_is_told_without_making_the_day(days: Days) -> None:
    """ADMIN-05: used, limit, day and the instant at which it begins anew; a page that is looked at writes nothing."""
    with Written(days.app) as written:
        state = days.call(budget.state, 500)
    assert written.changes == []
    assert (state.used, state.limit, state.day, state.exhausted) == (0, 500, FIRST, False)
    assert state.resets_at == dt.datetime(2026, 3, 1, 21, 0, tzinfo=dt.UTC)
    days.put(FIRST, 500)
    assert days.call(budget.state, 500).exhausted


@pytest.mark.parametrize(
    ("now", "day", "seconds"),
    [
        (dt.datetime(2026, 2, 28, 20, 59, 59, 999_999, tzinfo=dt.UTC), dt.date(2026, 2, 28), 1),
        (dt.datetime(2026, 2, 28, 21, 0, tzinfo=dt.UTC), dt.date(2026, 3, 1), 86_400),
        (dt.datetime(2026, 2, 28, 21, 0, 0, 1, tzinfo=dt.UTC), dt.date(2026, 3, 1), 86_400),
        (dt.datetime(2026, 12, 31, 9, 0, tzinfo=dt.timezone(dt.timedelta(hours=-8))), dt.date(2026, 12, 31), 14_400),
    ],
)
def test_a_day_is_a_day_in_kuwait(now: dt.datetime, day: dt.date, seconds: int) -> None:
    """CLOUD-02: after the seconds that are told it is the next day, wherever the server stands; never 0."""
    assert clock.kuwait_day(now) == day
    assert clock.seconds_to_kuwait_midnight(now) == seconds
    after = now + dt.timedelta(seconds=seconds)
    assert clock.kuwait_day(after) == day + dt.timedelta(days=1)
    assert clock.next_kuwait_midnight(now) <= after.astimezone(dt.UTC)
