"""One admitted request from its place in line to its settlement, whichever transport carries it.

A server that fails before the first byte is left for the next one, in line where that one is busy; the fault, the wait
and the servers tried are told in the usage row. There is one hold, one settlement and one end.
"""

import json
import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import TypeVar

from portal import logs, money
from portal.clock import utcnow
from portal.errors import CloudNotAllowed, NoProvider, PortalError, WaitedTooLong
from portal.ids import new_id
from portal.providers.llm.upstream import Connection, UpstreamAway
from portal.services import provider_health
from portal.services.gateway import choice
from portal.services.gateway.admission import look_again
from portal.services.gateway.exchange import BufferedExchange, StreamExchange
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.settlement import settle
from portal.services.gateway.ticket import MOST_ATTEMPTS, Ticket
from portal.services.gateway.upstream_refusal import Fault, fault
from portal.services.ledger.rehold import rehold
from portal.services.ledger.till import TillAway
from portal.services.routing.line import NOBODY, Blame, Place, Pool

log = logging.getLogger("portal.gateway")
E = TypeVar("E", BufferedExchange, StreamExchange)
PATH = "/v1/chat/completions"
ACCOUNT_REST_SECONDS = 60
"""The first rest of a cloud account that refused; the next is twice as long."""


class Course:
    """begun: the customer has been told something, were it a heartbeat; from then on an error is an event."""

    def __init__(self, process: GatewayProcess, ticket: Ticket) -> None:
        self.process, self.ticket = process, ticket
        self.begun = False
        self.left = False
        """The customer is gone."""
        self.cost = 0
        self.balance: int | None = None
        self._deadline = time.monotonic() + process.settings.queue_seconds
        self._tried: set[str] = set()
        self._score = ticket.place.score if ticket.place is not None else None
        self._exchange: BufferedExchange | StreamExchange | None = None
        self._connection: Connection | None = None
        self._fresh = False
        self._waited = False
        self._settled = False

    # -- in line -------------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether its turn has not come yet."""
        return self.ticket.place is not None and not self.ticket.place.server

    def wait(self) -> Iterator[Place]:
        """Until its turn comes or the customer is `gone`; yields its place whenever a heartbeat is due.

        Raises WaitedTooLong.
        """
        place = self.ticket.place
        assert place is not None
        assert place.changed is not None
        began, heartbeat = time.monotonic(), self.process.settings.heartbeat_seconds
        try:
            while not place.server and not self.left:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    seconds = max(1, -(-place.expected_ms // 1000) or choice.LOOK_AGAIN_SECONDS)
                    waited = self.process.settings.queue_seconds
                    raise WaitedTooLong(retry_after=seconds, seconds=seconds, waited=waited)
                if not place.changed.wait(min(heartbeat, left)):
                    yield place
        finally:
            self.ticket.waited += time.monotonic() - began
            self._waited = True

    def gone(self) -> None:
        """The customer left. May be called from a callback of the hub."""
        self.left = True
        if self.waiting:
            place = self.ticket.place
            assert place is not None
            assert place.changed is not None
            place.changed.set()

    # -- at a server ---------------------------------------------------------------------------------------------------

    def open(self, kind: type[E]) -> E | None:
        """Send the request to the server whose turn it is; None when it has to wait for another one first.

        Raises a PortalError when no server is left.
        """
        ticket = self.ticket
        while not self.waiting:
            if self._waited and not self._still_allowed():
                continue
            assert ticket.place is not None
            offer = ticket.offer = ticket.ways.offers[ticket.place.server]
            body = ticket.ask.upstream_body(offer.upstream_name, ticket.limit)
            try:
                connection = self.process.connections.pool(offer).post(PATH, body, fresh=self._fresh)
            except UpstreamAway as error:
                log.warning(
                    "server not reached", extra={"request": ticket.id, "provider": offer.provider, "error": str(error)}
                )
                self._failed(Fault.UNREACHED)
                if not self._next():
                    raise NoProvider(retry_after=choice.LOOK_AGAIN_SECONDS) from error
                continue
            if ticket.location == "cloud":
                ticket.budget_day = None  # used
            exchange = kind(ticket, connection)
            exchange.begun = self.begun
            if ticket.place.trial:
                exchange.answering = partial(self.process.later, self.process.line.well, ticket.place)
            self._exchange, self._connection = exchange, connection
            return exchange
        return None

    def _still_allowed(self) -> bool:
        """After a wait: whether the slot may be used; if not, the request has another slot or place.

        Switches, keys and servers may have changed in two minutes. Raises what forbids the request by now.
        """
        ticket, self._waited = self.ticket, False
        look_again(self.process, ticket)
        assert ticket.place is not None
        if ticket.failed_over and not ticket.may_fail_over:
            self._leave("none")
            if self.begun or not self._back_home():
                if not ticket.ways.twin.servers:
                    raise NoProvider(retry_after=choice.LOOK_AGAIN_SECONDS)
                raise CloudNotAllowed(param="model", model=ticket.ask.model)
            return False
        if ticket.place.server not in ticket.ways.offers:
            self._tried.add(ticket.place.server)
            self._leave("none")
            if not self._next():
                raise NoProvider(retry_after=choice.LOOK_AGAIN_SECONDS)
            return False
        return True

    def over(self, exchange: BufferedExchange | StreamExchange) -> bool:
        """Whether this was the end; if not, another attempt is due (`waiting`, or `open` at once)."""
        self.begun = self.begun or exchange.begun
        if exchange.never_arrived:
            self._connection = None
            exchange.connection.close()
            self._fresh = True
            return False
        self._return_connection()
        found = fault(exchange.outcome, exchange.reader.status, self.ticket.location)
        if found is None:
            self._leave("ok" if exchange.outcome in ("ok", "refused") else "none")
            return True
        again = self.ticket.first_byte is None and found.another_may_do and not self.left
        self._failed(found)
        if not again or not self._next():
            return True
        self._exchange = None
        return False

    def _failed(self, found: Fault) -> None:
        """Note what was wrong with the server, for the usage row, the breaker and the staff."""
        ticket, offer = self.ticket, self.ticket.offer
        assert offer is not None
        assert ticket.place is not None
        ms = round((time.monotonic() - ticket.place.since) * 1000)
        # A request that more than one server fails at may itself be what they fail at.
        poisonous = found.may_be_the_request and any(Fault(a["fault"]).may_be_the_request for a in ticket.attempts)
        ticket.attempts.append({"provider": offer.provider, "location": offer.location, "fault": found.value, "ms": ms})
        self._tried.add(offer.provider)
        if poisonous:
            self._leave("none")
        elif found is Fault.MISSING:
            self._leave("none")
            self.process.later(provider_health.missing, offer.provider, ticket.model.name)
        elif found is Fault.ACCOUNT:
            status = self._exchange.reader.status if self._exchange is not None else 0
            words = f"our account was refused ({status})"
            self._leave("fault", Blame(words, ticket.caller.account_id, True, ACCOUNT_REST_SECONDS))
            self.process.later(provider_health.account_refused, offer.provider, status)
        else:
            self._leave("fault", Blame(found.words, ticket.caller.account_id, found is Fault.UNREACHED))

    def _next(self) -> bool:
        """A slot or a place at a server not yet tried; whether there is one."""
        ticket = self.ticket
        if len(ticket.attempts) >= MOST_ATTEMPTS:
            return False
        self._fresh = False
        pool = (ticket.ways.twin if ticket.failed_over else ticket.ways.home).without(self._tried)
        place = self._in_cloud(pool) if ticket.location == "cloud" else self._entered(pool)
        if place is None and not self.begun and ticket.location == "local" and ticket.may_fail_over:
            return self._to_twin()
        if place is None and not self.begun and ticket.failed_over:
            return self._back_home()
        if place is not None:
            ticket.place = place
        return place is not None

    def _entered(self, pool: Pool) -> Place | None:
        if not pool.servers:
            return None
        # A name of its own: the store's last word on the place before may still be on its way.
        place = self.process.line.place(new_id(), pool, self.ticket.caller.priority, score=self._score)
        if self.process.line.enter(place) is not None:
            return None
        self._score = place.score
        return place

    def _to_twin(self) -> bool:
        """From servers that all failed to the cloud twin: another price, so another hold."""
        ticket = self.ticket
        look_again(self.process, ticket)  # the customer may have chosen to stay here while a server took its time
        if not ticket.may_fail_over:
            return False
        pool = ticket.ways.twin.without(self._tried)
        if ticket.ways.rates(pool, utcnow()) is None:
            return False
        try:
            day = choice.take_budget(self.process)
        except PortalError:
            return False
        moved, place = False, self._entered(pool)
        try:
            moved = place is not None and self._repriced(place, "cloud")
        finally:
            if moved:
                ticket.place, ticket.budget_day = place, day
            else:
                if place is not None:
                    self.process.line.leave(place)
                choice.give_back(self.process, day)
        return moved

    def _in_cloud(self, pool: Pool) -> Place | None:
        """At another cloud provider: another call, so another one of the day's budget, unless the first never left."""
        ticket = self.ticket
        if not pool.servers or ticket.budget_day is not None:
            return self._entered(pool)
        try:
            day = choice.take_budget(self.process)
        except PortalError:
            return None
        place = self._entered(pool)
        if place is None:
            choice.give_back(self.process, day)
            return None
        ticket.budget_day = day
        return place

    def _back_home(self) -> bool:
        """The twin failed: back into the local line, at the local price."""
        ticket = self.ticket
        place = self._entered(ticket.ways.home.without(self._tried))
        if place is None:
            return False
        moved = False
        try:
            moved = self._repriced(place, "local")
        finally:
            if not moved:
                self.process.line.leave(place)
        if moved:
            self._return_budget()
            ticket.place = place
        return moved

    def _repriced(self, place: Place, location: str) -> bool:
        """The hold is changed to what it costs there. False: the wallet can't cover it."""
        ticket = self.ticket
        old = (ticket.rates, ticket.location, ticket.amount, ticket.prompt_bound)
        rates = ticket.ways.rates(place.pool, utcnow())
        if rates is None:
            return False
        done = False
        try:
            ticket.price(rates, location)
            with self.process.writing():
                done = rehold(
                    ticket.id, ticket.caller.account_id, old[2], ticket.amount,
                    provider=place.server, location=location, failover=ticket.failed_over, rates=rates,
                )  # fmt: skip
        except TillAway:
            pass
        finally:  # whatever it was: a settlement that knows another hold than the row has settles nothing
            if not done:
                ticket.rates, ticket.location, ticket.amount, ticket.prompt_bound = old
        return done

    # -- the end -------------------------------------------------------------------------------------------------------

    def closed(self, ended: bool) -> None:
        """The server is done with the response; who closed it before its end has left."""
        self.left = self.left or not ended
        self.settle()

    def settle(self) -> None:
        """Exactly once: connection and slot given back, the books settled, the line logged."""
        if self._settled:
            return
        self._settled = True
        ticket, exchange = self.ticket, self._exchange
        self._return_connection()
        self._leave("none")
        self._return_budget()
        outcome = (exchange.outcome if exchange is not None else "") or ("client_left" if self.left else "")
        outcome = outcome or ("client_left" if exchange is not None else "refused")
        self.cost, self.balance = settle(self.process, ticket, outcome, exchange.reply if exchange else None)
        told = {
            "account": ticket.caller.account_id,
            "key_id": ticket.caller.key_id,
            "model": ticket.model.name,
            "provider": ticket.provider,
            "stream": ticket.ask.stream,
            "outcome": outcome,
            "credits": money.credits_number(self.cost),
            "ms": round((time.monotonic() - ticket.started) * 1000),
        }
        if ticket.waited:
            told["waited_ms"] = round(ticket.waited * 1000)
        if ticket.attempts:
            told["attempts"] = json.dumps(ticket.attempts)
        logs.write("portal.gateway", "answered", told)

    def _leave(self, verdict: str, blame: Blame = NOBODY) -> None:
        place, self.ticket.place = self.ticket.place, None
        if place is not None:
            self.process.line.leave(place, verdict, blame)

    def _return_connection(self) -> None:
        """Kept after a clean end, else cut, which stops the generation. Before the slot is given back, so that the
        server is done with this request when the next one comes."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.done()

    def _return_budget(self) -> None:
        """For a call that never left."""
        day, self.ticket.budget_day = self.ticket.budget_day, None
        if day is not None:
            choice.give_back(self.process, day)
