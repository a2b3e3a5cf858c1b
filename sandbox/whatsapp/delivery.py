"""How a message moves: sent, delivered, read, or failed, each step in its own time.

One greenlet and one heap for all of them, so that ten thousand messages are ten thousand entries and not as many
timers. It knows nothing of HTTP; who wants to hear of a step gives `moved`.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

import gevent
from gevent.event import Event

from .book import DELIVERED, FAILED, READ, SENT, Message

FAIR = 50  # steps after which others have their turn


class Delivery:
    """The way from the service to the phones. `online()` says whether the sending number is connected."""

    def __init__(
        self, online: Callable[[], bool], moved: Callable[[Message, str], None], last_status: Callable[[], str]
    ) -> None:
        self._online, self._moved, self._last_status = online, moved, last_status
        self._due: list[tuple[float, int, str, Message]] = []
        self._order = itertools.count()
        self._held: list[Message] = []
        self._woken = Event()
        self._greenlet: gevent.Greenlet | None = None

    def take(self, message: Message) -> None:
        """From now on the message moves by itself."""
        self._plan(message.deliver_at, SENT, message)

    def connected(self) -> None:
        """The number may be online again: what waited for it goes out in the order it came."""
        held, self._held = self._held, []
        for message in held:
            self._plan(time.time(), SENT, message)

    def waiting(self) -> int:
        """Messages that wait for the number to be online."""
        return len(self._held)

    def stop(self) -> None:
        """Forget everything on its way."""
        self._due.clear()
        self._held.clear()
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def _plan(self, instant: float, step: str, message: Message) -> None:
        heapq.heappush(self._due, (instant, next(self._order), step, message))
        self._woken.set()
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            for _ in range(FAIR):
                if not self._due or self._due[0][0] > time.time():
                    break
                _, _, step, message = heapq.heappop(self._due)
                self._step(step, message)
            gevent.sleep(0)
            self._woken.clear()
            soon = self._due[0][0] - time.time() if self._due else None
            if soon is None or soon > 0:
                self._woken.wait(soon)

    def _step(self, step: str, message: Message) -> None:
        now = time.time()
        if step == SENT and not self._online():
            self._held.append(message)
            return
        if step == SENT and message.fail_with is not None:
            step, message.status, message.failure_reason = FAILED, FAILED, message.fail_with
        elif step == SENT:
            message.status, message.sent_at = self._last_status(), now
            if message.deliver_ms is not None:
                self._plan(now + message.deliver_ms / 1000, DELIVERED, message)
        elif step == DELIVERED:
            message.delivered_at = now
            if message.read_ms is not None:
                self._plan(now + message.read_ms / 1000, READ, message)
        else:
            message.read_at = now
        message.delivery = step
        self._moved(message, step)
