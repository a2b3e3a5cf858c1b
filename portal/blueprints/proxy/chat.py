"""The door of chat completions: WSGI in, OpenAI's dialect out. Everything before and after the answer is a service's.

It stands in front of Flask (see `mount`), because the hot path needs neither its routing nor its request object.
Which transport carries the answer is decided by the server underneath; the rule does not know.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask

from portal import logs, money
from portal.blueprints.proxy import dialect
from portal.blueprints.proxy.dialect import CustomerLeft
from portal.blueprints.proxy.plain import ClosingIterable, PlainTransport, stream_pieces
from portal.config import Settings
from portal.errors import AnswerInterrupted, InternalError, PortalError, ServiceUnavailable
from portal.ids import new_id
from portal.services.gateway.admission import admit, identify
from portal.services.gateway.course import Course
from portal.services.gateway.exchange import BufferedExchange, StreamExchange
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.reply import error_event

if TYPE_CHECKING:
    from portal.blueprints.proxy.hub import Framing

log = logging.getLogger("portal.gateway")
E = TypeVar("E", BufferedExchange, StreamExchange)
StartResponse = Callable[..., Any]
Headers = list[tuple[str, str]]
BODY_SECONDS = 300
"""The longest that a request's body may take to arrive."""


class ChatDoor:
    """`POST …/chat/completions`. One an app; its process is made at the first request, so after the fork."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._settings: Settings = app.config["PORTAL"]
        self._headers = dialect.common_headers(self._settings)
        self._process: GatewayProcess | None = None
        self._making = threading.Lock()

    def process(self) -> GatewayProcess:
        """What this process shares. Raises ServiceUnavailable while the database is away."""
        if self._process is None:
            with self._making:
                if self._process is None:
                    process = GatewayProcess(self._app)
                    try:
                        process.start()
                    except Exception as error:
                        log.error("no gateway without the database", exc_info=error)
                        raise ServiceUnavailable(retry_after=5) from error
                    self._process = process
        return self._process

    def stop(self) -> None:
        """The server is about to end this process."""
        if self._process is not None:
            self._process.stop()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        started = time.monotonic()
        request = new_id()
        logs.request_id.set("req_" + request)
        headers: Headers = [("x-request-id", "req_" + request), *self._headers]
        course: Course | None = None
        try:
            process = self.process()
            identity = identify(process, environ.get("HTTP_AUTHORIZATION"))  # strangers get no memory for a body
            with dialect.patience(environ, BODY_SECONDS):
                body = dialect.read_body(environ, self._settings.max_request_bytes)
            wishes = environ.get("HTTP_X_PORTAL_FAILOVER", "").lower().split(",")  # a header sent twice comes as a list
            failover = "off" not in (wish.strip() for wish in wishes)
            ticket = admit(process, request, identity, body, failover=failover)
            ticket.tell = partial(dialect.error_body, self._app, environ)
            headers += dialect.limit_headers(ticket)
            course = Course(process, ticket)
            if ticket.ask.stream:
                return self._stream(course, headers, environ, start_response)
            return self._buffered(course, headers, environ, start_response)
        except PortalError as error:
            if course is not None:
                headers += dialect.way_headers(course.ticket)
            return self._refuse(error, headers, environ, start_response, started)
        except CustomerLeft:
            raise  # nobody is there to answer; the server closes the connection and says nothing
        except Exception as error:
            log.error("unforeseen error", exc_info=error)
            return self._refuse(InternalError(), headers, environ, start_response, started)

    # -- an answer in one piece ----------------------------------------------------------------------------------------

    def _buffered(
        self, course: Course, headers: Headers, environ: dict[str, Any], start: StartResponse
    ) -> Iterable[bytes]:
        try:
            exchange = self._run(BufferedExchange, course, environ)
        finally:
            course.settle()
        if exchange.error is not None:
            raise exchange.error
        if exchange.outcome != "ok":
            raise CustomerLeft
        headers += [
            *dialect.way_headers(course.ticket),
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
            ("content-length", str(len(exchange.body))),
            dialect.processing(course.ticket.started),
            ("x-portal-credits", money.credits_plain(course.cost)),
        ]
        if course.balance is not None:
            headers.append(("x-portal-balance", money.credits_plain(course.balance)))
        if dialect.hub_carries(environ):  # head and body in one send; gunicorn's own way takes two
            with dialect.patience(environ, self._settings.silence_seconds):
                environ["gunicorn.socket"].sendall(dialect.raw_response(headers, exchange.body, environ))
            handled: Iterable[bytes] = dialect.already_handled(environ)
            return handled
        start("200 OK", headers)
        return [exchange.body]

    # -- an answer in events -------------------------------------------------------------------------------------------

    def _stream(
        self, course: Course, headers: Headers, environ: dict[str, Any], start: StartResponse
    ) -> Iterable[bytes]:
        ticket = course.ticket
        if not dialect.hub_carries(environ):
            return self._plain_stream(course, headers, start)

        def head() -> bytes:
            told = [*headers, *dialect.STREAM_HEADERS, *dialect.way_headers(ticket)]
            return dialect.stream_head(told, ticket.started, environ)

        frame = _framing(head, environ)
        outcome = ""
        try:
            exchange = self._run(StreamExchange, course, environ, frame)
            error, outcome = exchange.error, exchange.outcome
        except PortalError as failed:
            error = failed
        except CustomerLeft:
            raise
        except Exception as unforeseen:
            if not course.begun:
                raise
            log.error("unforeseen error", exc_info=unforeseen)
            error = InternalError()  # a second head in the middle of a stream would be read as part of it
        finally:
            course.settle()
        if outcome == "client_left":
            raise CustomerLeft
        if error is not None and ticket.first_byte is None:
            if not course.begun:
                raise error
            with dialect.patience(environ, self._settings.silence_seconds):
                environ["gunicorn.socket"].sendall(frame(error_event(ticket.tell, error), last=True))
        handled: Iterable[bytes] = dialect.already_handled(environ)
        return handled

    def _plain_stream(self, course: Course, headers: Headers, start: StartResponse) -> Iterable[bytes]:
        try:
            pieces = stream_pieces(course, self._settings)
            first = next(pieces, b"")
            ticket = course.ticket
            told = [*headers, *dialect.STREAM_HEADERS, *dialect.way_headers(ticket)]
            start("200 OK", [*told, dialect.processing(ticket.started)])
            return ClosingIterable(first, pieces, course.closed)
        except BaseException:
            course.settle()
            raise

    # -- both ----------------------------------------------------------------------------------------------------------

    def _run(self, kind: type[E], course: Course, environ: dict[str, Any], frame: "Framing | None" = None) -> E:
        """The last attempt's exchange. Raises CustomerLeft for who leaves the line, and what ends the course there."""
        while True:
            if course.waiting:
                self._wait(course, environ, frame)
            exchange = course.open(kind)
            if exchange is None:
                continue
            if dialect.hub_carries(environ):
                from portal.blueprints.proxy.hub import GreenletExit, HubTransport

                try:
                    HubTransport(exchange, environ["gunicorn.socket"], self._settings, frame).run()
                except GreenletExit as ended:
                    if exchange.begun:
                        raise  # it has been told, in the stream
                    raise AnswerInterrupted(retry_after=1) from ended
            else:
                PlainTransport(exchange, self._settings).collect()
            if course.over(exchange):
                return exchange

    def _wait(self, course: Course, environ: dict[str, Any], frame: "Framing | None") -> None:
        """In line. Raises CustomerLeft, QueueFull, AnswerInterrupted."""
        if not dialect.hub_carries(environ):
            for _place in course.wait():
                pass
            return
        from portal.blueprints.proxy.hub import Departure, GreenletExit

        sock = environ["gunicorn.socket"]
        try:
            with Departure(sock, course.gone):
                for place in course.wait():
                    if frame is not None:
                        course.begun = True
                        with dialect.patience(environ, self._settings.silence_seconds):
                            sock.sendall(frame(dialect.in_line(place), last=False))
        except GreenletExit as ended:
            # The server ends this worker, and leaves it a second: enough to tell who would else see a broken line.
            raise AnswerInterrupted(retry_after=1) from ended
        if course.left:
            raise CustomerLeft

    def _refuse(
        self, error: PortalError, headers: Headers, environ: dict[str, Any], start: StartResponse, started: float
    ) -> list[bytes]:
        status, more, body = dialect.error_response(self._app, error, environ)
        log.info("refused", extra={"error": error.code, "status": error.status, "param": error.param})
        told = [h for h in headers if h[0] not in ("content-type", "cache-control", "x-accel-buffering")]
        start(status, [*told, dialect.processing(started), *more])
        return [body]


def _framing(head: Callable[[], bytes], environ: dict[str, Any]) -> "Framing":
    from portal.blueprints.proxy.hub import Framing

    return Framing(head, chunked=dialect.speaks_chunks(environ))
