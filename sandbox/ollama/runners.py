"""Queueing as Ollama does it: one load at a time with a bounded queue, then an unbounded wait for a slot.

The queue limit guards only the way to a load; a request for a loaded model waits for its slot without limit, so
overload shows as latency and hardly ever as 503. No API of Ollama tells these figures; `GET __control` does, for tests
only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event

from .catalogue import Model
from .knobs import Knobs

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class ServerBusy(Exception):
    """The load queue is full."""


class LeftWhileWaiting(Exception):
    """The client went away before its turn."""


def wait_any(seconds: float | None, *events: Any) -> bool:
    """Wait until one of the events is set; False when the time ran out first."""
    return bool(gevent.wait(events, timeout=seconds, count=1))


class Runner:
    """One model's slots."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.loaded = False
        self.running = 0
        self.max_running = 0
        self.waiting: deque[Event] = deque()
        self.expires_at = 0.0
        self.last_used = 0.0

    def idle(self) -> bool:
        return not self.running and not self.waiting

    def figures(self) -> dict[str, Any]:
        return {
            "loaded": self.loaded,
            "running": self.running,
            "waiting": len(self.waiting),
            "max_running": self.max_running,
        }


class Runners:
    """All runners of one server and the scheduler in front of them."""

    def __init__(self) -> None:
        self.all: dict[str, Runner] = {}
        self._load_line: deque[Event] = deque()
        self._loading = False
        self._changed = Event()

    def of(self, model: Model) -> Runner:
        return self.all.setdefault(model.name, Runner(model))

    def loaded(self) -> list[Runner]:
        """Models in memory; those whose keep_alive has passed while idle are dropped here."""
        now = time.time()
        for runner in self.all.values():
            if runner.loaded and runner.idle() and runner.expires_at <= now:
                runner.loaded = False
        return [runner for runner in self.all.values() if runner.loaded]

    def unload(self, name: str | None = None) -> None:
        for runner in self.all.values():
            if name in (None, runner.model.name):
                runner.loaded = False

    def reset_figures(self) -> None:
        for runner in self.all.values():
            runner.max_running = runner.running

    def ensure_loaded(self, model: Model, knobs: Knobs, left: Any) -> float:
        """Wait for the model to be in memory; returns the milliseconds it took. Raises ServerBusy, LeftWhileWaiting."""
        self.loaded()
        runner = self.of(model)
        if runner.loaded:
            return 0.0
        if knobs.load_ms == 0 and knobs.max_loaded == 0 and not self._loading:
            self._mark_loaded(runner, knobs)
            return 0.0
        started = time.time()
        if self._loading and len(self._load_line) >= knobs.max_queue:
            raise ServerBusy
        if self._loading:
            turn = Event()
            self._load_line.append(turn)
            wait_any(None, turn, left)
            if not turn.is_set():
                self._load_line.remove(turn)
                raise LeftWhileWaiting
        self._loading = True
        try:
            if not runner.loaded:
                self._make_room(knobs, left)
                # A load goes on when its client leaves: the next one profits. The one who left does not wait for it.
                if left.wait(knobs.load_ms / 1000) or left.is_set():
                    raise LeftWhileWaiting
                self._mark_loaded(runner, knobs)
        finally:
            self._loading = False
            if self._load_line:
                self._loading = True
                self._load_line.popleft().set()
        return (time.time() - started) * 1000

    def _make_room(self, knobs: Knobs, left: Any) -> None:
        while knobs.max_loaded and len(self.loaded()) >= knobs.max_loaded:
            idle = sorted((r for r in self.loaded() if r.idle()), key=lambda r: r.last_used)
            if idle:
                idle[0].loaded = False
                continue
            self._changed.clear()
            wait_any(None, self._changed, left)
            if left.is_set():
                raise LeftWhileWaiting

    def _mark_loaded(self, runner: Runner, knobs: Knobs) -> None:
        runner.loaded = True
        runner.last_used = time.time()
        runner.expires_at = time.time() + knobs.keep_alive_ms / 1000

    @contextmanager
    def slot(self, model: Model, knobs: Knobs, left: Any, keep_alive_s: float | None = None) -> Iterator[None]:
        """One of the model's slots, first come first served, without a limit on who waits."""
        runner = self.of(model)
        if runner.running >= knobs.slots or runner.waiting:
            turn = Event()
            runner.waiting.append(turn)
            wait_any(None, turn, left)
            if not turn.is_set():
                runner.waiting.remove(turn)
                raise LeftWhileWaiting
        else:
            runner.running += 1
        runner.max_running = max(runner.max_running, runner.running)
        try:
            yield
        finally:
            runner.last_used = time.time()
            runner.expires_at = time.time() + (knobs.keep_alive_ms / 1000 if keep_alive_s is None else keep_alive_s)
            if runner.waiting:
                runner.waiting.popleft().set()  # the slot goes from hand to hand
            else:
                runner.running -= 1
                if keep_alive_s == 0:
                    runner.loaded = False
            self._changed.set()
