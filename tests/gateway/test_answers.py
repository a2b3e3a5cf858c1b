"""A chat request from end to end, on both transports: what arrives, what is told and charged, what the server saw."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest

from portal import money
from sandbox.ollama.scripted import count_prompt
from tests.gateway.conftest import PLENTY, House
from tests.gateway.wire import CHAT, Answer, Hub, Plain, chat

AnyDoor = Hub | Plain
SEVEN = "One two three four five six seven"


def text_of(events: list[Any]) -> str:
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])


def prompt_tokens(body: dict[str, Any]) -> int:
    """What the sandbox counts."""
    return count_prompt(body["messages"], body.get("tools", []))


def in_good_order(answer: Answer) -> None:
    """The headers that every inference answer carries (contract, "API")."""
    headers = answer.headers
    assert headers["x-request-id"].startswith("req_")
    assert len(answer.request_id) == 32
    assert int(headers["openai-processing-ms"]) >= 0
    assert headers["x-ratelimit-limit-requests"] == str(PLENTY)
    assert headers["x-ratelimit-remaining-requests"] == str(PLENTY - 1)
    assert headers["x-ratelimit-reset-requests"] in ("1m0s", "60s")
    assert headers["x-portal-provider"] == "local"


def test_an_answer_in_one_piece(door: AnyDoor, house: House) -> None:
    """API-01, API-02, never-again, "Nobody ever lost a credit": one usage row, one entry, the balance lower by that."""
    house.sandbox.control(text=SEVEN)
    before, _ = house.wallet(house.layla.account_id)
    rows = len(house.usages(house.layla.account_id))
    body = chat("How many words?", model="Llama3.2:3B")
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=body)
    told = answer.json()
    in_good_order(answer)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert told["id"] == "chatcmpl-" + answer.request_id
    assert told["model"] == "Llama3.2:3B"
    assert told["object"] == "chat.completion"
    assert told["choices"] == [{
        "index": 0, "message": {"role": "assistant", "content": SEVEN, "refusal": None}, "finish_reason": "stop",
        "logprobs": None,
    }]  # fmt: skip
    prompt = prompt_tokens(body)
    cost = prompt + 7
    assert told["usage"] == {
        "prompt_tokens": prompt, "completion_tokens": 7, "total_tokens": cost, "credits": cost / 1000,
    }  # fmt: skip
    assert answer.headers["x-portal-credits"] == money.credits_plain(cost)
    assert answer.headers["x-portal-balance"] == money.credits_plain(before - cost)
    assert house.wallet(house.layla.account_id) == (before - cost, 0)
    row = house.usage(answer.request_id)
    assert (row.cost, row.prompt_tokens, row.answer_tokens, row.estimated) == (cost, prompt, 7, False)
    assert (row.outcome, row.streamed, row.model, row.provider) == ("ok", False, "llama3.2:3b", "ollama-1")
    assert len(house.usages(house.layla.account_id)) == rows + 1


@pytest.mark.parametrize("dialect", ["new", "old"])
@pytest.mark.parametrize("framing", ["event", "split", "batch", "drip"])
def test_an_answer_in_events(door: AnyDoor, house: House, dialect: str, framing: str) -> None:
    """API-01, API-04: both of Ollama's dialects, however its bytes fall."""
    house.sandbox.control(text=SEVEN, dialect=dialect, framing=framing, pause_ms=0.1, crlf=framing == "split")
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True, model="LLAMA3.2:3b"))
    events = answer.events()
    in_good_order(answer)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert text_of(events) == SEVEN
    assert {(e["id"], e["model"]) for e in events} == {("chatcmpl-" + answer.request_id, "LLAMA3.2:3b")}
    assert all("usage" not in e for e in events)
    assert [e["choices"][0]["finish_reason"] for e in events][-1] == "stop"
    row = house.usage(answer.request_id)
    assert (row.outcome, row.answer_tokens, row.streamed, row.estimated) == ("ok", 7, True, False)
    assert row.first_byte_ms is not None


def test_usage_in_a_stream_is_told_once_when_asked_for_with_its_price(door: AnyDoor, house: House) -> None:
    """API-02: and the same usage, streamed or not, costs the same."""
    house.sandbox.control(text=SEVEN)
    body = chat("How many?")
    events = door.ask(
        "POST", CHAT, key=house.layla.api_key, body={**body, "stream": True, "stream_options": {"include_usage": True}}
    ).events()
    assert [e["usage"] for e in events if "usage" in e] == [events[-1]["usage"]]
    assert events[-1]["choices"] == []
    buffered = door.ask("POST", CHAT, key=house.layla.api_key, body=body).json()
    assert events[-1]["usage"] == buffered["usage"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_reaches_the_server_under_either_name(door: AnyDoor, house: House, name: str, stream: bool) -> None:
    """never-again, "50 asked, 1,349 tokens answered and billed"."""
    house.sandbox.control(tokens=200)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body={**chat(stream=stream), name: 5})
    if stream:
        reason = [e["choices"][0]["finish_reason"] for e in answer.events()][-1]
    else:
        reason = answer.json()["choices"][0]["finish_reason"]
    assert reason == "length"
    [seen] = house.sandbox.chats()
    assert seen["native"]["options"]["num_predict"] == 5
    assert house.usage(answer.request_id).answer_tokens == 5


def test_without_a_limit_the_server_is_told_the_models_own(door: AnyDoor, house: House) -> None:
    """CRD-01: the answer can't cost more than the hold."""
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(model="smollm2:135m"))
    assert answer.status == 200
    [seen] = house.sandbox.chats()
    assert seen["native"]["options"]["num_predict"] == 2048


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_of_the_customer_but_the_question_reaches_the_server(door: AnyDoor, house: House, stream: bool) -> None:
    """API-01, facts 10: the cloud pass-through copies every header it gets."""
    secrets = {
        "Cookie": "portal=canary", "X-Api-Key": "canary", "X-Forwarded-For": "10.9.8.7", "User-Agent": "canary/1",
        "OpenAI-Organization": "canary", "X-Stainless-Lang": "canary", "Accept-Language": "ar", "Traceparent": "canary",
    }  # fmt: skip
    body = chat(stream=stream, user="a-user", options={"num_predict": 9999}, keep_alive="24h", Model="bge-m3")
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=body, headers=secrets)
    assert answer.status == 200
    answer.read()
    [seen] = house.sandbox.chats()
    assert {name.lower() for name in seen["headers"]} == {
        "host", "user-agent", "accept", "content-type", "content-length",
    }  # fmt: skip
    assert seen["headers"]["user-agent"] == "llm-portal"
    told = json.dumps(seen)
    assert "canary" not in told
    assert house.layla.api_key not in told
    assert "9999" not in told
    assert "24h" not in told
    assert "bge-m3" not in told


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_arrive_whole(door: AnyDoor, house: House, stream: bool) -> None:
    """API-01."""
    house.sandbox.control(tool_calls=[{"name": "weather", "arguments": {"city": "الكويت", "days": 3}}])
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(tools=tools, stream=stream))
    if stream:
        choices = [e["choices"][0] for e in answer.events()]
        [calls] = [c["delta"]["tool_calls"] for c in choices if c["delta"].get("tool_calls")]
        reason = choices[-1]["finish_reason"]
    else:
        [choice] = answer.json()["choices"]
        calls, reason = choice["message"]["tool_calls"], choice["finish_reason"]
    assert reason == "tool_calls"
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "الكويت", "days": 3}


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_arrive_and_are_charged(door: AnyDoor, house: House, stream: bool) -> None:
    """API-01, API-02."""
    house.sandbox.control("gpt-oss:20b", reasoning=4, text=SEVEN)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(model="gpt-oss:20b", stream=stream))
    if stream:
        thought = "".join(e["choices"][0]["delta"].get("reasoning", "") for e in answer.events())
    else:
        thought = answer.json()["choices"][0]["message"]["reasoning"]
    assert len(thought.split()) == 4
    assert house.usage(answer.request_id).answer_tokens == 11


def test_an_image_reaches_a_model_that_sees(door: AnyDoor, house: House) -> None:
    """API-01."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {"model": "mistral-small3.2:24b", "messages": [{"role": "user", "content": [picture]}]}
    assert door.ask("POST", CHAT, key=house.layla.api_key, body=body).status == 200
    [seen] = house.sandbox.chats()
    assert seen["native"]["messages"][0]["images"] == ["iVBORw0KGgo="]


def test_the_second_address_is_the_same_door(door: AnyDoor, house: House) -> None:
    """Contract: both /v1 and /api/v1 reach the OpenAI dialect."""
    answer = door.ask("POST", "/api" + CHAT, key=house.layla.api_key, body=chat(stream=True))
    assert answer.status == 200
    assert answer.events()
    assert house.usage(answer.request_id).outcome == "ok"


@pytest.mark.parametrize("prefix", ["", "req_", "chatcmpl-"])
@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_what_a_request_cost_is_told_to_its_account_alone(door: AnyDoor, house: House, prefix: str, base: str) -> None:
    """API-02: `GET /v1/requests/{id}` tells what any request cost."""
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat())
    cost = answer.json()["usage"]["credits"]
    address = f"{base}/requests/{prefix}{answer.request_id}"
    told = door.ask("GET", address, key=house.layla.api_key).json()
    assert (told["id"], told["credits"], told["held"]) == (answer.headers["x-request-id"], cost, 0)
    assert (told["state"], told["outcome"], told["model"]) == ("settled", "ok", "llama3.2:3b")
    assert told["usage"]["estimated"] is False
    stranger = door.ask("GET", address, key=house.zaid.api_key)
    assert (stranger.status, stranger.error()["code"]) == (404, "not_found")
    assert door.ask("GET", address).status == 401


@pytest.mark.parametrize("wrong", ["x", "0" * 31, "0" * 32, "req_", "chatcmpl-" + "g" * 32])
def test_a_request_nobody_made_is_not_found(plain: Plain, house: House, wrong: str) -> None:
    """API-02."""
    assert plain.ask("GET", f"/v1/requests/{wrong}", key=house.layla.api_key).status == 404


def test_the_first_byte_leaves_before_the_server_is_done(door: AnyDoor, house: House) -> None:
    """API-04, never-again, "Stream arrived all at once"."""
    house.sandbox.control(tokens=6, hold_after=2)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    answer.until(b'"content":')
    assert house.sandbox.counters()["in_flight"] == 1
    house.sandbox.release()
    assert len(text_of(answer.events()).split()) == 6


def test_pieces_are_spread_over_time_as_the_server_sends_them(door: AnyDoor, house: House) -> None:
    """API-04, never-again, "Stream arrived all at once": through gunicorn too."""
    house.sandbox.control(tokens=8, delay_chunk_ms=60)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    answer.read()
    times = [at for at, data in answer.arrived if b'"content":' in data]
    assert len(times) >= 6
    assert times[-1] - times[0] >= 0.3
    assert sum(after - before > 0.02 for before, after in pairwise(times)) >= 5


def test_heartbeats_are_heard_while_the_server_is_silent(door: AnyDoor, house: House) -> None:
    """API-04: comment lines, which every client skips; never before they are needed."""
    house.sandbox.control(delay_first_ms=1700, text=SEVEN)
    began = time.monotonic()
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    first = answer.piece()
    assert first == b": ping\n\n"
    assert 0.5 < time.monotonic() - began < 1.6
    assert text_of(answer.events()) == SEVEN
    assert house.usage(answer.request_id).outcome == "ok"


def test_a_quick_stream_has_no_heartbeat_and_a_slow_answer_in_one_piece_neither(door: AnyDoor, house: House) -> None:
    """API-04: JSON has no comments."""
    quick = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    assert b": ping" not in quick.read()
    house.sandbox.control(delay_first_ms=1300)
    assert door.ask("POST", CHAT, key=house.layla.api_key, body=chat()).json()["object"] == "chat.completion"


def test_counts_that_cannot_be_never_cost_more_than_the_hold(door: AnyDoor, house: House) -> None:
    """never-again, "Upstream reported negative usage and the quota went up"."""
    before, _ = house.wallet(house.layla.account_id)
    for usage in ("negative", "huge", "zero"):
        house.sandbox.control(usage=usage, text=SEVEN)
        answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(max_tokens=20))
        answer.read()
        row = house.usage(answer.request_id)
        assert 0 <= row.cost <= row.hold
        assert row.cost == (row.hold if usage == "huge" else 0)
        before -= row.cost
    assert house.wallet(house.layla.account_id) == (before, 0)
