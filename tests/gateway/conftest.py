"""One house for the whole folder: a database, a gunicorn on it, the app in this process, and Layla with credit.

Starting gunicorn for every test would take minutes. Redis is emptied and the sandbox reset before each test; what a
test changes in rows it changes for an account of its own.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from dev.embedded_redis import server_binary
from dev.log_watch import LogWatch
from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from portal.freshness import changing
from portal.models import Account, ModelOffer, Plan, Usage, Wallet
from portal.services import accounts, api_keys, ledger
from sandbox.process import SandboxProcess
from tests.gateway.wire import Hub, Plain, eventually
from tests.services.cast import Cast, Person
from tests.services.databases import Engine
from tests.services.environment import portal_environment
from tests.services.portal_app import close
from tests.services.programs import find, missing
from tests.services.redis_server import RedisServer
from tests.services.web import Web

QUICK = {
    "HEARTBEAT_SECONDS": 1, "FIRST_BYTE_SECONDS": 3, "SILENCE_SECONDS": 2, "MAX_REQUEST_BYTES": 300_000,
}  # fmt: skip
PLENTY = 100_000
"""Requests a minute of the Enterprise plan in this house; Layla has it."""
_PASSWORD = "nakhla-marsa-3ashra"


class House:
    """url: the database's; store: a Redis of the house's own, which no other test stops."""

    def __init__(self, url: str, folder: Path, store: RedisServer, sandbox: SandboxProcess) -> None:
        self.url, self.folder, self.store, self.sandbox = url, folder, store, sandbox
        self._webs: list[Web] = []
        self._people = 0

    def environment(self, **settings: str | int) -> dict[str, str]:
        chosen = {"DATABASE_URL": self.url, "REDIS_URL": self.store.url, "OLLAMA_URL": self.sandbox.ollama_url}
        return portal_environment(self.folder, **{**chosen, **QUICK, **settings})

    def start(self, workers: int, **settings: str | int) -> Web:
        """A gunicorn on this house's database, ended with it (or earlier, by `stop`)."""
        web = Web(workers, self.environment(**settings), self.folder / f"web-{len(self._webs)}.log")
        self._webs.append(web)
        return web

    @cached_property
    def app(self) -> Flask:
        return create_app(load_settings(self.environment()))

    @cached_property
    def web(self) -> Web:
        return self.start(1)

    @cached_property
    def four(self) -> Web:
        """Four processes."""
        return self.start(4)

    @cached_property
    def layla(self) -> Person:
        """On the Enterprise plan, with 1,100 credits."""
        layla = Cast(self.app).layla
        with self.app.app_context():
            db.session.execute(sa.update(Plan).where(Plan.id == "enterprise").values(requests_per_minute=PLENTY))
            db.session.execute(sa.update(Account).where(Account.id == layla.account_id).values(plan_id="enterprise"))
            db.session.commit()
        return layla

    @cached_property
    def zaid(self) -> Person:
        """A stranger on the Basic plan."""
        return Cast(self.app).zaid

    def somebody(self, plan: str = "enterprise", credits: int = 100) -> Person:
        """A new person with an account of their own, for a test that changes its rows. credits: whole ones."""
        self._people += 1
        name, phone = f"guest{self._people}", f"+965600{self._people:05d}"
        with self.app.app_context():
            new = accounts.NewUser(email=f"{name}@example.com", phone=phone, password=_PASSWORD, name=name)
            user_id = accounts.register(new, "127.0.0.1")
            account_id = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user_id)).one()
            key = api_keys.create(account_id, user_id, label="theirs", scopes=("read", "write")).secret
            difference = credits * 1000 - self._wallet(account_id)[0]
            if difference:
                ledger.adjust(account_id, difference, reference=name, actor="test", reason="what the test needs")
            db.session.execute(sa.update(Account).where(Account.id == account_id).values(plan_id=plan))
            db.session.commit()
        return Person(name, f"{name}@example.com", phone, user_id, account_id, key)

    def change(self, account_id: str, **values: object) -> None:
        """Change an account's row as the product does it, telling every worker."""
        with self.app.app_context(), changing(f"account:{account_id}"):
            db.session.execute(sa.update(Account).where(Account.id == account_id).values(**values))
            db.session.commit()

    def wallet(self, account_id: str) -> tuple[int, int]:
        """(balance, held), in milli-credits."""
        with self.app.app_context():
            return self._wallet(account_id)

    def usage(self, request_id: str) -> Usage:
        """The settled row of a request."""

        def found() -> Usage | None:
            with self.app.app_context():
                return db.session.scalar(sa.select(Usage).where(Usage.id == request_id, Usage.state == "settled"))

        row: Usage = eventually(found, what=f"the settlement of {request_id}")
        return row

    def usages(self, account_id: str) -> list[Usage]:
        """All rows of an account, oldest first."""
        with self.app.app_context():
            return list(db.session.scalars(sa.select(Usage).where(Usage.account_id == account_id).order_by(Usage.id)))

    def close(self) -> None:
        for web in self._webs:
            web.stop(5)
        if "app" in self.__dict__:
            close(self.app)

    def _wallet(self, account_id: str) -> tuple[int, int]:
        row = db.session.execute(sa.select(Wallet.balance, Wallet.held).where(Wallet.account_id == account_id)).one()
        return row.balance, row.held


def new_store() -> RedisServer:
    """A running Redis; `remove` is the caller's to call."""
    binary = find("redis-server", "valkey-server") or server_binary()
    if binary is None:
        missing("Redis or Valkey")
        raise AssertionError
    server = RedisServer(binary)
    server.start()
    return server


@pytest.fixture
def own_store() -> Iterator[RedisServer]:
    """A Redis that this test may stop."""
    server = new_store()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def _house(
    sqlite_engine: Engine, _sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    house = House(sqlite_engine.fresh("seeded"), tmp_path_factory.mktemp("house"), new_store(), _sandbox)
    yield house
    house.close()
    house.store.remove()


@pytest.fixture
def house(_house: House, sandbox: SandboxProcess) -> House:
    """The house, with an empty store and a sandbox as at its start."""
    _house.store.client.flushall()
    assert _house.layla
    with _house.app.app_context():  # a test may have made a server say that it has not got a model
        db.session.execute(sa.update(ModelOffer).values(present=None))
        db.session.commit()
    return _house


@pytest.fixture
def complaints(house: House) -> LogWatch:
    """What the house's web process logs as an error from now on."""
    return LogWatch(house.web.log)


@pytest.fixture
def hub(house: House) -> Iterator[Hub]:
    """The transport of a gevent worker."""
    hub = Hub(house.web.url)
    yield hub
    hub.close()


@pytest.fixture
def plain(house: House) -> Plain:
    """The transport of every other server."""
    return Plain(house.app)


@pytest.fixture(params=["hub", "plain"])
def door(request: pytest.FixtureRequest) -> Hub | Plain:
    """Both transports."""
    found: Hub | Plain = request.getfixturevalue(request.param)
    return found


from tests.gateway.fleet import (  # noqa: E402, F401  (its fixtures; it builds on the house)
    _fleet,
    fleet,
    fleet_complaints,
    fleet_hub,
    fleet_plain,
    gate,
    hurried,
)
