"""Servers of models that take our request and do nothing with it, and lines to them that lay idle too long."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from portal.providers.llm import upstream
from portal.providers.llm.upstream import Connection, UpstreamPool
from sandbox.process import SandboxProcess
from tests.gateway.wire import CHAT, Answer, Plain, chat
from tests.ledger.books import Books, Threads
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp

TOO_MUCH = 8_000_000
"""Bytes: more than the sockets of both ends keep for a reader that does not read."""


@contextmanager
def who_never_reads() -> Iterator[str]:
    """The address of a server that accepts every connection and reads from none."""
    kept: list[socket.socket] = []
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def accept() -> None:
            while True:
                try:
                    kept.append(listening.accept()[0])
                except OSError:
                    return

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # or the accepting thread would wait for ever
            accepting.join(5)
            for line in kept:
                line.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_accepts_and_never_reads_is_given_up(
    sqlite_url: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """API-01, CRD-01: a big body gets a clean 503 within SEND_SECONDS and its hold is released. It hung for ever."""
    monkeypatch.setattr(upstream, "SEND_SECONDS", 0.5, raising=False)
    with who_never_reads() as url:
        app = make_app(sqlite_url, OLLAMA_URL=url)
        layla, books = Cast(app).layla, Books(app)
        books.execute("UPDATE wallets SET balance = 100000000, total = 100000000")
        books.execute("UPDATE models SET context_tokens = 100000000")

        def ask() -> Answer:
            body = chat("x" * TOO_MUCH, stream=stream, max_tokens=5)
            return Plain(app).ask("POST", CHAT, key=layla.api_key, body=body)

        started = time.monotonic()
        [answer] = Threads(ask).wait(15)
        took = time.monotonic() - started
        assert isinstance(answer, Answer), answer
        assert (answer.status, answer.error()["code"]) == (503, "no_provider")
        assert int(answer.headers["retry-after"]) >= 1
        assert 0.4 < took < 10
        wallet = books.wallet(layla.account_id)
        assert (wallet.held, wallet.balance) == (0, 100_000_000)
        usage = books.usage(answer.request_id)
        assert usage is not None
        assert (usage.state, usage.outcome, usage.cost) == ("settled", "refused", 0)


def test_a_line_that_lay_idle_too_long_is_not_used_again(
    sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """API-01: networks drop an idle flow and tell neither end, so the next request would go nowhere."""
    pool = UpstreamPool(sandbox.ollama_url)
    request.addfinalizer(pool.close)

    def ask() -> bool:
        """Ask, read to the end, give the line back. Returns whether an idle one was used."""
        body = b'{"model":"llama3.2:3b","messages":[{"role":"user","content":"hi"}],"max_tokens":2}'
        connection = pool.post("/v1/chat/completions", body)
        _read(connection)
        connection.done()
        return connection.reused

    assert [ask(), ask()] == [False, True]
    monkeypatch.setattr(upstream, "IDLE_SECONDS", 0.05, raising=False)
    time.sleep(0.1)
    assert not ask()
    assert len(pool.idle) == 1, "the old line was thrown away, the new one kept"


class _AtOnce(BaseHTTPRequestHandler):
    """A server that says its whole answer, stream or not, in one piece, and keeps the line."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = {"index": 0, "finish_reason": "stop"}
        words, usage = {"role": "assistant", "content": "Yes."}, {"prompt_tokens": 3, "completion_tokens": 1}
        told = {"id": "x", "created": 1, "model": "m", "usage": usage}
        if asked.get("stream"):
            chunk = {**told, "object": "chat.completion.chunk", "choices": [{**choice, "delta": words}]}
            body = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
        else:
            body = json.dumps({**told, "object": "chat.completion", "choices": [{**choice, "message": words}]}).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def test_who_leaves_at_the_last_word_leaves_a_line_that_can_be_used_at_once(sqlite_url: str, make_app: MakeApp) -> None:
    """API-01: the line kept the patience of the answer before, and whoever came next waited so long for nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _AtOnce) as server:
        app = make_app(sqlite_url, OLLAMA_URL=f"http://127.0.0.1:{server.server_port}", HEARTBEAT_SECONDS=5)
        layla = Cast(app).layla
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            first = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(stream=True, max_tokens=2))
            assert b"[DONE]" in first.until(b"[DONE]")
            first.leave()
            started = time.monotonic()
            assert Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat()).status == 200
            assert time.monotonic() - started < 3
        finally:
            app.extensions["chat_door"].process().connections.close()  # or the server waits for its idle lines
            server.shutdown()
            serving.join(5)


def _read(connection: Connection) -> None:
    connection.sock.settimeout(10)
    while not connection.reader.ended:
        data = connection.sock.recv(65536)
        assert data, "the server hung up"
        connection.reader.feed(data)
    assert connection.reader.status == 200
