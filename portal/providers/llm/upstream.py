"""Connections to one server of models: kept alive, sent to, and given back only after a clean end.

Opens with the ordinary socket module, so it blocks under Passenger and yields under gevent. It is told the server's key
and never the customer's: nothing of the customer's headers goes upstream.
"""

import contextlib
import logging
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from portal.providers.llm.http1 import ResponseReader

log = logging.getLogger("portal.upstream")
CONNECT_SECONDS = 5.0
SEND_SECONDS = 30.0
IDLE_KEPT = 1024
IDLE_SECONDS = 60.0


class UpstreamAway(Exception):
    """The server can't be reached, or hung up before it answered."""


class Connection:
    """A request on its way: the socket and the reader of its response."""

    __slots__ = ("pool", "reader", "reused", "sock")

    def __init__(self, pool: "UpstreamPool", sock: Any, reused: bool) -> None:
        self.pool, self.sock, self.reused = pool, sock, reused
        self.reader = ResponseReader()

    def done(self) -> None:
        """Keep the connection if its response ended as it should, else close it (which stops the generation)."""
        if self.reader.ended and self.reader.keep_alive and len(self.pool.idle) < IDLE_KEPT:
            self.pool.idle.append((self.sock, time.monotonic()))
        else:
            self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


class UpstreamPool:
    """One server. url: where its `/v1` begins; key: sent as Bearer, if there is one."""

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        authority = self._host if parts.port is None else f"{self._host}:{parts.port}"
        self._common = f" HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: llm-portal\r\nAccept: */*\r\n" + (
            f"Authorization: Bearer {key}\r\n" if key else ""
        )
        self._heads: dict[str, bytes] = {}
        self.idle: list[tuple[Any, float]] = []
        """Sockets, and since when: networks drop a flow that is idle for long, without telling either end."""

    def post(self, path: str, body: bytes, *, fresh: bool = False) -> Connection:
        """Send a JSON request; the response is the caller's to read.

        fresh: open a connection even if one is idle (the idle ones may all be dead).
        Raises UpstreamAway.
        """
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = (
                f"POST {self._prefix}{path}{self._common}Content-Type: application/json\r\nContent-Length: ".encode()
            )
        request = b"%b%d\r\n\r\n%b" % (head, len(body), body)
        if not fresh:
            oldest = time.monotonic() - IDLE_SECONDS
            while self.idle:
                sock, since = self.idle.pop()
                if since > oldest and _still_open(sock) and self._sent(sock, request):
                    return Connection(self, sock, True)
                sock.close()
        sock = self._connect()
        if not self._sent(sock, request):
            sock.close()
            raise UpstreamAway("it closed the connection while the request was sent")
        return Connection(self, sock, False)

    def _sent(self, sock: Any, request: bytes) -> bool:
        """Whether it went out. Raises UpstreamAway when the server takes too long to read it: another try on another
        connection would take as long."""
        sock.settimeout(SEND_SECONDS)
        try:
            sock.sendall(request)
        except TimeoutError as error:
            sock.close()
            raise UpstreamAway("it does not read the request") from error
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            self.idle.pop()[0].close()

    def _connect(self) -> Any:
        sock = None
        try:
            sock = socket.create_connection((self._host, self._port), CONNECT_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
        except (OSError, ValueError) as error:  # ValueError: a host's name that is none, such as `gpu..lan`
            if sock is not None:
                sock.close()
            raise UpstreamAway(f"{type(error).__name__}: {error}") from error
        return sock


def _still_open(sock: Any) -> bool:
    """An idle connection has nothing to read: if it has, the server closed it or lost its place."""
    sock.settimeout(None)  # or Python itself waits that long for something to peek at, MSG_DONTWAIT or not
    raw = getattr(sock, "_sock", sock)
    if isinstance(sock, ssl.SSLSocket):
        return True  # peeking below TLS tells nothing; a dead one fails at once and is tried afresh
    try:
        raw.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
