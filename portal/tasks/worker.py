"""The worker: `rq worker -w portal.tasks.worker.PortalWorker urgent default low`.

The app is built once in the parent and inherited by the forked children: importing it per job cost ten times the job.
A child never shares its parent's database connections. The parent also sees to it that somebody looks at the timetable
when its scheduler is gone, and outlives a store that dies.
"""

import logging
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

import redis
from flask import Flask
from rq import Worker
from rq.job import Job
from rq.queue import Queue

from portal import create_app, queue
from portal.extensions import db
from portal.tasks import events as _events, notifications as _notifications, schedule  # noqa: F401  (once, in the parent)

log = logging.getLogger("portal.worker")
WATCH_SECONDS = 60
STORE_PAUSE = 1.0
ENDS = ("burst", "max_jobs", "max_idle_time")
"""What makes a worker end by itself."""


class PortalWorker(Worker):
    _app: Flask | None = None
    _watched = 0.0
    _asked_to_end = False

    def work(self, *args: Any, **kwargs: Any) -> bool:
        PortalWorker._app = create_app()
        worked = False
        try:
            worked = super().work(*args, **kwargs)
        except redis.ConnectionError as error:
            log.warning("store away", extra={"error": type(error).__name__})
        if not self._asked_to_end and not any(kwargs.get(name) for name in ENDS):
            self._begin_anew()
        return worked

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._asked_to_end = True
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def _begin_anew(self) -> None:
        """RQ's worker ends when the store goes away at the wrong moment, and may end as if all were well: then systemd
        and others do not bring it back, and nobody sent a message any more. So it becomes a new one, once there is a
        store."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # RQ's own would ask the store first
        while True:
            time.sleep(STORE_PAUSE)
            try:
                self.connection.ping()
                break
            except redis.RedisError:
                pass
        log.warning("the worker begins anew")
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  (ourselves, with the words we were started with)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        assert self._app is not None
        with self._app.app_context():
            for engine in db.engines.values():
                engine.dispose(close=False)
            super().main_work_horse(job, queue)

    def run_maintenance_tasks(self) -> None:
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        if self._app is not None and time.monotonic() - self._watched > WATCH_SECONDS:
            self._watched = time.monotonic()
            with self._app.app_context():
                queue.enqueue_now("run job", [[schedule.WATCH]])
