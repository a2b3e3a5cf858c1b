"""One HTTP POST from an outside to the portal, on gevent's sockets. What is said and how often is the outside's own."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

import gevent
from gevent import socket as green_socket


def possible(url: object) -> bool:
    """Whether we can post there: http only, a stand-in has no certificates to check."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_ms: float) -> tuple[int | None, str | None]:
    """One POST of JSON. The status, or None and what went wrong. Redirects are not followed."""
    parts = urlsplit(url)
    sent = {"Content-Type": "application/json", "User-Agent": "sandbox-webhook", "Connection": "close", **headers}
    connection = _GreenConnection(parts.hostname or "", parts.port or 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with gevent.Timeout(max(timeout_ms / 1000, 0.001)):
            connection.request("POST", target, body, sent)
            answer = connection.getresponse()
            answer.read()
            return answer.status, None
    except gevent.Timeout:
        return None, f"no answer within {timeout_ms:g} ms"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


class _GreenConnection(http.client.HTTPConnection):
    """The standard library's client on gevent's sockets: the plain one would stop the whole sandbox while it waits."""

    def connect(self) -> None:
        self.sock = green_socket.create_connection((self.host, self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
