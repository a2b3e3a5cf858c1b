"""HTTP as a customer speaks it, byte by byte where it matters: who leaves, reads slowly, sends ahead, speaks HTTP/1.0.

`Hub` asks a real gunicorn, `Plain` the Flask test client; both give the same `Answer`, so that a claim is made once.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from flask import Flask

SECONDS = 20
CHAT = "/v1/chat/completions"


class Answer:
    """Status, headers (names in lower case), and the body as it comes."""

    def __init__(
        self, status: int, headers: dict[str, str], pieces: Iterator[bytes], leave: Callable[[], None]
    ) -> None:
        self.status, self.headers = status, headers
        self._pieces, self.leave = pieces, leave
        self.arrived: list[tuple[float, bytes]] = []
        """What came so far, and when (monotonic seconds)."""

    def piece(self) -> bytes:
        """The next piece; empty at the end."""
        data = next(self._pieces, b"")
        if data:
            self.arrived.append((time.monotonic(), data))
        return data

    def read(self) -> bytes:
        """Everything, to the end."""
        while self.piece():
            pass
        return b"".join(data for _, data in self.arrived)

    def until(self, mark: bytes) -> bytes:
        """Read on until `mark` has come."""
        while mark not in (come := b"".join(data for _, data in self.arrived)):
            assert self.piece(), f"the body ended before {mark!r}: {come!r}"
        return come

    def json(self) -> Any:
        return json.loads(self.read())

    def events(self) -> list[Any]:
        """A stream's events, parsed; the last must be `[DONE]` and is left out. Comments are left out."""
        data = [line[6:] for line in self.read().decode().split("\n") if line.startswith("data: ")]
        assert data[-1] == "[DONE]", data[-3:]
        assert "[DONE]" not in data[:-1]
        return [json.loads(line) for line in data[:-1]]

    @property
    def request_id(self) -> str:
        """As the rows have it."""
        return self.headers["x-request-id"].removeprefix("req_")

    def error(self) -> dict[str, Any]:
        """The error of a refusal; all four members must be there."""
        error: dict[str, Any] = self.json()["error"]
        assert {"message", "type", "param", "code"} <= set(error), error
        return error


class Door(Protocol):
    """A way in."""

    name: str

    def ask(
        self, method: str, path: str, *, key: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """body: bytes, or what JSON is made of."""


def asked(key: str | None, body: Any, headers: dict[str, str] | None) -> tuple[bytes | None, dict[str, str]]:
    sent = {"Content-Type": "application/json"} if body is not None else {}
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    if body is not None and not isinstance(body, bytes):
        body = json_of(body)
    return body, {**sent, **(headers or {})}


class Line:
    """One connection to a real server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)

    def ask(
        self, method: str, path: str, *, key: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        body, headers = asked(key, body, headers)
        self.connection.request(method, path, body, headers)
        return self.answer()

    def answer(self) -> Answer:
        response = self.connection.getresponse()

        def pieces() -> Iterator[bytes]:
            while data := response.read1(65536):
                yield data
            response.close()  # the answer, not the connection: http.client leaves it open where a length was told

        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, pieces(), self.close)

    def close(self) -> None:
        """Leave, whatever is on its way."""
        sock = self.connection.sock
        self.connection.close()
        if sock is not None:
            sock.close()


class Hub:
    """A real gunicorn, whose gevent workers relay streams in the hub. A new connection for each question."""

    name = "hub"

    def __init__(self, url: str) -> None:
        self.url = url
        self._lines: list[Line] = []

    def ask(
        self, method: str, path: str, *, key: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        line = Line(self.url)
        self._lines.append(line)
        return line.ask(method, path, key=key, body=body, headers=headers)

    def close(self) -> None:
        for line in self._lines:
            line.close()


class Plain:
    """The app itself, as a WSGI server without a hub calls it."""

    name = "plain"

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client()

    def ask(
        self, method: str, path: str, *, key: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        body, headers = asked(key, body, headers)
        response = self._client.open(path, method=method, data=body, headers=headers, buffered=False)
        found = {name.lower(): value for name, value in response.headers}

        def pieces() -> Iterator[bytes]:
            yield from filter(None, response.iter_encoded())
            response.close()  # as a server does after the last piece

        return Answer(response.status_code, found, pieces(), response.close)

    def close(self) -> None:
        """Nothing is open."""


def raw(url: str, request: bytes) -> socket.socket:
    """A socket that has sent these bytes."""
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname or "", parts.port or 80), SECONDS)
    sock.sendall(request)
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Everything until the server closes."""
    pieces = []
    while data := sock.recv(65536):
        pieces.append(data)
    return b"".join(pieces)


def chat(text: str = "Hello", /, **members: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "llama3.2:3b", "messages": [{"role": "user", "content": text}], **members}


def json_of(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def eventually(true: Callable[[], Any], seconds: float = 10, what: str = "it") -> Any:
    """Wait until it is true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.01)
    return value
