"""Telling the merchant's server: posts in order, patient retries, and the log that GetWebhooks reads.

It knows events only as something with a body and headers; `events.py` makes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import gevent

from sandbox.posting import post

from . import times
from .events import Event
from .knobs import Board, Knobs


class Webhooks:
    """What happened, newest last, and what is still on its way."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._working: set[gevent.Greenlet] = set()
        self._start()

    def _start(self) -> None:
        self.log: list[Event] = []
        self.counters = {"webhook_posts": 0, "webhook_refused": 0, "webhook_given_up": 0, "webhook_pending": 0}

    def reset(self) -> None:
        """Nothing has happened, nothing is on its way: it belonged to a test that is over."""
        for greenlet in list(self._working):
            greenlet.kill(block=False)
        self._start()

    def record(self, events: Sequence[Event]) -> None:
        """They happened. Nobody is told by this."""
        self.log += events

    def deliver(self, events: Sequence[Event]) -> list[int | None]:
        """Post each, in order, and wait for the answers; what is refused is tried again later. The statuses."""
        self.counters["webhook_pending"] += sum(one.copies for one in events)
        return [self._attempt(one, 1) for one in events for _ in range(one.copies)]

    def deliver_soon(self, events: Sequence[Event], after_ms: float = 0) -> None:
        """The same, without waiting."""
        self._spawn(after_ms, self.deliver, events)

    def _spawn(self, after_ms: float, work: Callable[..., object], *given: object) -> None:
        greenlet = gevent.spawn_later(after_ms / 1000, work, *given)
        self._working.add(greenlet)
        greenlet.link(self._working.discard)

    def _attempt(self, one: Event, tries: int) -> int | None:
        knobs: Knobs = self._board.now
        counters = self.counters  # of this life: a reset meanwhile begins another
        one.status = "Running"
        began, at = self._board.time(), time.time()
        status, error = post(one.url, one.raw, one.headers, knobs.webhook_timeout_ms)
        good = status is not None and 200 <= status < 300
        one.attempts.append({
            "Date": times.utc(began), "Status": "Succeeded" if good else "Failed",
            "ResponseMessage": error or f"HTTP {status}", "Duration": round(time.time() - at, 3),
            "at": at, "status": status, "error": error, "ms": round((time.time() - at) * 1000, 3),
        })  # fmt: skip
        counters["webhook_posts"] += 1
        if good:
            one.status = "Succeeded"
            counters["webhook_pending"] -= 1
            return status
        counters["webhook_refused"] += 1
        if tries >= knobs.webhook_tries:
            one.status = "Failed"
            counters["webhook_given_up"] += 1
            counters["webhook_pending"] -= 1
        else:
            one.status = "Waiting"
            self._spawn(knobs.webhook_gap_ms, self._attempt, one, tries + 1)
        return status
