"""Queueing as Ollama does it: one load at a time with a bounded queue, then an unbounded wait for a slot.

The queue limit guards only the way to a load; a request for a loaded model waits for its slot without limit, so
overload shows as latency and hardly ever as 503. No API of Ollama tells these figures; `GET __control` does, for tests
only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event

from .catalogue import Model
from .knobs import Knobs

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class ServerBusy(Exception):
    """The load queue is full."""


class SlotTimeout(Exception):
    """The wait for a slot was longer than `slot_wait_ms`."""


class LeftWhileWaiting(Exception):
    """The client went away before its turn."""


def wait_any(seconds: float | None, *events: Any) -> bool:
    """Wait until one of the events is set; False when the time ran out first."""
    return bool(gevent.wait(events, timeout=seconds, count=1))


class Slot:
    """A slot that is taken. It is given back before the last byte of the answer leaves; `release` may come twice."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Waiter:
    """One request in line for a slot."""

    def __init__(self, runner: Runner, knobs: Knobs) -> None:
        self.runner, self.knobs = runner, knobs
        self.turn = Event()


class Runner:
    """One model's slots."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.loaded = False
        self.running = 0
        self.max_running = 0
        self.waiting: deque[Waiter] = deque()
        self.expires_at = 0.0
        self.last_used = 0.0
        self.asked_num_ctx: object = None  # what the request that loaded it wanted

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
        self.running = 0  # of all models together
        self.max_running = 0
        self._slot_line: list[Waiter] = []
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
        self.max_running = self.running
        for runner in self.all.values():
            runner.max_running = runner.running

    def figures(self) -> dict[str, int]:
        """The whole server, all models together."""
        return {"running": self.running, "waiting": len(self._slot_line), "max_running": self.max_running}

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
    def slot(self, model: Model, knobs: Knobs, left: Any, keep_alive_s: float | None = None) -> Iterator[Slot]:
        """One of the model's slots, and one of the server's where it has a number of its own; first come first served.

        Raises LeftWhileWaiting, and SlotTimeout where the knobs limit the wait.
        """
        runner = self.of(model)
        if runner.waiting or not self._free(runner, knobs):
            self._wait_in_line(Waiter(runner, knobs), left)
        else:
            self._take(runner)
        slot = Slot(
            lambda: self._give_back(runner, knobs.keep_alive_ms / 1000 if keep_alive_s is None else keep_alive_s)
        )
        try:
            yield slot
        finally:
            slot.release()

    def _free(self, runner: Runner, knobs: Knobs) -> bool:
        return runner.running < knobs.slots and (not knobs.server_slots or self.running < knobs.server_slots)

    def _take(self, runner: Runner) -> None:
        runner.running += 1
        self.running += 1
        runner.max_running = max(runner.max_running, runner.running)
        self.max_running = max(self.max_running, self.running)

    def _wait_in_line(self, waiter: Waiter, left: Any) -> None:
        waiter.runner.waiting.append(waiter)
        self._slot_line.append(waiter)
        wait_any(waiter.knobs.slot_wait_ms / 1000 or None, waiter.turn, left)
        if waiter.turn.is_set():  # whoever called us has taken the slot for us
            return
        self._leave_line(waiter)
        raise LeftWhileWaiting if left.is_set() else SlotTimeout

    def _leave_line(self, waiter: Waiter) -> None:
        waiter.runner.waiting.remove(waiter)
        self._slot_line.remove(waiter)

    def _give_back(self, runner: Runner, keep_alive_s: float) -> None:
        runner.running -= 1
        self.running -= 1
        runner.last_used = time.time()
        runner.expires_at = time.time() + keep_alive_s
        self._call_next()
        if keep_alive_s == 0 and runner.idle():
            runner.loaded = False
        self._changed.set()

    def _call_next(self) -> None:
        """Everybody in line whose slot is free now, in order; nobody overtakes on the way to the same model."""
        full: set[str] = set()
        for waiter in list(self._slot_line):
            name = waiter.runner.model.name
            if name not in full and self._free(waiter.runner, waiter.knobs):
                self._leave_line(waiter)
                self._take(waiter.runner)
                waiter.turn.set()
            else:
                full.add(name)
