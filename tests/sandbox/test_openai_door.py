"""`/v1/chat/completions` of the simulated server says what Ollama says, in both dialects."""

import re
from typing import Any

import pytest

from sandbox.process import SandboxProcess
from tests.sandbox.client import MODEL, ask, body


def test_a_stream_of_the_new_dialect_has_one_role_a_finish_chunk_and_usage_only_when_asked(
    sandbox: SandboxProcess,
) -> None:
    """API-01: the shape from v0.32.6."""
    sandbox.control(text="one two three")
    events = ask(sandbox, body(stream=True, stream_options={"include_usage": True})).events
    assert [event["choices"][0]["delta"] for event in events[:4]] == [
        {"role": "assistant", "content": "one"},
        {"content": " two"},
        {"content": " three"},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events[:4]] == [None, None, None, "stop"]
    assert events[4]["choices"] == []
    assert events[4]["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert events[5:] == ["[DONE]"]
    assert {event["id"] for event in events[:5]} == {events[0]["id"]}
    assert re.fullmatch(r"chatcmpl-\d{1,3}", events[0]["id"])
    assert {event["system_fingerprint"] for event in events[:5]} == {"fp_ollama"}
    without = ask(sandbox, body(stream=True)).events
    assert not [event for event in without[:-1] if "usage" in event]


def test_a_stream_of_the_old_dialect_repeats_the_role_and_finishes_on_an_empty_delta(sandbox: SandboxProcess) -> None:
    """API-01: the shape up to v0.32.5, still common."""
    sandbox.control(text="one two", dialect="<=0.32.5")
    events = ask(sandbox, body(stream=True)).events
    assert [event["choices"][0] for event in events[:-1]] == [
        {"index": 0, "delta": {"role": "assistant", "content": "one"}, "finish_reason": None},
        {"index": 0, "delta": {"role": "assistant", "content": " two"}, "finish_reason": None},
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"},
    ]
    assert ask(sandbox, path="/api/version").json == {"version": "0.32.5"}


def test_a_buffered_answer_has_neither_refusal_nor_logprobs(sandbox: SandboxProcess) -> None:
    """API-01: what OpenAI's schema wants and Ollama leaves out, the gateway must add."""
    answer = ask(sandbox, body(max_tokens=4)).json
    assert answer["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Here is a short"}, "finish_reason": "length"}
    ]
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    assert answer["model"] == MODEL


def test_max_tokens_limits_and_max_completion_tokens_is_ignored(sandbox: SandboxProcess) -> None:
    """API-02: a gateway that does not translate must see its cap lost."""
    sandbox.control(tokens=40)
    assert ask(sandbox, body(max_tokens=7)).json["usage"]["completion_tokens"] == 7
    assert ask(sandbox, body(max_completion_tokens=7)).json["usage"]["completion_tokens"] == 40
    limited, unlimited = sandbox.chats()
    assert limited["native"]["options"] == {"num_predict": 7, "temperature": 1.0, "top_p": 1.0}
    assert "num_predict" not in unlimited["native"]["options"]
    assert unlimited["body"]["max_completion_tokens"] == 7


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        (b"{", 400, "unexpected EOF"),
        (b"nonsense", 400, "invalid character 'n' looking for beginning of value"),
        (body(messages=[]), 400, "[] is too short - 'messages'"),
        ({"messages": [{"role": "user", "content": "x"}]}, 400, "model is required"),
        (body(model="no-such"), 404, "model 'no-such' not found"),
        (
            body(max_tokens="5"),
            400,
            "json: cannot unmarshal string into Go struct field ChatCompletionRequest.max_tokens of type int",
        ),
        (body(messages=[{"role": "user", "content": None}]), 400, "invalid message content type: <nil>"),
        (body(messages=[{"role": "user", "content": [{"type": "file"}]}]), 400, "invalid message format"),
        (
            body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "https://x.example/a"}]}]),
            400,
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            body(messages=[{"role": "assistant", "tool_calls": [{"id": "c", "function": {"arguments": "{"}}]}]),
            400,
            "invalid tool call arguments",
        ),
        (body(top_logprobs=21), 400, "top_logprobs must be between 0 and 20"),
        (body(reasoning_effort="low"), 400, f'"{MODEL}" does not support thinking'),
        (body(model="bge-m3"), 400, '"bge-m3" does not support chat'),
        (
            body(model="smollm2:135m", tools=[{"type": "function", "function": {"name": "a"}}]),
            400,
            "registry.ollama.ai/library/smollm2:135m does not support tools",
        ),
    ],
)
def test_what_ollama_refuses_is_refused_with_its_words(
    sandbox: SandboxProcess, asked: Any, status: int, message: str
) -> None:
    """API-05: always the four keys; the type is told by the status."""
    reply = ask(sandbox, asked)
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    assert reply.status == status
    assert reply.json == {"error": {"message": message, "type": kind, "param": None, "code": None}}


def test_a_tool_call_comes_whole_in_one_chunk_and_then_words_follow_its_result(sandbox: SandboxProcess) -> None:
    """API-01: tools, as LangChain's suite uses them."""
    tool = {
        "type": "function",
        "function": {
            "name": "magic_function",
            "parameters": {"type": "object", "properties": {"input": {"type": "integer"}}, "required": ["input"]},
        },
    }
    question = "What is the value of magic_function(3)? Use the tool."
    events = ask(sandbox, body(question, tools=[tool], stream=True)).events
    delta = events[0]["choices"][0]["delta"]
    call = delta["tool_calls"][0]
    assert delta["content"] == ""
    assert call["function"] == {"name": "magic_function", "arguments": '{"input":3}'}
    assert re.fullmatch(r"call_\w{8}", call["id"])
    assert events[1]["choices"][0]["finish_reason"] == "tool_calls"
    history = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "5"},
    ]
    answer = ask(sandbox, body(messages=history, tools=[tool])).json["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert answer["message"]["content"]
    assert sandbox.chats()[-1]["native"]["messages"][-1]["tool_name"] == "magic_function"


def test_a_schema_gets_a_valid_instance(sandbox: SandboxProcess) -> None:
    """API-01: structured output."""
    import json

    schema = {
        "type": "object",
        "properties": {
            "mood": {"enum": ["calm", "cheerful"]},
            "count": {"type": "integer", "minimum": 10},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "required": ["mood", "count", "tags"],
        "$defs": {"tag": {"type": "string", "maxLength": 5}},
    }
    asked = body("Be cheerful, 3 times", response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    found = json.loads(ask(sandbox, asked).json["choices"][0]["message"]["content"])
    assert found["mood"] == "cheerful"
    assert found["count"] == 10
    assert len(found["tags"]) == 2
    assert all(len(tag) <= 5 for tag in found["tags"])
    assert isinstance(found["note"], str)


def test_thoughts_come_as_reasoning_and_are_counted(sandbox: SandboxProcess) -> None:
    """API-01: a thinking model."""
    sandbox.control(reasoning="let me think", text="done")
    answer = ask(sandbox, body(model="gpt-oss:20b")).json
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "done", "reasoning": "let me think"}
    assert answer["usage"]["completion_tokens"] == 4


def test_html_signs_are_escaped_as_go_does_it_and_arabic_is_not(sandbox: SandboxProcess) -> None:
    """API-01: nobody may look for raw text in raw bytes."""
    sandbox.control(text="<b>مرحبا")
    raw = ask(sandbox, body()).raw
    assert rb"\u003cb\u003e" in raw
    assert "مرحبا".encode() in raw


def test_models_are_listed_and_no_models_are_null(sandbox: SandboxProcess) -> None:
    """API-03: a nil slice of Go's is null, not an empty list."""
    rows = ask(sandbox, path="/v1/models").json["data"]
    assert {row["id"] for row in rows} >= {"smollm2:135m", MODEL}
    assert ask(sandbox, path=f"/v1/models/{MODEL}").json["owned_by"] == "library"
    assert ask(sandbox, path="/v1/models/nope").json["error"]["type"] == "not_found_error"
    for row in rows:
        sandbox.control(remove_model=row["id"])
    assert ask(sandbox, path="/v1/models").json == {"object": "list", "data": None}


def test_embeddings_come_as_floats_or_base64(sandbox: SandboxProcess) -> None:
    """API-06: the SDK asks for base64 when its caller named nothing."""
    import base64
    import struct

    asked = {"model": "nomic-embed-text", "input": ["a cat", "a dog"]}
    floats = ask(sandbox, asked, "/v1/embeddings").json
    coded = ask(sandbox, {**asked, "encoding_format": "base64"}, "/v1/embeddings").json
    first = struct.unpack("<768f", base64.b64decode(coded["data"][0]["embedding"]))
    assert first == pytest.approx(floats["data"][0]["embedding"], abs=1e-6)
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-4)
    assert ask(sandbox, {**asked, "input": []}, "/v1/embeddings").json["error"]["message"] == "invalid input"
