"""`flask tasks`: what happens later is seen by whoever asks, run again where it was given up, told without a store."""

import datetime as dt
import re
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import queue
from portal.blueprints.health import CHECK, READ_MISSED
from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Event, EventStep, ScheduledJob
from portal.services import run_views, runs
from portal.tasks.graph import GRAPH, drawing
from portal.tasks.schedule import TIMETABLE
from tests.doors.typing_at import refused, said
from tests.services.portal_app import MakeApp
from tests.services.redis_server import RedisServer

AT = dt.datetime(2026, 11, 21, 6, 0, tzinfo=dt.UTC)
WHO = {"account": "a1", "plan": "enterprise"}


def event(app: Flask, kind: str = "enterprise_customer", *, minutes: int = 0, **values: Any) -> str:
    """An event as it is recorded, so many minutes after AT. Returns its id."""
    row = {"id": new_id(), "kind": kind, "occasion": new_id(), "facts": WHO, "state": "new"} | values
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.insert(Event).values(created_at=AT + dt.timedelta(minutes=minutes), **row))
    return str(row["id"])


def steps(app: Flask, event_id: str, **of: dict[str, Any]) -> None:
    """Steps as they stand, by name."""
    with app.app_context(), db.engine.begin() as connection:
        for name, values in of.items():
            connection.execute(sa.insert(EventStep).values(event_id=event_id, name=name, due_at=AT, **values))


def dead_run(app: Flask) -> str:
    """One whose first step was given up; Returns its id."""
    run = event(app, state="dead", finished_at=AT + dt.timedelta(hours=4))
    given_up = {"state": "dead", "attempts": 7, "error": "NoResultFound: no row", "started_at": AT, "duration_ms": 12}
    steps(app, run, customer=given_up, tell_staff={"state": "blocked", "error": "customer is dead"})
    return run


def listed(app: Flask, *options: str) -> list[str]:
    return [line.split()[0] for line in said(app, "tasks", "list", *options).splitlines()]


def test_runs_are_listed_the_newest_first_page_after_page(make_app: MakeApp, database_url: str) -> None:
    """ADMIN-12, on every database: state, kind, how many of their steps are done; no run twice, none left out, also
    where several were recorded in one microsecond."""
    app = make_app(database_url)
    assert said(app, "tasks", "list") == "There are none.\n"
    done = event(app, "provider_up", minutes=3, state="done", occasion="ollama:x")
    steps(app, done, tell_staff={"state": "done"})
    half = event(app, minutes=2, state="running")
    steps(app, half, customer={"state": "done"}, tell_staff={"state": "waiting"})
    new, twin, third = (event(app, minutes=1) for _ in range(3))
    lines = said(app, "tasks", "list").splitlines()
    assert [line.split()[0] for line in lines] == [done, half, third, twin, new]
    assert lines[0] == f"{done}  2026-11-21 09:03:00  provider_up  ollama:x  done, 1/1 steps"
    assert lines[1].endswith("running, 1/2 steps")
    assert lines[2].endswith("new, no steps yet")
    assert listed(app, "--state", "new") == [third, twin, new]
    assert listed(app, "--kind", "provider_up") == [done]
    with app.app_context():
        seen, before = [], None
        while True:
            page = run_views.page(before=before, limit=2)
            seen += [line.id for line in page.lines]
            if page.before is None:
                break
            before = page.before
        assert seen == [done, half, third, twin, new]
        assert run_views.page(state="new", before=third, limit=1).lines[0].id == twin
        assert run_views.page(before="no such run") == run_views.RunPage((), None)
    told = said(app, "tasks", "list", "--limit", "1")
    assert told.splitlines()[-1] == f"There are more: --before {done}"
    assert listed(app, "--before", done)[0] == half


def test_a_page_of_runs_costs_two_statements(app: Flask) -> None:
    """A list whose cost grew with its lines was the page that died first."""
    for _ in range(30):
        steps(app, event(app, state="running"), customer={"state": "done"})
    asked: list[str] = []
    with app.app_context():
        sa.event.listen(db.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
        assert [line.done for line in run_views.page(limit=30).lines] == [1] * 30
    assert len([sql for sql in asked if sql.startswith("SELECT")]) == 2


def test_a_run_is_shown_with_its_graph_and_where_each_step_stands(make_app: MakeApp, database_url: str) -> None:
    """ADMIN-12, on every database: facts, tries, time, error, what a step found out; by the beginning of its id."""
    app = make_app(database_url)
    run = dead_run(app)
    shown = said(app, "tasks", "show", run[:30])
    assert shown == (
        f"{run}  2026-11-21 09:00:00  enterprise_customer  {occasion(app, run)}  DEAD, 0/2 steps\n"
        "ended: 2026-11-21 13:00:00\n"
        "  account: a1\n  plan: enterprise\n\n"
        "  → customer  DEAD, 7 tries, 2026-11-21 09:00:00, 12 ms\n"
        "      NoResultFound: no row\n"
        "    → tell_staff  (after customer)  BLOCKED\n"
        "        customer is dead\n"
    )

    later = event(app, state="running")
    tried = {"state": "waiting", "attempts": 1, "started_at": AT, "duration_ms": 3, "error": "OSError: away"}
    steps(
        app, later, customer={"state": "done", "result": {"name": "ليلى", "count": 3}, "attempts": 1}, tell_staff=tried
    )
    shown = said(app, "tasks", "show", later)
    assert "→ customer  done, 1 try\n      → name: ليلى, count: 3\n" in shown
    assert "waiting, 1 try, 2026-11-21 09:00:00, 3 ms, next try 2026-11-21 09:00:00" in shown
    assert said(app, "tasks", "show", event(app)).count("not there yet") == 2

    assert "no run zzz" in refused(app, "tasks", "show", "zzz")
    assert "no run" in refused(app, "tasks", "show", "f" * 32)
    ids = [line.strip() for line in refused(app, "tasks", "show", run[:2]).splitlines()[1:]]
    assert {run, later} <= set(ids)


def occasion(app: Flask, run: str) -> str:
    with app.app_context():
        return db.session.scalars(sa.select(Event.occasion).where(Event.id == run)).one()


def test_a_run_of_another_release_is_shown_as_far_as_it_is_known(app: Flask) -> None:
    """A roll-out has both releases at once: unknown kinds and steps are told, none of them hidden."""
    run = event(app, "of_tomorrow", state="running")
    steps(app, run, b={"state": "dead", "attempts": 7}, a={"state": "done"})
    assert [line.split()[1] for line in said(app, "tasks", "show", run).splitlines() if "→" in line] == ["a", "b"]
    assert "does not know of_tomorrow" in refused(app, "tasks", "again", run)
    old = event(app, state="running")
    steps(app, old, tell_staff={"state": "done"}, once_upon={"state": "done"})
    assert [line.split()[1] for line in said(app, "tasks", "show", old).splitlines() if "→" in line] == [
        "tell_staff", "once_upon",
    ]  # fmt: skip


def test_what_was_given_up_is_run_again(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 4, the graph: dead, visible, re-runnable; what was blocked by it comes back with it, whatever is named."""
    handed: list[str] = []

    def listen(name: str, _batches: object) -> bool:
        handed.append(name)
        return True

    monkeypatch.setattr(queue, "enqueue_now", listen)
    run = dead_run(app)
    assert "has no step nothing" in refused(app, "tasks", "again", run, "nothing")
    assert "not dead" in refused(app, "tasks", "again", run, "tell_staff")
    assert handed == []
    assert said(app, "tasks", "again", run[:30], "customer") == "customer is due now.\n"
    shown = said(app, "tasks", "show", run)
    assert re.search(r"→ customer  waiting.*\n.*→ tell_staff  \(after customer\)  pending\n", shown)
    assert handed == ["run steps"]
    assert "is dead: there is nothing to run again" in refused(app, "tasks", "again", run)

    two = event(app, state="dead")
    steps(app, two, customer={"state": "dead", "attempts": 7}, tell_staff={"state": "dead", "attempts": 7})
    assert said(app, "tasks", "again", two) == "customer is due now.\ntell_staff is due now.\n"


def test_the_graph_is_drawn_from_its_declaration(app: Flask) -> None:
    """Issue 4, the graph: declared once, drawn from that."""
    assert said(app, "tasks", "graph") == drawing() + "\n"
    assert set(drawing().splitlines()) >= set(GRAPH)


# --- the timetable --------------------------------------------------------------------------------------------------


def job(app: Flask, name: str, *, next_in: int, **values: Any) -> None:
    """A job's row; seconds until it is due."""
    row = {"name": name, "next_at": utcnow() + dt.timedelta(seconds=next_in), "run": 1, "error": "", "failures": 0}
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.delete(ScheduledJob).where(ScheduledJob.name == name))
        connection.execute(sa.insert(ScheduledJob).values(**(row | values)))


def all_well(app: Flask) -> None:
    for one in TIMETABLE:
        job(app, one.name, next_in=10, started_at=AT, ended_at=AT + dt.timedelta(seconds=2), duration_ms=2000)


def test_the_timetable_is_told_with_what_stands_still_and_what_fails(app: Flask, redis_server: RedisServer) -> None:
    """ADMIN-12, never-again "No scheduled job ever ran": last start, end, duration, error and next; stale and failing
    are marked; the queue's lengths; and without a store too."""
    assert said(app, "tasks", "timetable").count("STALE") == len(TIMETABLE)
    all_well(app)
    shown = said(app, "tasks", "timetable")
    assert "STALE" not in shown and "FAILING" not in shown
    assert (
        "hand over messages  (every 15 s)\n  ran 2026-11-21 09:00:00, ended 2026-11-21 09:00:02, 2000 ms; next" in shown
    )
    assert "daily summary  (daily 08:00)" in shown
    job(app, "probe providers", next_in=-3600)
    since = {"failing_since": AT, "started_at": AT, "ended_at": AT}
    job(app, "clear away", next_in=60, failures=4, error="OSError: disk full", **since)
    later = AT + dt.timedelta(seconds=9)
    job(app, "daily summary", next_in=60, started_at=later, ended_at=AT, running_until=later)
    with app.app_context():
        queue.enqueue_now("deliver", [["x"], ["y"]])
    shown = said(app, "tasks", "timetable")
    assert "probe providers  (every 60 s, STALE)\n  never run; next" in shown
    assert "clear away  (daily 04:30, FAILING 4 times)" in shown
    assert "  OSError: disk full (since 2026-11-21 09:00:00)" in shown
    assert "began 2026-11-21 09:00:09, runs or died" in shown
    assert "In the queue: 0 urgent, 0 default, 2 low" in shown
    redis_server.stop()
    try:
        assert "In the queue: unknown, the store is away" in said(app, "tasks", "timetable")
    finally:
        redis_server.start()


def readiness(app: Flask) -> tuple[int, Any]:
    answer = app.test_client().get("/readyz")
    return answer.status_code, answer.get_json()


def test_readiness_tells_of_the_timetable_and_never_fails_for_it(app: Flask, redis_server: RedisServer) -> None:
    """ADMIN-12: a balancer that took every web host away because a job stood still made one fault two."""
    status, told = readiness(app)
    assert (status, told["status"]) == (200, "ok")
    assert told["parts"] == {
        "database": "ok", "store": "ok", "timetable": {"state": "not started"},
        "queue": {"state": "ok", "waiting": {"urgent": 0, "default": 0, "low": 0}},
        "whatsapp": {"state": "not configured"}, "payments": {"state": "not configured"},
    }  # fmt: skip
    all_well(app)
    assert readiness(app)[1]["parts"]["timetable"] == {"state": "ok"}
    job(app, "clear away", next_in=60, failures=3)
    assert readiness(app)[1]["parts"]["timetable"] == {"state": "failing", "jobs": ["clear away"]}
    job(app, "probe providers", next_in=-3600)
    with app.app_context():
        queue.enqueue_now("deliver code", [["x"]])
    status, told = readiness(app)
    assert (status, told["status"]) == (200, "ok")
    assert told["parts"]["timetable"] == {"state": "stale", "jobs": ["probe providers"]}
    assert told["parts"]["queue"]["waiting"] == {"urgent": 1, "default": 0, "low": 0}
    job(app, "a job of the release before", next_in=-9_999_999)
    assert readiness(app)[1]["parts"]["timetable"]["jobs"] == ["probe providers"]
    redis_server.stop()
    try:
        status, told = readiness(app)
    finally:
        redis_server.start()
    assert (status, told["parts"]["store"], told["parts"]["queue"]) == (200, "away", {"state": "unknown"})


def test_readiness_tells_whether_messages_can_go_out(make_app: MakeApp, sqlite_url: str) -> None:
    """ADMIN-12, OPS-04: as the job that looks at the sending number found it; no host is unfit for that."""
    app = make_app(sqlite_url, RESAYIL_API_KEY="sandbox")
    assert readiness(app)[1]["parts"]["whatsapp"] == {"state": "unknown"}
    assert CHECK in {one.name for one in TIMETABLE}
    all_well(app)
    assert readiness(app)[1]["parts"]["whatsapp"] == {"state": "ok"}
    job(app, CHECK, next_in=60, ended_at=AT, failures=1, error="MessagingError: the device is offline")
    status, told = readiness(app)
    assert (status, told["parts"]["timetable"]) == (200, {"state": "ok"})
    assert told["parts"]["whatsapp"] == {"state": "failing", "error": "MessagingError: the device is offline"}


def test_readiness_tells_whether_money_can_come(make_app: MakeApp, sqlite_url: str) -> None:
    """ADMIN-12: as the job that reads the provider's webhooks found it, and whether ours are taken; the provider is not
    asked for it (its address is one where nobody is), and no host is unfit for that."""
    app = make_app(sqlite_url, MYFATOORAH_API_KEY="SK_KWT_x")
    assert readiness(app)[1]["parts"]["payments"] == {"state": "unknown", "webhooks": "closed"}
    app = make_app(sqlite_url, MYFATOORAH_API_KEY="SK_KWT_x", MYFATOORAH_WEBHOOK_SECRET="a-secret-of-theirs")
    assert READ_MISSED in {one.name for one in TIMETABLE}
    all_well(app)
    assert readiness(app)[1]["parts"]["payments"] == {"state": "ok", "webhooks": "open"}
    error = "PaymentsError: the payment provider can't be reached"
    job(app, READ_MISSED, next_in=60, ended_at=AT, failures=1, error=error)
    status, told = readiness(app)
    assert (status, told["status"], told["parts"]["timetable"]) == (200, "ok", {"state": "ok"})
    assert told["parts"]["payments"] == {"state": "failing", "error": error, "webhooks": "open"}
    assert "SK_KWT_x" not in str(told)


def test_readiness_costs_two_statements(app: Flask) -> None:
    """Balancers ask every second or two, of every host."""
    asked: list[str] = []
    with app.app_context():
        sa.event.listen(db.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    readiness(app)
    assert len([sql for sql in asked if sql.startswith("SELECT")]) == 2


def test_readiness_without_a_database_says_what_it_does_not_know(make_app: MakeApp, empty_url: str) -> None:
    """design.md, habit 5, on every database: no table yet, and it answers."""
    status, told = readiness(make_app(empty_url))
    assert (status, told["status"], told["parts"]["database"]) == (503, "unavailable", "away")
    assert told["parts"]["timetable"] == {"state": "unknown"}
    assert told["parts"]["whatsapp"] == {"state": "not configured"}


def test_steps_are_run_again_for_real(app: Flask) -> None:
    """Issue 4, the graph: after `again` the worker does the step, and the run is done."""
    run = event(app, "provider_up", facts={"provider": "ollama", "seconds": 60}, state="dead")
    steps(app, run, tell_staff={"state": "dead", "attempts": 7, "error": "OSError: away"})
    said(app, "tasks", "again", run)
    with app.app_context():
        step = run_views.find(GRAPH, run).steps[0].id
        assert step is not None
        assert runs.run_step(GRAPH, step) == "done"
        found = run_views.find(GRAPH, run)
    assert (found.line.state, found.line.done, found.line.total, found.dead()) == ("done", 1, 1, [])
    assert found.steps[0].result == {"told": True}
