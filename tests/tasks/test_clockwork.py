"""The timetable as real processes: two schedulers by mistake, a store that forgets and dies, and the whole chain."""

import datetime as dt
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, GatewayProcess, Notification, ScheduledJob, Usage
from portal.services import events, ledger
from portal.services.accounts import NewUser, register
from portal.services.ledger.statements import Hold
from portal.services.ledger.till import Till
from portal.services.timetable import Every
from portal.tasks.schedule import TIMETABLE
from tests.fail2ban.waiting import eventually
from tests.services.portal_app import MakeApp
from tests.services.redis_server import RedisServer
from tests.tasks.processes import Clockwork

INTERVALS = {job.name: job.when.seconds for job in TIMETABLE if isinstance(job.when, Every)}


@pytest.fixture
def clockwork(make_app: MakeApp, sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[Clockwork]:
    made = Clockwork(make_app(sqlite_url), redis_url, tmp_path)
    yield made
    made.end()


def test_two_schedulers_and_two_workers_run_each_job_about_once_an_interval(
    clockwork: Clockwork, redis_server: RedisServer
) -> None:
    """Two schedulers by mistake do no harm. In the middle the store forgets everything, and nothing is lost by it."""
    for start in (clockwork.scheduler, clockwork.scheduler, clockwork.worker, clockwork.worker):
        start()

    def runs() -> dict[str, int]:
        return {name: row.run for name, row in clockwork.jobs().items()}

    eventually(lambda: INTERVALS.keys() <= {name for name, run in runs().items() if run}, "each has run once", 60)
    began = {name: clockwork.jobs()[name].started_at for name in INTERVALS}
    first = runs()
    assert len(clockwork.entries()) == len(TIMETABLE)
    redis_server.client.flushall()
    eventually(lambda: len(clockwork.entries()) == len(TIMETABLE), "the entries are back", 15)
    often = [name for name, seconds in INTERVALS.items() if seconds == 15]
    eventually(lambda: all(runs()[name] >= first[name] + 1 for name in often), "the frequent ones ran again", 45)
    for name, row in clockwork.jobs().items():
        assert (row.error, row.failures) == ("", 0), name
        if name in INTERVALS:
            assert row.started_at is not None
            since = (row.started_at - began[name]).total_seconds()  # type: ignore[operator]
            assert row.run - first[name] <= since / INTERVALS[name] + 0.01, f"{name} ran too often"
    assert all(child.running for child in clockwork.children), clockwork.log()


def test_a_scheduler_outlives_its_store_and_ends_when_it_is_told_to(
    clockwork: Clockwork, redis_server: RedisServer
) -> None:
    """Redis down and up: the timetable is there again. Told to end while it is away, it ends, and says that all is
    well: rq-scheduler's own way of ending asked the store first, and then went on for ever."""
    scheduler = clockwork.scheduler()
    eventually(clockwork.entries, "the timetable is registered", 60)
    redis_server.stop()
    time.sleep(1)
    redis_server.start()
    eventually(lambda: len(clockwork.entries()) == len(TIMETABLE), "the entries are back", 20)
    assert scheduler.running, clockwork.log()
    redis_server.stop()
    scheduler.signal(signal.SIGTERM)
    eventually(lambda: not scheduler.running, "it has ended", 10)
    assert scheduler.exit_code == 0, clockwork.log()
    without_a_store = clockwork.scheduler()
    eventually(lambda: "store away" in "\n".join(without_a_store.last_lines()), "it waits for the store", 60)
    without_a_store.signal(signal.SIGTERM)
    eventually(lambda: not without_a_store.running, "it has ended", 10)
    assert without_a_store.exit_code == 0, clockwork.log()


def test_workers_notice_by_themselves_that_no_scheduler_runs(clockwork: Clockwork) -> None:
    """ADMIN-12, never again, People: no clock was started and nobody saw. Staff are told, once, with the job's name."""
    with clockwork.app.app_context():
        hour_ago = utcnow() - dt.timedelta(hours=1)
        for name in ("clear away", "hand over events"):
            db.session.add(ScheduledJob(name=name, next_at=hour_ago, run=7))
        db.session.commit()
    clockwork.worker()

    def told() -> list[str]:
        with clockwork.app.app_context():
            query = sa.select(Notification.facts).where(Notification.kind == events.JOB_STALE)
            return sorted(facts["job"] for facts in db.session.scalars(query))

    eventually(lambda: told() == ["clear away", "hand over events"], "staff are told", 60)


def test_scheduler_and_worker_settle_what_a_dead_process_left(
    make_app: MakeApp, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """CRD-01: the whole chain, `flask scheduler` and `rq worker`, gives an abandoned hold back, on every database."""
    app = make_app(database_url)
    request = abandoned(app)
    clockwork = Clockwork(app, redis_url, tmp_path)
    try:
        clockwork.scheduler()
        clockwork.worker()
        deadline = time.monotonic() + 60
        state = ""
        while state != "settled" and time.monotonic() < deadline:
            time.sleep(0.1)
            with app.app_context():
                state = db.session.scalars(sa.select(Usage.state).where(Usage.id == request)).one()
        assert state == "settled", clockwork.log()
    finally:
        clockwork.end()
    with app.app_context():
        assert ledger.check() == []
        usage = db.session.get_one(Usage, request)
        assert (usage.outcome, usage.cost) == ("abandoned", 0)


def abandoned(app: Flask) -> str:
    """A request whose process died years ago, with credit set aside for it. Returns its id."""
    with app.app_context():
        user = register(
            NewUser(email="layla@example.com", phone="+96550001111", password="a-good-long-one"), "127.0.0.1"
        )
        account = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user)).one()
        long_ago = utcnow().replace(year=2020)
        dead = GatewayProcess(id=new_id(), host="gone", pid=1, started_at=long_ago, seen_at=long_ago)
        db.session.add(dead)
        db.session.commit()
        request = new_id()
        till = Till(db.engine)
        at = utcnow().strftime("%Y-%m-%d %H:%M:%S.%f")
        way = ("smollm2:135m", "ollama-1", "local", False, 10**6, 10**6, 10**6)
        till.hold(Hold(request, account, "k", dead.id, *way, True, 500, at))
        till.close()
        return request
