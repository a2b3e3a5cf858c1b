"""The timetable: one tuple, registered anew at every start, carried by rq-scheduler.

Registering anew is not tidiness: rq-scheduler loses an entry for good when it dies between taking and re-adding it.
Entries it still holds that are not in the tuple are removed. Its other trap, the same job pushed again while it still
runs, is harmless because every task is safe to repeat.
"""

import logging
from typing import NamedTuple

import redis
from rq_scheduler import Scheduler

from portal.clock import utcnow
from portal.config import Settings

log = logging.getLogger("portal.schedule")
QUEUE = "default"


class Chore(NamedTuple):
    """task: by name. every: seconds."""

    task: str
    every: int


TIMETABLE = (
    Chore("portal.tasks.gateway.sweep_abandoned", 15),
    Chore("portal.tasks.routing.probe_providers", 60),
)


def reconcile(scheduler: Scheduler) -> None:
    """Make rq-scheduler hold exactly the timetable."""
    for job in scheduler.get_jobs():
        # Not job.delete(): where a worker was killed in the middle of the job, that stumbles over what it left behind.
        scheduler.cancel(job)
        scheduler.connection.delete(job.key)
    now = utcnow().replace(tzinfo=None)
    for chore in TIMETABLE:
        job_id = chore.task.replace(".", "-")
        scheduler.schedule(
            now, chore.task, interval=chore.every, repeat=None, id=job_id, queue_name=QUEUE, result_ttl=60, timeout=120
        )
        log.info("scheduled", extra={"task": chore.task, "seconds": chore.every})


def run(settings: Settings) -> None:
    """Run the timetable until told to stop. Ends when the store goes away: its supervisor starts it again."""
    connection = redis.Redis.from_url(settings.redis_url)
    scheduler = Scheduler(queue_name=QUEUE, connection=connection, interval=5)
    reconcile(scheduler)
    scheduler.run()
