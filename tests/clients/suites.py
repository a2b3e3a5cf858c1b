"""The suites: what each is called, what it runs on, its command. A table of contents; how one is run is `run.py`'s."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.clients import environments
from tests.clients.environments import HERE, ROOT

PYTEST = ["-m", "pytest", "-q", "-c", str(HERE / "python" / "pytest.ini")]
DESCRIPTION = ROOT / "portal" / "openapi.json"
FUZZED_MODELS = ["Qwen3-VL-32B", "llama3.2:3b"]
"""One that can do everything and one that can't: random names would all end at 404, before anything interesting."""
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance",
)  # fmt: skip


@dataclass(frozen=True)
class Play:
    """Where a suite finds the portal, and where it leaves its files. keys: role → API key."""

    url: str
    keys: dict[str, str]
    folder: Path
    report: Path


@dataclass(frozen=True)
class Suite:
    """install makes the environment; command is what runs in it, from `play.folder`."""

    name: str
    title: str
    install: Callable[[], object]
    command: Callable[[Play], list[str]]


def _pytest(environment: str, tests: str, *options: str) -> Callable[[Play], list[str]]:
    def command(play: Play) -> list[str]:
        interpreter = str(environments.python(environment))
        return [interpreter, *PYTEST, f"--junitxml={play.report}", *options, str(HERE / "python" / tests)]

    return command


def _node(play: Play) -> list[str]:
    tests = sorted(str(path) for path in environments.node().glob("*.test.mjs"))
    # One file after the other: both turn the same server's knobs.
    reporters = ["--test-reporter=dot", "--test-reporter-destination=stdout"]
    reporters += ["--test-reporter=junit", f"--test-reporter-destination={play.report}"]
    return environments.node_command("node", "--test", "--test-concurrency=1", *reporters, *tests)


def _request_made(play: Play) -> str:
    """Ask a model something; returns the request's id."""
    body = {"model": FUZZED_MODELS[-1], "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    headers = {"Authorization": f"Bearer {play.keys['customer']}", "Content-Type": "application/json"}
    request = urllib.request.Request(play.url + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.headers["x-request-id"])


def _schemathesis(play: Play) -> list[str]:
    description = json.loads(DESCRIPTION.read_text())
    description["components"]["schemas"]["ChatRequest"]["properties"]["model"]["enum"] = FUZZED_MODELS
    # Without a request that was really made, what one is told to have cost would never be looked at.
    description["paths"]["/requests/{id}"]["get"]["parameters"][0]["example"] = _request_made(play)
    (play.folder / "openapi.json").write_text(json.dumps(description))
    return [
        str(environments.python("schemathesis").with_name("schemathesis")), "--no-color", "run", "openapi.json",
        "--url", play.url + "/v1", "--header", f"Authorization: Bearer {play.keys['customer']}",
        "--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--generation-deterministic",
        "--request-timeout", "30", "--checks", ",".join(CHECKS),
        "--report", "junit", "--report-junit-path", str(play.report),
    ]  # fmt: skip


LANGCHAIN = [part for name in ("test_loop", "fixture_loop") for part in ("-o", f"asyncio_default_{name}_scope=session")]
"""LangChain's async client is kept across tests: with a loop for each of them, one fails at random."""

SUITES = (
    Suite(
        "openai-2",
        "OpenAI's Python SDK 2",
        lambda: environments.python("openai-2"),
        _pytest("openai-2", "openai_sdk"),
    ),
    Suite(
        "openai-3",
        "OpenAI's Python SDK 3",
        lambda: environments.python("openai-3"),
        _pytest("openai-3", "openai_sdk"),
    ),
    Suite("node", "OpenAI's Node SDK, Vercel's AI SDK", environments.node, _node),
    Suite(
        "langchain",
        "LangChain's standard suite",
        lambda: environments.python("langchain"),
        _pytest("langchain", "langchain_suite", "-o", "asyncio_mode=auto", *LANGCHAIN),
    ),
    Suite(
        "schemathesis",
        "schemathesis over portal/openapi.json",
        lambda: environments.python("schemathesis"),
        _schemathesis,
    ),
)
