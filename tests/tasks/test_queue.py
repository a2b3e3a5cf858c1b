"""Handing work over: with the commit or not at all, whatever the store does, and nothing but ids in it."""

import logging

import pytest
import sqlalchemy as sa
from flask import Flask
from rq import Queue, Worker
from rq.job import Job
from rq.utils import import_attribute

from portal import clock, queue, store
from portal.extensions import db
from portal.models import Notification
from portal.services import notifications, work
from portal.services.notifications import delivery
from tests.services.portal_app import MakeApp
from tests.services.redis_server import RedisServer


@pytest.fixture
def portal(make_app: MakeApp, sqlite_url: str) -> Flask:
    """Without a sandbox: nothing here speaks to the outside."""
    return make_app(sqlite_url, ADMIN_PHONES="+96550009999")


@pytest.fixture
def everywhere(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases in turn: savepoints are theirs."""
    return make_app(database_url)


def jobs() -> list[Job]:
    """What the workers would find, queue by queue, in the order it would be done."""
    return [job for name in queue.QUEUES for job in Queue(name, connection=store.client()).jobs]


def sent() -> list[str]:
    """The first id of each."""
    return [job.args[0] for job in jobs()]


@pytest.mark.parametrize("name", queue.TASKS)
def test_every_name_that_work_is_handed_over_by_is_a_function(name: str) -> None:
    """OPS-05: a name that nothing answers to would be seen by the customer who hears nothing."""
    task = queue.TASKS[name]
    assert callable(import_attribute(f"portal.tasks.{task.function}"))
    assert task.queue in queue.QUEUES
    assert 30 <= task.timeout <= 3600


def test_a_name_nobody_knows_is_refused_where_it_is_written(portal: Flask) -> None:
    """OPS-05: at the call, not in a worker's log."""
    with portal.app_context():
        for call in (lambda: queue.enqueue("delivr", "x"), lambda: queue.enqueue_now("delivr", [["x"]])):
            with pytest.raises(KeyError):
                call()


def test_work_is_handed_over_by_the_commit_and_not_before(everywhere: Flask) -> None:
    """Never again, People: the job ran before its row was there, found nothing, and nothing was ever sent."""
    with everywhere.app_context():
        queue.enqueue("unfold", "a")
        assert sent() == []
        db.session.execute(sa.text("SELECT 1"))
        db.session.flush()
        assert sent() == []
        db.session.commit()
        assert sent() == ["a"]
        db.session.commit()
        assert sent() == ["a"]


@pytest.mark.parametrize("ending", ["rollback", "remove", "close", "context"])
def test_what_did_not_last_is_not_handed_over(everywhere: Flask, ending: str) -> None:
    """OPS-05: however the transaction ends but by a commit; and the next one does not inherit it."""
    with everywhere.app_context():
        queue.enqueue("unfold", "never")
        if ending != "context":
            getattr(db.session, ending)()
    with everywhere.app_context():
        queue.enqueue("unfold", "next")
        db.session.commit()
        assert sent() == ["next"]


def test_a_savepoint_decides_over_what_is_its_own(everywhere: Flask) -> None:
    """OPS-05: rolled back to, its work is dropped and that around it stays; released, it waits for the commit."""
    with everywhere.app_context():
        queue.enqueue("unfold", "before")
        with pytest.raises(LookupError), db.session.begin_nested():
            queue.enqueue("unfold", "dropped")
            raise LookupError
        with db.session.begin_nested():
            queue.enqueue("unfold", "released")
        assert sent() == []
        queue.enqueue("unfold", "after")
        db.session.commit()
        assert sent() == ["before", "released", "after"]


def test_a_savepoint_that_was_released_is_undone_by_the_one_around_it(everywhere: Flask) -> None:
    """OPS-05: what happened in it is gone with the outer savepoint, and so is its work."""
    with everywhere.app_context():
        with pytest.raises(LookupError), db.session.begin_nested():
            with db.session.begin_nested():
                queue.enqueue("unfold", "undone")
            raise LookupError
        with db.session.begin_nested(), db.session.begin_nested():
            queue.enqueue("unfold", "kept")
        db.session.commit()
        assert sent() == ["kept"]


def test_a_failed_flush_in_a_savepoint_drops_its_work_and_no_more(everywhere: Flask) -> None:
    """OPS-05: a refused row is the usual way for a savepoint to end."""
    with everywhere.app_context():
        queue.enqueue("unfold", "kept")
        with pytest.raises(sa.exc.DBAPIError), db.session.begin_nested():
            queue.enqueue("unfold", "dropped")
            db.session.add(Notification(recipient="x", kind="k", occasion="o", facts={}, language="xx"))
            db.session.flush()
        db.session.commit()
        assert sent() == ["kept"]


def test_a_store_that_is_away_is_nobody_s_error_and_the_sweep_sends_it_later(
    portal: Flask, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OPS-05, NOTIF-01: the row is committed; the queue only wakes."""
    caplog.set_level(logging.WARNING, "portal.queue")
    with portal.app_context():
        redis_server.stop()
        assert notifications.notify_staff("provider_up", "once", provider="ollama-1", seconds=5)
        db.session.commit()
        assert queue.enqueue_now("unfold", [["x"]]) is False
        assert "store away" in caplog.text
        redis_server.start()
        assert jobs() == []
        assert delivery.sweep() == 0, "it is believed to be in the queue for as long as HANDED"
        later = clock.utcnow() + work.HANDED
        monkeypatch.setattr("portal.clock.utcnow", lambda: later)
        assert delivery.sweep() == 1
        assert len(jobs()) == 1


def test_what_lies_in_the_store_is_a_name_and_ids(portal: Flask) -> None:
    """Never again, People: secrets where nobody looked. The store is no place for numbers, texts or codes."""
    with portal.app_context():
        notifications.notify_staff("provider_up", "once", provider="canary-provider", seconds=5)
        db.session.commit()
        (job,) = jobs()
        assert (job.func_name, job.kwargs) == ("portal.tasks.notifications.deliver", {})
        assert all(isinstance(one, str) and one.isalnum() and len(one) <= 36 for one in job.args)
        everything = [(key, store.client().hgetall(key)) for key in store.client().scan_iter("rq:job:*")]
        assert len(everything) == 1
        assert "canary" not in str(everything)
        assert "50009999" not in str(everything)


def test_a_job_that_nobody_takes_does_not_stay_in_the_store(portal: Flask) -> None:
    """OPS-01: where cron's `tick` is all there is, every message left a job behind, until the store was full."""
    with portal.app_context():
        queue.enqueue_now("deliver", [["x"]])
        queue.enqueue_now("deliver code", [["y"]])
        keys = list(store.client().scan_iter("rq:job:*"))
        assert len(keys) == 2
        assert all(0 < store.client().ttl(key) <= queue.WAITS_SECONDS for key in keys)
        serving = Worker([queue.URGENT], connection=store.client())
        serving.register_birth()  # type: ignore[no-untyped-call]
        assert queue.empty_unserved() == 0, "a worker lives: it is left to it"
        assert len(jobs()) == 2
        serving.register_death()  # type: ignore[no-untyped-call]
        store.client().sadd("rq:workers", "rq:worker:killed-and-never-heard-of-again")
        assert queue.empty_unserved() == 2
        assert queue.waiting() == dict.fromkeys(queue.QUEUES, 0)
        assert not list(store.client().scan_iter("rq:job:*"))


def test_without_a_store_there_is_nothing_to_empty(portal: Flask, redis_server: RedisServer) -> None:
    """OPS-01: `tick` needs none."""
    with portal.app_context():
        redis_server.stop()
        assert queue.empty_unserved() == 0
        redis_server.start()


def test_urgent_work_is_done_before_the_rest(portal: Flask) -> None:
    """AUTH-04: somebody sits before the form and waits for their code. CRD-01: sweeps and settlements never stand
    behind messages, which a slow carrier keeps for hours."""
    with portal.app_context():
        for name in ("deliver", "run job", "unfold", "deliver code"):
            queue.enqueue_now(name, [[name]])
        assert queue.waiting() == {"urgent": 1, "default": 2, "low": 1}
        assert sent() == ["deliver code", "run job", "unfold", "deliver"]
