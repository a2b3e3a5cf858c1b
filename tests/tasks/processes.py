"""The clock's processes as the Procfile starts them, on one database and one store."""

import os
import signal
from pathlib import Path

import redis
import sqlalchemy as sa
from flask import Flask

from dev.children import Child, stop
from portal.extensions import db
from portal.models import ScheduledJob
from tests.services.environment import ROOT, TOOLS, portal_environment

ENTRIES = "rq:scheduler:scheduled_jobs"
"""rq-scheduler's own key."""


class Clockwork:
    """Schedulers and workers. `app`: a portal of this process on the same database."""

    def __init__(self, app: Flask, redis_url: str, folder: Path) -> None:
        self.app, self.redis_url, self.folder = app, redis_url, folder
        self.store = redis.Redis.from_url(redis_url)
        (folder / "clockwork").mkdir(exist_ok=True)
        settings = {"DATABASE_URL": app.config["PORTAL"].database_url, "REDIS_URL": redis_url}
        self.environ = portal_environment(folder / "clockwork", **settings)
        self.children: list[Child] = []

    def scheduler(self) -> Child:
        return self._start("scheduler", str(TOOLS / "flask"), "--app", "wsgi", "scheduler")

    def worker(self, kind: str = "portal.tasks.worker.PortalWorker") -> Child:
        """kind: the worker's class. It looks after itself every second, not every ten minutes."""
        queues = ("urgent", "default", "low")
        command = (str(TOOLS / "rq"), "worker", "-u", self.redis_url, "-w", kind, "--maintenance-interval", "1")
        return self._start("worker", *command, *queues)

    def kill(self, worker: Child) -> None:
        """`kill -9`, as when the machine loses power: the worker with the job it has forked, which has a group of its
        own and would go on."""
        forked = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        worker.kill_group()
        for pid in forked:
            os.kill(int(pid), signal.SIGKILL)

    def entries(self) -> set[str]:
        """What the store would look at: empty when it has forgotten everything, or is away."""
        try:
            return {entry.decode() for entry in self.store.zrange(ENTRIES, 0, -1)}  # type: ignore[union-attr]
        except redis.RedisError:
            return set()

    def jobs(self) -> dict[str, ScheduledJob]:
        """The timetable's rows by name."""
        with self.app.app_context():
            return {row.name: row for row in db.session.scalars(sa.select(ScheduledJob))}

    def end(self) -> None:
        stop(self.children, 10)

    def log(self) -> str:
        """The last words of all, for whoever has to say why it failed."""
        return "\n".join(line for child in self.children for line in [child.name, *child.last_lines(40)])

    def _start(self, name: str, *command: str) -> Child:
        log = self.folder / "clockwork" / f"{name}-{len(self.children)}.log"
        child = Child(name, command, self.environ, log, ROOT)
        self.children.append(child)
        return child
