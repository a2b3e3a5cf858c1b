"""The transport of every other WSGI server (Passenger, `flask run`, the tests): blocking reads, a plain iterable.

It notices a customer who left at the second write after that, as WSGI goes; heartbeats keep that short.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from portal.blueprints.proxy.dialect import in_line
from portal.config import Settings
from portal.errors import InternalError, PortalError
from portal.services.gateway.course import Course
from portal.services.gateway.exchange import TRAILING_SECONDS, Exchange, StreamExchange
from portal.services.gateway.reply import error_event

log = logging.getLogger("portal.gateway")
BLOCK = 65_536


class PlainTransport:
    """Reads one upstream connection into its exchange."""

    def __init__(self, exchange: Exchange, settings: Settings) -> None:
        self._exchange, self._sock, self._settings = exchange, exchange.connection.sock, settings
        self._begun_at = self._heard_at = time.monotonic()
        self._heard = False

    def collect(self) -> None:
        """Until the exchange is over; for answers in one piece."""
        for _ in self.pieces():
            pass

    def pieces(self) -> Iterator[bytes]:
        """The customer's bytes as they come; heartbeats while there are none."""
        stream = self._exchange if isinstance(self._exchange, StreamExchange) else None
        self._sock.settimeout(self._settings.heartbeat_seconds)
        while not self._exchange.outcome:
            try:
                data = self._sock.recv(BLOCK)
            except TimeoutError:
                out = self._exchange.timed_out() if self._too_long() else stream.ping() if stream else b""
            except OSError:
                out = self._exchange.upstream_gone()
            else:
                if data:
                    self._heard, self._heard_at = True, time.monotonic()
                out = self._exchange.receive(data) if data else self._exchange.upstream_gone()
                if not self._exchange.outcome and time.monotonic() - self._begun_at > self._settings.answer_seconds:
                    out += self._exchange.timed_out()
            if out:
                yield out
        if self._exchange.outcome == "ok" and not self._exchange.reader.ended:
            # The end of the response comes in a packet of its own; without it the connection can't be kept.
            self._sock.settimeout(TRAILING_SECONDS)
            with contextlib.suppress(OSError):
                self._exchange.trail(self._sock.recv(BLOCK))
        self._sock.settimeout(None)

    def _too_long(self) -> bool:
        now, settings = time.monotonic(), self._settings
        limit = settings.silence_seconds if self._heard else settings.first_byte_seconds
        return now - self._heard_at > limit or now - self._begun_at > settings.answer_seconds


def stream_pieces(course: Course, settings: Settings) -> Iterator[bytes]:
    """A stream from the place in line to its last event. Raises what ends it before anything was said."""
    error: PortalError | None = None
    try:
        over = False
        while not over:
            if course.waiting:
                for place in course.wait():
                    course.begun = True
                    yield in_line(place)
            exchange = course.open(StreamExchange)
            if exchange is not None:
                yield from PlainTransport(exchange, settings).pieces()
                over, error = course.over(exchange), exchange.error
    except PortalError as failed:
        error = failed
    except Exception as unforeseen:
        if not course.begun:
            raise
        log.error("unforeseen error", exc_info=unforeseen)
        error = InternalError()
    if error is not None and course.ticket.first_byte is None:
        if not course.begun:
            raise error
        yield error_event(course.ticket.tell, error)


class ClosingIterable:
    """What a WSGI server iterates; `closed` runs exactly once, also where iteration never began or broke off.

    A generator's `finally` would not do: one that was never started is dropped without running it.
    closed: is told whether everything was taken before.
    """

    def __init__(self, first: bytes, rest: Iterator[bytes], closed: Callable[[bool], None]) -> None:
        self._first: bytes | None = first
        self._rest = rest
        self._ended = False
        self._closed: Callable[[bool], None] | None = closed

    def __iter__(self) -> "ClosingIterable":
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return next(self._rest)
        except StopIteration:
            self._ended = True
            raise

    def close(self) -> None:
        closed, self._closed = self._closed, None
        if closed is not None:
            closed(self._ended)

    def __del__(self) -> None:
        self.close()
