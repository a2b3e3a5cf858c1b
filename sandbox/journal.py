"""What an outside received, kept so that tests can look at it afterwards.

A stand-in that only answers proves half of a client. This book says what reached the wire: headers, body, when the
client left, when we noticed, how much had been sent by then. It is shared by all outsides and knows none of them.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .wire import Exchange

KEEP = 5000


@dataclass
class Entry:
    """One request, filled in while it is served. Instants are `time.time()` seconds, `*_ms` count from the arrival."""

    number: int
    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    model: str | None = None
    native: dict[str, Any] | None = None  # the request as Ollama's own API would have it, after /v1's translation
    status: int | None = None
    outcome: str = "running"
    fault: str | None = None
    deltas_sent: int = 0
    bytes_sent: int = 0
    waited_ms: float | None = None  # load queue + slot
    load_ms: float | None = None
    first_byte_ms: float | None = None
    finished_ms: float | None = None
    client_left: bool = False
    client_left_at: float | None = None
    client_left_ms: float | None = None
    stopped_ms: float | None = None  # when the generation stopped because of it
    stop_lag_ms: float | None = None  # stopped_ms - client_left_ms
    usage: dict[str, Any] | None = None
    in_flight: bool = False  # counted among the calls that a client waits for
    notes: dict[str, Any] = field(default_factory=dict)

    def since(self, instant: float) -> float:
        return round((instant - self.at) * 1000, 3)

    def close(self, exchange: Exchange) -> None:
        """Copy the last facts from the wire."""
        now = time.time()
        self.status = exchange.status
        self.bytes_sent = exchange.bytes_sent
        self.finished_ms = self.since(now)
        if exchange.first_byte_at is not None:
            self.first_byte_ms = self.since(exchange.first_byte_at)
        if exchange.peer.left_at is not None and self.outcome != "done":
            self.client_left = True
            self.client_left_at = exchange.peer.left_at
            self.client_left_ms = self.since(exchange.peer.left_at)
            if self.stopped_ms is None:
                self.stopped_ms = self.finished_ms
            self.stop_lag_ms = round(self.stopped_ms - self.client_left_ms, 3)


class Journal:
    """The last `KEEP` requests and a few counters.

    A call is in flight from its arrival until just before its last byte, or until its client is seen to leave: as its
    client sees it. Counted to our own end of the work, one client that asks, reads and asks again counted as two.
    Requests that are no calls (lists, probes) take no slot and are not in flight.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._entries: deque[Entry] = deque(maxlen=KEEP)
        self.in_flight = 0
        self.counters: dict[str, int] = {}
        self.clear()

    def clear(self) -> None:
        """Forget what is finished; running requests stay counted as in flight."""
        self._entries.clear()
        self.counters = {
            "requests": 0, "calls": 0, "max_in_flight": self.in_flight,
            "client_left": 0, "completed": 0, "errors": 0, "faults": 0,
        }  # fmt: skip

    def open(self, exchange: Exchange, path: str, *, call: bool = True) -> Entry:
        """Write the request down. call: whether it asks a model for an answer."""
        request = exchange.request
        entry = Entry(next(self._numbers), request.arrived, request.method, path, dict(request.headers))
        self._entries.append(entry)
        self.counters["requests"] += 1
        if call:
            entry.in_flight = True
            self.in_flight += 1
            self.counters["calls"] += 1
            self.counters["max_in_flight"] = max(self.counters["max_in_flight"], self.in_flight)
        return entry

    def over(self, entry: Entry) -> None:
        """Nobody waits for it any more. Safe to call twice."""
        if entry.in_flight:
            entry.in_flight = False
            self.in_flight -= 1

    def close(self, entry: Entry, exchange: Exchange) -> None:
        self.over(entry)
        entry.close(exchange)
        if entry.client_left:
            self.counters["client_left"] += 1
        if entry.fault:
            self.counters["faults"] += 1
        if entry.outcome == "done":
            self.counters["completed"] += 1
        elif (entry.status or 0) >= 400:
            self.counters["errors"] += 1

    def entries(self, model: str | None = None, path: str | None = None, last: int | None = None) -> list[Entry]:
        """Oldest first, optionally only those of one model or of one path."""
        found = [e for e in self._entries if model in (None, e.model) and path in (None, e.path)]
        return found[-last:] if last else found
