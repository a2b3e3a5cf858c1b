"""Queueing: a load line with a limit, slots without one, no byte while one waits; and who leaves is noticed."""

import time

import pytest

from sandbox.process import SandboxProcess
from tests.sandbox.client import MODEL, Call, ask, body


def test_a_second_request_waits_for_the_slot_without_a_byte(sandbox: SandboxProcess) -> None:
    """GW-04: NUM_PARALLEL is 1; overload is latency."""
    sandbox.control(hold_after=1)
    first, second = Call(sandbox, asked=body(stream=True)), Call(sandbox, asked=body(stream=True))
    sandbox.wait_for(lambda seen: len(seen) == 2)
    runner = sandbox.state()["runners"][MODEL]
    assert (runner["running"], runner["waiting"]) == (1, 1)
    sandbox.control(hold_after=None)
    sandbox.release()
    first.reply()
    # The second one drew its knobs when it came, so it too holds after its first delta.
    with second:
        assert second.first_line().startswith(b"data: ")
        sandbox.release()
        assert second.answer.read().endswith(b"[DONE]\n\n")
    assert sandbox.state()["runners"][MODEL]["max_running"] == 1
    assert sandbox.counters()["max_in_flight"] == 2


def test_slots_allow_that_many_at_once(sandbox: SandboxProcess) -> None:
    """GW-04."""
    sandbox.control(slots=3, hold_after=0)
    calls = [Call(sandbox, asked=body()) for _ in range(4)]
    sandbox.wait_for(lambda seen: len(seen) == 4)
    runner = sandbox.state()["runners"][MODEL]
    assert (runner["running"], runner["waiting"]) == (3, 1)
    for call in calls:
        call.leave()
    sandbox.wait_for(lambda seen: all(entry["outcome"] == "client_left" for entry in seen))
    assert sandbox.state()["runners"][MODEL] == {"loaded": True, "running": 0, "waiting": 0, "max_running": 3}


def test_the_load_queue_is_limited_and_the_slot_queue_is_not(sandbox: SandboxProcess) -> None:
    """GW-04: 503 with two spaces, only on the way to a load."""
    sandbox.control(load_ms=300, max_queue=1)
    calls = [Call(sandbox, asked=body()) for _ in range(3)]
    replies = sorted((call.reply() for call in calls), key=lambda reply: reply.status)
    assert [reply.status for reply in replies] == [200, 200, 503]
    assert replies[2].json["error"]["message"] == ("server busy, please try again.  maximum pending requests exceeded")
    assert replies[2].json["error"]["type"] == "api_error"
    loaded = [Call(sandbox, asked=body()) for _ in range(5)]
    assert {call.reply().status for call in loaded} == {200}


def test_nothing_is_sent_while_a_model_loads_or_reads_the_prompt(sandbox: SandboxProcess) -> None:
    """GW-04: not even headers; the journal tells the figures."""
    sandbox.control(load_ms=120, delay_first_ms=120)
    started = time.monotonic()
    with Call(sandbox, asked=body(stream=True)) as call:
        call.first_line()
        assert time.monotonic() - started >= 0.24
        call.answer.read()
    entry = sandbox.wait_for(lambda seen: seen[-1]["outcome"] == "done")[-1]
    assert entry["load_ms"] >= 120
    assert entry["first_byte_ms"] >= 240


@pytest.mark.parametrize("rudely", [False, True])
def test_leaving_in_the_middle_is_noticed_at_once_and_stops_at_the_next_token(
    sandbox: SandboxProcess, rudely: bool
) -> None:
    """GW-04: the figure by which "stops the upstream within 100 ms" is measured."""
    sandbox.control(tokens=1000, delay_chunk_ms=20)
    call = Call(sandbox, asked=body(stream=True))
    call.first_line()
    left_at = time.time()
    call.leave(rudely=rudely)
    entry = sandbox.wait_for(lambda seen: seen[-1]["outcome"] == "client_left")[-1]
    # The stream would last 20 s. An idle machine takes a millisecond or two; the bounds are for one that is crowded.
    assert 0 <= entry["client_left_at"] - left_at < 1
    assert entry["stop_lag_ms"] < 1000
    assert entry["deltas_sent"] < 100
    assert sandbox.counters()["client_left"] == 1


def test_leaving_a_stream_without_pauses_is_noticed_too(sandbox: SandboxProcess) -> None:
    """GW-04: a flood must not keep the watch from its turn."""
    sandbox.control(tokens=100_000)
    call = Call(sandbox, asked=body(stream=True))
    call.first_line()
    call.leave()
    entry = sandbox.wait_for(lambda seen: seen[-1]["outcome"] == "client_left")[-1]
    assert entry["deltas_sent"] < 100_000
    assert sandbox.complaints() == ""


@pytest.mark.parametrize("asked", [body(stream=True), body(stream=False)])
def test_leaving_a_silent_server_is_noticed_at_once(sandbox: SandboxProcess, asked: dict[str, object]) -> None:
    """GW-04: before any byte, streamed or not; with prefill_blind the slot stays taken until the prompt is read."""
    sandbox.control(delay_first_ms=10_000)
    call = Call(sandbox, asked=asked)
    sandbox.wait_for(lambda seen: len(seen) == 1)
    call.leave()
    entry = sandbox.wait_for(lambda seen: seen[-1]["outcome"] == "client_left", 2)[-1]
    assert entry["stop_lag_ms"] < 1000  # of 10 s
    sandbox.control(delay_first_ms=1000, prefill_blind=True)
    call = Call(sandbox, asked=asked)
    sandbox.wait_for(lambda seen: len(seen) == 2)
    call.leave()
    entry = sandbox.wait_for(lambda seen: seen[-1]["outcome"] == "client_left", 2)[-1]
    assert entry["client_left_ms"] < 900 < 1000 <= entry["stopped_ms"]


def test_who_leaves_the_line_frees_the_place(sandbox: SandboxProcess) -> None:
    """GW-04: leaving a queue costs nothing and blocks nobody."""
    sandbox.control(hold_after=0)
    first, second, third = (Call(sandbox, asked=body()) for _ in range(3))
    sandbox.wait_for(lambda seen: len(seen) == 3)
    second.leave()
    sandbox.wait_for(lambda seen: [entry["outcome"] for entry in seen].count("client_left") == 1)
    assert sandbox.state()["runners"][MODEL]["waiting"] == 1
    sandbox.release()
    assert first.reply().status == 200
    sandbox.release()
    assert third.reply().status == 200


def test_a_new_model_pushes_an_idle_one_out_of_memory(sandbox: SandboxProcess) -> None:
    """GW-04: MAX_LOADED_MODELS."""
    sandbox.control(max_loaded=1)
    ask(sandbox, body())
    ask(sandbox, body(model="gpt-oss:20b"))
    assert [row["name"] for row in ask(sandbox, path="/api/ps").json["models"]] == ["gpt-oss:20b"]
