"""Refusals, as OpenAI's Python SDK raises them: the class, the code, the members, and how often the SDK asked."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from portal_under_test import KEYS, PLAIN, TEXT, THINKING, last_chat, record, sandbox

ASK = [{"role": "user", "content": "Say something short."}]


def check_shape(error: Any, *, code: str) -> dict[str, Any]:
    """The error object is whole; returns it."""
    body = error.body
    assert isinstance(body, dict) and {"message", "type", "param", "code"} <= set(body)
    assert error.code == body["code"] == code
    assert isinstance(body["message"], str) and len(body["message"]) > 10
    # 2.x prints the body as Python would, 3.x the message alone.
    assert body["message"] in str(error) or repr(body["message"]) in str(error)
    assert error.request_id and error.request_id.startswith("req_")
    assert error.response.headers["content-type"].startswith("application/json")
    return body


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("rsk_" + "0" * 40, "invalid_api_key"),
        ("sk-not-one-of-ours", "invalid_api_key"),
        (KEYS["revoked"], "key_revoked"),
        (KEYS["expired"], "key_expired"),
    ],
    ids=["unknown", "foreign", "revoked", "expired"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_key_is_told_once(make_client: Any, key: str, code: str, stream: bool) -> None:
    """KEY-03: 401, `WWW-Authenticate`, and no second attempt by the SDK."""
    client, seen = make_client()
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key=key).chat.completions.create(model=TEXT, messages=ASK, stream=stream)
    check_shape(caught.value, code=code)
    assert key not in caught.value.message
    assert caught.value.response.headers["www-authenticate"].startswith("Bearer")
    assert seen.statuses == [401]


def test_no_key_at_all(make_client: Any) -> None:
    """API-01: the code tells it from a wrong one."""
    client, _ = make_client()
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model=TEXT, messages=ASK, extra_headers={"Authorization": openai.Omit()})
    check_shape(caught.value, code="missing_api_key")


@pytest.mark.parametrize("stream", [False, True])
def test_out_of_credit_is_asked_for_once(make_client: Any, stream: bool) -> None:
    """API-03, GW-04: 402 with balance, required amount and the link; told as 429, every SDK would try again."""
    client, seen = make_client("poor")
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=TEXT, messages=ASK, stream=stream)
    body = check_shape(caught.value, code="insufficient_credits")
    assert caught.value.status_code == 402 and not isinstance(caught.value, openai.RateLimitError)
    assert 0 < body["balance"] < body["required"] and body["top_up_url"].endswith("/billing")
    assert seen.statuses == [402]


def test_the_async_client_asks_once_too(async_client: Any) -> None:
    """API-03: 402 through the async client."""

    async def ask() -> None:
        async with async_client("poor") as client:
            await client.chat.completions.create(model=TEXT, messages=ASK)

    with pytest.raises(openai.APIStatusError) as caught:
        asyncio.run(ask())
    assert (caught.value.status_code, caught.value.code) == (402, "insufficient_credits")


def test_credit_on_hold_is_another_matter(make_client: Any) -> None:
    """API-03: 429 `credits_on_hold` with Retry-After, and the SDK's own second attempt succeeds."""
    client, seen = make_client("thrifty")
    sandbox.next({"hold_after": 2})
    first = client.chat.completions.create(model=TEXT, messages=ASK, max_tokens=400, stream=True)
    assert next(iter(first)).choices
    with pytest.raises(openai.RateLimitError) as caught:
        client.with_options(max_retries=0).chat.completions.create(model=TEXT, messages=ASK, max_tokens=400)
    check_shape(caught.value, code="credits_on_hold")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    sandbox.release()
    assert list(first)[-1].choices[0].finish_reason == "stop"
    assert client.chat.completions.create(model=TEXT, messages=ASK, max_tokens=400).choices
    assert seen.statuses == [200, 429, 200]


def test_too_fast_is_told_with_the_time_to_wait(make_client: Any) -> None:
    """RATE-01: exactly the plan's 10 a minute, then 429 with Retry-After and the limits in the headers."""
    client, seen = make_client("hasty", retries=0)
    remaining = []
    for _ in range(10):
        raw = client.chat.completions.with_raw_response.create(model=TEXT, messages=ASK)
        remaining.append(int(raw.headers["x-ratelimit-remaining-requests"]))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model=TEXT, messages=ASK)
    check_shape(caught.value, code="rate_limit_exceeded")
    assert remaining == list(range(9, -1, -1))
    headers = caught.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("10", "0")
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert seen.statuses == [200] * 10 + [429]


@pytest.mark.parametrize(
    ("role", "model", "code"), [("newcomer", THINKING, "model_not_in_plan"), ("reader", TEXT, "scope_missing")]
)
def test_what_is_not_allowed_is_told_once(make_client: Any, role: str, model: str, code: str) -> None:
    """MODEL-02, KEY-05: 403, and no second attempt."""
    client, seen = make_client(role)
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(model=model, messages=ASK)
    check_shape(caught.value, code=code)
    assert seen.statuses == [403]


def test_an_unknown_model_is_told_with_its_neighbour(client: Any) -> None:
    """API-05: 404 names what was probably meant."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="llama3.2:3", messages=ASK)
    assert TEXT in check_shape(caught.value, code="model_not_found")["message"]


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"stream": "yes please"}, "stream"),
        ({"model": 7}, "model"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "smell", "smell": "smoke"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"logprobs": True, "top_logprobs": 99}, "top_logprobs"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": ["."], "top_p": []}, "top_p"),
        ({"messages": ["hello"]}, "messages"),
        ({"model": THINKING, "reasoning_effort": "sideways"}, "reasoning_effort"),
    ],
    ids=str,
)
def test_a_bad_request_names_the_field(make_client: Any, wish: dict[str, Any], param: str) -> None:
    """API-01: 400 `invalid_request`, `param` names the field, no second attempt, nothing charged."""
    client, seen = make_client()
    body = {"model": TEXT, "messages": ASK, **wish}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    assert check_shape(caught.value, code="invalid_request")["param"] == param
    assert seen.statuses == [400]


def test_a_prompt_beyond_the_context_is_refused(client: Any) -> None:
    """API-01: 400 `context_length_exceeded`, the code and the words that frameworks look for."""
    sandbox.control(fault="400_context")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=TEXT, messages=ASK)
    body = check_shape(caught.value, code="context_length_exceeded")
    assert "maximum context length" in body["message"] and body["param"] == "messages"
    assert record(caught.value.request_id)["credits"] == 0


def test_an_address_that_does_not_exist(client: Any) -> None:
    """API-01: 404 in OpenAI's shape, not a page."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.post("/nothing/here", body={}, cast_to=object)
    check_shape(caught.value, code="not_found")


def test_a_method_that_does_not_fit(client: Any) -> None:
    """API-01: 405 in OpenAI's shape."""
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert caught.value.status_code == 405
    check_shape(caught.value, code="method_not_allowed")


def test_errors_speak_arabic_to_who_asks_for_it(client: Any) -> None:
    """API-01: `Accept-Language: ar`; codes stay as they are."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nothing", messages=ASK, extra_headers={"Accept-Language": "ar"})
    assert any("\u0600" <= sign <= "\u06ff" for sign in check_shape(caught.value, code="model_not_found")["message"])


def test_a_refusal_reaches_no_server(client: Any) -> None:
    """API-02: what is refused at the door is not sent on."""
    client.chat.completions.create(model=TEXT, messages=ASK)
    number = last_chat()["number"]
    for wish in ({"model": "nothing"}, {"model": PLAIN, "tools": [{"type": "function", "function": {"name": "f"}}]}):
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(**{"model": TEXT, "messages": ASK, **wish})
    assert last_chat()["number"] == number
