"""Connections to servers outlive the streams on them, also where the end of a response comes in a packet of its own."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.freshness import changing
from portal.models import Provider
from tests.gateway.conftest import House
from tests.gateway.wire import CHAT, Hub, Plain, chat

EVENTS = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"Hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\ndata: [DONE]\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class GoLike:
    """A server that streams as Go's does: `[DONE]`, and the end of the response in the next packet, or never."""

    def __init__(self, *, ends: bool) -> None:
        self._ends = ends
        self.connections = 0
        self.requests = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                line = self._listening.accept()[0]
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with line:
            while _read_request(line):
                self.requests += 1
                line.sendall(HEAD + b"%x\r\n%b\r\n" % (len(EVENTS), EVENTS))
                if self._ends:
                    time.sleep(0.01)
                    line.sendall(b"0\r\n\r\n")


def _read_request(line: socket.socket) -> bool:
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = line.recv(65536)
            if not more:
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += line.recv(65536)
    except OSError:
        return False
    return True


@contextmanager
def asked_instead(house: House, server: GoLike) -> Iterator[None]:
    """Our requests go to this server."""

    def at(url: str) -> None:
        with house.app.app_context(), changing("catalog"):
            db.session.execute(sa.update(Provider).where(Provider.name == "ollama-1").values(url=url))
            db.session.commit()

    at(server.url)
    try:
        yield
    finally:
        at("")
        server.close()


@pytest.mark.parametrize("ends", [True, False])
def test_streams_one_after_the_other_share_a_connection(house: House, door: Hub | Plain, ends: bool) -> None:
    """API-04: to the cloud a new connection is a handshake before the first word. One without an end is not kept."""
    server = GoLike(ends=ends)
    with asked_instead(house, server):
        for _ in range(3):
            answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
            assert answer.read().endswith(b"data: [DONE]\n\n")
            assert house.usage(answer.request_id).outcome == "ok"
    assert (server.requests, server.connections) == (3, 1 if ends else 3)
