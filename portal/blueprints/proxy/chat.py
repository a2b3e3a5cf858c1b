"""The door of chat completions: WSGI in, OpenAI's dialect out. Everything before and after the answer is a service's.

It stands in front of Flask (see `mount`), because the hot path needs neither its routing nor its request object.
Which transport carries the answer is decided by the server underneath; the rule does not know.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from flask import Flask

from portal import logs, money
from portal.blueprints.proxy import dialect
from portal.blueprints.proxy.dialect import CustomerLeft
from portal.blueprints.proxy.plain import ClosingIterable, PlainTransport
from portal.config import Settings
from portal.errors import InternalError, PortalError, ServiceUnavailable
from portal.ids import new_id
from portal.services.gateway.admission import admit, identify
from portal.services.gateway.exchange import BufferedExchange, StreamExchange
from portal.services.gateway.opening import open_upstream
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.settlement import settle
from portal.services.gateway.ticket import Ticket

log = logging.getLogger("portal.gateway")
E = TypeVar("E", BufferedExchange, StreamExchange)
StartResponse = Callable[..., Any]
Headers = list[tuple[str, str]]
Head = Callable[[], bytes]
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
        ticket: Ticket | None = None
        try:
            process = self.process()
            identity = identify(process, environ.get("HTTP_AUTHORIZATION"))  # strangers get no memory for a body
            with dialect.patience(environ, BODY_SECONDS):
                body = dialect.read_body(environ, self._settings.max_request_bytes)
            ticket = admit(process, request, identity, body)
            ticket.tell = partial(dialect.error_body, self._app, environ)
            headers += dialect.ticket_headers(ticket)
            process.routing.entered(ticket.offer)
            if ticket.ask.stream:
                return self._stream(process, ticket, headers, environ, start_response)
            return self._buffered(process, ticket, headers, environ, start_response)
        except PortalError as error:
            return self._refuse(error, headers, environ, start_response, started)
        except CustomerLeft:
            raise  # nobody is there to answer; the server closes the connection and says nothing
        except Exception as error:
            log.error("unforeseen error", exc_info=error)
            return self._refuse(InternalError(), headers, environ, start_response, started)

    # -- an answer in one piece ----------------------------------------------------------------------------------------

    def _buffered(
        self, process: GatewayProcess, ticket: Ticket, headers: Headers, environ: dict[str, Any], start: StartResponse
    ) -> Iterable[bytes]:
        ending = _Ending(process, ticket)
        try:
            exchange = self._run(BufferedExchange, ending, environ)
        finally:
            ending.settle()
        if exchange.error is not None:
            raise exchange.error
        if exchange.outcome != "ok":
            raise CustomerLeft
        headers += [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
            ("content-length", str(len(exchange.body))),
            dialect.processing(ticket.started),
            ("x-portal-credits", money.credits_plain(ending.cost)),
        ]
        if ending.balance is not None:
            headers.append(("x-portal-balance", money.credits_plain(ending.balance)))
        if dialect.hub_carries(environ):  # head and body in one send; gunicorn's own way takes two
            with dialect.patience(environ, self._settings.silence_seconds):
                environ["gunicorn.socket"].sendall(dialect.raw_response(headers, exchange.body, environ))
            handled: Iterable[bytes] = dialect.already_handled(environ)
            return handled
        start("200 OK", headers)
        return [exchange.body]

    # -- an answer in events -------------------------------------------------------------------------------------------

    def _stream(
        self, process: GatewayProcess, ticket: Ticket, headers: Headers, environ: dict[str, Any], start: StartResponse
    ) -> Iterable[bytes]:
        ending = _Ending(process, ticket)
        headers += dialect.STREAM_HEADERS
        if dialect.hub_carries(environ):
            try:
                exchange = self._run(
                    StreamExchange, ending, environ, lambda: dialect.stream_head(headers, ticket.started, environ)
                )
            finally:
                ending.settle()
            if exchange.error is not None and not exchange.begun:
                raise exchange.error
            if exchange.outcome == "client_left":
                raise CustomerLeft
            handled: Iterable[bytes] = dialect.already_handled(environ)
            return handled
        return self._plain_stream(process, ticket, ending, headers, start)

    def _plain_stream(
        self, process: GatewayProcess, ticket: Ticket, ending: "_Ending", headers: Headers, start: StartResponse
    ) -> Iterable[bytes]:
        try:
            fresh = False
            while True:
                exchange = ending.watch(StreamExchange(ticket, open_upstream(process, ticket, fresh=fresh)))
                pieces = PlainTransport(exchange, self._settings).pieces()
                first = next(pieces, b"")
                if not exchange.never_arrived:
                    break
                exchange.connection.close()
                fresh = True
            if exchange.error is not None and not exchange.begun:
                raise exchange.error
            start("200 OK", [*headers, dialect.processing(ticket.started)])
            return ClosingIterable(first, pieces, ending.settle)
        except BaseException:
            ending.settle()
            raise

    # -- both ----------------------------------------------------------------------------------------------------------

    def _run(self, kind: type[E], ending: "_Ending", environ: dict[str, Any], head: Head | None = None) -> E:
        process, ticket = ending.process, ending.ticket
        fresh = False
        while True:
            exchange = ending.watch(kind(ticket, open_upstream(process, ticket, fresh=fresh)))
            if dialect.hub_carries(environ):
                from portal.blueprints.proxy.hub import HubTransport

                chunked = dialect.speaks_chunks(environ)
                HubTransport(exchange, environ["gunicorn.socket"], self._settings, head, chunked=chunked).run()
            else:
                PlainTransport(exchange, self._settings).collect()
            if not exchange.never_arrived:
                return exchange
            exchange.connection.close()
            fresh = True

    def _refuse(
        self, error: PortalError, headers: Headers, environ: dict[str, Any], start: StartResponse, started: float
    ) -> list[bytes]:
        status, more, body = dialect.error_response(self._app, error, environ)
        log.info("refused", extra={"error": error.code, "status": error.status, "param": error.param})
        told = [h for h in headers if h[0] not in ("content-type", "cache-control", "x-accel-buffering")]
        start(status, [*told, dialect.processing(started), *more])
        return [body]


class _Ending:
    """The end of one request, exactly once: the connection given back or cut, the books settled, the line logged."""

    def __init__(self, process: GatewayProcess, ticket: Ticket) -> None:
        self.process, self.ticket = process, ticket
        self._exchange: BufferedExchange | StreamExchange | None = None
        self._settled = False
        self.cost = 0
        self.balance: int | None = None

    def watch(self, exchange: E) -> E:
        """The exchange that the end is read from: the latest attempt."""
        self._exchange = exchange
        return exchange

    def settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        ticket, exchange = self.ticket, self._exchange
        self.process.routing.left(ticket.offer)
        if exchange is None:
            outcome = "refused"
        else:
            exchange.connection.done()
            outcome = exchange.outcome or "client_left"
        self.cost, self.balance = settle(self.process, ticket, outcome, exchange.reply if exchange else None)
        logs.write(
            "portal.gateway",
            "answered",
            {
                "account": ticket.caller.account_id,
                "key_id": ticket.caller.key_id,
                "model": ticket.model.name,
                "provider": ticket.offer.provider,
                "stream": ticket.ask.stream,
                "outcome": outcome,
                "credits": money.credits_number(self.cost),
                "ms": round((time.monotonic() - ticket.started) * 1000),
            },
        )
