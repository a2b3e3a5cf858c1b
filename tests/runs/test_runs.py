"""A run of a graph: what waits for what, what is tried again, given up and brought back, whoever dies meanwhile."""

import datetime as dt
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from rq import Queue

from portal import queue, store
from portal.extensions import db
from portal.models import Event
from portal.services import events, runs, work
from portal.services.runs import PAUSES, TRIES, NotRunnable, Run, Step
from tests.ledger.books import Threads
from tests.runs.rows import KIND, MovingClock, Rows, graph_of
from tests.services.portal_app import MakeApp

Does = Callable[[Run], Mapping[str, Any] | None]


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


class Script:
    """What a step does, as the test wants it: its error, or its result. Counts how often it was done."""

    def __init__(self, *, error: BaseException | None = None, result: Mapping[str, Any] | None = None) -> None:
        self.error, self.result = error, result
        self.seen: list[Run] = []

    def __call__(self, run: Run) -> Mapping[str, Any] | None:
        self.seen.append(run)
        if self.error is not None:
            raise self.error
        return self.result


class Killed(BaseException):
    """As when the process dies: nothing that follows in it is run."""


def run_step(rows: Rows, graph: runs.Graph, step_id: str) -> str | None:
    state: str | None = rows.call(runs.run_step, graph, step_id)
    return state


def kill(rows: Rows, graph: runs.Graph, step_id: str) -> None:
    with pytest.raises(Killed):
        run_step(rows, graph, step_id)


def queued(rows: Rows) -> list[str]:
    """Every id that was handed to the workers, in order."""
    with rows.app.app_context():
        return [one for job in Queue(queue.DEFAULT, connection=store.client()).jobs for one in job.args]


def diamond(b: Does, c: Does, d: Does) -> runs.Graph:
    return graph_of(
        Step("a", lambda run: {"from": "a"}),
        Step("b", b, needs=("a",)),
        Step("c", c, needs=("a",)),
        Step("d", d, needs=("b", "c")),
    )


def test_two_parents_that_end_at_the_same_moment_begin_their_child_once(rows: Rows) -> None:
    """Each would have taken the other for unfinished, and the child would have waited for ever."""
    for _ in range(6):
        gate = threading.Barrier(2)

        def together(run: Run, gate: threading.Barrier = gate) -> Mapping[str, Any]:
            gate.wait(20)
            return {"saw": run.results["a"]["from"]}

        last = Script(result={"at": "the end"})
        graph = diamond(together, together, last)
        event_id = rows.unfolded(graph)
        ids = rows.ids(event_id)
        assert rows.states(event_id) == {"a": "waiting", "b": "pending", "c": "pending", "d": "pending"}
        assert [run_step(rows, graph, ids[name]) for name in "bcd"] == [None] * 3, "a child went before its parents"
        assert run_step(rows, graph, ids["a"]) == "done"
        assert Threads(*[partial(run_step, rows, graph, ids[name]) for name in "bc"]).wait() == ["done", "done"]
        assert rows.states(event_id)["d"] == "waiting"
        assert queued(rows)[-1] == ids["d"]
        assert queued(rows).count(ids["d"]) == 1
        outcomes = Threads(*[partial(run_step, rows, graph, ids["d"])] * 4).wait()
        assert sorted(outcomes, key=str) == [None, None, None, "done"]
        (run,) = last.seen
        assert run.results == {"a": {"from": "a"}, "b": {"saw": "a"}, "c": {"saw": "a"}}
        assert (rows.found(event_id).state, rows.found(event_id).finished_at is not None) == ("done", True)


def test_unfolded_twice_is_unfolded_once(rows: Rows) -> None:
    """The commit wakes a worker and the sweep finds the same event: ten at once make one set of steps."""
    graph = diamond(Script(), Script(), Script())
    event_id = rows.event()
    made = Threads(*[partial(rows.call, runs.unfold, graph, event_id)] * 10).wait()
    assert sorted(made, key=str) == [False] * 9 + [True]
    ids = rows.ids(event_id)
    assert sorted(ids) == ["a", "b", "c", "d"]
    assert queued(rows) == [ids["a"]]
    assert rows.call(runs.unfold, graph, event_id) is False


def test_a_step_that_fails_waits_longer_each_time_and_is_given_up_in_the_open(rows: Rows, time: MovingClock) -> None:
    """The graph: failed, retried by PAUSES, dead, visible; its children are told, staff hear of it once."""
    fails, child, grandchild = Script(error=ValueError("the printer is out of paper")), Script(), Script()
    graph = graph_of(Step("fails", fails), Step("child", child, ("fails",)), Step("last", grandchild, ("child",)))
    event_id = rows.unfolded(graph)
    ids = rows.ids(event_id)
    for tries, pause in enumerate(PAUSES, 1):
        assert run_step(rows, graph, ids["fails"]) == "waiting"
        row = rows.step(ids["fails"])
        assert (row.attempts, row.error) == (tries, "ValueError: the printer is out of paper")
        assert row.due_at == time.now + dt.timedelta(seconds=pause)
        assert rows.found(event_id).state == "running"
        time.on(pause - 0.001)
        assert run_step(rows, graph, ids["fails"]) is None
        time.on(0.001)
    assert rows.told() == []
    assert run_step(rows, graph, ids["fails"]) == "dead"
    assert rows.states(event_id) == {"fails": "dead", "child": "blocked", "last": "blocked"}
    assert rows.step(ids["last"]).error == "child is blocked"
    assert (rows.found(event_id).state, rows.found(event_id).finished_at) == ("dead", time.now)
    time.on(86_400)
    assert [run_step(rows, graph, step_id) for step_id in ids.values()] == [None] * 3
    assert rows.call(runs.sweep, graph) == 0
    ((kind, facts),) = rows.told()
    assert kind == "step_dead"
    assert (facts["event"], facts["step"], facts["run"]) == (KIND, "fails", event_id)
    assert "printer" in facts["error"]
    assert (len(fails.seen), child.seen, grandchild.seen) == (TRIES, [], [])


def test_a_dead_step_is_run_again_with_all_its_tries_and_its_children_follow(rows: Rows, time: MovingClock) -> None:
    """Dead, visible, re-runnable: a second death is told as well, since somebody tried to mend it."""
    fails, child = Script(error=ValueError("no")), Script()
    graph = graph_of(Step("fails", fails), Step("other", Script()), Step("child", child, ("fails", "other")))
    event_id = rows.unfolded(graph)
    ids = rows.ids(event_id)

    def until_dead() -> None:
        for pause in (*PAUSES, 0):
            assert run_step(rows, graph, ids["fails"]) == ("waiting" if pause else "dead")
            time.on(pause)

    until_dead()
    assert run_step(rows, graph, ids["other"]) == "done", "what does not depend on it goes on"
    assert rows.states(event_id)["child"] == "blocked"
    outcomes = Threads(*[partial(rows.call, runs.run_again, graph, ids["fails"])] * 5).wait()
    assert sorted(map(type, outcomes), key=str) == sorted([type(None)] + [NotRunnable] * 4, key=str)
    assert rows.states(event_id) == {"fails": "waiting", "other": "done", "child": "pending"}
    assert (rows.found(event_id).state, rows.found(event_id).finished_at) == ("running", None)
    time.on(1)
    until_dead()
    assert [kind for kind, _ in rows.told()] == ["step_dead", "step_dead"]
    rows.call(runs.run_again, graph, ids["fails"])
    fails.error = None
    assert run_step(rows, graph, ids["fails"]) == "done"
    assert run_step(rows, graph, ids["child"]) == "done"
    assert rows.found(event_id).state == "done"
    for step_id in (ids["fails"], ids["child"], "0" * 32):
        with pytest.raises(NotRunnable):
            rows.call(runs.run_again, graph, step_id)


@pytest.mark.parametrize("dies_at", [range(1, 99), (TRIES,), (1, TRIES)])
def test_a_step_that_takes_its_process_along_is_tried_as_often_as_any_other(
    one: Rows, time: MovingClock, dies_at: range | tuple[int, ...]
) -> None:
    """A crash is a failed try, also when it is the last one: it never goes round for ever, and staff hear of it."""
    tries = 0

    def does(run: Run) -> None:
        nonlocal tries
        tries += 1
        raise Killed if tries in dies_at else ValueError

    graph = graph_of(Step("deadly", does), Step("child", Script(), ("deadly",)))
    event_id = one.unfolded(graph)
    deadly = one.ids(event_id)["deadly"]
    state: str | None = None
    for _ in range(3 * TRIES):
        try:
            state = run_step(one, graph, deadly)
        except Killed:
            assert one.step(deadly).state == "running"
        time.on(max(PAUSES) + runs.LEASE_SECONDS)
        if state == "dead":
            break
    assert (state, tries) == ("dead", TRIES)
    assert one.states(event_id) == {"deadly": "dead", "child": "blocked"}
    assert one.step(deadly).error.startswith("WorkerDied")
    assert [kind for kind, _ in one.told()] == ["step_dead"]
    time.on(86_400)
    assert one.call(runs.sweep, graph) == 0
    one.call(runs.run_again, graph, deadly)
    tries = 0
    assert [one.call(try_once, graph, deadly, time) for _ in range(TRIES - 1)].count("dead") == 0, "all tries are back"


def try_once(graph: runs.Graph, step_id: str, time: MovingClock) -> str | None:
    try:
        return runs.run_step(graph, step_id)
    except Killed:
        return None
    finally:
        time.on(max(PAUSES) + runs.LEASE_SECONDS)


@pytest.mark.parametrize("late_error", [None, ValueError("late")], ids=["result", "error"])
def test_who_comes_back_after_their_lease_writes_nothing(
    rows: Rows, time: MovingClock, late_error: Exception | None
) -> None:
    """A result of somebody long gone would be taken for the one that counts; and the run stays as it was finished."""
    inside: list[str | None] = []

    def slow(run: Run) -> Mapping[str, Any]:
        if inside:
            return {"who": "the quick one"}
        inside.append("slow")  # its lease ends meanwhile, and another worker does the step
        time.on(runs.LEASE_SECONDS + 1)
        inside.append(run_step(rows, graph, ids["slow"]))
        time.on(5)
        if late_error is not None:
            raise late_error
        return {"who": "the late one"}

    graph = graph_of(Step("slow", slow))
    event_id = rows.unfolded(graph)
    ids = rows.ids(event_id)
    assert run_step(rows, graph, ids["slow"]) is None
    assert inside == ["slow", "done"]
    row, event = rows.step(ids["slow"]), rows.found(event_id)
    assert (row.state, row.result, row.attempts, row.error) == ("done", {"who": "the quick one"}, 2, "")
    assert (event.state, event.finished_at) == ("done", time.now - dt.timedelta(seconds=5))


def test_a_step_is_not_given_up_without_staff_hearing_of_it(
    one: Rows, time: MovingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, the step was dead and nobody knew."""
    fails = Script(error=ValueError("no"))
    graph = graph_of(Step("fails", fails))
    step_id = one.ids(one.unfolded(graph))["fails"]
    for pause in PAUSES:
        run_step(one, graph, step_id)
        time.on(pause)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "notify_staff", _dies)
        kill(one, graph, step_id)
    assert one.step(step_id).state == "running"
    time.on(runs.LEASE_SECONDS + 1)
    assert run_step(one, graph, step_id) == "dead"
    assert [kind for kind, _ in one.told()] == ["step_dead"]


def _dies(*_: object, **__: object) -> None:
    raise Killed


@pytest.mark.parametrize("result", [{"when": dt.date(2026, 3, 1)}, ["not", "a", "mapping"], {"x": {1, 2}}])
def test_a_result_that_can_t_be_kept_is_a_failure_like_any_other(one: Rows, result: Any) -> None:
    """It stayed `running` until its lease ended, and nobody saw why; and took its job's other steps along."""
    graph = graph_of(Step("wrong", Script(result=result)))
    event_id = one.unfolded(graph)
    assert run_step(one, graph, one.ids(event_id)["wrong"]) == "waiting"
    assert one.step(one.ids(event_id)["wrong"]).error.startswith(("TypeError", "ValueError"))


def test_an_error_of_any_text_can_be_written(rows: Rows) -> None:
    """PostgreSQL takes no zero byte, no database a lone surrogate; and a novel is cut."""
    graph = graph_of(Step("says", Script(error=ValueError("a\x00b\ud800c " + "ü" * 1000))))
    step_id = rows.ids(rows.unfolded(graph))["says"]
    assert run_step(rows, graph, step_id) == "waiting"
    assert rows.step(step_id).error.startswith("ValueError: a")
    assert len(rows.step(step_id).error) == work.ERROR


def test_a_session_that_a_step_left_broken_harms_no_other(rows: Rows) -> None:
    """A step may end in the middle of its transaction; what it had not committed is not done."""

    def breaks(run: Run) -> None:
        db.session.add(Event(kind="x", occasion="half", facts={}))
        db.session.flush()
        db.session.execute(sa.text("SELECT nothing FROM nowhere"))

    def forgets_to_commit(run: Run) -> None:
        db.session.add(Event(kind="x", occasion="half", facts={}))
        db.session.flush()

    graph = graph_of(Step("breaks", breaks), Step("forgets", forgets_to_commit), Step("fine", Script()))
    ids = rows.ids(rows.unfolded(graph))
    with rows.app.app_context():
        assert [runs.run_step(graph, ids[name]) for name in ("breaks", "forgets", "fine")] == [
            "waiting",
            "done",
            "done",
        ]
        assert db.session.scalar(sa.select(sa.func.count()).where(Event.kind == "x")) == 0


def test_a_kind_that_this_release_does_not_know_waits_for_one_that_does(rows: Rows, time: MovingClock) -> None:
    """A worker of the old release beside the new web; however many there are, what it knows goes on."""
    unknown = [rows.event("of_tomorrow", at=time.now - dt.timedelta(days=1)) for _ in range(3)]
    graph = graph_of(Step("only", Script()))
    for event_id in unknown:
        with pytest.raises(KeyError):
            rows.call(runs.unfold, graph, event_id)
    known = rows.event(at=time.now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "SWEEP", 2)
        rows.call(runs.sweep, graph)
    assert [rows.found(event_id).state for event_id in unknown] == ["new"] * 3
    assert rows.states(known) == {"only": "waiting"}
    tomorrow = graph | {"of_tomorrow": (Step("new", Script()),)}
    rows.call(runs.sweep, tomorrow)
    assert [rows.states(event_id) for event_id in unknown] == [{"new": "waiting"}] * 3


def test_a_step_of_a_release_that_is_gone_is_given_up_and_not_in_the_way(one: Rows, time: MovingClock) -> None:
    """A step that was renamed: its run is seen and dead, its worker goes on."""
    event_id = one.unfolded(graph_of(Step("old_name", Script())))
    renamed = graph_of(Step("new_name", Script()))
    step_id = one.ids(event_id)["old_name"]
    for pause in (*PAUSES, 0):
        state = run_step(one, renamed, step_id)
        time.on(pause)
    assert state == "dead"
    assert one.found(event_id).state == "dead"
    assert len(one.told()) == 1


def test_an_event_that_was_written_beside_a_session_is_found_by_the_sweep(rows: Rows) -> None:
    """NOTIF-03: the till writes it on its own connection, where nobody wakes a worker."""
    with rows.app.app_context(), db.engine.begin() as connection:
        assert events.record(connection, events.PROVIDER_UP, "raw", provider="ollama-1", seconds=5)
    assert queued(rows) == []
    graph = graph_of(Step("only", Script()))
    rows.call(runs.sweep, graph)
    with rows.app.app_context():
        event_id = db.session.scalars(sa.select(Event.id)).one()
    assert queued(rows) == [rows.ids(event_id)["only"]]
    assert rows.call(runs.sweep, graph) == 0
