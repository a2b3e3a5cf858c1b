"""Letting a request in: who asks, for which model, within the limits; then its way (`choice`) and its hold (`holding`).

One trip to the store counts it, tells whether what this worker remembers is fresh, and gets it a slot or a place in
line; the rows of caller and catalogue are read only when what is remembered is no longer fresh. Every inference route
passes here.
"""

import logging
from typing import Any, NamedTuple

import sqlalchemy as sa

from portal.errors import LimiterUnavailable, PortalError, RateLimitExceeded, ScopeMissing
from portal.pipeline import Script, StoreAway, Word
from portal.services import callers, limits
from portal.services.callers import Caller
from portal.services.catalog import Catalog, CatalogModel, may_move
from portal.services.catalog_rows import read_catalog
from portal.services.gateway import choice
from portal.services.gateway.ask import Ask, read_ask
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.ticket import Ticket
from portal.services.limits import Taken
from portal.services.routing.line import Place, Refused
from portal.services.routing.scripts import LINE
from portal.services.routing.ways import Ways

log = logging.getLogger("portal.gateway")
IN = Script(
    limits.LIMIT
    + LINE
    + """
-- limit, window, request, the tokens that account and catalogue were read under, then what `enter` is told.
local told = take(tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
if told[1] == 1 and told[5] == ARGV[4] and told[6] == ARGV[5] then told[7] = enter({unpack(ARGV, 6)}) end
return told
"""
)
"""The trip of a request whose caller and catalogue are remembered: counted, and in line where neither has changed."""


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


def admit(
    process: GatewayProcess, request_id: str, identity: Identity, body: bytes, *, failover: bool = True
) -> Ticket:
    """Let a chat request in. body: the request's JSON; failover: whether the customer would go to the cloud twin.

    Returns a ticket with a hold, and a slot or a place in line. Raises a PortalError for whatever forbids it.
    """
    ask = read_ask(body)
    counted = _counted(process, request_id, identity, ask, failover)
    try:
        return _admit(process, request_id, identity.hashed, counted, ask, failover)
    except PortalError as error:
        error.told += limits.headers(counted.caller.requests_per_minute, counted.taken)
        raise


def look_again(process: GatewayProcess, ticket: Ticket) -> None:
    """After a wait: what was true when the request was let in may have ended meanwhile.

    The ticket's ways become those of now; its price stays. Raises what forbids the request now.
    """
    try:
        try:
            tokens = limits.tokens(process.scripts, ticket.caller.account_id)
            if ticket.taken is not None and tokens == (ticket.taken.account_token, ticket.taken.catalog_token):
                return
            catalog = _catalog(process, tokens[1])
        except StoreAway:
            catalog = _read_catalog(process)
        caller = _read_caller(process, ticket.key_hash)
    except sa.exc.SQLAlchemyError as error:
        log.warning("not known whether it may still go on", extra={"error": type(error).__name__})
        return
    now = _ticket(process, ticket.id, ticket.key_hash, caller, catalog, ticket.taken, ticket.ask, ticket.may_fail_over)
    ticket.ways, ticket.may_fail_over = now.ways, now.may_fail_over


class _Counted(NamedTuple):
    """Caller and catalogue as they are now; the request's place in the window (None: the store is away).

    ticket: as it was guessed rightly, where the line could be asked in the same trip; place, refused: what it said.
    """

    caller: Caller
    catalog: Catalog
    taken: Taken | None
    ticket: Ticket | None = None
    place: Place | None = None
    refused: Refused | None = None


def _counted(process: GatewayProcess, request_id: str, identity: Identity, ask: Ask, failover: bool) -> _Counted:
    hashed, caller, token = identity
    guess = _guess(process, request_id, hashed, caller, ask, failover) if token is not None else None
    try:
        if token is None or guess is None:
            reply: list[Any] = []
            taken = limits.take(process.scripts, caller.account_id, caller.requests_per_minute, request_id)
        else:
            words = (caller.requests_per_minute, limits.WINDOW_MS, request_id, token, *guess.words)
            reply = process.scripts.run(IN, limits.keys(caller.account_id), words)
            taken = limits.taken(reply)
        if len(reply) > 6 and guess is not None:
            refused = process.line.entered(guess.place, reply[6])
            guess.ticket.taken = taken
            return _Counted(caller, guess.catalog, taken, guess.ticket, None if refused else guess.place, refused)
        if token is not None and token != taken.account_token:
            before, caller = caller, _fresh(process, hashed, taken.account_token)
            if not taken.allowed and caller.requests_per_minute > before.requests_per_minute:
                taken = limits.take(process.scripts, caller.account_id, caller.requests_per_minute, request_id)
        catalog = _catalog(process, taken.catalog_token)
    except StoreAway:
        return _Counted(_without_store(process, hashed), _read_catalog(process), None)
    finally:
        if guess is not None and not guess.place.asked:
            process.line.leave(guess.place)
    if process.uncounted:
        log.warning("requests were let through uncounted", extra={"count": process.uncounted})
        process.uncounted = 0
    return _Counted(caller, catalog, taken)


class _Guess(NamedTuple):
    """What the line is asked on the strength of what is remembered."""

    catalog: Catalog
    ticket: Ticket
    place: Place
    words: tuple[Word, ...]


def _guess(
    process: GatewayProcess, request_id: str, hashed: str, caller: Caller, ask: Ask, failover: bool
) -> _Guess | None:
    """None where the line is not to be asked yet: nothing remembered, a refusal to come, or a cloud model."""
    catalog = process.catalog_memory.get()
    if catalog is None:
        return None
    try:
        ticket = _ticket(process, request_id, hashed, caller, catalog, None, ask, failover)
    except PortalError:
        return None  # it is counted all the same, and told after that
    if ticket.model.location == "cloud" or not ticket.ways.home.servers:
        return None
    place = process.line.place(request_id, ticket.ways.home, caller.priority)
    words = process.line.words(place, over=choice.depth(process, ticket))
    return _Guess(catalog, ticket, place, (process.catalog_memory.token, *words))


def _admit(
    process: GatewayProcess, request_id: str, hashed: str, counted: _Counted, ask: Ask, failover: bool
) -> Ticket:
    caller, catalog, taken, ticket, place, refused = counted
    if taken is not None and not taken.allowed:
        seconds = max(1, -(-taken.retry_ms // 1000))
        raise RateLimitExceeded(retry_after=seconds, limit=caller.requests_per_minute, seconds=seconds)
    if ticket is None:
        ticket = _ticket(process, request_id, hashed, caller, catalog, taken, ask, failover)
    choice.choose(process, ticket, place, refused)
    process.keys_used.add(caller.key_id)
    return ticket


def _ticket(
    process: GatewayProcess,
    request_id: str,
    hashed: str,
    caller: Caller,
    catalog: Catalog,
    taken: Taken | None,
    ask: Ask,
    failover: bool,
) -> Ticket:
    """The request as this caller may make it. Raises what the gate or the model's abilities forbid."""
    model = catalog.permit(caller, ask.model)
    ask.require(model)
    ways = _ways(process, model, ask)
    if model.home and not ways.home.servers:
        raise ask.no_single_server(model)
    return Ticket(
        id=request_id,
        key_hash=hashed,
        caller=caller,
        ask=ask,
        model=model,
        ways=ways,
        home_bound=min(ask.prompt_bound, max(model.context_tokens, ask.prompt_estimate)),
        limit=model.answer_tokens if ask.limit is None else min(ask.limit, model.context_tokens),
        taken=taken,
        may_fail_over=failover and bool(ways.twin.servers) and may_move(caller, model),
        location=model.location,
    )


def _ways(process: GatewayProcess, model: CatalogModel, ask: Ask) -> Ways:
    smallest = min(offer.context_tokens for offer in model.offers)
    return process.ways.of(model, ask.needs, ask.least_tokens(smallest))


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
