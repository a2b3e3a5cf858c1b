"""Letting a request in: who asks, for which model, within the limits, and with its worst case set aside.

One trip to the store (rate limit and freshness), one durable hold; the rows of caller and catalogue are read only when
what this worker remembers is no longer fresh. Every inference route passes here.
"""

import logging
from typing import NamedTuple

import sqlalchemy as sa

from portal import money
from portal.clock import utcnow
from portal.errors import (
    CreditsOnHold,
    InsufficientCredits,
    LimiterUnavailable,
    ModelNotFound,
    PortalError,
    RateLimitExceeded,
    ScopeMissing,
    ServiceUnavailable,
)
from portal.extensions import db
from portal.models import Wallet
from portal.pipeline import StoreAway
from portal.services import callers, limits
from portal.services.callers import Caller
from portal.services.catalog import Catalog
from portal.services.catalog_rows import read_catalog
from portal.services.gateway.ask import Ask, read_ask
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.ticket import Ticket
from portal.services.ledger.statements import Hold
from portal.services.ledger.till import NotHeld, TillAway
from portal.services.limits import Taken
from portal.services.pricing import MILLION

log = logging.getLogger("portal.gateway")
SHORTEST_ANSWER = 16
"""Tokens. A wallet that can't pay for so little is empty."""


class Identity(NamedTuple):
    """Who asks, as far as the key tells. token: what the caller was remembered under; None where nothing was."""

    hashed: str
    caller: Caller
    token: bytes | None


def identify(process: GatewayProcess, authorization: str | None) -> Identity:
    """Who asks, before a byte of what they ask is read. authorization: the header as it came.

    Raises what forbids the caller to ask for anything: MissingApiKey, InvalidApiKey, KeyRevoked…
    """
    hashed = callers.key_hash(authorization)
    process.forget_after_outages()
    caller, token = _caller(process, hashed)
    return Identity(hashed, caller, token)


def admit(process: GatewayProcess, request_id: str, identity: Identity, body: bytes) -> Ticket:
    """Let a chat request in. body: the request's JSON. Raises a PortalError for whatever forbids it."""
    ask = read_ask(body)
    caller, catalog, taken = _counted(process, request_id, identity)
    try:
        return _admit(process, request_id, caller, catalog, taken, ask)
    except PortalError as error:
        error.told += limits.headers(caller.requests_per_minute, taken)
        raise


def _counted(process: GatewayProcess, request_id: str, identity: Identity) -> tuple[Caller, Catalog, Taken | None]:
    """Caller and catalogue as they are now, and the request's place in the window (None: the store is away)."""
    hashed, caller, token = identity
    try:
        taken = limits.take(process.scripts, caller.account_id, caller.requests_per_minute, request_id)
        if token is not None and token != taken.account_token:
            before, caller = caller, _fresh(process, hashed, taken.account_token)
            if not taken.allowed and caller.requests_per_minute > before.requests_per_minute:
                taken = limits.take(process.scripts, caller.account_id, caller.requests_per_minute, request_id)
        catalog = _catalog(process, taken.catalog_token)
    except StoreAway:
        return _without_store(process, hashed), _read_catalog(process), None
    if process.uncounted:
        log.warning("requests were let through uncounted", extra={"count": process.uncounted})
        process.uncounted = 0
    return caller, catalog, taken


def _admit(
    process: GatewayProcess, request_id: str, caller: Caller, catalog: Catalog, taken: Taken | None, ask: Ask
) -> Ticket:
    if taken is not None and not taken.allowed:
        seconds = max(1, -(-taken.retry_ms // 1000))
        raise RateLimitExceeded(retry_after=seconds, limit=caller.requests_per_minute, seconds=seconds)
    model = catalog.permit(caller, ask.model)
    ask.require(model)
    offer = process.routing.choose(model)
    rates = offer.rates(utcnow())
    if rates is None:
        raise ModelNotFound(param="model", model=ask.model)
    prompt_bound = min(ask.prompt_bound, max(model.context_tokens, ask.prompt_estimate))
    limit = model.answer_tokens if ask.limit is None else min(ask.limit, model.context_tokens)
    ticket = Ticket(
        request_id, caller, ask, model, rates, prompt_bound, limit, rates.charge(prompt_bound, limit), taken, offer,
    )  # fmt: skip
    _hold(process, ticket)
    process.keys_used.add(caller.key_id)
    return ticket


def _caller(process: GatewayProcess, hashed: str) -> tuple[Caller, bytes | None]:
    """The caller, and the token it was remembered under; None where it was read just now."""
    remembered = process.caller_memory.get(hashed)
    if remembered is not None and not remembered[0].expired():
        return remembered
    caller = _read_caller(process, hashed)
    try:
        token, _ = limits.tokens(process.scripts, caller.account_id)
    except StoreAway:
        return caller, None
    # Read again under the token: a change between the two would else be remembered as if it had been seen.
    return _fresh(process, hashed, token), token


def _fresh(process: GatewayProcess, hashed: str, token: bytes) -> Caller:
    process.caller_memory.forget(hashed)
    caller = _read_caller(process, hashed)
    process.caller_memory.put(hashed, caller, token)
    return caller


def _read_caller(process: GatewayProcess, hashed: str) -> Caller:
    """From the rows. Who is refused is never remembered: a restored account would stay refused without being asked for.

    Raises what forbids the caller to ask for anything.
    """
    with process.rows():
        caller = callers.find(hashed)
    caller.check()
    if "write" not in caller.scopes:
        raise ScopeMissing(scope="write")
    return caller


def _without_store(process: GatewayProcess, hashed: str) -> Caller:
    """The policy for when requests can't be counted. Nothing remembered is trusted then."""
    if process.settings.rate_limit_fail == "closed":
        raise LimiterUnavailable(retry_after=5)
    process.uncounted += 1
    return _read_caller(process, hashed)


def _catalog(process: GatewayProcess, token: bytes) -> Catalog:
    catalog = process.catalog_memory.get(token)
    if catalog is None:
        with process.reading_catalog:  # one reads, the others wait for what it read
            catalog = process.catalog_memory.get(token)
            if catalog is None:
                catalog = _read_catalog(process)
                process.catalog_memory.put(catalog, token)
                process.caller_memory.clear()  # callers carry their plan's limit, and plans are catalogue
    return catalog


def _read_catalog(process: GatewayProcess) -> Catalog:
    with process.rows():
        return read_catalog(process.settings)


def _hold(process: GatewayProcess, ticket: Ticket) -> None:
    try:
        process.till.hold(_hold_row(process, ticket))
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
            if balance >= required:
                raise CreditsOnHold(retry_after=2)
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
            process.till.hold(_hold_row(process, ticket))
            return
        except NotHeld:
            continue  # somebody else took it meanwhile: look again
        except TillAway as error:
            raise ServiceUnavailable(retry_after=5) from error
    raise CreditsOnHold(retry_after=2)


def _wallet(process: GatewayProcess, account_id: str) -> tuple[int, int]:
    """(balance, available), in milli-credits."""
    with process.rows():
        row = db.session.execute(sa.select(Wallet.balance, Wallet.held).where(Wallet.account_id == account_id)).one()
    return row.balance, row.balance - row.held


def _hold_row(process: GatewayProcess, ticket: Ticket) -> Hold:
    caller, offer = ticket.caller, ticket.offer
    return Hold(
        ticket.id, caller.account_id, caller.key_id, process.id, ticket.model.name, offer.provider, offer.location,
        False, ticket.rates.prompt, ticket.rates.answer, ticket.rates.cached, ticket.ask.stream, ticket.amount, stamp(),
    )  # fmt: skip


def stamp() -> str:
    """The present instant as the till writes it."""
    return utcnow().strftime("%Y-%m-%d %H:%M:%S.%f")
