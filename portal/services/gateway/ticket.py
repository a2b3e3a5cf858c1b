"""A request that was let in: everything its answer and its settlement need, as plain data."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from portal.errors import PortalError
from portal.services.callers import Caller
from portal.services.catalog import CatalogModel, Offer
from portal.services.gateway.ask import Ask
from portal.services.gateway.reply import BufferedReply, StreamReply, plainly
from portal.services.limits import Taken
from portal.services.pricing import Rates
from portal.services.routing.line import Place
from portal.services.routing.ways import Ways

FREE = Rates(0, 0, 0)
MOST_ATTEMPTS = 4
"""Servers that a request is sent to, one after the other."""


@dataclass(slots=True)
class Ticket:
    """limit: the longest answer, in tokens; amount: what is on hold, in milli-credits."""

    id: str
    caller: Caller
    ask: Ask
    model: CatalogModel
    ways: Ways
    home_bound: int
    """The most tokens that its prompt can have at our own servers; they cut what is longer."""
    limit: int
    taken: Taken | None
    """None when the store was away and requests are let through."""
    key_hash: str
    """What its key is known by, for a look at who asks after a long wait."""
    may_fail_over: bool
    """Plan, key, account and request let it go to the model's cloud twin."""
    prompt_bound: int = 0
    """The most tokens that its prompt can have where it goes."""
    rates: Rates = FREE
    amount: int = 0
    location: str = "local"
    """Where it is answered, and whose price it pays."""
    place: Place | None = None
    """Its slot, or its place in line; None before and after."""
    offer: Offer | None = None
    """Who answers it; None while it waits."""
    budget_day: dt.date | None = None
    """The day whose cloud budget it has taken from for a call that has not left yet."""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Servers that failed it, as the usage row tells them."""
    waited: float = 0.0
    """Seconds in line."""
    started: float = field(default_factory=time.monotonic)
    first_byte: float | None = None
    tell: Callable[[PortalError], bytes] = plainly
    """An error as JSON in the customer's language, where only an event can tell it any more."""

    @property
    def failed_over(self) -> bool:
        """It went to the cloud twin of a model that is at home here."""
        return self.location != self.model.location

    @property
    def provider(self) -> str:
        return self.offer.provider if self.offer is not None else ""

    def price(self, rates: Rates, location: str) -> None:
        """From now on it costs this: the whole hold with it."""
        self.rates, self.location = rates, location
        # A cloud's real context isn't ours to know; a token is at least a byte anywhere.
        self.prompt_bound = self.ask.prompt_bound if location == "cloud" else self.home_bound
        self.amount = rates.charge(self.prompt_bound, self.limit)

    def cost(self, prompt: int, answer: int, cached: int) -> int:
        """Milli-credits, never more than the hold."""
        return min(self.rates.charge(prompt, answer, cached), self.amount)

    def stream_reply(self) -> StreamReply:
        return StreamReply(*self._named(), **self._metered(), include_usage=self.ask.include_usage, tell=self.tell)

    def buffered_reply(self) -> BufferedReply:
        return BufferedReply(*self._named(), **self._metered())

    def _named(self) -> tuple[str, str]:
        return "chatcmpl-" + self.id, self.ask.model

    def _metered(self) -> dict[str, Any]:
        estimate = min(self.ask.prompt_estimate, self.prompt_bound)
        return {"bounds": (self.prompt_bound, self.limit), "estimate": estimate, "cost": self.cost}
