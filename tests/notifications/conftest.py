"""Fixtures of the messages' tests: a clock to turn, and a queue that only notes what it is given."""

import pytest

from tests.notifications.outside import Clock, Queued


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
