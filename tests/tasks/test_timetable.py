"""The timetable by the clock: what runs when, what is caught up, what fails, what dies, and who hears of it."""

import datetime as dt
import os
import time as machine
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import clock, queue
from portal.extensions import db
from portal.ids import new_id
from portal.models import Event, Notification, ScheduledJob, Subscription
from portal.services import events, subscriptions, timetable
from portal.services.timetable import RETRY, Daily, Every, Job
from portal.tasks import schedule
from tests.ledger.books import Books, Threads
from tests.runs.rows import MovingClock
from tests.services.portal_app import MakeApp

HOUR = 3600
FEBRUARY = dt.datetime(2026, 2, 14, 20, 30, 17, tzinfo=dt.UTC)
"""Before New York turns its clocks (8 March), which Kuwait never does."""


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> MovingClock:
    return MovingClock(monkeypatch)


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's zone, whatever the product's is."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        machine.tzset()
        yield
    machine.tzset()


@pytest.fixture
def portal(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases in turn."""
    return make_app(database_url)


@pytest.fixture
def one(make_app: MakeApp, sqlite_url: str) -> Flask:
    """Where the database is all one."""
    return make_app(sqlite_url)


class Work:
    """What a job does: notes the moment, fails while it is told to."""

    def __init__(self) -> None:
        self.at: list[dt.datetime] = []
        self.error: BaseException | None = None

    def __call__(self) -> None:
        self.at.append(clock.utcnow())
        if self.error is not None:
            raise self.error


class Killed(BaseException):
    """The worker is gone in the middle of the job."""


def look(job: Job) -> bool:
    """As a dispatcher and a worker do between them. Under an app context."""
    return timetable.due(job) and timetable.run(job)


def row(name: str) -> ScheduledJob:
    found = db.session.get_one(ScheduledJob, name)
    db.session.expunge(found)
    db.session.rollback()  # on SQLite even a read would keep the others from writing
    return found


def stale_names(jobs: dict[str, Job]) -> list[str]:
    names = [state.name for state in timetable.states(list(jobs.values())) if state.stale]
    db.session.rollback()
    return names


def told(kind: str) -> list[Event]:
    found = list(db.session.scalars(sa.select(Event).where(Event.kind == kind).order_by(Event.created_at)))
    db.session.expunge_all()
    db.session.rollback()
    return found


def local(instants: list[dt.datetime]) -> list[str]:
    return [instant.astimezone(clock.KUWAIT).strftime("%d %H:%M") for instant in instants]


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize("step", [HOUR, 47 * 60 + 11])
def test_a_month_of_the_daily_jobs(one: Flask, time: MovingClock, step: int) -> None:
    """Once a day at the hour of Kuwait's, whatever the machine's zone; reminders on the right days, nothing twice."""
    time.now = FEBRUARY
    assert machine.tzname[0] == "EST"
    books = Books(one)
    accounts = [books.open_account() for _ in range(4)]
    ends: dict[str, dt.datetime] = {}
    with one.app_context():
        for account, days in zip(accounts, (1, 4, 15, 27), strict=True):
            paid = subscriptions.activate(account, "pro", reference=new_id(), actor="console", days=days)
            ends[account] = paid.ends_at
        # Extended: reminded of the new end alone.
        subscriptions.activate(accounts[1], "pro", reference=new_id(), actor="console", days=10)
        ends[accounts[1]] += dt.timedelta(days=10)
        names = ("daily summary", "remind of expiry", "clear away", "end subscriptions")
        ran: dict[str, list[dt.datetime]] = {name: [] for name in names}
        while time.now < FEBRUARY + dt.timedelta(days=31):
            for name in names:
                if look(schedule.JOBS[name]):
                    ran[name].append(time.now)
            time.on(step)
        for name, hour in (("daily summary", 8), ("remind of expiry", 9), ("clear away", 4)):
            moments = [instant.astimezone(clock.KUWAIT) for instant in ran[name]]
            assert len({moment.date() for moment in moments}) == len(moments) == 31
            expected = dt.timedelta(hours=hour, minutes=30 if hour == 4 else 0)
            late = [moment - moment.replace(hour=0, minute=0, second=0, microsecond=0) - expected for moment in moments]
            assert min(late) >= dt.timedelta(0)
            assert max(late) < dt.timedelta(seconds=step)
        summed = [event.facts["day"] for event in told(events.DAY_ENDED)]
        first = dt.date(2026, 2, 14)
        assert summed == [(first + dt.timedelta(days=number)).isoformat() for number in range(31)]

        query = sa.select(Notification).where(Notification.kind.in_(("subscription_expiring", "subscription_ended")))
        for account in accounts:
            notes = {note.kind: note for note in db.session.scalars(query.where(Notification.account_id == account))}
            reminded, ended = notes["subscription_expiring"], notes["subscription_ended"]
            at = reminded.created_at.astimezone(clock.KUWAIT)
            last = ends[account].astimezone(clock.KUWAIT).date()
            begun = dt.date(2026, 2, 15)
            assert at.date() == max(last - dt.timedelta(days=3), begun), account
            assert reminded.facts["expires"] == ends[account].isoformat()
            assert dt.timedelta(0) <= ended.created_at - ends[account] <= dt.timedelta(seconds=step)
        assert len(db.session.scalars(query).all()) == 2 * len(accounts), "nothing twice"
        assert set(db.session.scalars(sa.select(Subscription.state))) == {"ended"}


@pytest.mark.usefixtures("in_new_york")
def test_an_hour_of_kuwait_s_is_the_same_on_every_database(portal: Flask, time: MovingClock) -> None:
    """A zone that a driver or a server adds of its own would shift every job; New York's clocks change in between."""
    time.now, work = dt.datetime(2026, 3, 6, 21, 0, tzinfo=dt.UTC), Work()
    job = Job("at nine", Daily(9), work)
    with portal.app_context():
        for _ in range(24 * 4 * 4):
            look(job)
            time.on(HOUR / 4)
        assert local(work.at) == ["07 09:00", "08 09:00", "09 09:00", "10 09:00"]
        assert row("at nine").next_at == dt.datetime(2026, 3, 11, 6, 0, tzinfo=dt.UTC)
        assert row("at nine").run == 4


def test_what_was_missed_is_caught_up_by_one_run(one: Flask, time: MovingClock) -> None:
    """Down over nine o'clock, or over a week of them: one run as soon as it is back, the next at its hour."""
    job = Job("at nine", Daily(9), Work())
    minutely = Job("each minute", Every(60), Work())
    with one.app_context():
        assert [look(job), look(minutely)] == [False, True]  # 12:00
        for away in (22 * HOUR, 7 * 24 * HOUR):  # until ten o'clock
            time.on(away)
            assert [look(job), look(minutely)] == [True, True]
            assert [look(job), look(minutely)] == [False, False]
        time.on(23 * HOUR - 1)
        assert look(job) is False
        time.on(1)
        assert look(job) is True
    assert isinstance(job.does, Work)
    assert local(job.does.at) == ["02 10:00", "09 10:00", "10 09:00"]


def test_the_summary_is_not_caught_up_after_half_a_day(one: Flask, time: MovingClock) -> None:
    """A summary of a day in the evening of the next is of use, one in the night is not; the morning's own comes."""
    summary = schedule.JOBS["daily summary"]
    with one.app_context():
        assert look(summary) is False  # the 1st, 12:00
        time.on(32 * HOUR)  # the 2nd, 20:00: twelve hours late
        assert look(summary) is True
        time.on(24 * HOUR + 1)  # the 3rd, 20:00:01
        assert look(summary) is False
        assert (row("daily summary").error, row("daily summary").failures) == ("", 0)
        assert stale_names({"daily summary": summary}) == []
        time.on(12 * HOUR)  # the 4th, 08:00:01
        assert look(summary) is True
        assert [event.facts["day"] for event in told(events.DAY_ENDED)] == ["2026-03-01", "2026-03-03"]


@pytest.mark.parametrize("when", [Every(15), Daily(9)], ids=["every", "daily"])
def test_two_schedulers_and_twenty_workers_run_it_once(portal: Flask, time: MovingClock, when: Every | Daily) -> None:
    """Two schedulers by mistake do no harm: neither where the row is not there yet, nor where all see it due."""
    work = Work()
    job = Job("once", when, work)

    def call(function: Callable[[Job], bool]) -> bool:
        with portal.app_context():
            return function(job)

    seen = Threads(*[partial(call, timetable.due)] * 8).wait()
    assert set(seen) <= {True, False}
    for number in range(1, 6):
        time.on(24 * HOUR)
        assert Threads(*[partial(call, look)] * 20).wait().count(True) == 1
        assert len(work.at) == number
    with portal.app_context():
        assert row("once").run == 5


def test_a_daily_job_that_failed_is_tried_again_and_its_trouble_is_seen(portal: Flask, time: MovingClock) -> None:
    """ADMIN-12: last error, how often, since when; a day is too long to wait. Staff hear of the third failure, once."""
    work = Work()
    job = Job("at nine", Daily(9), work)
    work.error = ValueError("no paper\x00" + "!" * 400)
    with portal.app_context():
        look(job)
        time.now = began = dt.datetime(2026, 3, 2, 6, 0, tzinfo=dt.UTC)
        for failures in range(1, 6):
            assert look(job) is True
            assert look(job) is False
            (state,) = timetable.states([job])
            db.session.expunge_all()
            db.session.rollback()
            assert state.row is not None
            assert (state.row.failures, state.row.failing_since) == (failures, began)
            assert state.row.error.startswith("ValueError: no paper!")
            assert len(state.row.error) == 300
            assert (state.failing, state.stale) == (failures >= timetable.FAILING_AFTER, False)
            assert state.row.next_at == time.now + RETRY
            assert (state.row.started_at, state.row.ended_at, state.row.succeeded_at) == (time.now, time.now, None)
            timetable.watch([job])
            assert len(told(events.JOB_STALE)) == (1 if state.failing else 0)
            time.on(RETRY.total_seconds())
        work.error = None
        assert look(job) is True
        mended = row("at nine")
        assert (mended.error, mended.failures, mended.failing_since) == ("", 0, None)
        assert mended.succeeded_at == time.now
        assert mended.next_at == dt.datetime(2026, 3, 3, 6, 0, tzinfo=dt.UTC), "and at its hour the next day"
        work.error = ValueError("again")
        time.now = mended.next_at
        for _ in range(timetable.FAILING_AFTER):
            assert look(job) is True
            time.on(RETRY.total_seconds())
        timetable.watch([job])
        assert len(told(events.JOB_STALE)) == 2, "another outage"


def test_a_run_that_was_killed_is_taken_up_after_its_lease(portal: Flask, time: MovingClock) -> None:
    """Once, and the killed one's number is past: should it come back, it writes nothing."""
    work = Work()
    job = Job("at nine", Daily(9), work)
    with portal.app_context():
        look(job)
        time.now = dt.datetime(2026, 3, 2, 6, 0, tzinfo=dt.UTC)
        work.error = Killed()
        with pytest.raises(Killed):
            look(job)
        time.on(job.when.lease.total_seconds() - 1)
        assert look(job) is False
        work.error = None
        time.on(1)
        assert look(job) is True
        assert look(job) is False
        assert (len(work.at), row("at nine").run, row("at nine").running_until) == (2, 2, None)

        def slow() -> None:
            time.on(job.when.lease.total_seconds() + 1)  # its lease ends meanwhile, and another takes it up
            work.error = None
            if len(work.at) == 2:
                assert timetable.run(job._replace(does=work)) is True
                raise ValueError("the late one")

        time.now = dt.datetime(2026, 3, 3, 6, 0, tzinfo=dt.UTC)
        assert timetable.run(job._replace(does=slow)) is True
        after = row("at nine")
        assert (after.run, after.error, after.failures, len(work.at)) == (4, "", 0, 3)


def test_a_timetable_that_stands_still_is_told_once_an_outage(one: Flask, time: MovingClock) -> None:
    """Never again, People: no scheduled job ever ran, no clock was started, and nobody saw. ADMIN-12."""
    jobs = {job.name: job for job in (Job("a", Every(15), Work()), Job("b", Daily(9), Work()))}
    with one.app_context():
        assert stale_names(jobs) == ["a", "b"], "never seen: nobody has started a scheduler yet"
        timetable.watch(list(jobs.values()))
        assert told(events.JOB_STALE) == [], "of a portal just installed nobody is told"
        for job in jobs.values():
            look(job)
        for _ in range(2):
            time.on(timetable.STALE_AFTER.total_seconds() + 15)
            assert stale_names(jobs) == []
            time.on(1)
            assert stale_names(jobs) == ["a"]
            for _ in range(5):
                timetable.watch(list(jobs.values()))
                time.on(60)
            look(jobs["a"])
            assert stale_names(jobs) == []
        outages = told(events.JOB_STALE)
        assert [event.facts["job"] for event in outages] == ["a", "a"]
        assert outages[0].facts["since"] < outages[1].facts["since"]
        time.on(24 * HOUR)
        timetable.watch(list(jobs.values()))
        assert [event.facts["job"] for event in told(events.JOB_STALE)[2:]].count("b") == 1


def test_a_job_that_kills_its_worker_each_time_is_told_of(one: Flask, time: MovingClock) -> None:
    """It is never seen to fail, since nobody lives to write it; that it does not get done is what shows."""
    work = Work()
    work.error = Killed()
    job = Job("deadly", Every(15), work)
    with one.app_context():
        for _ in range(60):  # a quarter of an hour
            try:
                look(job)
            except Killed:
                db.session.remove()
            timetable.watch([job])
            time.on(15)
        assert [event.facts["reason"] for event in told(events.JOB_STALE)] == [timetable.DIED]
        work.error = None
        time.on(60)
        assert look(job) is True
        assert (row("deadly").error, row("deadly").failures) == ("", 0)


@pytest.mark.parametrize("when", [Every(15), Daily(9)], ids=["every", "daily"])
def test_a_clock_that_was_wrong_does_not_stop_the_timetable(one: Flask, time: MovingClock, when: Every | Daily) -> None:
    """A machine that came up a year ahead wrote down when to run next; put right, it would have waited that year,
    and nothing would have been stale."""
    work = Work()
    job = Job("whenever", when, work)
    with one.app_context():
        right = time.now
        time.on(365 * 24 * HOUR)
        look(job)
        time.on(24 * HOUR)
        assert look(job) is True
        time.now = right
        ran = len(work.at)
        for _ in range(49):
            look(job)
            time.on(HOUR)
        assert len(work.at) - ran == (49 if isinstance(when, Every) else 3)


def test_the_timetable_itself() -> None:
    """Names are once and fit their column; a worker's limit leaves every job the time of its lease or more."""
    names = [job.name for job in schedule.TIMETABLE]
    assert len(set(names)) == len(names) == len(schedule.JOBS)
    assert schedule.WATCH not in names
    assert all(len(name) <= 60 for name in names)
    assert all(callable(job.does) for job in schedule.TIMETABLE)
    assert queue.TASKS["run job"].timeout >= max(job.when.lease.total_seconds() for job in schedule.TIMETABLE)
    at = {job.name: (job.when.hour, job.when.minute) for job in schedule.TIMETABLE if isinstance(job.when, Daily)}
    assert at["remind of expiry"] == (9, 0)
    assert at["daily summary"] == (8, 0)


def test_the_tests_put_the_zone_back() -> None:
    """Whatever runs after them must not be in New York."""
    assert os.environ.get("TZ") != "America/New_York"
    assert "EST" not in machine.tzname
