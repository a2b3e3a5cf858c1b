"""Ollama's cloud: a key, base names, one account for all, and texts that must never reach a customer."""

import re
from typing import Any

import pytest

from sandbox.process import SandboxProcess
from tests.sandbox.client import CHAT, Call, Reply, ask, body

CLOUD = "ollama-cloud"
REF = re.compile(r"\(ref: [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\)")
OPERATOR = "operator-account-name"
MODEL = "gpt-oss:20b"


def cloud(sandbox: SandboxProcess, asked: Any = None, path: str = CHAT, key: str | None = "sandbox") -> Reply:
    return Call(sandbox, path, asked, CLOUD, key).reply()


@pytest.mark.parametrize("key", [None, "", "wrong"])
@pytest.mark.parametrize("path", [CHAT, "/api/chat", "/api/tags", "/v1/models", "/api/show"])
def test_without_the_right_key_nothing_is_told_and_in_native_shape(
    sandbox: SandboxProcess, path: str, key: str | None
) -> None:
    """CLOUD-01: 401 `unauthorized` as a plain string even on /v1, and no model was asked."""
    asked = None if path in ("/api/tags", "/v1/models") else body(model=MODEL)
    reply = cloud(sandbox, asked, path, key)
    assert (reply.status, reply.json) == (401, {"error": "unauthorized"})
    assert sandbox.requests(server=CLOUD)[-1]["native"] is None


def test_the_accepted_key_is_a_knob_and_lists_can_be_open(sandbox: SandboxProcess) -> None:
    """CLOUD-01."""
    sandbox.control(server=CLOUD, key="another", open_lists=True)
    assert cloud(sandbox, body(model=MODEL)).status == 401
    assert cloud(sandbox, body(model=MODEL), key="another").status == 200
    assert cloud(sandbox, path="/api/tags", key=None).status == 200
    assert ask(sandbox, body()).status == 200, "the server in the house asks for none"


def test_tags_have_base_names_and_show_has_the_rest(sandbox: SandboxProcess) -> None:
    """MODEL-02: what a probe finds; tags tell no capabilities, show does."""
    rows = cloud(sandbox, path="/api/tags").json["models"]
    assert {row["name"] for row in rows} >= {"qwen3.5", "deepseek-v3.2", "gpt-oss:20b", "gpt-oss:120b"}
    assert not [row for row in rows if "cloud" in row["name"] or "capabilities" in row]
    assert {row["id"] for row in cloud(sandbox, path="/v1/models").json["data"]} == {row["name"] for row in rows}
    shown = cloud(sandbox, {"model": "qwen3.5:cloud"}, "/api/show").json
    assert "vision" in shown["capabilities"]
    assert shown["model_info"][shown["model_info"]["general.architecture"] + ".context_length"] == 262_144
    assert cloud(sandbox, path="/api/version").json == {"version": "0.33.0"}
    assert cloud(sandbox, path="/v1/models/qwen3.5").status == 200
    assert cloud(sandbox, path="/api/ps").status == 404


@pytest.mark.parametrize(("asked", "base"), [
    ("qwen3.5", "qwen3.5"), ("qwen3.5:cloud", "qwen3.5"), ("qwen3.5:CLOUD", "qwen3.5"),
    ("gpt-oss:20b", "gpt-oss:20b"), ("gpt-oss:20b-cloud", "gpt-oss:20b"), ("GPT-OSS:120b-Cloud", "gpt-oss:120b"),
])  # fmt: skip
def test_a_suffixed_name_is_understood_and_the_base_name_echoed(sandbox: SandboxProcess, asked: str, base: str) -> None:
    """MODEL-02: a gateway must write the customer's own spelling over it."""
    assert cloud(sandbox, body(model=asked)).json["model"] == base
    assert {event["model"] for event in cloud(sandbox, body(model=asked, stream=True)).events[:-1]} == {base}
    assert cloud(sandbox, body(model=asked, stream=False), "/api/chat").json["model"] == base
    assert sandbox.chats(server=CLOUD)[-1]["body"]["model"] == asked


@pytest.mark.parametrize("wrong", ["qwen3.5:latest", "qwen3.5-cloud", "gpt-oss", "gpt-oss:cloud", "llama3.2:3b"])
def test_other_spellings_are_not_found(sandbox: SandboxProcess, wrong: str) -> None:
    """MODEL-02: a twin's name is a mapping, never a concatenation."""
    assert cloud(sandbox, body(model=wrong)).status == 404


@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
@pytest.mark.parametrize(
    ("fault", "status", "begins"),
    [
        ("401_native", 401, "unauthorized"),
        ("402_native", 402, "this model uses extra usage only and your extra usage balance is empty"),
        ("403_native", 403, "this model requires a subscription, upgrade for access: "),
        ("429_native", 429, f"you ({OPERATOR}) have reached your session usage limit, "),
        ("429_slots", 429, "timed out waiting for a concurrent request slot"),
        ("500_native", 500, "Internal Server Error"),
        ("503_native", 503, "Server overloaded, please retry shortly"),
    ],
)
def test_its_refusals_name_the_operator_or_a_reference_and_give_no_hint_when_to_return(
    sandbox: SandboxProcess, fault: str, status: int, begins: str, path: str
) -> None:
    """CLOUD-02, never-again, "Operator's account name in a relayed upstream error": what a gateway has to keep back."""
    sandbox.control(server=CLOUD, fault=fault)
    told = [cloud(sandbox, body(model=MODEL), path) for _ in range(2)]
    assert {reply.status for reply in told} == {status}
    assert all(reply.json["error"].startswith(begins) for reply in told)
    assert told[0].json["error"] != told[1].json["error"], "a reference of its own each time"
    assert all(REF.search(reply.json["error"]) for reply in told)
    if fault in ("401_native", "402_native", "403_native", "429_native"):
        assert OPERATOR.encode() in told[0].raw
    for reply in (*told, cloud(sandbox, body(model="nope")), cloud(sandbox, path="/api/tags")):
        assert not [name for name in reply.headers if name.startswith("x-ratelimit") or name == "retry-after"]


@pytest.mark.parametrize("refusal", [429, 503])
def test_what_the_account_may_not_do_at_once_waits_and_is_then_refused(sandbox: SandboxProcess, refusal: int) -> None:
    """CLOUD-01: one number for all models and keys of the account."""
    sandbox.control(server=CLOUD, server_slots=2, slot_wait_ms=150, slot_refusal=refusal, hold_after=0)
    taken = [Call(sandbox, CHAT, body(model=model), CLOUD, "sandbox") for model in ("qwen3.5", MODEL)]
    sandbox.wait_for(lambda seen: [entry["waited_ms"] is not None for entry in seen] == [True] * 2, server=CLOUD)
    refused = cloud(sandbox, body(model="gpt-oss:120b"))
    assert refused.status == refusal
    assert refused.json["error"].startswith("timed out waiting for a concurrent request slot (ref: ")
    assert sandbox.chats(server=CLOUD)[-1]["finished_ms"] >= 150
    waiting = Call(sandbox, CHAT, body(model="gpt-oss:120b"), CLOUD, "sandbox")
    sandbox.wait_for(lambda seen: len(seen) == 4, server=CLOUD)
    sandbox.release(server=CLOUD)  # who waits holds afterwards, as the others did
    assert [call.reply().status for call in taken] == [200, 200]
    sandbox.wait_for(lambda seen: seen[-1]["waited_ms"] is not None, server=CLOUD)
    sandbox.release(server=CLOUD)
    assert waiting.reply().status == 200
    counters = sandbox.counters(server=CLOUD)
    assert (counters["calls"], counters["completed"], counters["max_running"]) == (4, 3, 2)


def test_ten_at_once_is_what_the_account_has_unless_told_otherwise(sandbox: SandboxProcess) -> None:
    """CLOUD-01."""
    sandbox.control(server=CLOUD, hold_after=0)
    calls = [Call(sandbox, CHAT, body(model=MODEL), CLOUD, "sandbox") for _ in range(11)]
    sandbox.wait_for(lambda seen: len(seen) == 11, server=CLOUD)
    counters = sandbox.counters(server=CLOUD)
    assert (counters["running"], counters["waiting"]) == (10, 1)
    for call in calls:
        call.leave()
    sandbox.wait_for(lambda seen: all(entry["outcome"] == "client_left" for entry in seen), server=CLOUD)


def test_the_cloud_and_the_servers_in_the_house_count_apart(sandbox: SandboxProcess) -> None:
    """CLOUD-01: how many requests left for the cloud is what the budget's tests ask."""
    ask(sandbox, body())
    for _ in range(3):
        cloud(sandbox, body(model="deepseek-v3.2:cloud"))
    cloud(sandbox, path="/api/tags")
    assert (len(sandbox.chats()), len(sandbox.chats(server=CLOUD))) == (1, 3)
    assert sandbox.counters(server=CLOUD)["calls"] == 3
    assert sandbox.counters(server=CLOUD)["requests"] == 4
    assert sandbox.cloud_url == sandbox.url + "/ollama-cloud"
    sandbox.reset()
    assert sandbox.requests(server=CLOUD) == []
