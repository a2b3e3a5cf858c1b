"""A payment provider that says what it is told, and remembers exactly what it was asked. And what its tests share."""

import contextlib
import datetime as dt
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from portal.providers.payments import Order, PaymentsError
from portal.providers.payments.myfatoorah import MyFatoorah

KEY = "SK_KWT_a-key-of-ours"
REFERENCE = "0197f0c2b7d37e95a08c4a1b2c3d4e5f"
ORDER = Order(
    amount_fils=2500,
    method_id=1,
    reference=REFERENCE,
    user_field="CK-0197f0c2b7d37e95a08c4a1b2c3d4e60",
    name="عبدالله Al-Sabah",
    email="abdullah@example.com",
    phone="+96550001234",
    item="5,000 credits",
    language="ar",
    expires_at=dt.datetime(2030, 1, 12, 21, 15, 7, tzinfo=dt.UTC),
    callback="https://portal.example.com/billing/return/" + REFERENCE,
    failure="https://portal.example.com/billing/return/" + REFERENCE + "?failed=1",
)


class Heard(NamedTuple):
    """A request as it came: the body byte for byte, so that the digits of a number can be looked at."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


class Provider:
    """`answers` are given one after the other, the last one again and again: (status, body, headers)."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # head and body in one piece: in two, each answer waits for a delayed ACK

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                provider.heard.append(Heard(self.command, self.path, dict(self.headers), raw))
                said = provider.answers.pop(0) if len(provider.answers) > 1 else provider.answers[0]
                status, body, headers = said
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def says(self, told: Any, status: int = 200, **headers: str) -> "Provider":
        """One more answer: bytes as they stand, all else as JSON."""
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.answers.append((status, body, {name.replace("_", "-"): value for name, value in headers.items()}))
        return self

    def client(self) -> MyFatoorah:
        return MyFatoorah(self.url, KEY, seconds=(2.0, 2.0))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@contextlib.contextmanager
def providing(*told: Any) -> Iterator[Provider]:
    provider = Provider()
    for one in told:
        provider.says(one)
    try:
        yield provider
    finally:
        provider.close()


def success(data: Any) -> dict[str, Any]:
    """The envelope of what went well."""
    return {"IsSuccess": True, "Message": "", "ValidationErrors": None, "Data": data}


def refusal(*errors: tuple[str, str], message: str = "Invalid data", data: Any = None) -> dict[str, Any]:
    """The envelope of what did not: (name, error)."""
    listed = [{"Name": name, "Error": error} for name, error in errors] or None
    return {"IsSuccess": False, "Message": message, "ValidationErrors": listed, "Data": data}


def fault_of(call: Callable[[], object]) -> PaymentsError:
    """The fault that it must end in."""
    with pytest.raises(PaymentsError) as caught:
        call()
    return caught.value
