"""The portal's hook as the action sees it: a little server that writes down what it is told, and fails on demand."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from tests.fail2ban.waiting import eventually


class Recorder:
    """`url` is the hook's address. `told`: the forms that were taken; `refused`: those answered with another status."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.told: list[dict[str, str]] = []
        self.refused: list[dict[str, str]] = []
        self.status = 204
        self.location = ""
        self.open = threading.Event()
        """Cleared, the answer waits: time to look at who is asking."""
        self.open.set()
        self.asked = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhooks/fail2ban"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def wait_for(self, event: str, count: int = 1) -> list[dict[str, str]]:
        """The forms of that event, as soon as there are so many."""
        eventually(lambda: len(self._of(event)) >= count, f"{count} times {event}: {self.told}")
        return self._of(event)

    def close(self) -> None:
        self.open.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def _of(self, event: str) -> list[dict[str, str]]:
        return [form for form in self.told if form.get("event") == event]


def _handler(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True))
            recorder.asked.set()
            recorder.open.wait(10)
            right = (
                self.headers.get("Authorization") == f"Bearer {recorder.token}" and self.path == "/webhooks/fail2ban"
            )
            status = recorder.status if right else 401
            (recorder.told if status == 204 else recorder.refused).append(form)
            self.send_response(status)
            if recorder.location:
                self.send_header("Location", recorder.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            recorder.refused.append({"method": "GET", "authorization": self.headers.get("Authorization", "")})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    return Handler
