"""Where a request may go at all: the servers at the model's home that can do what it asks, and its cloud twin's.

Worked out once a model and kind of request, and remembered as long as the catalogue's snapshot; the hot path looks up.
"""

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple

from portal.services.catalog import CatalogModel, Offer
from portal.services.pricing import Rates, dearest
from portal.services.routing.line import Pool, Server

REMEMBERED = 1000


class Ways(NamedTuple):
    """home: the servers where the model is at home; twin: those of its cloud twin. Either may have none."""

    home: Pool
    twin: Pool
    offers: dict[str, Offer]
    """By the server's name."""

    def rates(self, pool: Pool, now: dt.datetime) -> Rates | None:
        """What a pool costs: as much as its dearest server, so that the price is known before the server is."""
        prices = [self.offers[server.name].rates(now) for server in pool.servers]
        return dearest(rates for rates in prices if rates is not None)


class WaysMemory:
    """One a process."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, frozenset[str]], tuple[CatalogModel, Ways]] = {}

    def of(self, model: CatalogModel, needs: frozenset[str], tokens: int) -> Ways:
        """needs: capabilities, in Ollama's words. tokens: what the prompt has at least."""
        if tokens > min((offer.context_tokens for offer in model.offers), default=0):
            return _ways(model, needs, tokens)
        key = (id(model), needs)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            # The model is kept with it: another one could else come to have the same id.
            found = self._found[key] = (model, _ways(model, needs, tokens))
        return found[1]


def _ways(model: CatalogModel, needs: frozenset[str], tokens: int) -> Ways:
    able = [offer for offer in model.offers if needs <= offer.capabilities and tokens <= offer.context_tokens]
    return Ways(
        _pool(offer for offer in able if offer.location == model.location),
        _pool(offer for offer in able if offer.location != model.location),
        {offer.provider: offer for offer in able},
    )


def _pool(offers: Iterable[Offer]) -> Pool:
    return Pool.of(tuple(Server(offer.provider, offer.slots, offer.weight) for offer in offers))
