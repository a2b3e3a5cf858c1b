"""Two Ollama servers with two slots each behind the street's portals, and the line as the store has it."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import Provider, Usage
from portal.services import providers
from portal.services.seeds import seed
from sandbox.process import SandboxProcess
from tests.gateway.wire import eventually
from tests.races.crowd import Customer, Told, tag_of
from tests.races.street import Street
from tests.services.redis_server import RedisServer
from tests.services.web import StartWeb, Web

SLOTS = 2
PLANS = ("basic", "pro", "enterprise")
CREDIT = 100_000_000
HERE = ("ollama-1", "ollama-2")


class TwoServers(Street):
    """A street whose portals have two servers. `servers` are their processes, in the order of `HERE`."""

    def __init__(
        self, app: Flask, url: str, start_web: StartWeb, servers: Sequence[SandboxProcess], store: RedisServer
    ) -> None:
        super().__init__(app, url, start_web, servers[0])
        self.servers, self.store = servers, store
        self.customers: dict[str, Customer] = {}
        self.accounts: dict[str, str] = {}
        """By plan."""
        with app.app_context():
            seed(app.config["PORTAL"])
            for name in HERE:
                providers.change(name, slots=SLOTS)
        self.control(slots=128, server_slots=SLOTS)
        for plan in PLANS:
            self.accounts[plan], key = self.customer(CREDIT, plan)
            self.customers[plan] = Customer(plan, key)

    def open(self, workers: int = 4, **settings: str | int) -> Web:
        """The portals, which all know both servers."""
        settings["OLLAMA_URL"] = ",".join(server.ollama_url for server in self.servers)
        return self.open_shop(workers, url=self.url, **settings)

    def mixed(self, count: int) -> list[Customer]:
        """So many customers of the three plans, in turn."""
        return [self.customers[PLANS[number % len(PLANS)]] for number in range(count)]

    def control(self, **knobs: Any) -> None:
        """Of both servers."""
        for server in self.servers:
            server.control(**knobs)

    def let_go(self) -> None:
        """Whatever waits for `release`, and whatever comes."""
        for server in self.servers:
            server.control(hold_after=None)
            server.release()

    # -- what the servers say ------------------------------------------------------------------------------------------

    def arrivals(self) -> list[dict[str, Any]]:
        """The questions that reached a server, in the order of their arrival."""
        return sorted((entry for server in self.servers for entry in server.chats()), key=lambda entry: entry["at"])

    def tags(self) -> list[str]:
        return [tag_of(entry) for entry in self.arrivals()]

    def at_servers(self) -> int:
        """Questions that arrived so far."""
        return sum(server.counters()["calls"] for server in self.servers)

    def most_at_once(self) -> list[int]:
        """The most questions that each server has had at once, waiting ones among them."""
        return [server.counters()["max_in_flight"] for server in self.servers]

    # -- what the store says -------------------------------------------------------------------------------------------

    def in_line(self) -> list[str]:
        """The ids of those who wait, the first first."""
        found: list[tuple[bytes, float]] = []
        for key in self.store.client.scan_iter("line:wait:*"):
            members: Any = self.store.client.zrange(key, 0, -1, withscores=True)
            found += members
        return [member.decode().partition(":")[0] for member, _ in sorted(found, key=lambda pair: (pair[1], pair[0]))]

    def leases(self) -> dict[str, str]:
        """Request → the worker (by its gateway's id) that has a slot for it."""
        found: dict[str, str] = {}
        for key in self.store.client.scan_iter("line:busy:*"):
            members: Any = self.store.client.zrange(key, 0, -1)
            found |= dict(member.decode().split(":") for member in members)
        return found

    def nothing_is_left_in_line(self) -> None:
        """No slot is taken and nobody waits; within the moment that the last word to the store may take."""
        eventually(lambda: (self.in_line(), self.leases()) == ([], {}), 5, "an empty line")

    # -- what the books say --------------------------------------------------------------------------------------------

    def rows(self) -> dict[str, Usage]:
        with self.app.app_context():
            return {usage.id: usage for usage in db.session.scalars(sa.select(Usage))}

    def state(self, provider: str) -> str:
        """As people see it."""
        with self.app.app_context():
            return str(db.session.scalar(sa.select(Provider.state).where(Provider.name == provider)))

    def all_settled(self) -> None:
        eventually(lambda: not self.open_requests(), 10, "the last settlement")

    def right_to_the_last_credit(self, told: Sequence[Told]) -> None:
        """One settled row for each answer, charged once; what was told to cost so much cost that; nothing else."""
        rows = self.rows()
        assert {one.request for one in told if one.answered} <= set(rows), "an answer without a row"
        for one in told:
            if one.answered:
                row = rows[one.request]
                assert (row.state, row.outcome) == ("settled", "ok"), one
                if not one.stream:
                    assert round(float(one.headers["x-portal-credits"]) * 1000) == row.cost
            elif one.refusal:
                assert one.request not in rows or rows[one.request].cost == 0, f"a refusal was charged: {one}"
        for account in self.accounts.values():
            spent = sum(row.cost for row in rows.values() if row.account_id == account)
            wallet = self.wallet(account)
            assert (wallet.balance, wallet.held) == (CREDIT - spent, 0)
        assert self.faults() == []


def ranks(order: Sequence[str], arrived: Sequence[str]) -> list[int]:
    """By how many places each that arrived had overtaken, or was overtaken on its way. order: as it should be."""
    place = {name: number for number, name in enumerate(order)}
    return [place[name] - number for number, name in enumerate(arrived)]
