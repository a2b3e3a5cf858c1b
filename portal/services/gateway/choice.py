"""Which way a request takes, and what it costs there: a local slot or place in line, else the cloud twin.

Order matters: whoever is refused has nothing left behind. The cloud's budget is taken first and given back last; credit
is set aside only for a request that has a slot or a place.
"""

import datetime as dt
import logging

import sqlalchemy as sa

from portal.clock import seconds_to_kuwait_midnight, utcnow
from portal.errors import (
    CloudBudgetExhausted,
    CreditsOnHold,
    InsufficientCredits,
    NoProvider,
    PortalError,
    QueueFull,
)
from portal.ids import new_id
from portal.services import budget
from portal.services.gateway.holding import hold
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.ticket import Ticket
from portal.services.routing.line import NEVER, Place, Pool, Refused

log = logging.getLogger("portal.gateway")
LOOK_AGAIN_SECONDS = 5
"""What is told where nobody knows better."""


def choose(process: GatewayProcess, ticket: Ticket, place: Place | None, refused: Refused | None) -> None:
    """Give the ticket its slot or place, and its hold. place, refused: what the line said already, if it was asked.

    Raises what forbids it: QueueFull, NoProvider, CloudBudgetExhausted, InsufficientCredits…
    """
    if ticket.model.location == "cloud":
        to_cloud(process, ticket, ticket.ways.home)
        return
    home = ticket.ways.home
    if home.servers and place is None and refused is None:
        place = process.line.place(ticket.id, home, ticket.caller.priority)
        refused = process.line.enter(place, over=depth(process, ticket))
    if place is None or refused is not None:
        if ticket.may_fail_over and (refused is None or refused.why != "full"):
            try:
                to_cloud(process, ticket, ticket.ways.twin)
                return
            except (CloudBudgetExhausted, QueueFull, NoProvider, InsufficientCredits, CreditsOnHold):
                pass  # it waits for its turn at the local price, as it would without a twin
        if refused is not None and refused.why == "over":
            place = process.line.place(new_id(), home, ticket.caller.priority)
            refused = process.line.enter(place)
        if place is None or refused is not None:
            raise refusal(refused)
    ticket.place = place
    try:
        rates = ticket.ways.rates(home, utcnow())
        if rates is None:
            raise NoProvider(retry_after=LOOK_AGAIN_SECONDS)
        ticket.price(rates, "local")
        hold(process, ticket)
    except BaseException:
        process.line.leave(place)
        raise


def depth(process: GatewayProcess, ticket: Ticket) -> int:
    """From which depth on a request would rather go to the cloud."""
    return process.settings.queue_limit if ticket.may_fail_over else NEVER


def to_cloud(process: GatewayProcess, ticket: Ticket, pool: Pool) -> None:
    """The same at the model's cloud servers: within the day's budget, at the price there."""
    rates = ticket.ways.rates(pool, utcnow())
    if rates is None:
        raise NoProvider(retry_after=LOOK_AGAIN_SECONDS)
    day = take_budget(process)
    place = process.line.place(new_id(), pool, ticket.caller.priority)
    before = ticket.limit
    try:
        refused = process.line.enter(place)
        if refused is not None:
            raise refusal(refused)
        ticket.place, ticket.budget_day = place, day
        ticket.price(rates, "cloud")
        hold(process, ticket)
    except BaseException:
        process.line.leave(place)
        ticket.place = ticket.budget_day = None
        ticket.limit, ticket.location = before, ticket.model.location
        give_back(process, day)
        raise


def take_budget(process: GatewayProcess) -> dt.date:
    """One of the day's cloud requests; returns the day.

    Raises CloudBudgetExhausted, NoProvider while the database is away.
    """
    try:
        with process.writing():
            day = budget.take(process.settings.cloud_daily_limit)
    except sa.exc.SQLAlchemyError as error:
        log.error("the cloud's budget can't be asked", exc_info=error)
        raise NoProvider(retry_after=LOOK_AGAIN_SECONDS) from error
    if day is None:
        raise CloudBudgetExhausted(retry_after=seconds_to_kuwait_midnight())
    return day


def give_back(process: GatewayProcess, day: dt.date) -> None:
    """For a call that never left. Without a database it stays used: one too few beats one too many."""
    try:
        with process.writing():
            budget.give_back(day)
    except sa.exc.SQLAlchemyError as error:
        log.error("a place in the cloud's budget is not given back", exc_info=error)


def refusal(refused: Refused | None) -> PortalError:
    """What is told to somebody for whom there is neither slot nor place."""
    if refused is None:
        return NoProvider(retry_after=LOOK_AGAIN_SECONDS)
    seconds = max(1, refused.seconds or LOOK_AGAIN_SECONDS)
    return QueueFull(retry_after=seconds, seconds=seconds) if refused.why == "full" else NoProvider(retry_after=seconds)
