"""One worker's line over the store with the test's clock, and the servers it speaks of."""

from typing import Any

from portal.ids import new_id
from portal.services.routing.line import Blame, Line, Place, Pool, Refused, Server
from tests.routing.clocked import ClockedScripts, Grant, pool

A, B = Server("a", 2, 1), Server("b", 2, 1)
ONE_SLOT = Server("a", 1, 1)


class Worker:
    """One process's line over the store with the test's clock; what it was told of servers."""

    def __init__(self, store: ClockedScripts, process_id: str) -> None:
        self.store = store
        self.rested: list[tuple[str, str, int]] = []
        self.recovered: list[str] = []
        self.line = Line(
            store, process_id, rested=lambda *told: self.rested.append(told), recovered=self.recovered.append
        )

    def place(self, its: Pool, priority: int = 0) -> Place:
        return self.line.place(new_id(), its, priority)

    def enter(self, its: Pool, priority: int = 0) -> Place:
        place = self.place(its, priority)
        assert self.line.enter(place) is None
        return place

    def refused(self, its: Pool) -> Refused:
        refused = self.line.enter(self.place(its))
        assert refused is not None
        return refused

    def fail(self, server: Server, account: str, **blame: Any) -> None:
        """A request of that account gets a slot and fails there."""
        place = self.enter(pool(server))
        assert place.server == server.name
        self.line.leave(place, "fault", Blame("it broke", account, **blame))

    def wait(self, ms: int) -> None:
        """Time passes, and its leases are renewed every three seconds."""
        for step in [3000] * (ms // 3000) + [ms % 3000]:
            self.store.now += step
            self.line.renew()

    def hear(self) -> list[Grant]:
        """What was published for it, heard now."""
        grants = self.store.published()
        for grant in grants:
            self.line.granted(*grant)
        return grants
