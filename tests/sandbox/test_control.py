"""The tests' own door: knobs, journal, framing of bytes."""

from typing import Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from tests.sandbox.client import MODEL, ask, body


def test_a_wrong_knob_is_refused_with_the_right_names(sandbox: SandboxProcess) -> None:
    """OPS-01: a knob that does nothing would make a test that cannot fail."""
    with pytest.raises(SandboxError, match=r"no knob 'dealy_first_ms'; there are: .*delay_first_ms"):
        sandbox.control(dealy_first_ms=5)
    with pytest.raises(SandboxError, match="fault must be null or one of"):
        sandbox.control(fault="nonsense")
    with pytest.raises(SandboxError, match="slots must be a count"):
        sandbox.control(slots=0)
    with pytest.raises(SandboxError, match="no model 'nope'"):
        sandbox.control("nope", slots=2)


def test_a_models_knob_beats_the_servers_and_reset_forgets_both(sandbox: SandboxProcess) -> None:
    """OPS-01."""
    sandbox.control(text="all")
    sandbox.control("LLAMA3.2:3B", text="one")
    assert ask(sandbox, body()).json["choices"][0]["message"]["content"] == "one"
    assert ask(sandbox, body(model="gpt-oss:20b")).json["choices"][0]["message"]["content"] == "all"
    sandbox.reset()
    assert sandbox.state()["models"] == {}
    assert sandbox.requests() == []
    assert ask(sandbox, body()).json["choices"][0]["message"]["content"].startswith("Here is")


def test_the_journal_keeps_headers_body_and_what_became_of_it(sandbox: SandboxProcess) -> None:
    """OPS-01: what reached the upstream, the keys of customers above all."""
    ask(sandbox, body(max_tokens=2, user="someone"))
    entry = sandbox.chats()[-1]
    assert entry["headers"]["content-type"] == "application/json"
    assert entry["body"]["user"] == "someone"
    assert (entry["model"], entry["status"], entry["outcome"]) == (MODEL, 200, "done")
    assert entry["usage"] == {"prompt_tokens": 5, "completion_tokens": 2}
    assert entry["bytes_sent"] > 100


def test_a_model_can_be_added_and_answer_under_another_name(sandbox: SandboxProcess) -> None:
    """MODEL-01: the cloud echoes the bare name; the gateway must overwrite it."""
    sandbox.control(add_model={"name": "kimi-k2.6", "capabilities": ["completion"], "context": 262144})
    sandbox.control("kimi-k2.6", model_echo="something-else", headers={"x-operator": "secret"})
    reply = ask(sandbox, body(model="kimi-k2.6:latest"))
    assert reply.json["model"] == "something-else"
    assert reply.headers["x-operator"] == "secret"


@pytest.mark.parametrize("knobs", [
    {"framing": "split"}, {"framing": "batch", "batch_size": 3}, {"framing": "drip", "pause_ms": 0}, {"crlf": True},
])  # fmt: skip
def test_however_the_bytes_are_cut_the_events_are_the_same(sandbox: SandboxProcess, knobs: dict[str, Any]) -> None:
    """GW-04: one read is not one event."""
    sandbox.control(text="نص عربي قصير", **knobs)
    reply = ask(sandbox, body(stream=True))
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in reply.events[:-1])
    assert said == "نص عربي قصير"
    assert (b"\r\n\r\n" in reply.raw) is ("crlf" in knobs)


def test_a_batch_puts_several_events_into_one_write(sandbox: SandboxProcess) -> None:
    """GW-04."""
    sandbox.control(framing="batch", batch_size=3, tokens=9, delay_chunk_ms=10)
    ask(sandbox, body(stream=True))
    entry = sandbox.wait_for(lambda seen: seen[-1]["outcome"] == "done")[-1]
    assert entry["first_byte_ms"] >= 20


def test_a_line_can_be_very_long(sandbox: SandboxProcess) -> None:
    """GW-04: up to 8 MB in the real server."""
    sandbox.control(big_line=1_000_000, tokens=2)
    first = ask(sandbox, body(stream=True)).events[0]
    assert len(first["choices"][0]["delta"]["content"]) > 1_000_000
