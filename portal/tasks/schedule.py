"""The timetable: one tuple. rq-scheduler says when to look, rows say what is due (`services/timetable.py`).

Its entries are thin dispatchers: they hand over a job of its own, since rq-scheduler pushes the same entry again while
it still runs. They are registered anew at every start and whenever the store has forgotten them: it loses an entry for
good when it dies between taking and re-adding it, and a flushed store took the whole timetable with it.
"""

import datetime as dt
import logging
import os
import signal
import time

import redis
import rq.job
from rq_scheduler import Scheduler

from portal import clock, queue
from portal.config import Settings
from portal.services import timetable
from portal.services.timetable import Daily, Every, Job
from portal.tasks import chores, events, gateway, notifications, payments, routing, subscriptions

log = logging.getLogger("portal.schedule")
POLL_SECONDS = 5
STORE_SECONDS = 10
DISPATCH = "portal.tasks.schedule.dispatch"
STORE_PAUSE = 2.0

TIMETABLE = (
    Job("settle abandoned requests", Every(15), gateway.sweep_abandoned),
    Job("hand over events", Every(15), events.sweep_events),
    Job("hand over messages", Every(15), notifications.sweep_deliveries),
    Job("ask about payments", Every(15), payments.ask_due),
    Job("probe providers", Every(60), routing.probe_providers),
    Job("check WhatsApp", Every(300), notifications.check_whatsapp),
    Job("renew subscriptions", Every(300), payments.renew),
    Job("end subscriptions", Every(300), subscriptions.end_subscriptions),
    Job("read missed webhooks", Every(300), payments.read_missed_webhooks),
    Job("clear away", Daily(4, 30), chores.clear_away),
    Job("daily summary", Daily(8, 0, late=dt.timedelta(hours=12)), chores.sum_up_yesterday),
    Job("remind of expiry", Daily(9, 0), subscriptions.remind_of_expiry),
)
JOBS = {job.name: job for job in TIMETABLE}
WATCH = "watch the timetable"
"""Not a line of its own: workers do it, so that somebody notices when the scheduler itself is gone."""


def dispatch(name: str) -> bool:
    """Hand the job over if it is due. Returns whether it was."""
    is_due = timetable.due(JOBS[name])
    return is_due and queue.enqueue_now("run job", [[name]])


def run_job(name: str) -> bool:
    """Run the job if it is still due. Returns whether it was run."""
    if name == WATCH:
        timetable.watch(TIMETABLE)
        return True
    return timetable.run(JOBS[name])


def reconcile(scheduler: Scheduler) -> bool:
    """Make rq-scheduler hold exactly the timetable. Returns whether anything had to be changed."""
    wanted = {_entry(job): job for job in TIMETABLE}
    now = clock.utcnow().replace(tzinfo=None)
    times = {job.id: (job, at) for job, at in scheduler.get_jobs(with_times=True)}
    held = {entry: job for entry, (job, _) in times.items()}
    right = {entry for entry, job in wanted.items() if entry in held and _matches(*times[entry], job, now)}
    for entry in held.keys() - right:
        # Not job.delete(): where a worker was killed in the middle of the job, that stumbles over what it left behind.
        scheduler.cancel(held[entry])
        scheduler.connection.delete(held[entry].key)
    for entry in wanted.keys() - right:
        job = wanted[entry]
        scheduler.schedule(
            now, DISPATCH, args=[job.name], interval=job.when.look, repeat=None, id=entry,
            queue_name=queue.DEFAULT, timeout=60,
        )  # fmt: skip
        log.info("scheduled", extra={"job": job.name, "looked_at_every": job.when.look})
    return held.keys() != right or wanted.keys() != right


class PortalScheduler(Scheduler):
    """rq-scheduler that keeps the timetable whole while it runs."""

    def enqueue_jobs(self) -> object:
        reconcile(self)
        return super().enqueue_jobs()

    def enqueue_job(self, job: rq.job.Job) -> None:
        """What nobody has taken yet is not queued a second time: after a night without workers they had thousands of
        looks to take before any work."""
        if self.get_queue_for_job(job).get_job_position(job.id) is None:
            super().enqueue_job(job)
        else:
            later = time.time() + job.meta["interval"]
            self.connection.zadd(self.scheduled_jobs_key, {job.id: later})

    def _install_signal_handlers(self) -> None:
        """`run` has its own: rq-scheduler's asks the store first, and went on for ever when that was away."""


def run(settings: Settings) -> None:
    """Run the timetable until told to stop. Waits for a store that is away."""
    os.environ["TZ"] = "Asia/Kuwait"  # what rq-scheduler and its crontab would take for local; ours goes by rows
    time.tzset()
    told_to_end = False

    def end(*_: object) -> None:
        nonlocal told_to_end
        told_to_end = True
        raise SystemExit

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    while not told_to_end:
        # Without a limit, a store that says nothing more, such as beyond a broken line, would be waited for for ever.
        connection = redis.Redis.from_url(
            settings.redis_url, socket_timeout=STORE_SECONDS, socket_connect_timeout=STORE_SECONDS
        )
        scheduler = PortalScheduler(queue_name=queue.DEFAULT, connection=connection, interval=POLL_SECONDS)
        try:
            scheduler.run()
        except redis.RedisError as error:
            if not told_to_end:
                log.warning("store away: the timetable waits for it", extra={"error": type(error).__name__})
                time.sleep(STORE_PAUSE)


def _entry(job: Job) -> str:
    return "timetable-" + job.name.replace(" ", "-")


def _matches(entry: rq.job.Job, at: dt.datetime, job: Job, now: dt.datetime) -> bool:
    """Whether the entry does what the timetable says; one for a far future was written by a clock that was ahead."""
    does = (entry.func_name, entry.origin, list(entry.args), entry.meta.get("interval"))
    soon = at <= now + dt.timedelta(seconds=2 * job.when.look)
    return does == (DISPATCH, queue.DEFAULT, [job.name], job.when.look) and soon


__all__ = ["JOBS", "TIMETABLE", "Daily", "Every", "Job", "dispatch", "reconcile", "run", "run_job"]
