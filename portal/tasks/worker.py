"""The worker: `rq worker -w portal.tasks.worker.PortalWorker urgent default low`.

The app is built once in the parent and inherited by the forked children: importing it per job cost ten times the job.
A child never shares its parent's database connections. The parent also sees to it that somebody looks at the timetable
when its scheduler is gone.
"""

import time
from typing import Any

from flask import Flask
from rq import Worker
from rq.job import Job
from rq.queue import Queue

from portal import create_app, queue
from portal.extensions import db
from portal.tasks import events as _events, notifications as _notifications, schedule  # noqa: F401  (once, in the parent)

WATCH_SECONDS = 60


class PortalWorker(Worker):
    _app: Flask | None = None
    _watched = 0.0

    def work(self, *args: Any, **kwargs: Any) -> bool:
        PortalWorker._app = create_app()
        return super().work(*args, **kwargs)

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
