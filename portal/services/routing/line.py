"""Slots of servers and places in line, as one worker sees them: what it has, what it waits for, and the store's word.

The store decides (`scripts`); this side keeps its leases and places alive every few seconds, hears of slots that were
given to those who wait, and goes on by itself (`alone`) while the store is away. Knows nothing of models and credit.
"""

import _thread
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import redis

from portal.pipeline import Scripts, StoreAway, Word
from portal.services.routing.alone import Alone
from portal.services.routing.scripts import ENTER, LEAVE, RENEW, STEP_OUT, WELL

log = logging.getLogger("portal.line")
LEASE_SECONDS = 10
"""So long a dead worker's slots stay taken."""
RENEW_SECONDS = 3.0
AGEING_SECONDS = 30
"""What a step of priority is worth: whoever waited longer than that is not overtaken by the step above."""
FAULTS, FAULTS_OF_ONE = 3, 10
"""In a row; then a server rests. The second: where all were requests of one account, whose prompt may be what breaks
it. Nobody rests a server for everybody else by sending the same request three times, as every SDK does."""
REST_SECONDS, LONGEST_REST_SECONDS = 5, 300
NEVER = -1


class Server(NamedTuple):
    """slots: requests it answers at once; weight: how much more one of its slots can do than another's."""

    name: str
    slots: int
    weight: int


class Pool(NamedTuple):
    """The servers that can answer a request. `words` is how the store is told of them."""

    name: str
    servers: tuple[Server, ...]
    words: tuple[Word, ...]

    @classmethod
    def of(cls, servers: tuple[Server, ...]) -> "Pool":
        ordered = tuple(sorted(servers))
        words = tuple(word for server in ordered for word in server)
        return cls(",".join(server.name for server in ordered), ordered, words)

    def without(self, names: set[str]) -> "Pool":
        return Pool.of(tuple(server for server in self.servers if server.name not in names))


class Refused(NamedTuple):
    """No slot and no place. why: `over` (deeper than asked for), `full`, or `rest` (every server is at rest).

    seconds: for `full` about until the line has moved on, for `rest` until the first server is tried again.
    """

    why: str
    seconds: int


class Place:
    """A request's slot (`server`), or its place in line until it has one. changed: set when that changes."""

    __slots__ = (
        "ahead", "asked", "bonus", "changed", "expected_ms", "member", "pool", "score", "server", "since", "trial",
    )  # fmt: skip

    def __init__(self, member: str, pool: Pool, bonus: int, score: int | None) -> None:
        self.member, self.pool, self.bonus = member, pool, bonus
        self.server = ""
        self.trial = False
        self.asked = False
        """The store has answered; until then nobody knows whether it waits."""
        self.score = score
        """In line: arrival less what its priority is worth, by the store's clock, in ms."""
        self.since = time.monotonic()
        """When it got its slot, or else its place."""
        self.ahead = 0
        """Its place in line: 1 is the next."""
        self.expected_ms = 0
        """How long it waits for its turn; 0 while nobody knows."""
        self.changed: threading.Event | None = None

    def take(self, server: str, trial: bool) -> None:
        self.server, self.trial, self.since = server, trial, time.monotonic()
        if self.changed is not None:
            self.changed.set()

    def wait(self, score: int, ahead: int, expected_ms: int) -> None:
        self.score, self.ahead, self.expected_ms = score, ahead, expected_ms
        self.changed = threading.Event()
        if self.server:  # its turn came before it was told that it waits
            self.changed.set()


class Blame(NamedTuple):
    """What is said against a server. reason: in words, for the staff. account_id: whose request it was.

    sure: no request could have caused it, so that it counts in full whoever met it.
    rest_seconds: it must rest at once, for at least so long; 0: it may fail a few times before.
    """

    reason: str
    account_id: str
    sure: bool = False
    rest_seconds: int = 0


NOBODY = Blame("", "")
Rested = Callable[[str, str, int], None]
"""(server, reason in words, seconds)"""


class Line:
    """One a process; `start` it before anybody may have to wait."""

    def __init__(
        self,
        scripts: Scripts,
        process_id: str,
        *,
        rested: Rested = lambda server, reason, seconds: None,
        recovered: Callable[[str], None] = lambda server: None,
        length: int = 100,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """rested, recovered: told when this worker's request ended or began a server's rest; must not block.

        length: how many may wait ahead of somebody for the same servers.
        """
        self._scripts, self._process_id = scripts, process_id
        self._rested, self._recovered = rested, recovered
        self._length = length
        self._lease_ms = round(lease_seconds * 1000)
        self._places: dict[str, Place] = {}
        self._alone = Alone(self._places, length)
        self._away = False
        self._stopped = threading.Event()

    # -- one request ---------------------------------------------------------------------------------------------------

    def place(self, request_id: str, pool: Pool, priority: int, *, score: int | None = None) -> Place:
        """A place to enter with. score: of the place that the request had before, which it keeps.

        It is known here before the store is asked: the word that its turn has come may overtake the store's answer.
        """
        place = Place(f"{request_id}:{self._process_id}", pool, priority * AGEING_SECONDS * 1000, score)
        self._places[place.member] = place
        return place

    def words(self, place: Place, *, over: int = NEVER) -> tuple[Word, ...]:
        """What `scripts.LINE`'s `enter` is to be told, for whoever asks together with something else (`admission`).

        over: the depth (running and waiting) beyond which the answer is Refused `over` instead of a place.
        """
        arrival = 0 if place.score is None else place.score + place.bonus
        told = (place.member, place.pool.name, place.bonus, over, self._length, self._lease_ms, arrival)
        return (*told, *place.pool.words)

    def enter(self, place: Place, *, over: int = NEVER) -> Refused | None:
        """A slot or a place in line; or why there is neither."""
        try:
            reply = self._scripts.run(ENTER, (), self.words(place, over=over))
        except StoreAway:
            return self.enter_alone(place, over=over)
        return self.entered(place, reply)

    def entered(self, place: Place, reply: list[Any]) -> Refused | None:
        """Takes the store's answer to `words`."""
        if self._away:
            self._is_back()
        word = reply[0]
        if word == b"at":
            place.take(reply[1].decode(), reply[2] == 1)
        elif word == b"wait":
            place.wait(int(reply[3]), reply[1], reply[2])
        place.asked = True  # not before: `renew` would tell the store of a place without a score
        if word in (b"at", b"wait"):
            return None
        self._places.pop(place.member, None)
        seconds = {b"rest": 1, b"full": 2}.get(word, 0)
        return Refused(word.decode(), -(-reply[seconds] // 1000) if seconds else 0)

    def enter_alone(self, place: Place, *, over: int = NEVER) -> Refused | None:
        """The same by this worker's own share of the slots: the store is away."""
        self._is_away()
        refused = self._alone.enter(place, over)
        place.asked = True
        if refused is not None:
            self._places.pop(place.member, None)
            return Refused(*refused)
        return None

    def leave(self, place: Place, verdict: str = "none", blame: Blame = NOBODY) -> None:
        """Give the slot or the place back; nothing happens where that was done.

        verdict: `ok` (the server answered), `fault` (it did not: `blame` says more), `none` (nothing to say about it).
        """
        if self._places.pop(place.member, None) is None:
            return
        if not place.asked:
            return
        if not place.server:
            self._alone.step_out(place)
            self._gone(place)
            return
        faults, rest = (1, blame.rest_seconds) if blame.rest_seconds else (FAULTS, REST_SECONDS)
        of_one = faults if blame.sure or blame.rest_seconds else FAULTS_OF_ONE
        longest = max(LONGEST_REST_SECONDS, rest)
        held_ms = round((time.monotonic() - place.since) * 1000)
        words = (
            place.member, place.server, verdict, held_ms, self._lease_ms, faults, rest * 1000, longest * 1000,
            blame.account_id, of_one,
        )  # fmt: skip
        if not self._tell(LEAVE, words, partial(self._heard, place.server, blame.reason)):
            self._left_alone(place, verdict, blame.reason, rest, of_one)

    def _gone(self, place: Place) -> None:
        """Out of the line, and out of the slot that it may have got a moment ago."""
        self._tell(STEP_OUT, (place.member, place.pool.name, self._lease_ms, *(s.name for s in place.pool.servers)))

    def well(self, place: Place) -> None:
        """The trial after a rest has begun to be answered: its server is well, however long the answer takes."""
        if place.trial and place.member in self._places:
            place.trial = False
            self._tell(WELL, (place.server, self._lease_ms), partial(self._heard, place.server, ""))

    def _tell(self, script: Any, words: tuple[Word, ...], heard: Callable[[Any], None] | None = None) -> bool:
        """Whether the store could be told."""
        try:
            self._scripts.tell(script, (), words, heard)
        except StoreAway:
            return False
        return True

    def _heard(self, server: str, reason: str, told: Any) -> None:
        if self._away:
            self._is_back()
        if told[0] == 1:
            self._rested(server, reason, told[1] // 1000)
        elif told[0] == 2:
            self._recovered(server)

    def _left_alone(self, place: Place, verdict: str, reason: str, rest_seconds: int, most_faults: int) -> None:
        self._is_away()
        seconds = self._alone.left(place, verdict, rest_seconds, most_faults)
        if seconds:
            self._rested(place.server, reason, seconds)

    # -- all of them ---------------------------------------------------------------------------------------------------

    def start(self, redis_url: str) -> None:
        """Keep leases and places alive from now on, and hear of slots that come free."""
        threading.Thread(target=self._keep_alive, name="line-keeper", daemon=True).start()
        threading.Thread(target=self._listen, args=(redis_url,), name="line-listener", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def processes(self) -> int:
        """How many gateway processes share the servers: what is known of it counts while the store is away."""
        return self._alone.processes

    @processes.setter
    def processes(self, count: int) -> None:
        self._alone.processes = max(1, count)

    def renew(self) -> None:
        """Tell the store what this worker still has and still waits for, and hear what it got meanwhile."""
        places = [place for place in list(self._places.values()) if place.asked]
        if not places:
            return
        held = [place for place in places if place.server]
        waiting = [place for place in places if not place.server]
        servers = {server.name: server.slots for place in places for server in place.pool.servers}
        words: list[Word] = [self._lease_ms, len(servers), len(held)]
        for server in servers.items():
            words += server
        for place in held:
            words += (place.member, place.server)
        for place in waiting:
            words += (place.member, place.pool.name, place.score or 0)
        try:
            reply = self._scripts.run(RENEW, (), tuple(words))
        except StoreAway:
            self._is_away()
            self._alone.adopt(places)
            return
        self._is_back()
        for place, (server, second, third) in zip(waiting, reply, strict=True):
            if server:
                self.granted(place.member, server.decode(), second == 1)
            else:
                place.ahead, place.expected_ms = second, third
        # Whoever left while the store was told has been put back by it.
        for place in places:
            if place.member not in self._places:
                self._gone(place)

    def granted(self, member: str, server: str, trial: bool) -> None:
        """Somebody's turn has come. Whoever left meanwhile, or has another slot, gives it back."""
        place = self._places.get(member)
        # Its servers are looked at: a request that waits at home by now would else follow the cloud's late word there.
        if place is not None and not place.server and any(server == its.name for its in place.pool.servers):
            self._alone.step_out(place)
            place.take(server, trial)
        elif place is None or place.server != server:
            self._tell(LEAVE, (member, server, "none", 0, self._lease_ms, FAULTS, 0, 0, "", FAULTS))

    def _keep_alive(self) -> None:
        while not self._stopped.wait(RENEW_SECONDS):
            self._renewed()

    def _renewed(self) -> None:
        try:
            self.renew()
        except Exception as error:  # whatever it was, the leases are due again
            log.error("leases not renewed", exc_info=error)

    def _listen(self, redis_url: str) -> None:
        client = redis.Redis.from_url(redis_url)
        while not self._stopped.is_set():
            try:
                with client.pubsub(  # type: ignore[no-untyped-call]
                    ignore_subscribe_messages=True
                ) as channel:
                    channel.subscribe("line:" + self._process_id)
                    while not self._stopped.is_set():
                        message = channel.get_message(timeout=1.0)
                        if message is not None:
                            member, server, trial = message["data"].decode().split(" ")
                            self.granted(member, server, trial == "1")
            except Exception as error:  # a listener that died would leave every turn to `renew`
                if not isinstance(error, redis.RedisError):
                    log.error("the line's channel broke", exc_info=error)
                # What is missed meanwhile is heard from `renew`.
                self._stopped.wait(1.0)
        client.close()

    def _is_away(self) -> None:
        if not self._away:
            self._away = True
            log.error("the line goes on without the store: each worker by its own share of the slots")
            self._alone.adopt([place for place in list(self._places.values()) if place.asked])

    def _is_back(self) -> None:
        if self._away:
            self._away = False
            self._alone.clear()
            log.warning("the line is in the store again")
            # What the store has forgotten is put back now, before others take the slots for free. The hub may be what
            # hears of it: `Thread.start` waits until the thread runs, which the hub can't; other replies were lost.
            _thread.start_new_thread(self._renewed, ())
