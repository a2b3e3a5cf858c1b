"""Connections to servers of models: one pool an address and key, kept for as long as the process lives."""

from portal.providers.llm.upstream import UpstreamPool
from portal.services.catalog import Offer


class Connections:
    """One a process."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str], UpstreamPool] = {}

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
