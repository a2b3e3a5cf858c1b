"""The one settle: what a request costs, by how it ended, and its entry in the books. Safe to call twice.

complete            exactly the counts the upstream told (pieces delivered, where it told none)
client_left         what was delivered, and the prompt's estimate; the counts, where they were already known
upstream_failed,    what was delivered, without the prompt: the fault is not the customer's; nothing, when nothing was
timed_out           delivered
refused             nothing
"""

import json
import logging
import time

from portal.ids import new_id
from portal.services.gateway.holding import stamp
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.reply import Reply
from portal.services.gateway.ticket import Ticket
from portal.services.ledger.statements import Settlement
from portal.services.ledger.till import TillAway

log = logging.getLogger("portal.gateway")


def counts(outcome: str, reply: Reply | None) -> tuple[int, int, bool]:
    """(prompt tokens, answer tokens, estimated) that are charged."""
    if reply is None or outcome == "refused":
        return 0, 0, False
    if outcome == "ok" or (outcome == "client_left" and reply.counted):
        return reply.final_counts()
    delivered = min(reply.delivered, reply.bounds[1])
    if outcome == "client_left":
        return reply.estimate, delivered, True
    return 0, delivered, delivered > 0


def settle(process: GatewayProcess, ticket: Ticket, outcome: str, reply: Reply | None) -> tuple[int, int | None]:
    """Charge and release. outcome: one of `models.gateway.OUTCOMES`.

    Returns (cost, balance) in milli-credits; the balance is None when the books can't be written now: then the hold
    stays, and the settlement is written later, by this process or by the sweeper.
    """
    prompt, answer, estimated = counts(outcome, reply)
    cached = min(reply.cached_tokens, prompt) if reply is not None else 0
    cost = ticket.cost(prompt, answer, cached)
    ended = time.monotonic()
    if reply is not None and reply.clamped:
        log.error(
            "impossible token counts",
            extra={"request": ticket.id, "provider": ticket.provider, "model": ticket.model.name},
        )
    first = None if ticket.first_byte is None else round((ticket.first_byte - ticket.started) * 1000)
    duration = round((ended - ticket.started) * 1000)
    attempts = json.dumps(ticket.attempts) if ticket.attempts else ""
    waited = round(ticket.waited * 1000) if ticket.waited else None
    settlement = Settlement(
        ticket.id, ticket.caller.account_id, ticket.amount, outcome, prompt, cached, answer, estimated, cost,
        ticket.provider, attempts, waited, first, duration, stamp(), "key:" + ticket.caller.key_id, new_id(),
    )  # fmt: skip
    try:
        balance = process.till.settle(settlement)
    except TillAway:
        return cost, None
    if balance is None and cost:
        # Only a process that was stopped for longer than DEAD_AFTER gets here: it was taken for dead meanwhile.
        log.error("settled by somebody else: this answer was not charged", extra={"request": ticket.id, "cost": cost})
    return cost, balance
