"""A plain HTTP client for looking at the wire: statuses, raw bytes, events one by one, leaving at a chosen moment."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from sandbox.process import SandboxProcess

CHAT = "/v1/chat/completions"
MODEL = "llama3.2:3b"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def events(self) -> list[Any]:
        """Each `data:` line, decoded, `[DONE]` as that text."""
        lines = [line[6:] for line in self.raw.decode().splitlines() if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.raw.splitlines()]


def body(question: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], **more}


class Call:
    """One request whose answer is read as it comes."""

    def __init__(
        self,
        sandbox: SandboxProcess,
        path: str = CHAT,
        asked: Any = None,
        server: str = "ollama",
        key: str | None = None,
    ) -> None:
        parts = urlsplit(sandbox.server_url(server) + path)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        method = "GET" if asked is None else "POST"
        data = asked if isinstance(asked, bytes | None) else json.dumps(asked).encode()
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self.connection.request(method, parts.path, data, headers)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @cached_property
    def answer(self) -> http.client.HTTPResponse:
        """Status and headers, once they have come."""
        return self.connection.getresponse()

    def reply(self) -> Reply:
        """The whole answer; raises what http.client raises when it is broken off."""
        with self:
            headers = {name.lower(): value for name, value in self.answer.getheaders()}
            return Reply(self.answer.status, headers, self.answer.read())

    def first_line(self) -> bytes:
        """Wait for the first line of a stream."""
        return self.answer.readline()

    def leave(self, *, rudely: bool = False) -> None:
        """Close now, with FIN or with a reset."""
        if rudely:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if "answer" in self.__dict__:
            self.answer.close()
        self.connection.close()


def ask(sandbox: SandboxProcess, asked: Any = None, path: str = CHAT, server: str = "ollama") -> Reply:
    return Call(sandbox, path, asked, server).reply()
