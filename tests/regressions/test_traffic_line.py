"""The line, as a review broke it: late words, garbage on its channel, and a crowd of small accounts in front."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portal.ids import new_id
from portal.pipeline import BlockingScripts, Script, StoreAway, Word
from portal.services.routing import line as lines
from portal.services.routing.line import Line, Place, Pool, Server
from tests.gateway.wire import eventually
from tests.routing.clocked import ClockedScripts, pool
from tests.services.redis_server import RedisServer

HOME, CLOUD = pool(Server("ollama-1", 1, 1)), pool(Server("ollama-cloud", 1, 1))
BASIC, PRO, ENTERPRISE = 0, 1, 2
LENGTH = 3


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[ClockedScripts]:
    store = ClockedScripts(redis_server.url)
    yield store
    store.close()


def tick(store: ClockedScripts) -> None:
    """A millisecond passes, by the store's clock and by ours: who came in the same one is ahead of nobody."""
    store.now += 1
    before = round(time.time() * 1000)
    eventually(lambda: round(time.time() * 1000) > before, what="the next millisecond")


def entered(line: Line, its: Pool, request: str = "", priority: int = BASIC) -> Place:
    place = line.place(request or new_id(), its, priority)
    assert line.enter(place) is None
    return place


# -- late words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [True, False])
def test_a_late_word_of_the_clouds_line_moves_nobody_who_is_at_home(store: ClockedScripts, asked: bool) -> None:
    """CLOUD-01, review 1: the request left the cloud's line while the word was on its way, and entered its own server's
    under the same name. The word sent it to the cloud at the local price and beside the budget. asked: whether the
    store has answered for the place at home by then."""
    line, request = Line(store, "one"), new_id()
    here, there = entered(line, HOME), entered(line, CLOUD)
    at_cloud = entered(line, CLOUD, request)
    line.leave(there, "ok")
    [late] = store.published()
    assert (late.member, late.server) == (at_cloud.member, "ollama-cloud")
    line.leave(at_cloud)
    at_home = line.place(request, HOME, BASIC)
    assert at_home.member == late.member
    if asked:
        assert line.enter(at_home) is None
        line.granted(*late)
    else:
        line.granted(*late)
        assert line.enter(at_home) is None
    assert at_home.server == ""
    assert at_home.changed is not None
    assert not at_home.changed.is_set(), "it was woken for nothing"
    assert entered(line, CLOUD).server == "ollama-cloud", "the cloud's slot was given back"
    line.leave(here, "ok")
    [own] = store.published()
    line.granted(*own)
    assert at_home.server == "ollama-1", "its own turn came all the same"


# -- a full line -------------------------------------------------------------------------------------------------------


class Away:
    """Scripts of a store that is not there."""

    losses = 0

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...]) -> Any:
        raise StoreAway

    def tell(
        self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...], heard: Callable[[Any], None] | None = None
    ) -> None:
        raise StoreAway

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(params=["with the store", "without it"])
def crowded(request: pytest.FixtureRequest, store: ClockedScripts) -> Line:
    """A line that is full for Basic: LENGTH of them wait for the one slot, which is taken."""
    line = Line(store if request.param == "with the store" else Away(), "one", length=LENGTH)
    for _ in range(LENGTH + 1):
        entered(line, HOME)
        tick(store)
    return line


def test_a_line_full_of_small_accounts_shuts_out_no_higher_plan(crowded: Line, store: ClockedScripts) -> None:
    """MODEL-03, review 10: five Basic accounts filled the line with streams, and every Enterprise customer was told
    503 for as long as they liked. What is bounded is how many are ahead of somebody."""
    refused = crowded.enter(crowded.place(new_id(), HOME, BASIC))
    assert refused is not None
    assert refused.why == "full"
    assert entered(crowded, HOME, priority=PRO).ahead == 1
    tick(store)
    assert entered(crowded, HOME, priority=ENTERPRISE).ahead == 1
    assert entered(crowded, HOME, priority=PRO).ahead == 3


def test_a_line_full_of_its_own_plan_is_full_for_enterprise_too(crowded: Line, store: ClockedScripts) -> None:
    """Issue B, 2: bounded all the same; nobody waits behind more than were promised."""
    for ahead in range(LENGTH):
        assert entered(crowded, HOME, priority=ENTERPRISE).ahead == ahead + 1
        tick(store)
    for priority in (ENTERPRISE, PRO, BASIC):
        refused = crowded.enter(crowded.place(new_id(), HOME, priority))
        assert refused is not None
        assert refused.why == "full"


# -- the channel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [b"hello", b"", b"one two three four", b"\xff\xfe \x00 \xff"])
def test_a_word_that_nobody_understands_does_not_end_the_listening(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, word: bytes
) -> None:
    """QUEUE-02, review 15: the thread died of it without a word, and every turn was heard of seconds late from then on.
    Renewing is put off here: it would tell the turn as well."""
    monkeypatch.setattr(lines, "RENEW_SECONDS", 3600.0)
    scripts = BlockingScripts(redis_server.url)
    line = Line(scripts, new_id())
    channel = "line:" + line._process_id
    line.start(redis_server.url)
    try:
        eventually(lambda: redis_server.client.pubsub_numsub(channel)[0][1] == 1, what="the listener")
        entered(line, HOME)
        waiting = entered(line, HOME)
        redis_server.client.publish(channel, word)

        def heard() -> bool:
            redis_server.client.publish(channel, f"{waiting.member} ollama-1 0")
            return bool(waiting.server)

        began = time.monotonic()
        eventually(heard, what="the word after the garbage")
        assert time.monotonic() - began < 5
        assert waiting.server == "ollama-1"
    finally:
        line.stop()
        scripts.close()
