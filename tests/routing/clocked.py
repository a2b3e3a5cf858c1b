"""The line's scripts with a clock that the test sets, and what they publish.

Only the call for the store's time is exchanged in their text; everything else is what workers run. The time lives in
the store itself, so that scripts of many workers see the same one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from portal.pipeline import BlockingScripts, Script, Word
from portal.services.routing.line import Pool, Server

TIME, SET_TIME = "redis.call('TIME')", "{0, redis.call('GET', 'test:now') * 1000}"
SO_FAR = "so far"
BEGIN = 1_000_000_000


class Grant(NamedTuple):
    """As it is published: a request's turn has come."""

    member: str
    server: str
    trial: bool

    @property
    def process_id(self) -> str:
        return self.member[33:]


class ClockedScripts:
    """`portal.pipeline.Scripts` over a real store, whose time in ms is `now`."""

    def __init__(self, url: str) -> None:
        self._scripts = BlockingScripts(url)
        self._texts: dict[str, Script] = {}
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self._channel = self.client.pubsub()  # type: ignore[no-untyped-call]
        self._channel.psubscribe("line:*")
        self._now = BEGIN
        self.now = BEGIN

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, ms: int) -> None:
        self._now = ms
        self.client.set("test:now", ms)

    def flush(self) -> None:
        """The store forgets everything but the time, which nobody can take from it."""
        self.client.flushdb()
        self.now = self._now

    def published(self) -> list[Grant]:
        """What was published since this was asked last."""
        self.client.publish("line:", SO_FAR)
        found: list[Grant] = []
        while True:
            message = self._channel.get_message(timeout=5)
            assert message is not None, "the store has nothing to say"
            if message["type"] != "pmessage":
                continue
            if message["data"] == SO_FAR:
                return found
            member, server, trial = message["data"].split(" ")
            assert message["channel"] == "line:" + member[33:], "it is told to its own worker"
            found.append(Grant(member, server, trial == "1"))

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...]) -> Any:
        mine = self._texts.get(script.sha)
        if mine is None:
            asks = "line_now()" in script.text
            assert script.text.count(TIME) == asks, "the script asks for the time in one place"
            mine = self._texts[script.sha] = Script(script.text.replace(TIME, SET_TIME))
        return self._scripts.run(mine, keys, args)

    def tell(
        self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...], heard: Callable[[Any], None] | None = None
    ) -> None:
        reply = self.run(script, keys, args)
        if heard is not None:
            heard(reply)

    def close(self) -> None:
        self._channel.close()
        self.client.close()
        self._scripts.close()

    @property
    def losses(self) -> int:
        return self._scripts.losses


def servers(**slots_and_weight: tuple[int, int]) -> dict[str, Server]:
    """servers(a=(2, 1)): by name."""
    return {name: Server(name, *numbers) for name, numbers in slots_and_weight.items()}


def pool(*of: Server) -> Pool:
    return Pool.of(of)
