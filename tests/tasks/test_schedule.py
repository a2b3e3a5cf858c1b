"""The timetable and the worker, as real processes on a real store."""

import os
import subprocess
import sys
import time
from pathlib import Path

import redis
import sqlalchemy as sa
from rq.utils import import_attribute
from rq_scheduler import Scheduler

from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, GatewayProcess, Usage
from portal.services import ledger
from portal.services.accounts import NewUser, register
from portal.services.ledger.statements import Hold
from portal.services.ledger.till import Till
from portal.tasks import schedule
from tests.services.environment import portal_environment
from tests.services.portal_app import MakeApp

ROOT = Path(__file__).resolve().parents[2]


def test_every_chore_of_the_timetable_is_a_function() -> None:
    """OPS-05: a name in the timetable that nothing answers to would only be seen at night."""
    for chore in schedule.TIMETABLE:
        assert callable(import_attribute(chore.task))


def test_registering_the_timetable_twice_leaves_it_once(redis_url: str) -> None:
    """OPS-05: every start registers it anew; what is not in it any more goes."""
    connection = redis.Redis.from_url(redis_url)
    scheduler = Scheduler(queue_name=schedule.QUEUE, connection=connection)
    scheduler.schedule(utcnow().replace(tzinfo=None), "portal.tasks.gone.and_forgotten", interval=60, id="old")
    schedule.reconcile(scheduler)
    schedule.reconcile(scheduler)
    assert sorted(job.func_name for job in scheduler.get_jobs()) == sorted(chore.task for chore in schedule.TIMETABLE)


def test_the_timetable_starts_also_after_a_worker_was_killed_in_a_chore(redis_url: str) -> None:
    """OPS-05: a killed worker leaves an execution without its record; rq's own delete stumbles over that."""
    connection = redis.Redis.from_url(redis_url)
    scheduler = Scheduler(queue_name=schedule.QUEUE, connection=connection)
    schedule.reconcile(scheduler)
    for job in scheduler.get_jobs():
        connection.zadd(f"rq:executions:{job.id}", {"lost": time.time() + 60})
    schedule.reconcile(scheduler)
    assert len(list(scheduler.get_jobs())) == len(schedule.TIMETABLE)


def test_scheduler_and_worker_settle_what_a_dead_process_left(
    make_app: MakeApp, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """CRD-01: the whole chain, `flask scheduler` and `rq worker`, gives an abandoned hold back, on every database."""
    app = make_app(database_url)
    with app.app_context():
        user = register(
            NewUser(email="layla@example.com", phone="+96550001111", password="a-good-long-one"), "127.0.0.1"
        )
        account = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user)).one()
        db.session.commit()
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

    environ = {**os.environ, **portal_environment(tmp_path / "app", REDIS_URL=redis_url, DATABASE_URL=database_url)}
    bin_dir = Path(sys.executable).parent
    commands = (
        [str(bin_dir / "flask"), "--app", "wsgi", "scheduler"],
        [str(bin_dir / "rq"), "worker", "-u", redis_url, "-w", "portal.tasks.worker.PortalWorker"],
    )
    with (tmp_path / "processes.log").open("w") as log:
        processes = [subprocess.Popen(c, cwd=ROOT, env=environ, stdout=log, stderr=log) for c in commands]
        try:
            deadline = time.monotonic() + 45
            state = ""
            while state != "settled" and time.monotonic() < deadline:
                time.sleep(0.25)
                with app.app_context():
                    state = db.session.scalars(sa.select(Usage.state).where(Usage.id == request)).one()
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=20)
    assert state == "settled", (tmp_path / "processes.log").read_text()[-3000:]
    with app.app_context():
        assert ledger.check() == []
        usage = db.session.get_one(Usage, request)
        assert (usage.outcome, usage.cost) == ("abandoned", 0)
