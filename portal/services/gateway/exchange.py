"""One answer on its way, without reading a socket: the upstream's bytes in, the customer's bytes out.

Every transport (`blueprints/proxy/hub`, `plain`) drives this same object, so a fault means the same on each. It knows
when an answer can still be refused with a clean status and when only an error event is left.
"""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from portal.errors import AnswerInterrupted, PortalError, UpstreamError, UpstreamTimeout
from portal.providers.llm.http1 import BadResponse
from portal.providers.llm.upstream import Connection
from portal.services.gateway.reply import BufferedReply, StreamReply
from portal.services.gateway.ticket import Ticket
from portal.services.gateway.upstream_refusal import refusal

ERROR_BODY_BYTES = 65_536
PING = b": ping\n\n"
TRAILING_SECONDS = 0.05
"""How long a transport waits for the end of a response when the answer in it is complete."""


class Exchange(ABC):
    """outcome: one of `models.gateway.OUTCOMES` once it is over, empty while it runs.

    begun: a byte has gone to the customer, were it a heartbeat. An error is an event from then on, told here only when
    a part of the answer went before it: until then another server may answer, and the door has the last word.
    """

    def __init__(self, ticket: Ticket, connection: Connection) -> None:
        self.ticket = ticket
        self.connection = connection
        self.reader = connection.reader
        self.outcome = ""
        self.begun = False
        self.error: PortalError | None = None
        """What to tell the customer, where it did not end well."""
        self._silent_for_long = False
        """The server took the request and said nothing: a heartbeat came due."""
        self.answering: Callable[[], None] | None = None
        """Called, maybe in the hub, with the first byte of a stream's answer."""
        self._refusal = b""

    def receive(self, data: bytes) -> bytes:
        """Bytes from the upstream → bytes of body for the customer (none, for as long as there are none)."""
        try:
            payload = self.reader.feed(data)
        except BadResponse:
            return self.upstream_gone()
        if self.reader.status != 200:
            return self._refused(payload) if self.reader.status else b""
        return self._answer(payload)

    def upstream_gone(self) -> bytes:
        """The upstream hung up, or spoke nonsense."""
        try:
            self.reader.eof()
        except BadResponse:
            return self.end("upstream_failed", UpstreamError())
        return self._answer(b"") if self.reader.status == 200 else self._refused(b"")

    def timed_out(self) -> bytes:
        return self.end("timed_out", UpstreamTimeout())

    def interrupted(self) -> bytes:
        """This process is told to end before the answer did: our fault, not the customer's."""
        return b"" if self.outcome else self.end("upstream_failed", AnswerInterrupted(retry_after=1))

    def trail(self, data: bytes) -> None:
        """What comes behind an answer that is complete: its framing's end, or nothing that matters any more."""
        with contextlib.suppress(BadResponse):
            self.reader.feed(data)

    def client_left(self) -> None:
        self.outcome = self.outcome or "client_left"

    def end(self, outcome: str, error: PortalError | None) -> bytes:
        """It is over; returns what is left to say."""
        self.outcome, self.error = outcome, error
        return b""

    @property
    def never_arrived(self) -> bool:
        """A kept connection that was dead all along: the request reached no server, so it may be sent once more."""
        silent = not self.reader.status and not self._silent_for_long
        return silent and self.connection.reused and self.outcome == "upstream_failed"

    def _refused(self, payload: bytes) -> bytes:
        self._refusal += payload
        if self.reader.ended or len(self._refusal) > ERROR_BODY_BYTES:
            return self.end("refused", refusal(self.ticket, self.reader.status, self._refusal))
        return b""

    @abstractmethod
    def _answer(self, payload: bytes) -> bytes:
        """More of the answer's body, or its end."""


class BufferedExchange(Exchange):
    """An answer in one piece: collected, then read as a whole."""

    def __init__(self, ticket: Ticket, connection: Connection) -> None:
        super().__init__(ticket, connection)
        self.reply: BufferedReply = ticket.buffered_reply()
        self.body = b""
        self._pieces: list[bytes] = []

    def _answer(self, payload: bytes) -> bytes:
        if payload:
            self._pieces.append(payload)
        if self.reader.ended:
            try:
                self.body = self.reply.read(b"".join(self._pieces))
                self.outcome, self.ticket.first_byte = "ok", time.monotonic()
            except UpstreamError as error:
                self.end("upstream_failed", error)
        return b""


class StreamExchange(Exchange):
    """An answer in events."""

    def __init__(self, ticket: Ticket, connection: Connection) -> None:
        super().__init__(ticket, connection)
        self.reply: StreamReply = ticket.stream_reply()

    def ping(self) -> bytes:
        """A comment for a customer who waits; every client skips it."""
        self.begun = self._silent_for_long = True
        return PING

    def interrupted(self) -> bytes:
        out = super().interrupted()
        return out or (self.reply.fail(self.error) if self.begun and self.error is not None else b"")

    def end(self, outcome: str, error: PortalError | None) -> bytes:
        super().end(outcome, error)
        return self.reply.fail(error) if error is not None and self.ticket.first_byte is not None else b""

    def _answer(self, payload: bytes) -> bytes:
        out = self.reply.feed(payload) if payload else b""
        if not self.reply.ended and self.reader.ended:
            out += self.reply.close()
        if self.reply.failure is not None:
            self.outcome, self.error = "upstream_failed", self.reply.failure
            if self.ticket.first_byte is None and not self.reply.delivered:
                return b""  # nothing of an answer was said yet: another server may still give one
        elif self.reply.ended:
            self.outcome = "ok"
        if out and self.ticket.first_byte is None:
            self.begun, self.ticket.first_byte = True, time.monotonic()
            if self.answering is not None:
                self.answering()
        return out
