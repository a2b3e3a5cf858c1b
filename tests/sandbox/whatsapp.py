"""A plain client of the simulated WhatsApp API, and a server that its webhooks are posted to."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from sandbox.process import SandboxProcess
from tests.sandbox.client import Reply

PHONE = "+96550000001"
SERVER = "whatsapp"


def api(
    sandbox: SandboxProcess,
    path: str,
    asked: Any = None,
    *,
    method: str | None = None,
    token: str | None = "sandbox",
    timeout: float = 5,
    base: str | None = None,
) -> Reply:
    """One request; raises what http.client raises when it is broken off, TimeoutError after `timeout` seconds."""
    parts = urlsplit((sandbox.whatsapp_url if base is None else base) + path)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    data = asked if isinstance(asked, bytes | None) else json.dumps(asked).encode()
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {"Content-Type": "application/json", **({} if token is None else {"Token": token})}
    try:
        connection.request(method or ("GET" if data is None else "POST"), target, data, headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, told, answer.read())
    finally:
        connection.close()


def send(sandbox: SandboxProcess, message: str = "Hello", phone: str = PHONE, **more: Any) -> Reply:
    timeout = more.pop("timeout", 5)
    return api(sandbox, "/messages", {"phone": phone, "message": message, **more}, timeout=timeout)


def until(true: Callable[[], Any], seconds: float = 3) -> Any:
    """The first truth; fails when it never comes."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not seen within {seconds} s"
        time.sleep(0.005)
    return found


def delivered(sandbox: SandboxProcess, state: str = "delivered", count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many messages are in this state; those that are, oldest first."""

    def enough() -> list[dict[str, Any]] | None:
        found = [message for message in sandbox.messages() if message["deliveryStatus"] == state]
        return found if len(found) >= count else None

    found: list[dict[str, Any]] = until(enough)
    return found


@dataclass
class Heard:
    """One webhook post as it arrived."""

    at: float
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def event(self) -> str:
        return str(self.json["event"])

    def signed_with(self, secret: str) -> bool:
        digest = hmac.new(secret.encode(), self.raw, hashlib.sha256).hexdigest()
        return self.headers.get("x-wassenger-signature") == f"sha256={digest}"


@dataclass
class Listener:
    """Answers the statuses it is given, then 200."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def events(self) -> list[str]:
        return [heard.event for heard in self.heard]

    def wait(self, count: int, seconds: float = 3) -> list[Heard]:
        until(lambda: len(self.heard) >= count, seconds)
        return self.heard


@contextmanager
def listening() -> Iterator[Listener]:
    """A customer's server on a free port."""
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told = {name.lower(): value for name, value in self.headers.items()}
            status = listener.statuses.pop(0) if listener.statuses else 200
            listener.heard.append(Heard(time.time(), self.path, told, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.url = f"http://127.0.0.1:{server.server_port}/hook?token=secret"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
