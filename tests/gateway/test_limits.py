"""Requests a minute: a sliding window kept by the store's own clock, and the freshness tokens of the same trip."""

import threading
import time
from collections import Counter

import pytest
import redis

from portal.freshness import PREFIX
from portal.pipeline import BlockingScripts, StoreAway
from portal.services import limits


@pytest.fixture
def scripts(redis_url: str) -> BlockingScripts:
    return BlockingScripts(redis_url)


def fill(client: redis.Redis, *ages_ms: int) -> None:
    """Requests of the account that long ago, by the store's clock."""
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    for age in ages_ms:
        client.zadd("rpm:me", {f"old-{age}": now - age})


def test_exactly_so_many_pass(scripts: BlockingScripts) -> None:
    """RATE-01: and what remains is told with each."""
    taken = [limits.take(scripts, "me", 10, f"r{n}") for n in range(13)]
    assert [t.allowed for t in taken] == [True] * 10 + [False] * 3
    assert [t.remaining for t in taken] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0]
    assert all(59_000 < t.reset_ms <= 60_000 for t in taken)
    assert all(59_000 < t.retry_ms <= 60_000 for t in taken[10:])


def test_accounts_do_not_share_a_window(scripts: BlockingScripts) -> None:
    """RATE-01."""
    assert limits.take(scripts, "me", 1, "a").allowed
    assert limits.take(scripts, "you", 1, "b").allowed
    assert not limits.take(scripts, "me", 1, "c").allowed


def test_the_window_slides_and_retry_after_is_the_truth(scripts: BlockingScripts, redis_server: object) -> None:
    """RATE-02: the wait told is the age the oldest has to reach, and then exactly one passes."""
    client: redis.Redis = redis_server.client  # type: ignore[attr-defined]
    fill(client, 59_800, 30_000, 10)
    told = limits.take(scripts, "me", 3, "a")
    assert not told.allowed
    assert 0 < told.retry_ms <= 200
    time.sleep(told.retry_ms / 1000 + 0.01)
    assert limits.take(scripts, "me", 3, "b").allowed
    assert not limits.take(scripts, "me", 3, "c").allowed


def test_a_lower_limit_counts_what_is_already_in_the_window(scripts: BlockingScripts, redis_server: object) -> None:
    """RATE-01: after a downgrade one waits until so many are old that the new limit has room."""
    fill(redis_server.client, 50_000, 40_000, 30_000, 20_000)  # type: ignore[attr-defined]
    told = limits.take(scripts, "me", 2, "a")
    assert not told.allowed
    assert 29_000 < told.retry_ms <= 30_000  # the third oldest must go


def test_a_refused_request_takes_no_place(scripts: BlockingScripts, redis_server: object) -> None:
    """RATE-01: a client that hammers is let in as soon as one who waits."""
    fill(redis_server.client, 100)  # type: ignore[attr-defined]
    for n in range(20):
        assert not limits.take(scripts, "me", 1, f"r{n}").allowed
    assert redis_server.client.zcard("rpm:me") == 1  # type: ignore[attr-defined]


def test_parallel_requests_never_pass_the_limit(redis_url: str) -> None:
    """never-again, "Limits fired early, late, or per process"."""
    allowed: Counter[bool] = Counter()
    together = threading.Barrier(8)

    def ask(worker: int) -> None:
        own = BlockingScripts(redis_url)
        together.wait()
        for n in range(10):
            allowed[limits.take(own, "me", 30, f"{worker}-{n}").allowed] += 1

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert allowed == {True: 30, False: 50}


def test_a_token_that_is_missing_is_made_and_stays(scripts: BlockingScripts) -> None:
    """KEY-03: "none" would be the same before a flush of the store and after it: a revoked key came back to life."""
    first = limits.take(scripts, "me", 10, "a")
    assert first.account_token
    assert first.catalog_token
    again = limits.take(scripts, "me", 10, "b")
    assert (again.account_token, again.catalog_token) == (first.account_token, first.catalog_token)
    assert limits.tokens(scripts, "me") == (first.account_token, first.catalog_token)


def test_a_flushed_store_never_gives_an_old_token_again(scripts: BlockingScripts, redis_server: object) -> None:
    """KEY-03: freshness tokens are random, so that a memory from before the flush is never believed."""
    seen = set()
    for n in range(3):
        seen.add(limits.take(scripts, "me", 10, f"a{n}").account_token)
        redis_server.client.flushall()  # type: ignore[attr-defined]
        seen.add(limits.tokens(scripts, "me")[0])
        redis_server.client.flushall()  # type: ignore[attr-defined]
    assert len(seen) == 6


def test_a_changed_token_is_seen_by_the_next_request(scripts: BlockingScripts, redis_server: object) -> None:
    """KEY-03: in the same trip as the limit."""
    redis_server.client.set(PREFIX + "account:me", "one")  # type: ignore[attr-defined]
    redis_server.client.set(PREFIX + "catalog", "two")  # type: ignore[attr-defined]
    taken = limits.take(scripts, "me", 10, "a")
    assert (taken.account_token, taken.catalog_token) == (b"one", b"two")


def test_a_store_that_is_away_says_so_at_once(scripts: BlockingScripts, redis_server: object) -> None:
    """RATE-03: nobody waits for a dead cache."""
    assert limits.take(scripts, "me", 10, "a").allowed
    redis_server.stop()  # type: ignore[attr-defined]
    began = time.monotonic()
    for n in range(50):
        with pytest.raises(StoreAway):
            limits.take(scripts, "me", 10, f"b{n}")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("milliseconds", "told"),
    [(0, "0ms"), (12, "12ms"), (999, "999ms"), (1000, "1s"), (1001, "2s"), (59_999, "1m0s"), (60_000, "1m0s"),
     (359_001, "6m0s"), (61_000, "1m1s")],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(milliseconds: int, told: str) -> None:
    """RATE-02: `12ms`, `1s`, `6m0s`; never less than the truth."""
    assert limits.duration(milliseconds) == told
