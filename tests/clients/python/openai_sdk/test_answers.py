"""Answers in one piece, as OpenAI's Python SDK sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from portal_under_test import SLASHED, TEXT, THINKING, last_chat, record, sandbox

ASK = [{"role": "user", "content": "Say something short."}]
CONTRACT_HEADERS = (
    "x-request-id", "openai-processing-ms", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests", "x-portal-provider", "x-portal-credits", "x-portal-balance",
)  # fmt: skip


def test_an_answer_is_complete_and_typed(client: Any) -> None:
    """API-01: text, ids, model as asked for, finish reason and usage are where the SDK has them."""
    sandbox.control(text="One two three four.")
    first = client.chat.completions.create(model=TEXT, messages=ASK)
    second = client.chat.completions.create(model=TEXT, messages=ASK)
    choice = first.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "One two three four.",
        "stop",
    )
    assert choice.message.refusal is None and choice.logprobs is None and not choice.message.tool_calls
    assert first.object == "chat.completion" and first.created > 1_700_000_000
    assert first.model == TEXT
    assert first.id.startswith("chatcmpl-") and first.id != second.id
    assert first.usage.completion_tokens == 4
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens > 4


def test_the_async_client_gets_the_same(async_client: Any) -> None:
    """API-01: the async client, several requests at once on one connection pool."""
    sandbox.control(text="One two three four.")

    async def ask() -> list[Any]:
        async with async_client() as client:
            calls = [client.chat.completions.create(model=TEXT, messages=ASK) for _ in range(6)]
            return await asyncio.gather(*calls)

    answers = asyncio.run(ask())
    assert [a.choices[0].message.content for a in answers] == ["One two three four."] * 6
    assert len({a.id for a in answers}) == 6


def test_every_answer_carries_the_headers_of_the_contract(client: Any) -> None:
    """API-02, RATE-01: request id, time, limits, provider, cost, balance."""
    raw = client.chat.completions.with_raw_response.create(model=TEXT, messages=ASK)
    missing = [name for name in CONTRACT_HEADERS if not raw.headers.get(name)]
    assert not missing
    answer = raw.parse()
    assert raw.headers["x-request-id"] == answer._request_id
    assert raw.headers["x-portal-provider"] == "local"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert int(raw.headers["x-ratelimit-remaining-requests"]) < int(raw.headers["x-ratelimit-limit-requests"])
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")


def test_the_cost_told_is_the_cost_taken(client: Any) -> None:
    """API-02: one local token is one milli-credit; header, body, `/v1/requests` and the balance agree."""
    create = client.chat.completions.with_raw_response.create
    before = create(model=TEXT, messages=ASK)
    after = create(model=TEXT, messages=ASK)
    usage = after.parse().usage
    cost = usage.total_tokens / 1000
    assert float(after.headers["x-portal-credits"]) == cost == usage.model_extra["credits"]
    assert round(float(before.headers["x-portal-balance"]) - float(after.headers["x-portal-balance"]), 3) == cost
    told = record(after.headers["x-request-id"])
    assert (told["credits"], told["outcome"], told["usage"]["completion_tokens"]) == (
        cost,
        "ok",
        usage.completion_tokens,
    )


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_reaches_the_server_whatever_it_is_called(client: Any, name: str, stream: bool) -> None:
    """API-01: 50 asked, 1,349 answered and billed, because the limit sat where the server does not look."""
    sandbox.control(tokens=200)
    answer = client.chat.completions.create(model=TEXT, messages=ASK, stream=stream, **{name: 50})
    if stream:
        chunks = [chunk for chunk in answer if chunk.choices]
        words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks).split()
        reason = chunks[-1].choices[0].finish_reason
    else:
        words, reason = answer.choices[0].message.content.split(), answer.choices[0].finish_reason
        assert answer.usage.completion_tokens == 50
    assert last_chat()["native"]["options"]["num_predict"] == 50
    assert len(words) == 50 and reason == "length"


def test_seed_stop_and_sampling_reach_the_server(client: Any) -> None:
    """API-01: seeds, stops, temperature and penalties."""
    sandbox.control(text="one two three STOP four five")
    answer = client.chat.completions.create(
        model=TEXT, messages=ASK, seed=42, stop=["STOP"], temperature=0.25, top_p=0.5,
        frequency_penalty=0.5, presence_penalty=-0.5, user="someone", logit_bias={"50256": -100}, store=False,
        metadata={"from": "test"}, service_tier="auto", parallel_tool_calls=True, n=1,
    )  # fmt: skip
    assert answer.choices[0].message.content == "one two three "
    assert answer.choices[0].finish_reason == "stop"
    options = last_chat()["native"]["options"]
    expected = {
        "seed": 42,
        "stop": ["STOP"],
        "temperature": 0.25,
        "top_p": 0.5,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
    }
    assert {name: options.get(name) for name in expected} == expected


def test_the_users_key_and_identity_stay_here(client: Any) -> None:
    """API-01: what a client tells of its user is not passed on to the server."""
    client.chat.completions.create(
        model=TEXT, messages=ASK, extra_headers={"x-openwebui-user-email": "someone@example.com"}
    )
    headers = {name.lower(): value for name, value in last_chat()["headers"].items()}
    assert "rsk_" not in str(headers) and "someone@example.com" not in str(headers)
    assert not [name for name in headers if name.startswith("x-stainless")]


def test_the_model_is_called_what_the_client_called_it(client: Any) -> None:
    """API-01, API-05: another spelling and an id with a slash; the server's own name for it never shows."""
    for name in ("LLAMA3.2:3B", SLASHED):
        assert client.chat.completions.create(model=name, messages=ASK).model == name
        with client.chat.completions.create(model=name, messages=ASK, stream=True) as stream:
            assert {chunk.model for chunk in stream} == {name}


def test_a_conversation_with_all_roles_and_arabic(client: Any) -> None:
    """API-01: system, developer, assistant and content parts arrive in order; Arabic comes back whole."""
    answer = client.chat.completions.create(
        model=TEXT,
        messages=[
            {"role": "system", "content": "أجب باختصار."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": [{"type": "text", "text": "اكتب جملة"}, {"type": "text", "text": "قصيرة"}]},
        ],
    )  # fmt: skip
    sent = last_chat()["native"]["messages"]
    assert [m["role"] for m in sent] == ["system", "developer", "user", "assistant", "user", "user"]
    assert sent[0]["content"] == "أجب باختصار."
    assert answer.choices[0].message.content.startswith("هذه إجابة")


def test_reasoning_is_kept_and_can_be_turned_off(client: Any) -> None:
    """API-01: a thinking model's reasoning is in the message, and `reasoning_effort` decides."""
    thought = client.chat.completions.create(model=THINKING, messages=ASK, reasoning_effort="high")
    assert thought.choices[0].message.model_extra["reasoning"].startswith("The user wants")
    assert last_chat()["native"]["think"] == "high"
    assert thought.usage.completion_tokens > len(thought.choices[0].message.content.split())
    silent = client.chat.completions.create(model=THINKING, messages=ASK, reasoning_effort="none")
    assert "reasoning" not in silent.choices[0].message.model_extra


def test_both_addresses_answer(client: Any) -> None:
    """API-01: `/api/v1` is the same dialect as `/v1`."""
    from portal_under_test import URL

    other = client.with_options(base_url=URL + "/api/v1")
    assert other.chat.completions.create(model=TEXT, messages=ASK).choices[0].message.content
    assert other.models.list().data
