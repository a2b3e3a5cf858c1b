"""A request that was let in: everything its answer and its settlement need, as plain data."""

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


@dataclass(slots=True)
class Ticket:
    """limit: the longest answer, in tokens; amount: what is on hold, in milli-credits."""

    id: str
    caller: Caller
    ask: Ask
    model: CatalogModel
    rates: Rates
    prompt_bound: int
    limit: int
    amount: int
    taken: Taken | None
    """None when the store was away and requests are let through."""
    offer: Offer
    started: float = field(default_factory=time.monotonic)
    first_byte: float | None = None
    tell: Callable[[PortalError], bytes] = plainly
    """An error as JSON in the customer's language, where only an event can tell it any more."""

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
