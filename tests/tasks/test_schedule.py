"""What rq-scheduler holds is the timetable and nothing else, whatever the store forgot; to look does no harm."""

import datetime as dt
import time

import pytest
import redis
from flask import Flask
from rq import Queue
from rq.utils import import_attribute

from portal import queue
from portal.clock import utcnow
from portal.tasks import schedule
from portal.tasks.schedule import TIMETABLE, PortalScheduler
from tests.runs.rows import MovingClock
from tests.services.portal_app import MakeApp
from tests.tasks.processes import ENTRIES

NAMES = {job.name for job in TIMETABLE}


@pytest.fixture
def scheduler(redis_url: str) -> PortalScheduler:
    return PortalScheduler(queue_name=queue.DEFAULT, connection=redis.Redis.from_url(redis_url), interval=5)


@pytest.fixture
def portal(make_app: MakeApp, sqlite_url: str) -> Flask:
    return make_app(sqlite_url)


def held(scheduler: PortalScheduler) -> dict[str, int]:
    """What is looked at, and how often."""
    return {job.args[0]: job.meta["interval"] for job in scheduler.get_jobs()}


def looks(scheduler: PortalScheduler) -> Queue:
    return Queue(queue.DEFAULT, connection=scheduler.connection)


EXACTLY = {job.name: job.when.look for job in TIMETABLE}


def test_every_start_leaves_exactly_the_timetable(scheduler: PortalScheduler) -> None:
    """The timetable: one tuple, reconciled at start. What is not in it any more goes; what is right is left alone."""
    now = utcnow().replace(tzinfo=None)
    scheduler.schedule(now, "portal.tasks.gone.and_forgotten", interval=60, id="old")
    scheduler.schedule(now + dt.timedelta(days=9), "portal.tasks.gone.for_long", id="older")
    assert schedule.reconcile(scheduler) is True
    assert held(scheduler) == EXACTLY
    assert all(callable(import_attribute(job.func_name)) for job in scheduler.get_jobs())
    before = scheduler.connection.zrange(ENTRIES, 0, -1, withscores=True)
    assert schedule.reconcile(scheduler) is False
    assert scheduler.connection.zrange(ENTRIES, 0, -1, withscores=True) == before
    assert not scheduler.connection.exists("rq:job:old", "rq:job:older")


@pytest.mark.parametrize("change", ["interval", "function", "queue", "clock", "record"])
def test_an_entry_that_another_release_or_a_wrong_clock_left_is_put_right(
    scheduler: PortalScheduler, change: str
) -> None:
    """An entry of the same name that calls a function of yesterday's, or waits for next year, would never look."""
    schedule.reconcile(scheduler)
    entry = next(iter(scheduler.get_jobs()))
    if change == "interval":
        entry.meta["interval"] = 3600
    elif change == "function":
        entry.func_name = "portal.tasks.routing.of_yesterday"
    elif change == "queue":
        entry.origin = queue.LOW  # where the release before had it
    elif change == "clock":
        scheduler.connection.zadd(ENTRIES, {entry.id: time.time() + 365 * 86_400})
    entry.save()
    if change == "record":
        scheduler.connection.delete(entry.key)
    assert schedule.reconcile(scheduler) is True
    assert held(scheduler) == EXACTLY
    entry = scheduler.job_class.fetch(entry.id, connection=scheduler.connection)
    assert (entry.func_name, entry.origin) == (schedule.DISPATCH, queue.DEFAULT)
    assert max(score for _, score in scheduler.connection.zrange(ENTRIES, 0, -1, withscores=True)) <= time.time()


def test_the_timetable_starts_also_after_a_worker_was_killed_in_a_job(scheduler: PortalScheduler) -> None:
    """A killed worker leaves an execution without its record; rq's own delete stumbles over that."""
    schedule.reconcile(scheduler)
    for job in scheduler.get_jobs():
        scheduler.connection.zadd(f"rq:executions:{job.id}", {"lost": time.time() + 60})
        job.meta["interval"] = 1
        job.save()
    schedule.reconcile(scheduler)
    assert held(scheduler) == EXACTLY


def test_a_store_that_forgot_everything_is_told_again_at_the_next_look(scheduler: PortalScheduler) -> None:
    """Redis may be flushed and nothing is lost: rq-scheduler alone would have lost its entries for good."""
    scheduler.enqueue_jobs()
    assert len(looks(scheduler)) == len(TIMETABLE)
    scheduler.connection.flushall()
    scheduler.enqueue_jobs()
    assert held(scheduler) == EXACTLY
    assert len(looks(scheduler)) == len(TIMETABLE)


def test_while_nobody_works_no_look_is_queued_twice(scheduler: PortalScheduler) -> None:
    """After a night without workers they had thousands of looks to take before the first of them led to any work."""
    for number in range(10):
        scheduler.enqueue_jobs()
        for entry, _ in scheduler.connection.zrange(ENTRIES, 0, -1, withscores=True):
            scheduler.connection.zadd(ENTRIES, {entry: time.time() - 1})  # a quarter of an hour later
        assert looks(scheduler).count == len(TIMETABLE), number
    entries = dict(scheduler.connection.zrange(ENTRIES, 0, -1, withscores=True))
    scheduler.enqueue_jobs()
    later = dict(scheduler.connection.zrange(ENTRIES, 0, -1, withscores=True))
    assert later.keys() == entries.keys()
    assert min(later.values()) > time.time() + 5, "each is looked at again after its interval"
    scheduler.connection.delete(looks(scheduler).key)
    scheduler.connection.zadd(ENTRIES, {entry: time.time() - 1 for entry in later})
    scheduler.enqueue_jobs()
    assert looks(scheduler).count == len(TIMETABLE), "once they are taken, the next look is queued"


def test_a_dispatcher_hands_over_what_is_due_and_nothing_else(portal: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thin dispatchers: looking costs a read; the job is one of its own, run once however often it was handed over."""
    clock = MovingClock(monkeypatch)
    with portal.app_context():
        for _ in range(3):
            assert schedule.dispatch("clear away") is False
            clock.on(3600)
        clock.on(24 * 3600)
        assert [schedule.dispatch("clear away") for _ in range(3)] == [True] * 3
        jobs = Queue(queue.DEFAULT, connection=portal.extensions["store"]).jobs
        assert [(job.func_name, job.args) for job in jobs] == [("portal.tasks.schedule.run_job", ("clear away",))] * 3
        assert [schedule.run_job("clear away") for _ in range(3)] == [True, False, False]
        assert schedule.dispatch("clear away") is False
        with pytest.raises(KeyError):
            schedule.dispatch("of yesterday")


def test_with_the_store_away_a_dispatcher_says_so_and_the_job_stays_due(
    portal: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be handed over is due at the next look."""
    clock = MovingClock(monkeypatch)
    with portal.app_context():
        schedule.dispatch("clear away")
        clock.now += dt.timedelta(days=1)
        with monkeypatch.context() as patch:
            patch.setitem(portal.extensions, "store", redis.Redis.from_url("unix:///nowhere.sock"))
            assert schedule.dispatch("clear away") is False
        assert schedule.dispatch("clear away") is True


def test_the_watch_is_a_task_of_the_workers_own(portal: Flask) -> None:
    """ADMIN-12: it must not hang on the scheduler whose end it is to notice."""
    with portal.app_context():
        assert schedule.WATCH not in NAMES
        assert schedule.run_job(schedule.WATCH) is True
