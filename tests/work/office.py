"""An office at work: web, workers and scheduler as the Procfile starts them, on a database and a Redis of their own.

The portal of this process shares both: it does what customers do, and looks into the rows. Nothing in it is replaced;
only time is: `hurry` moves what waits to where it would be had one waited, in rows and in the store.
"""

import datetime as dt
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis
import sqlalchemy as sa
from flask import Flask

from dev.children import Child, stop
from portal import create_app
from portal.clock import utcnow
from portal.config import load_settings
from portal.extensions import db
from portal.models import Delivery, Event, EventStep, Notification, ScheduledJob
from portal.services.work import HANDED
from portal.tasks import schedule
from sandbox.process import SandboxProcess
from tests.services.environment import ROOT, TOOLS, portal_environment
from tests.services.portal_app import close
from tests.services.redis_server import RedisServer
from tests.services.web import Web

PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
LOCK, ENTRIES = "rq:scheduler_lock", "rq:scheduler:scheduled_jobs"
"""rq-scheduler's keys: who is the one, and when each entry is looked at."""
SWEEPS = ("hand over events", "hand over messages")
OVER = ("done", "dead", "expired", "cancelled")
HOOK_TOKEN = "a-token-for-hooks-0123456789"


class Arrived(NamedTuple):
    """A message that WhatsApp has accepted. kind: as its notification has it."""

    phone: str
    kind: str
    text: str
    delivery: str


class Office:
    """One portal with all its processes. `app`: the same portal in this process."""

    def __init__(self, url: str, sandbox: SandboxProcess, store: RedisServer, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.sandbox, self.store, self.folder = sandbox, store, folder
        self.environ = portal_environment(
            folder,
            **{
                "DATABASE_URL": url, "REDIS_URL": store.url, "OLLAMA_URL": sandbox.ollama_url,
                "OLLAMA_CLOUD_URL": sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": "sandbox",
                "RESAYIL_API_URL": sandbox.whatsapp_url, "RESAYIL_API_KEY": "sandbox", "HOOK_TOKEN": HOOK_TOKEN,
                **settings,
            },
        )  # fmt: skip
        self.app: Flask = create_app(load_settings(self.environ))
        self.web: Web | None = None
        self.workers: list[Child] = []
        self.scheduler: Child | None = None
        self._started = 0

    # -- processes -----------------------------------------------------------------------------------------------------

    def open_web(self) -> Web:
        """A gunicorn; what is started afterwards knows its address."""
        self.web = Web(1, self.environ, self.folder / "web.log")
        self.environ["BASE_URL"] = self.web.url
        return self.web

    def start_worker(self) -> Child:
        """One more `rq worker`, by the line of the Procfile."""
        worker = self._start("worker")
        self.workers.append(worker)
        return worker

    def start_scheduler(self) -> Child:
        """`flask scheduler`, by the line of the Procfile."""
        self.scheduler = self._start("scheduler")
        return self.scheduler

    def start(self, workers: int = 1) -> None:
        """So many workers and the scheduler; back when the workers listen."""
        for _ in range(workers):
            self.start_worker()
        self.start_scheduler()
        self.until(lambda: len(self.listening()) >= workers, 40, "the workers' birth")

    def listening(self) -> list[str]:
        """The workers that the store knows."""
        try:
            return [key.decode() for key in self.store.client.smembers("rq:workers")]  # type: ignore[union-attr]
        except redis.RedisError:
            return []

    def supervise(self) -> int:
        """Start again what has ended, as systemd does. Returns how many that were."""
        ended = [worker for worker in self.workers if not worker.running]
        self.workers = [worker for worker in self.workers if worker.running]
        for _ in ended:
            self.start_worker()
        if self.scheduler is not None and not self.scheduler.running:
            self.start_scheduler()
            return len(ended) + 1
        return len(ended)

    def flask(self, *command: str) -> str:
        """What an operator types: `flask --app wsgi …`. Returns what it says; fails when it does."""
        done = subprocess.run(
            [str(TOOLS / "flask"), "--app", "wsgi", *command],
            cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"flask {' '.join(command)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def kill_horses(self) -> int:
        """`kill -9` of whatever does a job at this moment. Returns how many did."""
        killed = 0
        for worker in self.workers:
            for pid in horses(worker):
                killed += kill(pid)
        return killed

    def kill_workers(self) -> None:
        """`kill -9` of all workers with their jobs, as when the machine runs out of memory."""
        for worker in self.workers:
            born = horses(worker)
            worker.kill_group()
            for pid in born:
                kill(pid)  # forked into a group of its own: it would end its portion as an orphan
        self.workers.clear()

    def kill_scheduler(self) -> None:
        if self.scheduler is not None:
            self.scheduler.kill_group()
            self.scheduler = None

    def state(self) -> str:
        """Where it stands, and the end of the latest logs, for whoever has to say why it failed."""
        jobs = self.rows(sa.select(ScheduledJob.name, ScheduledJob.next_at, ScheduledJob.running_until))
        timetable = "\n".join(f"{row.name}: next {row.next_at}, running until {row.running_until}" for row in jobs)
        return f"{utcnow()}: {self.unfinished()}\n{timetable}\n{self._logged()}"

    def close(self) -> None:
        stop([*self.workers, *([self.scheduler] if self.scheduler else [])], 5)
        if self.web is not None:
            self.web.stop(5)
        close(self.app)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def rows(self, query: sa.Executable) -> list[Any]:
        """Plain rows, in a transaction of their own."""
        with self.app.app_context(), db.engine.connect().execution_options(sqlite_read_only=True) as connection:
            return list(connection.execute(query))

    def change(self, *statements: sa.Update) -> None:
        with self.app.app_context(), db.engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def deliveries(self) -> dict[str, str]:
        """The state of every delivery, by its id."""
        return {row.id: row.state for row in self.rows(sa.select(Delivery.id, Delivery.state))}

    def delivery_to(self, phone: str, kind: str = "welcome") -> Any:
        """The row of the one delivery of this kind to this number."""
        query = sa.select(Delivery.__table__).join(Notification, Notification.id == Delivery.notification_id)
        (row,) = self.rows(query.where(Delivery.address == phone, Notification.kind == kind))
        return row

    def arrived(self) -> list[Arrived]:
        """Everything that WhatsApp has accepted, in that order."""
        query = sa.select(Delivery.id, Notification.kind).join(Notification)
        kinds = {row.id: row.kind for row in self.rows(query)}
        told = self.sandbox.messages()
        return [Arrived(m["phone"], kinds[m["reference"]], m["message"], m["reference"]) for m in told]

    def accepted(self) -> int:
        """How many messages WhatsApp has accepted."""
        return self.sandbox.counters(server="whatsapp")["accepted"]

    def unfinished(self) -> list[str]:
        """What is still to be done, in words: nothing, when the office is at rest."""
        with self.app.app_context(), db.engine.connect().execution_options(sqlite_read_only=True) as connection:
            counted = [
                (model.__tablename__, *row)
                for model, over in ((Delivery, OVER), (EventStep, ("done",)), (Event, ("done",)))
                for row in connection.execute(
                    sa.select(model.state, sa.func.count()).where(model.state.not_in(over)).group_by(model.state)
                )
            ]
        return [f"{count} {table} {state}" for table, state, count in counted]

    def runs(self, job: str) -> int:
        """How often a line of the timetable has ended well or badly."""
        (row,) = self.rows(sa.select(ScheduledJob.run, ScheduledJob.ended_at).where(ScheduledJob.name == job))
        return int(row.run) if row.ended_at is not None else 0

    # -- time ----------------------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """As if the longest pause were over: what waits is due, what was handed to the queue is not believed to be
        there any more, and the scheduler looks at every sweep at its next turn."""
        now = utcnow()
        for model in (Delivery, EventStep):
            self.change(
                sa.update(model).where(model.state == "waiting", model.due_at > now).values(due_at=now),
                sa.update(model)
                .where(model.state.in_(("waiting", "running")))
                .values(handed_at=now - HANDED - dt.timedelta(seconds=1)),
            )
        self.look(*SWEEPS)

    def dispatch(self) -> None:
        """What a second scheduler does that happens to look at this moment."""
        with self.app.app_context():
            for name in SWEEPS:
                schedule.dispatch(name)

    def look(self, *jobs: str) -> None:
        """As if these lines of the timetable were due."""
        self.change(sa.update(ScheduledJob).where(ScheduledJob.name.in_(jobs)).values(next_at=utcnow()))
        # In the past: the scheduler compares with whole seconds.
        entries = {f"timetable-{name.replace(' ', '-')}": time.time() - 5 for name in jobs}
        try:
            self.store.client.zadd(ENTRIES, entries, xx=True)
        except redis.RedisError:
            pass  # it is away: its entries are anyhow gone

    def end_leases(self, until: dt.datetime | None = None) -> None:
        """As if the leases were over: of those who died, which the caller answers for. until: only leases that would
        end by then."""
        past = utcnow() - dt.timedelta(seconds=1)
        for model in (Delivery, EventStep):
            dead = sa.update(model).where(model.state == "running")
            if until is not None:
                dead = dead.where(model.lease_until <= until)
            self.change(dead.values(lease_until=past, handed_at=past - HANDED))
        self.change(sa.update(ScheduledJob).where(ScheduledJob.running_until.is_not(None)).values(running_until=past))
        try:
            self.store.client.delete(LOCK)
        except redis.RedisError:
            pass

    def until(
        self, true: Callable[[], Any], seconds: float, what: str, *, hurry: bool = False, dispatch: bool = False
    ) -> Any:
        """The first truth; fails, with the logs, when it never comes. hurry: time is moved on meanwhile. dispatch: and
        not even the scheduler's next turn is waited for."""
        deadline = time.monotonic() + seconds
        moved = 0.0
        while not (found := true()):
            assert time.monotonic() < deadline, f"{what}: not seen within {seconds} s\n{self.state()}"
            if hurry and time.monotonic() - moved > 1:
                self.hurry()
                if dispatch:
                    self.dispatch()
                moved = time.monotonic()
            time.sleep(0.05)
        return found

    def _logged(self) -> str:
        logs = sorted(self.folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs[-4:])

    def _start(self, line: str) -> Child:
        command = shlex.split(PROCFILE[line].replace("$REDIS_URL", self.environ["REDIS_URL"]))
        self._started += 1
        log = self.folder / f"{line}-{self._started}.log"
        return Child(line, [str(TOOLS / command[0]), *command[1:]], self.environ, log, ROOT)


def horses(worker: Child) -> list[int]:
    """Process ids of the jobs under a worker."""
    try:
        return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pid: int) -> bool:
    """`kill -9`. False when it was gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def an_office(
    url: str, sandbox: SandboxProcess, store: RedisServer, folder: Path, **settings: object
) -> Iterator[Office]:
    """An office without processes yet; all of them end with it."""
    store.start()
    store.client.flushall()
    office = Office(url, sandbox, store, folder, **settings)
    try:
        yield office
    finally:
        office.close()
