"""A small HTTP/1.1 server on gevent that can do what a well-behaved one must not.

Ready-made WSGI servers hide the three things a stand-in needs: knowing at once that the client has left, deciding what
goes into one TCP write, and ending a connection rudely (reset, cut) or silently. It knows nothing of what is served;
`sandbox/__main__.py` hands it the table of outsides.
"""

from __future__ import annotations

import contextlib
import json
import socket as plain_socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import gevent
from gevent.event import Event
from gevent.server import StreamServer

MAX_BODY = 64 * 1024 * 1024
MAX_HEAD = 64 * 1024


class PeerLeft(Exception):
    """The client closed or reset its connection while we were at work."""


class BadRequest(Exception):
    """What arrived is not HTTP we understand."""


class Peer:
    """One TCP connection, read without pause so that its end is noticed the moment it comes."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.left = Event()
        self.left_at: float | None = None  # time.time() of the moment we saw the client go
        self.closed_by_us = False
        self.when_left: Callable[[], None] | None = None  # called once, in the very moment we see the client go
        self._inbox = bytearray()
        self._arrived = Event()
        self._reader = gevent.spawn(self._read_always)

    def _read_always(self) -> None:
        while True:
            # A client that sends without end must not fill our memory: wait until the body limit is drained.
            while len(self._inbox) > MAX_BODY:
                gevent.sleep(0.05)
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                self.gone()
                self._arrived.set()
                return
            self._inbox += data
            self._arrived.set()

    def take_until(self, mark: bytes, limit: int) -> bytes | None:
        """Bytes up to and including `mark`; None when the client left before sending them."""
        seen = 0
        while (at := self._inbox.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self._inbox)
            if seen > limit:
                raise BadRequest("head too large")
            if self.left.is_set():
                return None
            self._arrived.clear()
            self._arrived.wait()
        taken = bytes(self._inbox[: at + len(mark)])
        del self._inbox[: at + len(mark)]
        return taken

    def take(self, count: int) -> bytes:
        while len(self._inbox) < count:
            if self.left.is_set():
                raise PeerLeft
            self._arrived.clear()
            self._arrived.wait()
        taken = bytes(self._inbox[:count])
        del self._inbox[:count]
        return taken

    def write(self, data: bytes) -> None:
        if self.left.is_set():
            raise PeerLeft
        try:
            self.sock.sendall(data)
        except OSError as error:
            self.gone()
            raise PeerLeft from error

    def gone(self) -> None:
        """The client has left, or is to be treated so: whatever is being done for it stops."""
        if not self.closed_by_us:
            self.left_at = self.left_at or time.time()
        self.left.set()
        tell, self.when_left = self.when_left, None
        if tell is not None:
            tell()

    def close(self, *, reset: bool = False) -> None:
        """End the connection; `reset` sends RST in place of FIN."""
        self.closed_by_us = True
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reader.kill(block=False)
        with contextlib.suppress(OSError):
            self.sock.close()


class Request:
    """One HTTP request, read completely."""

    def __init__(self, method: str, target: str, version: str, headers: list[tuple[str, str]], body: bytes) -> None:
        parts = urlsplit(target)
        self.method = method
        self.path = unquote(parts.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.version = version
        self.header_list = headers
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body
        self.arrived = time.time()


def read_request(peer: Peer) -> Request | None:
    """The next request on this connection, or None when the client closed it politely between two requests."""
    head = peer.take_until(b"\r\n\r\n", MAX_HEAD)
    if head is None:
        return None
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise BadRequest("malformed request line") from None
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
    lowered = {name.lower(): value for name, value in headers}
    if lowered.get("expect", "").lower() == "100-continue":
        peer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in lowered.get("transfer-encoding", "").lower():
        body = _read_chunked(peer)
    else:
        length = int(lowered.get("content-length") or 0)
        if not 0 <= length <= MAX_BODY:
            raise BadRequest("body too large")
        body = peer.take(length)
    return Request(method.upper(), target, version, headers, body)


def _read_chunked(peer: Peer) -> bytes:
    whole = bytearray()
    while True:
        line = peer.take_until(b"\r\n", MAX_HEAD)
        if line is None:
            raise PeerLeft
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while (trailer := peer.take_until(b"\r\n", MAX_HEAD)) not in (b"\r\n", None):
                del trailer
            return bytes(whole)
        whole += peer.take(size)
        peer.take(2)
        if len(whole) > MAX_BODY:
            raise BadRequest("body too large")


class Exchange:
    """One request and the answer given to it, honest or not."""

    def __init__(self, peer: Peer, request: Request) -> None:
        self.peer = peer
        self.request = request
        self.status: int | None = None
        self.bytes_sent = 0  # body bytes, without HTTP framing
        self.first_byte_at: float | None = None
        self.keep_open = request.version == "HTTP/1.1" and "close" not in request.headers.get("connection", "").lower()
        self.before_last: list[Callable[[], None]] = []
        """Called once, before the last bytes leave: who reads them must find his slot free and himself not counted."""
        self._length: int | None = None
        self._head = b""
        self._chunked = False
        self._ended = False

    def start(self, status: int, headers: Iterable[tuple[str, str]], length: int | None = None) -> None:
        """Prepare status and headers; they leave together with the first body bytes, as Go's server does it."""
        self.status, self._length = status, length
        self._chunked = length is None and self.request.version == "HTTP/1.1"
        if length is None and not self._chunked:
            self.keep_open = False
        reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Status"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        lines.append(time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
        lines.append("Transfer-Encoding: chunked" if self._chunked else f"Content-Length: {length}")
        if length is None and not self._chunked:
            lines.pop()
        if not self.keep_open:
            lines.append("Connection: close")
        self._head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")

    def send(self, data: bytes) -> None:
        """One TCP write (and, in a chunked answer, one chunk)."""
        if not data:
            return
        if self._length is not None and self.bytes_sent + len(data) >= self._length:
            self.about_to_end()
        framed = b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data
        head, self._head = self._head, b""
        if self.first_byte_at is None:
            self.first_byte_at = time.time()
        self.peer.write(head + framed)
        self.bytes_sent += len(data)

    def about_to_end(self) -> None:
        """What the client waits for is done; from here on only the last bytes leave. Safe to call twice."""
        calls, self.before_last = self.before_last, []
        for call in calls:
            call()

    def end(self) -> None:
        """The proper end of the answer."""
        if self._ended or self.status is None:
            return
        self._ended = True
        self.about_to_end()
        tail = b"0\r\n\r\n" if self._chunked else b""
        head, self._head = self._head, b""
        if head or tail:
            self.peer.write(head + tail)

    def answer(self, status: int, body: bytes, content_type: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        """A complete answer with a Content-Length, in one write."""
        self.start(status, [("Content-Type", content_type), *headers], len(body))
        if body and self.request.method != "HEAD":
            self.send(body)
        self.end()

    def answer_json(self, status: int, value: Any, headers: Iterable[tuple[str, str]] = ()) -> None:
        body = json.dumps(value, ensure_ascii=False, indent=1, default=str).encode() + b"\n"
        self.answer(status, body, "application/json; charset=utf-8", headers)

    def push_head(self) -> None:
        """Send status and headers alone, before any body byte."""
        head, self._head = self._head, b""
        if head:
            self.peer.write(head)

    def reset(self) -> None:
        """Leave with a TCP reset."""
        self.about_to_end()
        self._ended, self.keep_open = True, False
        self.peer.close(reset=True)

    def cut(self) -> None:
        """Leave with a plain FIN, in the middle of whatever was being said."""
        self.about_to_end()
        self._ended, self.keep_open = True, False
        self.peer.close()


Handler = Callable[[Exchange], None]


class Server:
    """Accepts connections and finds the outside by the first part of the path."""

    def __init__(self, host: str, port: int, table: Mapping[str, Handler], index: Handler) -> None:
        self.table = table
        self.index = index
        self._server = StreamServer((host, port), self._serve, backlog=4096)

    def start(self) -> int:
        """Bind and listen; returns the port that was taken."""
        self._server.start()
        return int(self._server.server_port)

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def stop(self) -> None:
        self._server.stop(timeout=0.2)

    def _serve(self, sock: Any, _address: Any) -> None:
        sock.setsockopt(plain_socket.IPPROTO_TCP, plain_socket.TCP_NODELAY, 1)
        peer = Peer(sock)
        try:
            while (request := read_request(peer)) is not None:
                exchange = Exchange(peer, request)
                self._find(request.path)(exchange)
                exchange.end()
                if not exchange.keep_open or peer.left.is_set():
                    return
        except PeerLeft:
            pass
        except (BadRequest, ValueError) as error:
            with contextlib.suppress(PeerLeft):
                peer.write(
                    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request: %s" % str(error).encode()
                )
        finally:
            peer.close()

    def _find(self, path: str) -> Handler:
        best = max((p for p in self.table if path == p or path.startswith(p + "/")), key=len, default=None)
        return self.table[best] if best is not None else self.index
