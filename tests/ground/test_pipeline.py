"""The hot path's line to the store, in a gevent hub of its own process: order, outages, partial sends, addresses."""

import json
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portal.pipeline import BlockingScripts, Script, StoreAway, open_scripts
from tests.services.environment import ROOT
from tests.services.redis_server import RedisServer

ECHO = Script("return {KEYS[1], ARGV[1], #ARGV[1]}")


def in_a_hub(url: str, body: str) -> Any:
    """Run code in a gevent process as a worker has it; `scripts` is its line. Returns what it puts in `result`."""
    code = "from gevent import monkey; monkey.patch_all()\n" + textwrap.dedent(f"""
        import json, sys, time
        import gevent
        from portal import pipeline
        from portal.pipeline import PipelinedScripts, Script, StoreAway, open_scripts
        ECHO = Script("return {{KEYS[1], ARGV[1], #ARGV[1]}}")
        SLOW = Script(
            "local t = redis.call('TIME'); local e = t[1] * 1000000 + t[2] + ARGV[1] * 1000; "
            "repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > e; return 'slow'"
        )
        scripts = open_scripts({url!r})
        assert isinstance(scripts, PipelinedScripts)
    """) + textwrap.dedent(body) + "\nprint(json.dumps(result))\n"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_each_greenlet_gets_its_own_answer(redis_url: str) -> None:
    """RATE-01: a thousand at once on one connection; large ones do not fit a single send."""
    result = in_a_hub(redis_url, """
        def one(n):
            size = 300_000 if n % 100 == 0 else n
            key, text, length = scripts.run(ECHO, (f"k{n}",), ("x" * size,))
            return key == b"k%d" % n and len(text) == length == size
        jobs = [gevent.spawn(one, n) for n in range(1000)]
        gevent.joinall(jobs, timeout=30)
        result = [sum(bool(job.value) for job in jobs), len(scripts._waiting)]
    """)  # fmt: skip
    assert result == [1000, 0]


def test_a_script_the_store_does_not_know_is_sent_whole(redis_server: RedisServer) -> None:
    """RATE-03: NOSCRIPT after a restart."""
    result = in_a_hub(redis_server.url, """
        import redis
        result = []
        for _ in range(3):
            result.append(scripts.run(ECHO, ("k",), ("v",))[1].decode())
            redis.Redis.from_url(%r).script_flush()
    """ % redis_server.url)  # fmt: skip  # noqa: UP031
    assert result == ["v"] * 3


def test_who_has_waited_too_long_gives_up_and_nobody_gets_a_strangers_answer(redis_url: str) -> None:
    """RATE-03: replies come in order, so a connection with one given up is no good any more."""
    result = in_a_hub(redis_url, """
        pipeline.CALL_SECONDS = 0.3
        pipeline.LOOK_AGAIN_SECONDS = 0.1
        def ask(script, text):
            try:
                reply = scripts.run(script, ("k",), (text,))
                return reply.decode() if isinstance(reply, bytes) else reply[1].decode()
            except StoreAway:
                return "away"
        assert (ask(ECHO, "first"), ask(SLOW, 1)) == ("first", "slow")
        slow = gevent.spawn(ask, SLOW, 900)
        behind = [gevent.spawn(ask, ECHO, f"b{n}") for n in range(3)]
        gevent.joinall([slow, *behind])
        result = [slow.value, [job.value for job in behind]]
        gevent.sleep(1.2)
        result.append([ask(ECHO, f"later{n}") for n in range(3)])
    """)  # fmt: skip
    assert result == ["away", ["away"] * 3, ["later0", "later1", "later2"]]


def test_a_greenlet_that_is_killed_while_it_waits_leaves_the_others_in_order(redis_url: str) -> None:
    """RATE-03: a worker that ends, a time-out around a request."""
    result = in_a_hub(redis_url, """
        def ask(n):
            return scripts.run(ECHO, ("k",), (f"v{n}",))[1].decode()
        ask(0)
        jobs = [gevent.spawn(ask, n) for n in range(6)]
        gevent.sleep(0)
        jobs[2].kill(block=False)
        gevent.joinall(jobs, timeout=5)
        result = [job.value if job.successful() and isinstance(job.value, str) else None for job in jobs]
        result.append(ask(9))
    """)  # fmt: skip
    assert result == ["v0", "v1", None, "v3", "v4", "v5", "v9"]


def test_an_outage_costs_nobody_time_and_ends_by_itself(redis_server: RedisServer) -> None:
    """RATE-03, never-again, "Every call slow … a dead cache waited for"."""
    redis_server.stop()
    with ThreadPoolExecutor(1) as beside:
        job = beside.submit(in_a_hub, redis_server.url, """
        def ask():
            try:
                return scripts.run(ECHO, ("k",), ("v",))[1].decode()
            except StoreAway:
                return "away"
        began = time.monotonic()
        first = [ask() for _ in range(200)]
        took = time.monotonic() - began
        deadline = time.monotonic() + 20
        while (last := ask()) == "away" and time.monotonic() < deadline:
            gevent.sleep(0.05)
        result = [set(first) == {"away"}, took < 0.5, last]
        """)  # fmt: skip
        time.sleep(2)
        redis_server.start()  # by this thread: the server ends with the thread that started it
        assert job.result() == [True, True, "v"]


def test_a_reply_that_is_an_error_is_an_outage_and_not_an_answer(redis_url: str) -> None:
    """RATE-03: LOADING, READONLY, OOM."""
    result = in_a_hub(redis_url, """
        bad = Script("return redis.error_reply('LOADING it is')")
        try:
            scripts.run(bad, ("k",), ())
            result = "answered"
        except StoreAway:
            result = "away"
    """)  # fmt: skip
    assert result == "away"


def test_without_a_hub_the_plain_client_is_used(redis_server: RedisServer) -> None:
    """OPS-01: Passenger, commands, tests."""
    scripts = open_scripts(redis_server.url)
    assert isinstance(scripts, BlockingScripts)
    assert scripts.run(ECHO, ("k",), ("v",)) == [b"k", b"v", 1]
    redis_server.stop()
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreAway):
            scripts.run(ECHO, ("k",), ("v",))
    assert time.monotonic() - began < 1
    redis_server.start()
    time.sleep(1.05)
    assert scripts.run(ECHO, ("k",), ("v",)) == [b"k", b"v", 1]


@pytest.mark.parametrize("query", ["?db=3", "?db=0", ""])
def test_the_number_of_the_database_is_obeyed(redis_server: RedisServer, query: str) -> None:
    """Contract, REDIS_URL: several portals may share one Redis."""
    url = redis_server.url.partition("?")[0] + query
    in_a_hub(url, """
        scripts.run(Script("return redis.call('SET', KEYS[1], ARGV[1])"), ("mark",), (7,))
        result = None
    """)  # fmt: skip
    number = int(query.partition("=")[2] or 0)
    assert (
        BlockingScripts(redis_server.url.replace("db=0", f"db={number}")).run(
            Script("return redis.call('GET', KEYS[1])"), ("mark",), ()
        )
        == b"7"
    )


def test_the_password_of_an_address_is_used(tmp_path: Path, redis_server: RedisServer) -> None:
    """Contract, REDIS_URL: percent signs and all."""
    redis_server.client.config_set("requirepass", "p@ss/word")
    try:
        url = redis_server.url + "&password=p%40ss%2Fword"
        assert in_a_hub(url, 'result = scripts.run(ECHO, ("k",), ("v",))[1].decode()') == "v"
        wrong = redis_server.url + "&password=wrong"
        result = in_a_hub(wrong, """
            try:
                scripts.run(ECHO, ("k",), ("v",)); result = "in"
            except StoreAway:
                result = "away"
        """)  # fmt: skip
        assert result == "away"
    finally:
        redis_server.client.auth("p@ss/word")
        redis_server.client.config_set("requirepass", "")
