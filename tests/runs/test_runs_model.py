"""Runs of any graph, with any luck, against a model of a page: random dependencies, failures, crashes, people who run
dead steps again, and a clock that moves between."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from portal.extensions import db
from portal.models import Notification
from portal.services import runs
from portal.services.runs import LEASE_SECONDS, NotRunnable, Run, Step
from tests.runs.rows import MovingClock, Rows, graph_of
from tests.services.portal_app import MakeApp

PAUSES = (5, 30)
"""Fewer than in the product: luck alone seldom fails seven times."""
TRIES = 3


class Killed(BaseException):
    """The worker is gone in the middle of the step."""


@dataclass
class Expected:
    """A step as it should stand. until: when it is due, or when its lease ends."""

    needs: tuple[str, ...]
    state: str
    until: dt.datetime
    tries: int = 0
    successes: int = 0


class RunsOfAnyGraph(RuleBasedStateMachine):
    rows: Rows
    time: MovingClock
    all_deaths = 0

    @initialize(shape=st.lists(st.integers(0, 255), min_size=1, max_size=5))
    def begin(self, shape: list[int]) -> None:
        """Each number says, bit by bit, which of the steps before it a step needs."""
        self.model: dict[str, Expected] = {}
        for bits in shape:
            names = list(self.model)
            needs = tuple(name for position, name in enumerate(names) if bits >> position & 1)
            self.model[f"s{len(names)}"] = Expected(needs, "pending" if needs else "waiting", self.time.now)
        self.deaths, self.fate = 0, "ok"
        self.graph = graph_of(*[Step(name, self.does, step.needs) for name, step in self.model.items()])
        self.event_id = self.rows.unfolded(self.graph)
        self.ids = self.rows.ids(self.event_id)
        self.told_before = self.told()

    def does(self, run: Run) -> dict[str, str]:
        step = self.model[self.current]
        assert all(self.model[name].state == "done" for name in step.needs), "a child before its parents"
        assert {name: run.results[name] for name in step.needs} == {name: {"by": name} for name in step.needs}
        if self.fate == "crash":
            raise Killed
        if self.fate == "fail":
            raise ValueError("as it was told to")
        step.successes += 1
        return {"by": self.current}

    @rule(which=st.integers(0, 5), fate=st.sampled_from(["ok", "fail", "fail", "crash"]))
    def somebody_works(self, which: int, fate: str) -> None:
        self.current, self.fate = list(self.model)[which % len(self.model)], fate
        step = self.model[self.current]
        due = step.state == "waiting" and step.until <= self.time.now
        abandoned = step.state == "running" and step.until < self.time.now
        try:
            got = self.rows.call(runs.run_step, self.graph, self.ids[self.current])
        except Killed:
            got = "running"
        if not due and not abandoned:
            assert got is None
            return
        if abandoned and step.tries == TRIES:
            step.state = "dead"
        else:
            step.tries += 1
            self.follow(step, fate)
        self.deaths += step.state == "dead"
        assert got == step.state
        self.settle()

    @rule(which=st.integers(0, 5), fate=st.sampled_from(["ok", "fail", "crash"]))
    def somebody_works_later(self, which: int, fate: str) -> None:
        self.time.on(LEASE_SECONDS + max(PAUSES))
        self.somebody_works(which, fate)

    def follow(self, step: Expected, fate: str) -> None:
        now = self.time.now
        if fate == "ok":
            step.state = "done"
        elif fate == "crash":
            step.state, step.until = "running", now + dt.timedelta(seconds=LEASE_SECONDS)
        elif step.tries == TRIES:
            step.state = "dead"
        else:
            step.state, step.until = "waiting", now + dt.timedelta(seconds=PAUSES[step.tries - 1])

    @rule(which=st.integers(0, 5))
    def somebody_runs_it_again(self, which: int) -> None:
        name = list(self.model)[which % len(self.model)]
        step = self.model[name]
        if step.state != "dead":
            with pytest.raises(NotRunnable):
                self.rows.call(runs.run_again, self.graph, self.ids[name])
            return
        self.rows.call(runs.run_again, self.graph, self.ids[name])
        step.state, step.until, step.tries = "waiting", self.time.now, 0
        self.settle()

    @rule(seconds=st.sampled_from([1, 5, 30, LEASE_SECONDS, LEASE_SECONDS + 1, LEASE_SECONDS + 1]))
    def time_passes(self, seconds: int) -> None:
        self.time.on(seconds)

    @rule()
    def the_sweep_comes(self) -> None:
        self.rows.call(runs.sweep, self.graph)

    def settle(self) -> None:
        for step in self.model.values():
            if step.state in ("pending", "waiting", "blocked") and step.needs and step.tries == 0:
                parents = {self.model[name].state for name in step.needs}
                new = "waiting" if parents == {"done"} else "blocked" if parents & {"dead", "blocked"} else "pending"
                if new == "waiting" != step.state:
                    step.until = self.time.now
                step.state = new

    def told(self) -> int:
        with self.rows.app.app_context():
            return db.session.scalar(sa.select(sa.func.count()).where(Notification.kind == "step_dead")) or 0

    @invariant()
    def rows_are_as_expected(self) -> None:
        states = {name: step.state for name, step in self.model.items()}
        assert self.rows.states(self.event_id) == states
        event = self.rows.found(self.event_id)
        over = "dead" if "dead" in states.values() else "done" if set(states.values()) == {"done"} else "running"
        assert (event.state, event.finished_at is not None) == (over, over != "running")
        assert {step.successes for step in self.model.values() if step.state == "done"} <= {1}
        assert {step.successes for step in self.model.values() if step.state != "done"} <= {0}
        assert self.told() - self.told_before == self.deaths

    def teardown(self) -> None:
        """From wherever it came to, it can be brought to its end."""
        type(self).all_deaths += self.deaths
        for _ in range(len(self.model) + 2):
            self.time.on(max(PAUSES) + LEASE_SECONDS)
            for which in range(len(self.model)):
                if list(self.model.values())[which].state == "dead":
                    self.somebody_runs_it_again(which)
                self.somebody_works(which, "ok")
        self.rows_are_as_expected()
        assert self.rows.found(self.event_id).state == "done"


def test_any_run_comes_to_its_end_as_the_model_says(
    make_app: MakeApp, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph: no child before its parents, each success counted once, every end is the right one, also when
    somebody crashes in the middle of it."""

    class Machine(RunsOfAnyGraph):
        rows = Rows(make_app(sqlite_url))
        time = MovingClock(monkeypatch)

    monkeypatch.setattr(runs, "PAUSES", PAUSES)
    monkeypatch.setattr(runs, "TRIES", TRIES)
    settings: Any = hypothesis.settings(max_examples=30, stateful_step_count=40)
    run_state_machine_as_test(Machine, settings=settings)
    assert Machine.all_deaths > 0, "a search that never came to the end of the tries proves nothing of it"
