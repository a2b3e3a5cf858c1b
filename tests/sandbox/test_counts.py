"""The servers' own counts, by which it is proved that a gateway never asks more at once than there are slots.

Without this a client that read the last byte, or left, and asked again at once was counted twice now and then, and the
gateway was blamed for it.
"""

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from sandbox.process import SandboxProcess
from sandbox.wire import Exchange, Peer, Request
from tests.sandbox.client import CHAT, MODEL, Call, ask, body

REQUESTS = 200
BROKEN = (http.client.HTTPException, ConnectionError)

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batched": {"framing": "batch", "batch_size": 3},
    "torn": {"framing": "split", "pause_ms": 1},
    "long": {"tokens": 48},  # a multiple of the turns after which a stream lets others go first
    "refused": {"fault": "503_busy"},
    "crashed": {"fault": "crash_mid"},
    "silent": {"fault": "silent_end"},
    "cut": {"fault": "cut_mid"},
    "reset": {"fault": "reset_before"},
    "reset in the middle": {"fault": "reset_mid"},
    "with an error event": {"fault": "error_event"},
}


def one_after_the_other(sandbox: SandboxProcess, clients: int, ask_once: Any) -> list[int]:
    """So many clients, each asking its next question when its last one is over; the highest counts of the server."""
    turns = threading.Semaphore(REQUESTS)

    def client(number: int) -> None:
        while turns.acquire(blocking=False):
            ask_once(number)

    with ThreadPoolExecutor(clients) as together:
        for done in [together.submit(client, number) for number in range(clients)]:
            done.result()
    counters = sandbox.counters()
    assert counters["calls"] == REQUESTS
    assert (counters["in_flight"], counters["running"], counters["waiting"]) == (0, 0, 0)
    return [counters["max_in_flight"], counters["max_running"]]


@pytest.mark.parametrize(("clients", "way"), [(1, "plain"), (1, "long"), *((4, way) for way in WAYS)])
def test_no_more_than_its_clients_are_ever_counted(sandbox: SandboxProcess, clients: int, way: str) -> None:
    """QUEUE-01: 200 requests, streamed and not, however they end: N clients are never N + 1 requests."""
    sandbox.control(**{"slots": 16, "tokens": 5, "delay_first_ms": 4, "fault_after": 2, **WAYS[way]})

    def ask_once(number: int) -> None:
        try:
            ask(sandbox, body(stream=number % 2 == 0))
        except BROKEN:
            assert "fault" in WAYS[way]

    highest = one_after_the_other(sandbox, clients, ask_once)
    assert highest == [clients, clients], "as many as ask at once, and they do ask at once"


@pytest.mark.parametrize("dialect", ["old", "new"])
def test_who_asks_again_at_the_finish_is_over_by_then(sandbox: SandboxProcess, dialect: str) -> None:
    """QUEUE-01: any closing frame may be the last one a client waits for; `[DONE]` and HTTP's end trail behind it."""
    sandbox.control(slots=4, tokens=1, dialect=dialect)
    sandbox.next({"framing": "split", "pause_ms": 500})
    with Call(sandbox, asked=body(stream=True)) as first:
        assert any(b'"finish_reason":"stop"' in line for line in iter(first.answer.readline, b""))
        with Call(sandbox, asked=body(stream=True)) as second:
            second.first_line()
            assert sandbox.chats()[0]["finished_ms"] is None, "the first answer must still trail behind"
        assert sandbox.counters()["max_in_flight"] == sandbox.counters()["max_running"] == 1


class Recorder:
    """A connection that writes down what goes over it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def write(self, data: bytes) -> None:
        self.seen.append("bytes")

    def close(self, *, reset: bool = False) -> None:
        self.seen.append("closed")


ENDINGS: dict[str, tuple[list[tuple[Any, ...]], list[str]]] = {
    "a whole answer": ([("answer", 200, b"abc", "text/plain")], ["over", "bytes"]),
    "an empty answer": ([("answer", 200, b"", "text/plain")], ["over", "bytes"]),
    "pieces": ([("start", 200, [], 6), ("send", b"abc"), ("send", b"def"), ("end",)], ["bytes", "over", "bytes"]),
    "chunks": ([("start", 200, []), ("send", b"abc"), ("end",)], ["bytes", "over", "bytes"]),
    "a reset": ([("start", 200, []), ("send", b"abc"), ("reset",)], ["bytes", "over", "closed"]),
    "a cut": ([("start", 200, [], 6), ("send", b"abc"), ("cut",)], ["bytes", "over", "closed"]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_request_is_over_before_its_last_byte_leaves(ending: str) -> None:
    """QUEUE-01: whoever has read it may ask again before we do anything more. Once, and never twice."""
    steps, expected = ENDINGS[ending]
    peer = Recorder()
    exchange = Exchange(cast(Peer, peer), Request("GET", "/", "HTTP/1.1", [], b""))
    exchange.before_last.append(lambda: peer.seen.append("over"))
    for step, *arguments in steps:
        getattr(exchange, step)(*arguments)
    exchange.end()
    assert peer.seen == expected


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.parametrize("when", ["held", "reading the prompt", "speaking"])
def test_who_leaves_is_not_counted_beside_who_comes_next(sandbox: SandboxProcess, when: str, rudely: bool) -> None:
    """QUEUE-01: a departure counts before the request that comes after it, though the model goes on for a moment."""
    knobs: dict[str, dict[str, Any]] = {
        "held": {"hold_after": 0},
        "reading the prompt": {"delay_first_ms": 60, "prefill_blind": True},
        "speaking": {"tokens": 1000, "delay_chunk_ms": 20},
    }
    sandbox.control(**{"slots": 64, **knobs[when]})
    for number in range(40):
        call = Call(sandbox, asked=body(stream=True))
        if when == "speaking":
            call.first_line()
        else:
            sandbox.wait_for(lambda seen, number=number: len(seen) == number + 1)  # type: ignore[misc]
        call.leave(rudely=rudely)
    assert sandbox.counters()["max_in_flight"] == 1
    sandbox.wait_for(lambda seen: all(entry["outcome"] == "client_left" for entry in seen))
    assert (sandbox.counters()["in_flight"], sandbox.counters()["running"]) == (0, 0)


def test_a_probe_takes_no_slot_and_is_not_in_flight(sandbox: SandboxProcess) -> None:
    """QUEUE-01: the portal looks at its servers while they work."""
    sandbox.control(hold_after=0)
    with Call(sandbox, asked=body()):
        sandbox.wait_for(lambda seen: len(seen) == 1)
        for path in ("/api/tags", "/api/ps", "/api/version", "/v1/models"):
            ask(sandbox, path=path)
        ask(sandbox, {"model": MODEL}, "/api/show")
        counters = sandbox.counters()
        assert (counters["in_flight"], counters["max_in_flight"], counters["calls"]) == (1, 1, 1)
        assert counters["requests"] == 6


def test_more_than_the_slots_is_seen(sandbox: SandboxProcess) -> None:
    """QUEUE-01: counts that can't be exceeded would prove nothing."""
    sandbox.control(slots=2, hold_after=0)
    calls = [Call(sandbox, asked=body()) for _ in range(3)]
    sandbox.wait_for(lambda seen: len(seen) == 3)
    counters = sandbox.counters()
    assert (counters["max_in_flight"], counters["max_running"], counters["waiting"]) == (3, 2, 1)
    for call in calls:
        call.leave()
    sandbox.wait_for(lambda seen: all(entry["outcome"] == "client_left" for entry in seen))


def test_a_server_can_have_slots_for_all_its_models_together(sandbox: SandboxProcess) -> None:
    """QUEUE-01: a provider's slots are one number; whom they serve is told by arrival."""
    sandbox.control(slots=2, server_slots=2, hold_after=0)
    models = (MODEL, "gpt-oss:20b", "qwen2.5-coder:14b", MODEL)
    calls = []
    for number, model in enumerate(models, 1):
        calls.append(Call(sandbox, CHAT, body(model=model)))
        sandbox.wait_for(lambda seen, number=number: len(seen) == number)  # type: ignore[misc]
    assert (sandbox.counters()["running"], sandbox.counters()["waiting"]) == (2, 2)
    calls[0].leave()
    entries = sandbox.wait_for(lambda seen: seen[2]["waited_ms"] is not None)
    assert entries[3]["waited_ms"] is None
    calls[1].leave()
    sandbox.wait_for(lambda seen: seen[3]["waited_ms"] is not None)
    assert sandbox.counters()["max_running"] == 2
    for call in calls[2:]:
        call.leave()
    sandbox.wait_for(lambda seen: all(entry["outcome"] == "client_left" for entry in seen))


def test_a_full_model_keeps_nobody_from_another_one(sandbox: SandboxProcess) -> None:
    """QUEUE-01: with room on the server, only the line of one's own model counts."""
    sandbox.control(slots=1, server_slots=2)
    sandbox.control(MODEL, hold_after=0)
    calls = [Call(sandbox, asked=body()) for _ in range(2)]
    sandbox.wait_for(lambda seen: len(seen) == 2)
    assert ask(sandbox, body(model="gpt-oss:20b")).status == 200
    for call in calls:
        call.leave()
    sandbox.wait_for(lambda seen: [entry["outcome"] for entry in seen].count("client_left") == 2)
