"""A server that fails before or after the first byte, a client that leaves: what the SDK raises and what it costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest
from portal_under_test import OPERATOR, TEXT, last_chat, record, sandbox

ASK = [{"role": "user", "content": "Say something short."}]
BEFORE = (
    "crash_before", "load_failed", "reset_before", "cut_before", "empty", "404", "401_native", "402_native",
    "403_native", "429_native", "503_native", "503_busy", "503_text", "502_html", "499",
)  # fmt: skip
MID = (
    "crash_mid",
    "reset_mid",
    "cut_mid",
    "silent_end",
    "repeat_guard",
    "error_event",
    "error_line",
    "bad_json",
    "no_finish",
)


def test_the_sdk_tries_again_and_nothing_is_charged(make_client: Any) -> None:
    """API-02, never charged twice: three attempts, InternalServerError, three requests that cost nothing."""
    sandbox.control(fault="crash_before")
    client, seen = make_client()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=TEXT, messages=ASK)
    assert caught.value.status_code == 502 and caught.value.code == "upstream_error"
    assert len(seen.ids) == len(set(seen.ids)) == 3
    assert [record(one)["credits"] for one in seen.ids] == [0, 0, 0]


def test_a_second_attempt_that_succeeds_is_charged_once(make_client: Any) -> None:
    """API-02: the failed attempt is free, the other costs what it costs."""
    sandbox.control(fault="crash_before", times=1)
    client, seen = make_client()
    answer = client.chat.completions.create(model=TEXT, messages=ASK)
    assert [record(one)["credits"] for one in seen.ids] == [0, answer.usage.total_tokens / 1000]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BEFORE)
def test_a_failure_before_the_first_byte_is_a_status(client: Any, fault: str, stream: bool) -> None:
    """API-02, API-04: 5xx in OpenAI's shape, free of charge, without a word of the server's own."""
    sandbox.control(fault=fault)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=TEXT, messages=ASK, stream=stream)
    error = caught.value
    assert error.code in ("upstream_error", "no_provider")
    assert OPERATOR not in str(error) and "ollama" not in str(error).lower() and "internal" not in str(error).lower()
    if error.status_code == 503:
        assert int(error.response.headers["retry-after"]) >= 1
    assert record(error.request_id)["credits"] == 0
    if fault == "404":
        wait_until_it_is_not_offered(client)


def wait_until_it_is_not_offered(client: Any, seconds: float = 5) -> None:
    """A server that has not got a model is asked for it no more, and it is listed no more."""
    deadline = time.monotonic() + seconds
    while TEXT in {model.id for model in client.models.list()}:
        assert time.monotonic() < deadline, "a model that no server has is still listed"
        time.sleep(0.05)


@pytest.mark.parametrize("dialect", ["new", "old"])
@pytest.mark.parametrize("fault", MID)
def test_a_crash_in_the_middle_is_no_success(client: Any, fault: str, dialect: str) -> None:
    """API-04: EOF without a finish looks complete to the SDK, so an error is said, and only what came is billed."""
    sandbox.control(fault=fault, fault_after=3, dialect=dialect)
    stream = client.chat.completions.create(model=TEXT, messages=ASK, stream=True)
    request_id = stream.response.headers["x-request-id"]
    said = []

    def read() -> None:
        for chunk in stream:
            assert not chunk.choices[0].finish_reason
            if chunk.choices[0].delta.content:
                said.append(chunk.choices[0].delta.content)

    with pytest.raises(openai.APIError) as caught:
        read()
    error = caught.value
    assert not isinstance(error, openai.APIConnectionError)
    assert (error.code, error.type) == ("upstream_error", "server_error")
    assert OPERATOR not in str(error)
    told = record(request_id)
    assert told["outcome"] == "upstream_failed"
    assert told["credits"] == len(said) / 1000
    assert told["usage"]["completion_tokens"] == len(said) >= 3


@pytest.mark.parametrize("fault", [fault for fault in MID if fault != "no_finish"])
def test_half_an_answer_in_one_piece_is_an_error(client: Any, fault: str) -> None:
    """API-02: nothing was delivered, so nothing is charged."""
    sandbox.control(fault=fault, fault_after=3)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=TEXT, messages=ASK)
    assert record(caught.value.request_id)["credits"] == 0


def test_a_stream_without_done_but_with_a_finish_is_complete(client: Any) -> None:
    """API-04: `[DONE]` is a courtesy, the finish reason is the answer's end."""
    sandbox.control(fault="no_done")
    chunks = list(client.chat.completions.create(model=TEXT, messages=ASK, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("usage", "counts"), [("zero", (0, 0)), ({"prompt_tokens": 11, "completion_tokens": 5}, (11, 5))]
)
def test_what_the_server_counted_is_what_is_billed(client: Any, usage: Any, counts: tuple[int, int]) -> None:
    """API-02: explicit zeros are zeros."""
    sandbox.control(usage=usage)
    answer = client.chat.completions.create(model=TEXT, messages=ASK)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == counts
    assert answer.usage.model_extra["credits"] == sum(counts) / 1000


@pytest.mark.parametrize("usage", ["negative", "huge", "missing"])
def test_impossible_counts_are_never_the_customers_trouble(client: Any, usage: str) -> None:
    """API-02: out of range is brought into range, missing is estimated."""
    sandbox.control(usage=usage)
    raw = client.chat.completions.with_raw_response.create(model=TEXT, messages=ASK, max_tokens=60)
    answer = raw.parse()
    assert min(answer.usage.prompt_tokens, answer.usage.completion_tokens) >= 0
    assert answer.usage.completion_tokens <= 60
    assert 0 <= float(raw.headers["x-portal-credits"]) < 1


def test_who_leaves_in_the_middle_pays_for_what_came(client: Any) -> None:
    """API-04: the server is stopped at once; charged are the prompt's estimate and what came, never the hold."""
    sandbox.control(tokens=500, delay_chunk_ms=20)
    stream = client.chat.completions.create(model=TEXT, messages=ASK, stream=True, max_tokens=1000)
    request_id = stream.response.headers["x-request-id"]
    for _ in range(5):
        next(stream)
    stream.close()
    told = record(request_id)
    assert told["outcome"] == "client_left" and told["usage"]["estimated"]
    assert 5 <= told["usage"]["completion_tokens"] < 60
    assert 0 < told["credits"] < 0.2
    wait_until_the_server_has_stopped(most=60)


def test_who_leaves_before_the_first_word_stops_the_server(client: Any) -> None:
    """API-04: a timeout of the SDK while the model is silent, buffered."""
    sandbox.control(delay_first_ms=10_000)
    began = time.monotonic()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model=TEXT, messages=ASK)
    wait_until_the_server_has_stopped(most=0)
    assert time.monotonic() - began < 5


def test_an_async_task_that_is_cancelled_leaves_too(async_client: Any) -> None:
    """API-04: cancelling the task ends the stream at the server."""
    sandbox.control(tokens=500, delay_chunk_ms=20)

    async def leave() -> str:
        async with async_client() as client:
            stream = await client.chat.completions.create(model=TEXT, messages=ASK, stream=True)
            request_id = stream.response.headers["x-request-id"]

            async def read() -> None:
                async for _ in stream:
                    pass

            task = asyncio.create_task(read())
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await stream.close()
            return str(request_id)

    told = record(asyncio.run(leave()))
    assert told["outcome"] == "client_left" and told["credits"] > 0
    wait_until_the_server_has_stopped(most=100)


def wait_until_the_server_has_stopped(*, most: int, seconds: float = 5) -> None:
    """The simulated server noticed; it had sent no more than so many words."""
    deadline = time.monotonic() + seconds
    while last_chat()["outcome"] == "running":
        assert time.monotonic() < deadline, "the server still works for a client who has left"
        time.sleep(0.05)
    seen = last_chat()
    assert seen["client_left"] and seen["deltas_sent"] <= most
