"""OpenAI's dialect on the wire: bodies read with their limits, headers every answer carries, errors in four members."""

import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import msgspec
from flask import Flask
from flask_babel import force_locale, lazy_gettext as _l
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from portal import i18n
from portal.config import Settings
from portal.errors import InvalidRequest, PortalError, RequestTooLarge
from portal.services import limits
from portal.services.gateway.ticket import Ticket
from portal.services.routing.line import Place

STREAM_HEADERS = [
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),  # or nginx holds events back until its buffer is full
]
_encode = msgspec.json.Encoder().encode


class CustomerLeft(ConnectionResetError):
    """Nobody reads any more. With the number that gunicorn takes for an ordinary departure, not for a fault of ours."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the customer left")


def common_headers(settings: Settings) -> list[tuple[str, str]]:
    """What pages say in `pages`, as far as it means something to programs."""
    told = [("x-content-type-options", "nosniff")]
    if settings.base_url.startswith("https://"):
        told.append(("strict-transport-security", "max-age=31536000; includeSubDomains"))
    return told


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """The request's body. limit: bytes. Raises RequestTooLarge, InvalidRequest."""
    if environ.get("HTTP_CONTENT_ENCODING", "identity") not in ("", "identity"):
        raise InvalidRequest(reason=_l("the body must not be compressed"))
    length = environ.get("CONTENT_LENGTH")
    if length:
        if not length.isdigit():
            raise InvalidRequest(reason=_l("Content-Length is no number"))
        if int(length) > limit:
            raise RequestTooLarge(limit=limit)
        body: bytes = environ["wsgi.input"].read(int(length))
        if len(body) < int(length):
            raise InvalidRequest(reason=_l("the body is shorter than Content-Length says"))
        return body
    if "HTTP_TRANSFER_ENCODING" not in environ:
        raise InvalidRequest(reason=_l("the body is missing"))
    body = environ["wsgi.input"].read(limit + 1)
    if len(body) > limit:
        raise RequestTooLarge(limit=limit)
    return body


def limit_headers(ticket: Ticket) -> list[tuple[str, str]]:
    """Where the request stands: its plan's limit, and what is left of it."""
    return limits.headers(ticket.caller.requests_per_minute, ticket.taken)


def way_headers(ticket: Ticket) -> list[tuple[str, str]]:
    """Who answers, as far as is known when the answer begins: the cloud only where its price is paid."""
    told = [("x-portal-provider", ticket.location)]
    if ticket.failed_over:
        told.append(("x-portal-failover", "cloud"))
    if ticket.waited:
        told.append(("x-portal-queue-ms", str(round(ticket.waited * 1000))))
    return told


def in_line(place: Place) -> bytes:
    """A comment for a customer who waits for a slot; every client skips it."""
    about = b", about %d s" % -(-place.expected_ms // 1000) if place.expected_ms else b""
    return b": in line, place %d%b\n\n" % (place.ahead, about)


def program_language(environ: dict[str, Any]) -> str:
    """A program's language: `?lang=`, then Accept-Language, then English (most libraries send neither)."""
    asked = parse_qs(environ.get("QUERY_STRING", "")).get("lang", [""])[0]
    if asked in i18n.LANGUAGES:
        return str(asked)
    accepted = parse_accept_header(environ.get("HTTP_ACCEPT_LANGUAGE"), LanguageAccept)
    return str(accepted.best_match(("en", "ar"), default="en"))


def error_body(app: Flask, environ: dict[str, Any], error: PortalError) -> bytes:
    """The error's JSON, in the language of the request."""
    with app.app_context(), force_locale(program_language(environ)):
        return _encode(error.body())


def error_response(app: Flask, error: PortalError, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """(status line, headers, body) of an error."""
    body = error_body(app, environ, error)
    status = f"{error.status} {HTTPStatus(error.status).phrase}"
    head = [("content-type", "application/json"), ("cache-control", "no-store"), ("content-length", str(len(body)))]
    return status, [*head, *error.headers()], body


def hub_carries(environ: dict[str, Any]) -> bool:
    """Whether this server hands us the customer's plain socket in a gevent hub, so that events may bypass WSGI."""
    sock = environ.get("gunicorn.socket")
    # gevent's plain sockets keep the kernel's in `_sock`; HTTP/2 would frame our bytes in its own way.
    plain = hasattr(sock, "_sock") and not hasattr(sock, "_sslobj")
    return plain and environ.get("SERVER_PROTOCOL") in ("HTTP/1.0", "HTTP/1.1")


@contextlib.contextmanager
def patience(environ: dict[str, Any], seconds: float) -> Iterator[None]:
    """Bound what waits for the customer's own line. Raises CustomerLeft when it takes longer, or breaks.

    Where no hub runs, the server's own limits have to do.
    """
    try:
        if not hub_carries(environ):
            yield
            return
        import gevent

        with gevent.Timeout(seconds, CustomerLeft()):
            yield
    except OSError as error:
        raise CustomerLeft from error


def already_handled(environ: dict[str, Any]) -> Any:
    """What tells gunicorn that the response has been written to the socket."""
    from gunicorn.workers.base_async import ALREADY_HANDLED

    if not speaks_chunks(environ):  # there the end of the connection is the end of the answer, keep-alive or not
        with contextlib.suppress(OSError):
            environ["gunicorn.socket"].shutdown(socket.SHUT_WR)
    return ALREADY_HANDLED


def speaks_chunks(environ: dict[str, Any]) -> bool:
    """Whether the client knows chunks. HTTP/1.0 does not, and nginx spoke it by default until lately."""
    return bool(environ.get("SERVER_PROTOCOL") == "HTTP/1.1")


def _closing(environ: dict[str, Any]) -> list[tuple[str, str]]:
    last = not speaks_chunks(environ) or environ.get("HTTP_CONNECTION", "").lower() == "close"
    return [("connection", "close")] if last else []


def processing(started: float) -> tuple[str, str]:
    """The header that tells how long it took until the answer began. started: `time.monotonic()` at the request."""
    return "openai-processing-ms", str(round((time.monotonic() - started) * 1000))


def stream_head(headers: list[tuple[str, str]], started: float, environ: dict[str, Any]) -> bytes:
    """The head of a streamed response that begins now, as bytes."""
    framing = [("transfer-encoding", "chunked")] if speaks_chunks(environ) else []
    return _head([*headers, processing(started), *_closing(environ), *framing])


def raw_response(headers: list[tuple[str, str]], body: bytes, environ: dict[str, Any]) -> bytes:
    """A whole response, as bytes."""
    return _head([*headers, *_closing(environ)]) + body


def _head(headers: list[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return f"HTTP/1.1 200 OK\r\ndate: {formatdate(usegmt=True)}\r\n{''.join(lines)}\r\n".encode("latin-1")
