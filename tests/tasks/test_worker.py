"""Real workers that die: what they were at is done again, its effect is single, and nothing goes round for ever."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dev.children import Child
from portal.clock import utcnow
from portal.extensions import db
from portal.models import Event
from portal.services import events, runs, work
from portal.services.runs import TRIES
from portal.tasks.graph import GRAPH
from tests.fail2ban.waiting import eventually
from tests.runs.rows import Rows
from tests.services import database_clock
from tests.services.portal_app import MakeApp
from tests.tasks.processes import Clockwork

WAIT = max(runs.PAUSES) + runs.LEASE_SECONDS + work.HANDED.total_seconds() + 1
"""Seconds after which whatever was tried or left is due again."""


class Script:
    """The workers of a script, and the clock that they and this process go by."""

    def __init__(self, clockwork: Clockwork, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.clockwork, self.folder, self._ahead = clockwork, folder, 0.0
        folder.mkdir()
        (folder / "ahead").write_text("0")
        clockwork.environ["SCRIPT"] = str(folder)
        self.rows = Rows(clockwork.app)
        patch.setattr("portal.clock.utcnow", self._now)
        database_clock.follow(patch, self._now)

    def _now(self) -> dt.datetime:
        return utcnow() + dt.timedelta(seconds=self._ahead)

    def worker(self) -> Child:
        return self.clockwork.worker("tests.tasks.scripted_worker.ScriptedWorker")

    def happens(self, kind: str, **facts: str | int) -> str:
        """An event, and its commit. Returns its id."""
        with self.clockwork.app.app_context():
            assert events.record(db.session, kind, "once", **facts)
            db.session.commit()
            return str(db.session.scalars(sa.select(Event.id).where(Event.kind == kind)).one())

    def later(self) -> None:
        """All waiting is over, and the sweep comes."""
        self._ahead += WAIT
        new = self.folder / "new"
        new.write_text(str(self._ahead))
        new.rename(self.folder / "ahead")
        self.rows.call(runs.sweep, GRAPH)


@pytest.fixture
def script(
    make_app: MakeApp, sqlite_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Script]:
    clockwork = Clockwork(make_app(sqlite_url), redis_url, tmp_path)
    yield Script(clockwork, tmp_path / "script", monkeypatch)
    clockwork.end()


def test_a_step_that_kills_its_process_is_given_up_and_the_worker_lives(script: Script) -> None:
    """Retried like any failure, in the end dead and told to staff once; other work is done all the while."""
    rows, worker = script.rows, script.worker()
    run = script.happens(events.PROVIDER_DOWN, provider="ollama-1", reason="failing", seconds=60)
    (script.folder / "begun").touch()  # the other step has nothing to wait for
    for tries in range(1, TRIES + 1):
        eventually(lambda: rows.states(run), "its steps are there", 60)
        deadly = rows.ids(run)["deadly"]
        eventually(lambda step=deadly, n=tries: rows.step(step).attempts == n, f"try {tries}", 60)  # type: ignore[misc]
        script.later()
    eventually(lambda: rows.states(run) == {"deadly": "dead", "after": "blocked"}, "given up")
    assert rows.step(deadly).error.startswith("WorkerDied")
    assert [kind for kind, _ in rows.told()] == ["step_dead"]
    other = script.happens(events.PROVIDER_UP, provider="ollama-1", seconds=60)
    eventually(lambda: rows.states(other) == {"slow": "done"}, "the worker goes on")
    assert worker.running
    attempts = rows.step(deadly).attempts
    script.later()
    assert rows.step(deadly).attempts == attempts


def test_what_a_killed_worker_was_at_is_done_again_and_has_one_effect(script: Script) -> None:
    """`kill -9` in the middle, after the effect and before it was written that it was done: staff are told once."""
    rows, worker = script.rows, script.worker()
    run = script.happens(events.PROVIDER_UP, provider="ollama-1", seconds=60)
    eventually((script.folder / "begun").exists, "it is in the middle", 60)
    script.clockwork.kill(worker)
    assert rows.states(run) == {"slow": "running"}
    assert len(rows.told()) == 1
    script.worker()
    assert rows.call(runs.sweep, GRAPH) == 0, "its lease has not ended"
    script.later()
    eventually(lambda: rows.states(run) == {"slow": "done"}, "it is done by another worker", 60)
    slow = rows.step(rows.ids(run)["slow"])
    assert (slow.attempts, slow.result, slow.error) == (2, {"told": False}, "")
    assert [kind for kind, _ in rows.told()] == [events.PROVIDER_UP]
    assert rows.found(run).state == "done"
