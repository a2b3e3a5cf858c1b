"""Choosing a server for a model: among those that offer it, the one with the fewest of our requests in flight.

Connections are kept here, one pool a server. The line, the cloud twin and the breaker join this file's `choose`.
"""

from collections import defaultdict

from portal.errors import NoProvider
from portal.providers.llm.upstream import UpstreamPool
from portal.services.catalog import CatalogModel, Offer


class Routing:
    """One a process."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str], UpstreamPool] = {}
        self._in_flight: dict[str, int] = defaultdict(int)

    def choose(self, model: CatalogModel, *, without: frozenset[str] = frozenset()) -> Offer:
        """The best offer of a model. without: names of providers already tried. Raises NoProvider."""
        offers = [offer for offer in model.home if offer.provider not in without]
        if not offers:
            raise NoProvider(retry_after=5)
        return min(offers, key=lambda offer: self._in_flight[offer.provider])

    def pool(self, offer: Offer) -> UpstreamPool:
        key = (offer.url, offer.key)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = UpstreamPool(offer.url, offer.key)
        return pool

    def close(self) -> None:
        """Close the connections that wait for a request."""
        for pool in self._pools.values():
            pool.close()

    def entered(self, offer: Offer) -> None:
        self._in_flight[offer.provider] += 1

    def left(self, offer: Offer) -> None:
        self._in_flight[offer.provider] -= 1
