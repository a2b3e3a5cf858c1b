"""What a probe finds on a server, turned while it runs: models, abilities, contexts, version, a server that is down."""

import http.client
from typing import Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from tests.sandbox.client import MODEL, Call, Reply, ask, body

BROKEN = (http.client.HTTPException, ConnectionError)


def names(sandbox: SandboxProcess) -> list[str]:
    return [row["name"] for row in ask(sandbox, path="/api/tags").json["models"]]


def shown(sandbox: SandboxProcess, model: str = MODEL) -> Any:
    return ask(sandbox, {"model": model}, "/api/show").json


def test_which_models_are_pulled_can_change(sandbox: SandboxProcess) -> None:
    """GW-01: a model that is not there is not offered; one that comes is."""
    sandbox.control(pulled=[MODEL, "brand-new:7b"])
    assert names(sandbox) == [MODEL, "brand-new:7b"]
    assert ask(sandbox, body(model="gpt-oss:20b")).status == 404
    assert ask(sandbox, body(model="brand-new:7b")).status == 200
    sandbox.control(pulled=["gpt-oss:20b"])
    assert "thinking" in shown(sandbox, "gpt-oss:20b")["capabilities"], "as it was before"
    sandbox.control(pulled=[])
    assert ask(sandbox, path="/api/tags").json == {"models": []}
    sandbox.control(pulled=None)
    assert MODEL in names(sandbox)
    with pytest.raises(SandboxError, match="pulled must be a list of model names"):
        sandbox.control(pulled=MODEL)


def test_a_model_that_is_gone_is_out_of_memory(sandbox: SandboxProcess) -> None:
    """GW-01."""
    ask(sandbox, body())
    sandbox.control(pulled=["gpt-oss:20b"])
    assert ask(sandbox, path="/api/ps").json == {"models": []}


def test_abilities_and_contexts_can_change_and_are_acted_upon(sandbox: SandboxProcess) -> None:
    """GW-01: stored as found, so a test must be able to let something else be found."""
    sandbox.control(MODEL, capabilities=["completion", "thinking"], context=6000, modelfile_num_ctx=5000)
    told = shown(sandbox)
    assert told["capabilities"] == ["completion", "thinking"]
    assert told["model_info"]["llama.context_length"] == 6000
    assert "num_ctx                        5000\n" in told["parameters"]
    assert next(row for row in ask(sandbox, path="/api/tags").json["models"] if row["name"] == MODEL)[
        "capabilities"
    ] == ["completion", "thinking"]
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert ask(sandbox, body(tools=[tool])).status == 400
    sandbox.reset()
    assert "tools" in shown(sandbox)["capabilities"]
    assert "num_ctx" not in shown(sandbox)["parameters"]
    with pytest.raises(SandboxError, match="context must be a count"):
        sandbox.control(MODEL, context="much")
    with pytest.raises(SandboxError, match="capabilities: of which model"):
        sandbox.control(capabilities=["completion"])


@pytest.mark.parametrize(("knobs", "window"), [
    ({}, 4096), ({"modelfile_num_ctx": 5000}, 5000), ({"num_ctx": 7000, "modelfile_num_ctx": 5000}, 7000),
    ({"num_ctx": 7000, "context": 6000}, 6000),
])  # fmt: skip
def test_the_loaded_context_is_told_and_longer_prompts_are_cut_at_it(
    sandbox: SandboxProcess, knobs: dict[str, Any], window: int
) -> None:
    """GW-01: trained, set and loaded are three numbers, and the last one is what a prompt meets."""
    sandbox.control(MODEL, **knobs)
    usage = ask(sandbox, body("word " * 9000, max_tokens=1)).json["usage"]
    assert usage["prompt_tokens"] == window
    assert [row["context_length"] for row in ask(sandbox, path="/api/ps").json["models"]] == [window]


def test_a_native_request_may_ask_for_another_context(sandbox: SandboxProcess) -> None:
    """GW-01: `options.num_ctx` loads the model anew."""
    asked = body("word " * 900, stream=False, options={"num_ctx": 512, "num_predict": 1})
    assert ask(sandbox, asked, "/api/chat").json["prompt_eval_count"] == 512
    assert ask(sandbox, path="/api/ps").json["models"][0]["context_length"] == 512


def test_the_version_is_a_knob(sandbox: SandboxProcess) -> None:
    """GW-01."""
    sandbox.control(version="0.40.1")
    assert ask(sandbox, path="/api/version").json == {"version": "0.40.1"}


def everywhere(sandbox: SandboxProcess) -> list[Reply | None]:
    """What each door answers; None where the connection broke."""
    replies: list[Reply | None] = []
    doors: dict[str, Any] = dict.fromkeys(("/", "/api/tags", "/api/version", "/v1/models"))
    doors |= {"/api/show": {"model": MODEL}, "/v1/chat/completions": body(), "/api/chat": body()}
    for path, asked in doors.items():
        try:
            replies.append(ask(sandbox, asked, path))
        except BROKEN:
            replies.append(None)
    return replies


@pytest.mark.parametrize(("down", "status"), [
    ("500", 500), ("502_html", 502), ("503_text", 503), ("503_native", 503), ("401_native", 401), ("reset", None),
    ("cut_before", None),
])  # fmt: skip
def test_a_whole_server_can_be_down(sandbox: SandboxProcess, down: str, status: int | None) -> None:
    """GW-01: lists and probes fail like the rest, and only the tests' own door still opens."""
    sandbox.control(down=down)
    assert {None if reply is None else reply.status for reply in everywhere(sandbox)} == {status}
    assert sandbox.counters()["faults"] == 7
    sandbox.control(down=None)
    assert {reply and reply.status for reply in everywhere(sandbox)} == {200}


def test_a_server_that_takes_connections_and_says_nothing(sandbox: SandboxProcess) -> None:
    """GW-01: the probe needs a time limit."""
    sandbox.control(down="stall")
    call = Call(sandbox, "/api/tags")
    sandbox.wait_for(lambda seen: bool(seen) and seen[-1]["fault"] == "stall_before")
    call.leave()
    sandbox.wait_for(lambda seen: seen[-1]["finished_ms"] is not None)


def test_one_server_down_leaves_its_siblings_up() -> None:
    """GW-01."""
    with SandboxProcess(servers=("ollama-a", "ollama-b")) as sandbox:
        sandbox.control(server="ollama-a", down="reset")
        with pytest.raises(BROKEN):
            ask(sandbox, body(), server="ollama-a")
        assert ask(sandbox, body(), server="ollama-b").status == 200
