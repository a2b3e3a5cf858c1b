"""The transport of a gevent worker: upstream to customer in callbacks of the hub, without a greenlet switch a chunk.

The request's greenlet sleeps until the end. A customer who stops reading stops the reading from the upstream; one who
leaves ends it at once, even while the model is silent, because both sockets are watched all the time.
"""

import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import gevent
from gevent import GreenletExit
from gevent.hub import Waiter

from portal.config import Settings
from portal.errors import UpstreamError
from portal.services.gateway.exchange import TRAILING_SECONDS, Exchange, StreamExchange

log = logging.getLogger("portal.gateway")
__all__ = ["Departure", "Framing", "GreenletExit", "HubTransport"]
READ, WRITE = 1, 2
BLOCK = 65_536


class Framing:
    """A stream's bytes as HTTP has them: the head before the first, chunks for clients that know them."""

    def __init__(self, head: Callable[[], bytes], *, chunked: bool) -> None:
        """head: makes the response's head, when there is something to say."""
        self._head: Callable[[], bytes] | None = head
        self._chunked = chunked

    def __call__(self, body: bytes, *, last: bool) -> bytes:
        if not body:
            return b""
        head = b""
        if self._head is not None:
            head, self._head = self._head(), None
        if not self._chunked:
            return head + body
        return b"%b%x\r\n%b\r\n%b" % (head, len(body), body, b"0\r\n\r\n" if last else b"")


class Departure:
    """Watches a customer who waits: `gone` is called, in the hub, when they hang up."""

    def __init__(self, client: Any, gone: Callable[[], None]) -> None:
        self._client, self._gone = client._sock, gone
        self._watcher = gevent.get_hub().loop.io(client.fileno(), READ)

    def __enter__(self) -> None:
        self._watcher.start(self._readable)

    def __exit__(self, *_error: object) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _readable(self) -> None:
        try:
            if self._client.recv(1, socket.MSG_PEEK):
                self._watcher.stop()  # the next request, sent ahead: none of our business now
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._watcher.stop()
        self._gone()


class HubTransport:
    """Drives one exchange between its upstream and a customer's socket. frame: how a stream's bytes are written."""

    def __init__(self, exchange: Exchange, client: Any, settings: Settings, frame: Framing | None = None) -> None:
        self._exchange, self._frame = exchange, frame
        self._stream = exchange if isinstance(exchange, StreamExchange) else None
        self._settings = settings
        self._client = client._sock
        upstream = exchange.connection.sock
        self._upstream_read = _reader(upstream)
        self._hub = gevent.get_hub()
        loop = self._hub.loop
        self._waiter = Waiter(self._hub)
        self._upstream = loop.io(upstream.fileno(), READ)
        self._leaving = loop.io(client.fileno(), READ)
        self._room = loop.io(client.fileno(), WRITE)
        self._clock = loop.timer(min(settings.heartbeat_seconds / 2, 5.0), min(settings.heartbeat_seconds / 2, 5.0))
        self._now = loop.now
        self._begun_at = self._heard_at = self._spoke_at = loop.now()
        self._heard = False
        self._pending = b""
        self._trailing: Any = None

    def run(self) -> None:
        """Until the exchange has an outcome and the customer has what was for them."""
        self._upstream.start(self._readable)
        self._leaving.start(self._left)
        self._clock.start(self._tick)
        try:
            self._waiter.get()
        except GreenletExit:
            # The server ends this worker: the customer hears of it, instead of taking a part for the whole.
            self._write(self._framed(self._exchange.interrupted()))
            raise
        finally:
            for watcher in self._watchers():
                watcher.stop()
                watcher.close()

    def _watchers(self) -> list[Any]:
        watchers = [self._upstream, self._leaving, self._room, self._clock]
        return watchers if self._trailing is None else [*watchers, self._trailing]

    def _over(self) -> None:
        for watcher in self._watchers():
            watcher.stop()
        self._waiter.switch(None)

    def _finish(self) -> None:
        """All is said. A server sends the end of its response in a packet behind its last event: without that end the
        connection can't be kept, and each stream to the cloud would begin with a handshake."""
        if self._exchange.outcome != "ok" or self._exchange.reader.ended:
            self._over()
        elif self._trailing is None:
            self._trailing = self._hub.loop.timer(TRAILING_SECONDS)
            self._trailing.start(self._over)
            self._upstream.start(self._readable)

    def _readable(self) -> None:
        try:
            data = self._upstream_read(BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._trailing is not None:
            self._exchange.trail(data)
            if self._exchange.reader.ended or not data:
                self._over()
            return
        try:
            if data:
                self._heard, self._heard_at = True, self._now()
                out = self._exchange.receive(data)
            else:
                out = self._exchange.upstream_gone()
        except Exception as error:  # left to the hub, it would leave the request asleep for ever
            log.error("unforeseen error in an answer", exc_info=error)
            out = self._exchange.end("upstream_failed", UpstreamError())
        self._send(out)

    def _send(self, body: bytes) -> None:
        if body:
            self._spoke_at = self._now()
            if not self._write(self._framed(body)):
                return
        if self._exchange.outcome and not self._pending:
            self._finish()

    def _framed(self, body: bytes) -> bytes:
        return body if self._frame is None else self._frame(body, last=bool(self._exchange.outcome))

    def _write(self, data: bytes) -> bool:
        """Returns whether the transport still runs."""
        if self._pending:
            self._pending += data
            return True
        try:
            sent = self._client.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._gone()
            return False
        if sent < len(data):
            self._pending = data[sent:]
            self._upstream.stop()
            self._room.start(self._writable)
        return True

    def _writable(self) -> None:
        try:
            sent = self._client.send(self._pending)
        except BlockingIOError:
            return
        except OSError:
            self._gone()
            return
        self._spoke_at = self._now()
        self._pending = self._pending[sent:]
        if self._pending:
            return
        self._room.stop()
        if self._exchange.outcome:
            self._finish()
        else:
            self._heard_at = self._now()
            self._upstream.start(self._readable)

    def _left(self) -> None:
        try:
            if self._client.recv(1, socket.MSG_PEEK):
                self._leaving.stop()  # the next request, sent ahead: none of our business now
                if self._trailing is not None:
                    self._over()  # it waits for nothing of this one
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._gone()

    def _gone(self) -> None:
        self._exchange.client_left()
        self._over()

    def _tick(self) -> None:
        now, settings = self._now(), self._settings
        if self._pending:
            if now - self._spoke_at > settings.silence_seconds:
                self._gone()  # a customer who takes nothing for so long has left without saying so
            return
        limit = settings.silence_seconds if self._heard else settings.first_byte_seconds
        if now - self._heard_at > limit or now - self._begun_at > settings.answer_seconds:
            self._send(self._exchange.timed_out())
        elif self._stream is not None and now - self._spoke_at >= settings.heartbeat_seconds * 0.9:
            self._send(self._stream.ping())


def _reader(sock: Any) -> Any:
    """A read that raises BlockingIOError instead of waiting."""
    if not isinstance(sock, ssl.SSLSocket):
        return sock._sock.recv

    tls = sock._sslobj  # type: ignore[attr-defined]  # below gevent's own read, which waits

    def read(size: int) -> bytes:
        pieces: list[bytes] = []
        while True:  # TLS may hold more than one record: the socket won't be readable again for those
            try:
                piece = tls.read(size)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                piece = b""
            if not piece:
                if pieces:
                    break
                return b""
            pieces.append(piece)
        if not pieces:
            raise BlockingIOError
        return b"".join(pieces)

    return read
