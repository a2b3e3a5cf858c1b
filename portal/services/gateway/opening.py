"""Opening the upstream: the chosen server, or the next one that offers the model, before the first byte only."""

import logging

from portal.providers.llm.upstream import Connection, UpstreamAway
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.ticket import Ticket

log = logging.getLogger("portal.gateway")
PATH = "/v1/chat/completions"


def open_upstream(process: GatewayProcess, ticket: Ticket, *, fresh: bool = False) -> Connection:
    """Send the request to a server that can be reached. fresh: on a new connection. Raises NoProvider."""
    tried: set[str] = set()
    while True:
        offer = ticket.offer
        body = ticket.ask.upstream_body(offer.upstream_name, ticket.limit)
        try:
            return process.routing.pool(offer).post(PATH, body, fresh=fresh)
        except UpstreamAway as error:
            log.warning(
                "server not reached", extra={"request": ticket.id, "provider": offer.provider, "error": str(error)}
            )
            tried.add(offer.provider)
            following = process.routing.choose(ticket.model, without=frozenset(tried))
            process.routing.left(offer)  # the request is counted where it is, or this server's count never falls again
            process.routing.entered(following)
            ticket.offer = following
