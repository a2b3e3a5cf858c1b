"""The line of one worker that can't reach the store: the same rules, by its own share of each server's slots.

The share is the slots over the gateway processes that lived when the store was last there, at least one: rather a
request too many at a server, which lets it wait, than a worker that refuses everybody. It ends with the outage.
"""

import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portal.services.routing.line import Place


class Alone:
    """places: all of this worker's requests, those that got their slots from the store included."""

    def __init__(self, places: "dict[str, Place]", length: int) -> None:
        self._places, self._length = places, length
        self.processes = 1
        """How many gateway processes share the servers."""
        self._waiting: list[tuple[int, str, Place]] = []
        self._faults: dict[str, int] = defaultdict(int)
        self._rests: dict[str, float] = {}
        """Server → until when (monotonic)."""
        self._mutex = threading.RLock()

    def enter(self, place: "Place", over: int) -> tuple[str, int] | None:
        """Gives it a slot or a place; or says why not, as `line.Refused` has it."""
        with self._mutex:
            now = time.monotonic()
            rests = [max(0.0, self._rests.get(server.name, 0.0) - now) for server in place.pool.servers]
            if min(rests) > 0:
                return "rest", -(-round(min(rests) * 1000) // 1000)
            self._serve()  # a rest may have ended since: those who waited for that come first
            if self._seat(place):
                return None
            names = {server.name for server in place.pool.servers}
            waiting = [other for *_, other in self._waiting if names & {s.name for s in other.pool.servers}]
            depth = sum(self._in_flight(name) for name in names) + len(waiting)
            if 0 <= over < depth + 1:
                return "over", 0
            score = round(time.time() * 1000) - place.bonus if place.score is None else place.score
            ahead = sum((other.score or 0) <= score for other in waiting)
            if ahead >= self._length:
                return "full", 0
            place.wait(score, ahead + 1, 0)
            heapq.heappush(self._waiting, (score, place.member, place))
            return None

    def adopt(self, places: "Iterable[Place]") -> None:
        """Those who waited in the store's line when it went away. Serves whoever's turn has come meanwhile, too."""
        with self._mutex:
            known = {member for _, member, _ in self._waiting}
            for place in places:
                if not place.server and place.member not in known:
                    heapq.heappush(self._waiting, (place.score or 0, place.member, place))
            self._serve()

    def left(self, place: "Place", verdict: str, rest_seconds: int, most_faults: int) -> int:
        """A slot came free. most_faults: so many in a row make its server rest. Returns for how many seconds, or 0."""
        with self._mutex:
            rest = self._judge(place.server, verdict, rest_seconds, most_faults)
            self._serve()
            return rest

    def step_out(self, place: "Place") -> None:
        if self._waiting:
            with self._mutex:
                self._waiting = [entry for entry in self._waiting if entry[2] is not place]
                heapq.heapify(self._waiting)

    def clear(self) -> None:
        """The store is back: whoever waits here waits there from now on."""
        with self._mutex:
            self._waiting.clear()
            self._faults.clear()
            self._rests.clear()

    def _serve(self) -> None:
        """Give what is free to those who wait, the first first."""
        still = []
        while self._waiting:
            entry = heapq.heappop(self._waiting)
            if not self._seat(entry[2]):
                still.append(entry)
        self._waiting = still  # what was popped in order is a heap

    def _seat(self, place: "Place") -> bool:
        """Give it the least-loaded server's slot, if there is one."""
        now, best, least = time.monotonic(), "", 0.0
        for server in place.pool.servers:
            if self._rests.get(server.name, 0.0) > now:
                continue
            busy, share = self._in_flight(server.name), max(1, server.slots // self.processes)
            load = busy / (share * server.weight)
            if busy < share and (not best or load < least):
                best, least = server.name, load
        if best:
            place.take(best, False)
        return bool(best)

    def _in_flight(self, server: str) -> int:
        return sum(place.server == server for place in list(self._places.values()))

    def _judge(self, server: str, verdict: str, rest_seconds: int, most_faults: int) -> int:
        if verdict == "ok":
            self._faults.pop(server, None)
            return 0
        if verdict != "fault":
            return 0
        self._faults[server] += 1
        if self._faults[server] < most_faults:
            return 0
        self._faults.pop(server)
        self._rests[server] = time.monotonic() + rest_seconds
        return rest_seconds
