"""Fixtures of the messages' tests: a clock to turn, and a queue that only notes what it is given."""

import datetime as dt

import pytest

from portal.providers.messaging import resayil
from sandbox.process import SandboxProcess
from tests.notifications.outside import WHATSAPP, Clock, Queued
from tests.notifications.sending import Office
from tests.services.portal_app import MakeApp


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Noon in Kuwait, and it stands still."""
    return Clock(monkeypatch)


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Queued:
    """What the queue would have been given."""
    seen = Queued()
    monkeypatch.setattr("portal.queue.enqueue_now", seen.note)
    return seen


@pytest.fixture
def office(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Office:
    """It sends to the sandbox, and its clock is the sandbox's until it is turned."""
    monkeypatch.setattr(resayil, "READ_SECONDS", 0.3)
    clock.now = dt.datetime.now(dt.UTC)
    return Office(make_app(sqlite_url, RESAYIL_API_URL=sandbox.whatsapp_url, **WHATSAPP), sandbox, clock)
