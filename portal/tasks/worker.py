"""The worker: `rq worker -w portal.tasks.worker.PortalWorker`.

The app is built once in the parent and inherited by the forked children: importing it per job cost ten times the job.
A child never shares its parent's database connections.
"""

from typing import Any

from flask import Flask
from rq import Worker
from rq.job import Job
from rq.queue import Queue

from portal import create_app
from portal.extensions import db
from portal.tasks import gateway as _gateway, routing as _routing  # noqa: F401  (imported once, in the parent)


class PortalWorker(Worker):
    _app: Flask | None = None

    def work(self, *args: Any, **kwargs: Any) -> bool:
        PortalWorker._app = create_app()
        return super().work(*args, **kwargs)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        assert self._app is not None
        with self._app.app_context():
            for engine in db.engines.values():
                engine.dispose(close=False)
            super().main_work_horse(job, queue)
