"""`make run` as a stranger meets it: ready, answering, gone without a trace. Everything real, in its own folder."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.ports import free_port
from tests.services.environment import ROOT, portal_environment

READY = "LLM Portal is ready"
KEY = re.compile(r"rsk_[0-9A-Za-z]{40}")
OURS_TO_INVENT = (
    "SECRET_KEY", "REDIS_URL", "DATABASE_URL", "OLLAMA_URL", "OLLAMA_CLOUD_URL", "BASE_URL", "MYFATOORAH_BASE_URL",
)  # fmt: skip


class Run:
    """One `python -m dev.run`, what it says, and which processes it has."""

    def __init__(self, folder: Path, **settings: str | int) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.port, self.sandbox_port = folder / "instance", free_port(), free_port()
        environ = portal_environment(
            folder, PORT=self.port, SANDBOX_PORT=self.sandbox_port, PORTAL_INSTANCE_DIR=self.folder
        )
        for name in OURS_TO_INVENT:
            del environ[name]
        environ |= {name: str(value) for name, value in settings.items()}
        self.output = folder / f"output-{self.port}"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dev.run"], cwd=ROOT, env=environ, stdout=out, stderr=out, start_new_session=True
            )

    def said(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self) -> None:
        _until(lambda: READY in self.said() or self.process.poll() is not None, 90)
        assert READY in self.said(), self.said()

    def ctrl_c(self) -> int:
        """Its exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(25)

    def settings_of(self, program: str) -> dict[str, str]:
        """The environment that the process of this name was given."""
        process = next(Path("/proc") / number for number, command in self._found() if program in command)
        return dict(line.split("=", 1) for line in (process / "environ").read_text().split("\0") if "=" in line)

    def processes(self) -> list[str]:
        """Every process on this machine that lives in our folder, by the environment it was given."""
        return [command for _, command in self._found()]

    def _found(self) -> list[tuple[str, str]]:
        mark = f"PORTAL_INSTANCE_DIR={self.folder}\0".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process.name, (process / "cmdline").read_text().replace("\0", " ")))
            except OSError:
                continue
        return found


def _until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(**settings: str | int) -> Run:
        runs.append(Run(tmp_path, **settings))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.ctrl_c()


def test_a_first_start_answers_and_ctrl_c_leaves_nothing_behind(start: Callable[..., Run]) -> None:
    """OPS-01, contract.md: make run, a real model, Ctrl-C in the middle of a stream; a second start keeps the data."""
    first = start()
    first.wait_until_ready()
    found = KEY.search(first.said())
    assert found is not None
    settings = first.settings_of("gunicorn")
    assert settings["OLLAMA_CLOUD_URL"] == f"http://127.0.0.1:{first.sandbox_port}/ollama-cloud"
    cloud = urllib.request.Request(
        settings["OLLAMA_CLOUD_URL"] + "/api/tags",
        headers={"Authorization": f"Bearer {settings['OLLAMA_CLOUD_API_KEY']}"},
    )
    with urllib.request.urlopen(cloud, timeout=5) as answer:
        assert "qwen3.5" in {model["name"] for model in json.load(answer)["models"]}
    money = f"http://127.0.0.1:{first.sandbox_port}/myfatoorah"
    assert settings["MYFATOORAH_BASE_URL"] == money
    assert f"{money}/" in first.said(), "where simulated payments are seen"
    told = first.settings_of("-m sandbox")
    assert told["SANDBOX_MYFATOORAH_WEBHOOK"] == f"http://127.0.0.1:{first.port}/webhooks/myfatoorah"
    assert told["SANDBOX_MYFATOORAH_SECRET"] == settings["MYFATOORAH_WEBHOOK_SECRET"] != ""
    body = {
        "model": "smollm2:135m",
        "stream": True,
        "max_tokens": 400,
        "messages": [{"role": "user", "content": "Count."}],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{first.port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {found.group()}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.readline().startswith(b"data: {")
        assert len(first.processes()) >= 6
        assert first.ctrl_c() == 0
    _until(lambda: not first.processes(), 2)
    assert first.processes() == []
    assert "Traceback" not in first.said()

    second = start()
    second.wait_until_ready()
    assert found.group() in second.said()
    assert {line for line in first.said().splitlines() if "password" in line} <= set(second.said().splitlines())


def test_nothing_is_left_when_the_launcher_is_killed_outright(start: Callable[..., Run]) -> None:
    """contract.md: no process stays behind, not even after kill -9."""
    run = start()
    run.wait_until_ready()
    assert len(run.processes()) >= 6
    run.process.kill()
    run.process.wait()
    _until(lambda: not run.processes(), 20)
    assert run.processes() == []


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.0, 3.5])
def test_ctrl_c_during_set_up_leaves_nothing_behind(start: Callable[..., Run], seconds: float) -> None:
    """contract.md: Ctrl-C at any moment."""
    run = start()
    time.sleep(seconds)
    assert run.ctrl_c() == 0, run.said()
    _until(lambda: not run.processes(), 2)
    assert run.processes() == []


def test_a_taken_port_is_named_with_its_owner_and_another_one(start: Callable[..., Run]) -> None:
    """contract.md: port taken (says which)."""
    with socket.socket() as neighbour:
        neighbour.bind(("127.0.0.1", 0))
        neighbour.listen()
        port = neighbour.getsockname()[1]
        for name in ("PORT", "SANDBOX_PORT"):
            run = start(**{name: port})
            assert run.process.wait(20) == 1
            assert f"Port {port} is taken by " in run.said()
            assert f"(process {os.getpid()})" in run.said()
            assert re.search(rf"make run {name}=\d+", run.said())


def test_a_second_start_in_the_same_folder_is_refused_in_words(start: Callable[..., Run]) -> None:
    """Two launchers on one folder would fight for one Redis socket and one database."""
    first = start()
    _until(lambda: "Database" in first.said(), 20)
    second = start()
    assert second.process.wait(20) == 1
    assert f"runs from this folder already (process {first.process.pid})" in second.said()


def test_a_wrong_setting_is_told_in_words(start: Callable[..., Run]) -> None:
    """OPS-03: no traceback for a typing error."""
    run = start(QUEUE_LIMIT="many")
    assert run.process.wait(30) == 1
    assert "QUEUE_LIMIT" in run.said()
    assert "Traceback" not in run.said()


def test_its_secrets_are_for_the_owner_alone(start: Callable[..., Run]) -> None:
    """OPS-03: neighbours on the machine read neither the session key nor the administrator's password."""
    run = start()
    _until(lambda: "Database" in run.said(), 20)
    secrets = run.folder / "secrets"
    assert {oct(p.stat().st_mode & 0o777) for p in (run.folder, secrets)} == {"0o700"}
    files = list(secrets.iterdir())
    assert {"session_key", "admin_password"} <= {p.name for p in files}
    assert {oct(p.stat().st_mode & 0o777) for p in files} == {"0o600"}
