"""A streamed answer on its way: whole events only, our names in each, usage once or never, no end taken on trust."""

import json
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from portal.services.gateway.reply import StreamReply

NEW, OLD = "new", "old"


def reply(*, include_usage: bool = False, bounds: tuple[int, int] = (1000, 1000)) -> StreamReply:
    """A model whose tokens cost one milli-credit each."""
    return StreamReply(
        "chatcmpl-ours",
        "نموذج:3b",
        bounds=bounds,
        estimate=11,
        cost=lambda a, b, _cached: a + b,
        include_usage=include_usage,
    )


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **members: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    event = {
        "id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1700000000, "model": "theirs:latest",
        "system_fingerprint": "fp_ollama", "choices": choices, **members,
    }  # fmt: skip
    return b"data: " + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


def ollama(dialect: str, texts: list[str], *, finish: str = "stop", usage: dict[str, Any] | None = USAGE) -> bytes:
    """A whole stream as Ollama sends it, from 0.32.6 (new) or before (old)."""
    role = {"role": "assistant"}
    out = []
    for number, text in enumerate(texts):
        out.append(chunk({**(role if dialect == OLD or number == 0 else {}), "content": text}))
    out.append(chunk({**role, "content": ""}, finish) if dialect == OLD else chunk({}, finish))
    if usage is not None:
        out.append(chunk(None, usage=usage))
    return b"".join([*out, DONE])


def events(out: bytes) -> list[Any]:
    """What the customer gets, parsed as the SDKs do; `[DONE]` as text."""
    assert out.endswith(b"\n\n") or not out, "half an event was sent"
    blocks = out.decode().split("\n\n")[:-1]
    assert all(block.startswith("data: ") for block in blocks), blocks
    data = [block.removeprefix("data: ") for block in blocks]
    return [d if d == "[DONE]" else json.loads(d) for d in data]


def run(stream: StreamReply, data: bytes, cuts: list[int] | None = None) -> bytes:
    places = sorted({cut % (len(data) + 1) for cut in cuts or []})
    out = [stream.feed(data[a:b]) for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    return b"".join(out) + stream.close()


texts = st.lists(st.text(max_size=8), min_size=1, max_size=8)
cuts = st.lists(st.integers(0, 5000), max_size=12)
TRICKY = [
    '"finish_reason":"stop"',
    "data: [DONE]\n\n",
    'say "usage":',
    "\r\n\r\n",
    '{"error":{}}',
    "مرحبا 👋",
    "\\",
    '""',
]


@given(texts=texts, dialect=st.sampled_from([NEW, OLD]), crlf=st.booleans(), wanted=st.booleans(), cuts=cuts)
@example(texts=TRICKY, dialect=NEW, crlf=True, wanted=True, cuts=list(range(5000)))
@example(texts=TRICKY, dialect=OLD, crlf=False, wanted=False, cuts=list(range(5000)))
def test_the_same_bytes_give_the_same_stream_however_they_are_split(
    texts: list[str], dialect: str, crlf: bool, wanted: bool, cuts: list[int]
) -> None:
    """API-04: TCP cuts where it likes; the customer's bytes do not depend on it, nor what is charged."""
    data = ollama(dialect, texts)
    if crlf:
        data = data.replace(b"\n", b"\r\n")
    whole, pieces = reply(include_usage=wanted), reply(include_usage=wanted)
    out = run(whole, data)
    assert run(pieces, data, cuts) == out
    assert pieces.delivered == whole.delivered == sum(bool(text) for text in texts)
    assert pieces.final_counts() == (9, 3, False)
    assert pieces.failure is None
    told = events(out)
    assert told[-1] == "[DONE]"
    said = [e["choices"][0]["delta"].get("content", "") for e in told[:-1] if e["choices"]]
    assert "".join(said) == "".join(texts)


@given(texts=texts, dialect=st.sampled_from([NEW, OLD]), wanted=st.booleans())
def test_every_event_has_our_id_and_the_customers_spelling(texts: list[str], dialect: str, wanted: bool) -> None:
    """API-01: Ollama's ids are 999 in all, and its spelling of a model is not the customer's."""
    told = events(run(reply(include_usage=wanted), ollama(dialect, texts)))
    assert {(e["id"], e["model"]) for e in told if e != "[DONE]"} == {("chatcmpl-ours", "نموذج:3b")}


@pytest.mark.parametrize("dialect", [NEW, OLD])
@pytest.mark.parametrize("wanted", [True, False])
def test_usage_is_told_once_at_the_end_or_not_at_all(dialect: str, wanted: bool) -> None:
    """API-02: a client that reads choices[0] of every event breaks on a usage event it did not ask for."""
    told = events(run(reply(include_usage=wanted), ollama(dialect, ["a", "b", "c"])))
    with_usage = [e for e in told if e != "[DONE]" and "usage" in e]
    if not wanted:
        assert with_usage == []
        return
    assert with_usage == [told[-2]]
    assert told[-2]["choices"] == []
    assert told[-2]["usage"] == {**USAGE, "credits": 0.012}


def test_usage_on_content_events_is_taken_off_and_the_last_one_counts() -> None:
    """API-02: fact 13, some servers tell zeros with every event; Continue loses the text of an event with usage."""
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    data = chunk({"content": "a"}, usage=zeros) + chunk({"content": "b"}, usage=None) + chunk({}, "stop", usage=zeros)
    stream = reply(include_usage=True)
    told = events(run(stream, data + chunk(None, usage=USAGE) + DONE))
    assert [("usage" in e) for e in told[:-1]] == [False, False, False, True]
    assert stream.final_counts() == (9, 3, False)


def test_explicit_zeros_are_zeros_and_a_missing_usage_is_estimated() -> None:
    """never-again, "Zero taken for missing, missing for zero"."""
    told = reply()
    run(told, ollama(NEW, ["a", "b"], usage={"prompt_tokens": 0, "completion_tokens": 0}))
    assert told.final_counts() == (0, 0, False)
    silent = reply(include_usage=True)
    last = events(run(silent, ollama(NEW, ["a", "b"], usage=None)))[-2]
    assert silent.final_counts() == (11, 2, True)
    assert last["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("told", "charged"), [((-5, -7), (0, 0)), ((2**70, 2**70), (1000, 1000)), ((1000, 1001), (1000, 1000))]
)
def test_counts_that_cannot_be_are_brought_into_bounds(told: tuple[int, int], charged: tuple[int, int]) -> None:
    """never-again, "Upstream reported negative usage and the quota went up"."""
    stream = reply()
    run(stream, ollama(NEW, ["a"], usage={"prompt_tokens": told[0], "completion_tokens": told[1]}))
    assert stream.final_counts()[:2] == charged
    assert stream.clamped


def test_details_of_the_usage_are_passed_on() -> None:
    """API-01: Cline reads prompt_tokens_details.cached_tokens."""
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}, "surprise": 1}
    told = events(run(reply(include_usage=True), ollama(NEW, ["a"], usage=usage)))
    assert told[-2]["usage"] == {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}, "credits": 0.012}


def test_a_complete_answer_without_done_is_complete() -> None:
    """API-04: the finish reason says so; the customer gets the [DONE] that the server forgot."""
    stream = reply()
    told = events(run(stream, ollama(NEW, ["a", "b"]).removesuffix(DONE)))
    assert told[-1] == "[DONE]"
    assert stream.failure is None


CRASH = chunk({"content": ""}, model="")
FAILURES = {
    "silent end": b"",
    "Ollama's crash": CRASH,
    "repeat guard": chunk({"content": " the"}) * 31,
    "[DONE] without a finish": DONE,
    "an error event": b'data: {"error":{"message":"operator-name","code":null}}\n\n' + DONE,
    "an error event of text": b'data: {"error":"operator-name"}\n\n',
    "a native error line": b'{"error":"operator-name"}\n',
    "no JSON": b'data: {"id":"x","choices":[{"del\n\n' + chunk({}, "stop") + DONE,
    "not an object": b"data: [1]\n\n",
    "choices of another kind": b'data: {"model":"x","choices":7}\n\n',
    "a delta of another kind": b'data: {"model":"x","choices":[{"delta":"text"}]}\n\n',
    "a count of another kind": chunk(None, usage={"prompt_tokens": "9"}),
    "no UTF-8": b'data: {"\xff":1,"choices":[]}\n\n',
    "a nest without end": b'data: {"x":' + b"[" * 100_000 + b"\n\n",
    "half an event": chunk({"content": "lost"})[:-2],
}


@pytest.mark.parametrize("dialect", [NEW, OLD])
@pytest.mark.parametrize("what", FAILURES)
def test_an_end_without_a_finish_is_an_error_event_and_then_done(what: str, dialect: str) -> None:
    """never-again, "Upstream crash mid-stream looked like a complete answer"; nothing of the server's words is told."""
    beginning = b"".join(chunk({"role": "assistant", "content": t}) for t in ("a", "b"))
    stream = reply(include_usage=True)
    out = run(stream, beginning + FAILURES[what])
    told = events(out)
    assert told[-1] == "[DONE]"
    assert told[-2]["error"]["code"] == "upstream_error"
    assert told[-2]["error"]["type"] == "server_error"
    assert stream.failure is not None
    assert stream.delivered == 2 + (31 if what == "repeat guard" else 0)
    assert not any("usage" in e for e in told[:-2])
    assert b"operator-name" not in out
    assert b"lost" not in out


def test_the_empty_event_of_a_crash_is_not_passed_on() -> None:
    """never-again, "Upstream crash mid-stream …": its model is the empty string."""
    told = events(run(reply(), chunk({"role": "assistant", "content": "a"}) + CRASH))
    assert len(told) == 3


def test_nothing_follows_the_end() -> None:
    """API-04: what a server still says after [DONE] or after a failure is nobody's."""
    stream = reply()
    out = stream.feed(ollama(NEW, ["a"]) + chunk({"content": "more"}))
    assert b"more" not in out
    assert stream.feed(chunk({"content": "more"})) == stream.close() == b""
    assert stream.delivered == 1


def test_tool_calls_reasoning_and_unknown_members_pass_untouched() -> None:
    """API-01: each tool call comes whole in one event."""
    call = {"id": "call_1", "index": 0, "type": "function", "function": {"name": "f", "arguments": '{"a":"\\u003c"}'}}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "reasoning": "hm"}, {"content": "", "reasoning": "so"},
        {"content": "", "tool_calls": [call]}, {"content": None}, {"reasoning_content": "x"},
    ]  # fmt: skip
    stream = reply()
    told = events(run(stream, b"".join(chunk(d, logprobs=None) for d in deltas) + chunk({}, "tool_calls") + DONE))
    assert [e["choices"][0]["delta"] for e in told[:-1]] == [*deltas, {}]
    assert told[0]["system_fingerprint"] == "fp_ollama"
    assert told[0]["logprobs"] is None
    assert told[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert stream.delivered == 4


@pytest.mark.parametrize("first", [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": ""}])
def test_pieces_are_counted_alike_on_the_quick_way_and_the_slow(first: dict[str, Any]) -> None:
    """never-again, "Client leaves before the last chunk …": the quick way swaps the beginning without parsing."""
    deltas: list[dict[str, Any]] = [
        first, {"content": "b"}, {"content": ""}, {}, {"role": "assistant"}, {"content": None}, {"reasoning": ""},
        {"content": '"content":""'}, {"content": "", "reasoning": "r"}, {"content": "", "tool_calls": [{"index": 0}]},
        {"content": "", "tool_calls": []},
    ]  # fmt: skip
    quick, slow = reply(), reply()
    quick.feed(b"".join(chunk(d) for d in deltas))
    for number, delta in enumerate(deltas):  # a new id each time: the beginning is never the one remembered
        slow.feed(chunk(delta, id=f"chatcmpl-{number}"))
    assert quick.delivered == slow.delivered == bool(first["content"]) + 4


def test_comments_and_other_fields_of_the_upstream_stay_behind() -> None:
    """API-04: heartbeats are ours to send."""
    data = b": ping\n\nevent: x\nid: 1\nretry: 5\n\n" + ollama(NEW, ["a"])
    assert run(reply(), data) == run(reply(), ollama(NEW, ["a"]))


def test_an_event_in_several_data_lines_is_one() -> None:
    """API-04: the SSE standard allows it."""
    data = chunk({"content": "a"}).replace(b',"object"', b'\ndata: ,"object"') + chunk({}, "stop") + DONE
    told = events(run(reply(), data))
    assert told[0]["choices"][0]["delta"] == {"content": "a"}
