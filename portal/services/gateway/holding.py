"""Setting a request's worst case aside: durable before any server is called. 402 where the wallet can't cover it."""

import sqlalchemy as sa

from portal import money
from portal.clock import utcnow
from portal.errors import CreditsOnHold, InsufficientCredits, ServiceUnavailable
from portal.extensions import db
from portal.models import Wallet
from portal.services import credit_alerts
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.ticket import Ticket
from portal.services.ledger.statements import Hold
from portal.services.ledger.till import NotHeld, TillAway
from portal.services.pricing import MILLION

SHORTEST_ANSWER = 16
"""Tokens. A wallet that can't pay for so little is empty."""


def hold(process: GatewayProcess, ticket: Ticket) -> None:
    """Open the usage row. Raises InsufficientCredits, CreditsOnHold, ServiceUnavailable; nothing is held then."""
    try:
        process.till.hold(_row(process, ticket))
        return
    except NotHeld:
        pass
    except TillAway as error:
        raise ServiceUnavailable(retry_after=5) from error
    _hold_what_is_left(process, ticket)


def _hold_what_is_left(process: GatewayProcess, ticket: Ticket) -> None:
    """The whole hold isn't covered: take what the wallet affords, if the customer named no limit of their own."""
    wanted_limit, rates = ticket.limit, ticket.rates
    least = SHORTEST_ANSWER if ticket.ask.limit is None else wanted_limit
    required = rates.charge(ticket.prompt_bound, min(least, wanted_limit))
    for _ in range(5):
        balance, available = _wallet(process, ticket.caller.account_id)
        if available < required:
            ticket.limit = wanted_limit
            if balance >= required:
                raise CreditsOnHold(retry_after=2)
            if rates.charge(ticket.prompt_bound, SHORTEST_ANSWER) > balance:
                process.later(credit_alerts.refused, ticket.caller.account_id)
            amounts = {"balance": money.credits_number(balance), "required": money.credits_number(required)}
            raise InsufficientCredits(
                extra={**amounts, "top_up_url": process.settings.base_url + "/billing"},
                balance=money.credits_plain(balance),
                required=money.credits_plain(required),
            )
        if rates.answer and ticket.ask.limit is None:
            affordable = (available * MILLION - ticket.prompt_bound * rates.prompt) // rates.answer
            ticket.limit = min(wanted_limit, affordable)
        ticket.amount = rates.charge(ticket.prompt_bound, ticket.limit)
        try:
            process.till.hold(_row(process, ticket))
            return
        except NotHeld:
            continue  # somebody else took it meanwhile: look again
        except TillAway as error:
            raise ServiceUnavailable(retry_after=5) from error
    ticket.limit = wanted_limit
    raise CreditsOnHold(retry_after=2)


def _wallet(process: GatewayProcess, account_id: str) -> tuple[int, int]:
    """(balance, available), in milli-credits."""
    with process.rows():
        row = db.session.execute(sa.select(Wallet.balance, Wallet.held).where(Wallet.account_id == account_id)).one()
    return row.balance, row.balance - row.held


def _row(process: GatewayProcess, ticket: Ticket) -> Hold:
    caller, rates = ticket.caller, ticket.rates
    server = ticket.place.server if ticket.place is not None else ""
    return Hold(
        ticket.id, caller.account_id, caller.key_id, process.id, ticket.model.name, server, ticket.location,
        ticket.failed_over, rates.prompt, rates.answer, rates.cached, ticket.ask.stream, ticket.amount, stamp(),
    )  # fmt: skip


def stamp() -> str:
    """The present instant as the till writes it."""
    return utcnow().strftime("%Y-%m-%d %H:%M:%S.%f")
