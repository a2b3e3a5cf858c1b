"""Streamed answers, as OpenAI's Python SDK sees them, in both dialects a server may speak."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest
from portal_under_test import TEXT, THINKING, last_chat, record, sandbox

ASK = [{"role": "user", "content": "Say something short."}]
SAID = "Here are seven words for a test."


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("dialect", ["new", "old"])
@pytest.mark.parametrize(
    "wire",
    [{}, {"framing": "split"}, {"framing": "batch"}, {"framing": "drip", "pause_ms": 0}, {"crlf": True}],
    ids=str,
)
def test_a_stream_says_what_the_server_said(client: Any, dialect: str, wire: dict[str, Any]) -> None:
    """API-04: however the server's bytes are cut, events are whole: one id, a role first, one finish, at the end."""
    sandbox.control(text=SAID, dialect=dialect, **wire)
    with client.chat.completions.create(model=TEXT, messages=ASK, stream=True) as stream:
        chunks = list(stream)
    assert text_of(chunks) == SAID
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].id.startswith("chatcmpl-")
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("dialect", ["new", "old"])
def test_usage_comes_only_when_asked_for(client: Any, dialect: str) -> None:
    """API-01: the server is always asked; the customer gets the usage chunk, with its cost, only on request."""
    sandbox.control(text=SAID, dialect=dialect)
    create = client.chat.completions.create
    for options in ({}, {"stream_options": {"include_usage": False}}):
        silent = list(create(model=TEXT, messages=ASK, stream=True, **options))
        assert all(chunk.usage is None and chunk.choices for chunk in silent)
    told = list(create(model=TEXT, messages=ASK, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in told[:-1])
    last = told[-1]
    assert last.choices == [] and last.usage.completion_tokens == 7 and last.id == told[0].id
    assert last.usage.model_extra["credits"] == last.usage.total_tokens / 1000


def test_streamed_or_not_costs_the_same(client: Any) -> None:
    """API-02: the same usage, one price."""
    whole = client.chat.completions.with_raw_response.create(model=TEXT, messages=ASK)
    with client.chat.completions.with_streaming_response.create(model=TEXT, messages=ASK, stream=True) as streamed:
        streamed.read()
        request_id = streamed.headers["x-request-id"]
    bought, also = record(whole.headers["x-request-id"]), record(request_id)
    # The body says `"stream":true`, the prompt is the same.
    assert also["stream"] and not bought["stream"]
    assert bought["credits"] == also["credits"] > 0
    assert bought["usage"] == also["usage"]


def test_a_stream_carries_the_headers_of_the_contract(client: Any) -> None:
    """API-02, API-04: what is known before the first byte stands in the head, and nothing may buffer the stream."""
    with client.chat.completions.with_streaming_response.create(model=TEXT, messages=ASK, stream=True) as answer:
        headers = answer.headers
        answer.read()
    assert headers["content-type"].startswith("text/event-stream")
    wanted = (
        "x-request-id", "openai-processing-ms", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests", "x-portal-provider",
    )  # fmt: skip
    assert not [name for name in wanted if not headers.get(name)]


def test_words_arrive_one_by_one(client: Any) -> None:
    """API-04: the first chunk is here long before the last leaves the server."""
    sandbox.control(tokens=8, delay_chunk_ms=60)
    stream = client.chat.completions.create(model=TEXT, messages=ASK, stream=True)
    at = [time.monotonic() for chunk in stream if chunk.choices[0].delta.content]
    assert len(at) == 8
    assert at[-1] - at[0] > 0.3
    assert sum(later - earlier > 0.02 for earlier, later in itertools.pairwise(at)) >= 5


def test_waiting_is_heard_and_not_seen(client: Any) -> None:
    """API-04: heartbeats while the model is silent; the SDK skips them, and the answer is whole."""
    sandbox.control(text=SAID, delay_first_ms=2500)
    with client.chat.completions.with_streaming_response.create(model=TEXT, messages=ASK, stream=True) as answer:
        lines = list(answer.iter_lines())
    assert any(line.startswith(":") for line in lines)
    sandbox.control(delay_first_ms=1500)
    assert text_of(list(client.chat.completions.create(model=TEXT, messages=ASK, stream=True))) == SAID


def test_the_async_client_streams(async_client: Any) -> None:
    """API-04: six async streams at once."""
    sandbox.control(text=SAID, delay_chunk_ms=10)

    async def read(client: Any) -> str:
        stream = await client.chat.completions.create(model=TEXT, messages=ASK, stream=True)
        return text_of([chunk async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with async_client() as client:
            return await asyncio.gather(*(read(client) for _ in range(6)))

    assert asyncio.run(all_of_them()) == [SAID] * 6


def test_the_sdks_own_accumulator_is_content(client: Any) -> None:
    """API-01: `chat.completions.stream()` puts the events together to the answer that was meant."""
    sandbox.control(text=SAID)
    with client.chat.completions.stream(model=TEXT, messages=ASK, stream_options={"include_usage": True}) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds
    assert whole.choices[0].message.content == SAID
    assert whole.usage.completion_tokens == 7


def test_reasoning_is_streamed_apart_from_the_answer(client: Any) -> None:
    """API-01: thoughts are `delta.reasoning`, and never mixed into the content."""
    sandbox.control(text=SAID)
    chunks = list(client.chat.completions.create(model=THINKING, messages=ASK, stream=True))
    thoughts = [(c.choices[0].delta.model_extra or {}).get("reasoning") or "" for c in chunks if c.choices]
    assert "".join(thoughts).startswith("The user wants an answer")
    assert text_of(chunks) == SAID
    assert last_chat()["outcome"] == "done"
