"""Every planned misfortune looks on the wire as the real one does."""

import http.client

import pytest

from sandbox.process import SandboxProcess
from tests.sandbox.client import Call, Reply, ask, body

BROKEN = (http.client.HTTPException, ConnectionError)


def spoil(sandbox: SandboxProcess, fault: str, stream: bool = True, path: str = "/v1/chat/completions") -> Reply:
    sandbox.control(fault=fault, fault_after=2)
    return ask(sandbox, body(stream=stream, stream_options={"include_usage": True}), path)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("crash_before", 500, "model runner has unexpectedly stopped"),
        ("load_failed", 500, "timed out waiting for llama-server to start"),
        ("404", 404, "model 'llama3.2:3b' not found"),
        ("400_context", 400, "exceed_context_size_error"),
        ("503_busy", 503, "server busy, please try again.  maximum pending requests exceeded"),
    ],
)
def test_a_failure_before_the_first_byte_has_its_status_and_openai_shape(
    sandbox: SandboxProcess, fault: str, status: int, words: str, stream: bool
) -> None:
    """GW-04: a proper status, streamed or not."""
    reply = spoil(sandbox, fault, stream)
    assert reply.status == status
    assert words in reply.json["error"]["message"]
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("fault", "status"),
    [("401_native", 401), ("402_native", 402), ("403_native", 403), ("429_native", 429), ("503_native", 503)],
)
def test_cloud_errors_are_native_on_the_openai_door(sandbox: SandboxProcess, fault: str, status: int) -> None:
    """GW-04: the cloud pass-through stands before the OpenAI dress, so its errors are plain strings."""
    reply = spoil(sandbox, fault)
    assert reply.status == status
    assert isinstance(reply.json["error"], str)
    if fault == "429_native":
        assert "operator-account-name" in reply.json["error"]


def test_a_proxy_in_front_answers_in_text_or_html(sandbox: SandboxProcess) -> None:
    """GW-04: parse defensively."""
    assert spoil(sandbox, "502_html").raw.startswith(b"<!DOCTYPE html>")
    text = spoil(sandbox, "503_text")
    assert (text.status, text.headers["content-type"]) == (503, "text/plain")
    empty = spoil(sandbox, "empty")
    assert (empty.status, empty.raw) == (200, b"")


@pytest.mark.parametrize("fault", ["reset_before", "cut_before"])
def test_a_connection_can_end_before_any_byte(sandbox: SandboxProcess, fault: str) -> None:
    """GW-04."""
    sandbox.control(fault=fault)
    with pytest.raises(BROKEN):
        ask(sandbox, body())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["reset_mid", "cut_mid"])
def test_a_connection_can_break_in_the_middle(sandbox: SandboxProcess, fault: str, stream: bool) -> None:
    """GW-04: headers and some bytes have come, the rest never does."""
    sandbox.control(fault=fault, fault_after=2)
    with Call(sandbox, asked=body(stream=stream)) as call:
        assert call.answer.status == 200
        with pytest.raises(BROKEN):
            call.answer.read()
    assert sandbox.chats()[-1]["outcome"] == "fault"
    assert sandbox.chats()[-1]["deltas_sent"] == 2


def test_a_crash_in_mid_stream_is_an_empty_chunk_and_a_clean_end(sandbox: SandboxProcess) -> None:
    """GW-04: all that a client of /v1 ever sees of it; native has an error line."""
    events = spoil(sandbox, "crash_mid").events
    assert [event["model"] for event in events] == ["llama3.2:3b", "llama3.2:3b", ""]
    assert events[-1]["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]
    assert spoil(sandbox, "crash_mid", path="/api/chat").lines[-1] == {
        "error": "an error was encountered while running the model: unexpected EOF"
    }
    assert spoil(sandbox, "crash_mid", stream=False).status == 500


def test_the_repeat_guard_ends_cleanly_and_tells_nothing(sandbox: SandboxProcess) -> None:
    """GW-04: streamed no finish, no usage, no [DONE]; buffered a null finish and zeros."""
    events = spoil(sandbox, "repeat_guard").events
    assert len(events) == 2 + 31
    assert all(event["choices"][0]["finish_reason"] is None for event in events)
    buffered = spoil(sandbox, "silent_end", stream=False).json
    assert buffered["choices"][0]["finish_reason"] is None
    assert buffered["choices"][0]["message"]["content"] == "Here is"
    assert buffered["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def test_other_servers_end_badly_in_their_own_ways(sandbox: SandboxProcess) -> None:
    """GW-04: error events, raw error lines, malformed events, missing ends."""
    assert "error" in spoil(sandbox, "error_event").events[-1]
    assert spoil(sandbox, "error_line").raw.endswith(b'unexpected EOF"}\n')
    assert b'"del\n\n' in spoil(sandbox, "bad_json").raw
    assert spoil(sandbox, "no_done").events[-1]["usage"]["completion_tokens"] > 2
    unfinished = spoil(sandbox, "no_finish").events
    assert unfinished[-1] == "[DONE]"
    assert not [event for event in unfinished[:-1] for choice in event["choices"] if choice["finish_reason"]]
    assert spoil(sandbox, "no_finish", stream=False).json["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("fault", ["stall_before", "stall_mid"])
def test_a_stalled_server_holds_the_line_until_the_client_leaves(sandbox: SandboxProcess, fault: str) -> None:
    """GW-04: silence, connection open."""
    sandbox.control(fault=fault, fault_after=1)
    call = Call(sandbox, asked=body(stream=True))
    sandbox.wait_for(lambda seen: bool(seen) and seen[-1]["fault"] == fault)
    call.leave()
    entry = sandbox.wait_for(lambda seen: seen[-1]["outcome"] == "client_left")[-1]
    assert entry["client_left"] is True


def test_a_fault_can_be_for_the_next_requests_only(sandbox: SandboxProcess) -> None:
    """GW-04: so that a retry can succeed."""
    sandbox.control(fault="crash_before", times=2)
    assert [ask(sandbox, body()).status for _ in range(3)] == [500, 500, 200]
    sandbox.next({"fault": "503_busy"}, {}, {"text": "third"})
    assert [ask(sandbox, body()).status for _ in range(2)] == [503, 200]
    assert ask(sandbox, body()).json["choices"][0]["message"]["content"] == "third"
    sandbox.control(fault="crash_before")
    assert ask(sandbox, body()).status == 500
    assert sandbox.counters()["faults"] == 4


def test_counts_can_lie(sandbox: SandboxProcess) -> None:
    """CRD-01: negative, huge, zero, missing, or what a test says."""
    sandbox.next(*({"usage": wish} for wish in ("negative", "huge", "zero", "missing", {"prompt_tokens": None})))
    asked = body(stream=True, stream_options={"include_usage": True})
    told = [[event["usage"] for event in ask(sandbox, asked).events[:-1] if "usage" in event] for _ in range(5)]
    assert told[0][0]["completion_tokens"] == -7
    assert told[1][0]["total_tokens"] == 2**41
    assert told[2] == [{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}]
    assert told[3] == []
    assert told[4][0]["prompt_tokens"] is None
