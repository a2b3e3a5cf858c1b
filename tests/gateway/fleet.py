"""A house with traffic: two servers of one slot each, of which the second is switched off at first, and the cloud.

`impatient` is a second gunicorn on the same rows, whose line is short and whose patience is shorter still.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from dev.log_watch import LogWatch
from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from portal.freshness import changing
from portal.models import CloudDay, Event, LanguageModel, ModelOffer, Plan, Price, Provider, Usage
from portal.services import budget, ledger, providers, seeds
from sandbox.process import SandboxProcess
from tests.gateway.conftest import House, new_store
from tests.gateway.wire import CHAT, Answer, Hub, Plain, chat, eventually
from tests.services.cast import Person
from tests.services.databases import Engine
from tests.services.portal_app import close
from tests.services.redis_server import RedisServer
from tests.services.web import Web

FIRST, SECOND, CLOUD = "ollama", "ollama-b", "ollama-cloud"
"""The simulated servers; the portal calls the first two ollama-1 and ollama-2."""
TWINNED, ALONE = "gpt-oss:20b", "qwen3-30b-40k"
"""A model with a cloud twin, and one without; both of the Pro plan."""
PATIENT = {"FIRST_BYTE_SECONDS": 30, "SILENCE_SECONDS": 30, "QUEUE_SECONDS": 30, "QUEUE_LENGTH": 50}
IMPATIENT = {"FIRST_BYTE_SECONDS": 2, "SILENCE_SECONDS": 2, "QUEUE_SECONDS": 2, "QUEUE_LENGTH": 2}
AnyDoor = Hub | Plain


class Fleet(House):
    """Person after person comes with a key of their own; slots are kept busy until `release`."""

    def __init__(self, url: str, folder: Path, store: RedisServer, sandbox: SandboxProcess) -> None:
        super().__init__(url, folder, store, sandbox)
        self.callers = ThreadPoolExecutor(24)

    def environment(self, **settings: str | int) -> dict[str, str]:
        ways: dict[str, str | int] = {
            "OLLAMA_URL": ",".join(self.sandbox.server_url(name) for name in (FIRST, SECOND)),
            "OLLAMA_CLOUD_URL": self.sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": "sandbox",
        }  # fmt: skip
        return super().environment(**{**ways, **PATIENT, **settings})

    @cached_property
    def impatient(self) -> Web:
        return self.start(1, **IMPATIENT)

    @cached_property
    def impatient_app(self) -> Flask:
        return create_app(load_settings(self.environment(**IMPATIENT)))

    # -- as at the start -----------------------------------------------------------------------------------------------

    def anew(self) -> None:
        """Servers, rows and store as at the start, once everything that ran has ended."""
        self.sandbox.reset()
        eventually(lambda: not self._open(), what="the end of what the test before had begun")
        with self.app.app_context(), changing("catalog"):
            up = {"enabled": True, "state": "unknown", "state_reason": "", "state_since": None, "slots": 1}
            db.session.execute(sa.update(Provider).values(**up))
            db.session.execute(sa.update(Provider).where(Provider.name == "ollama-2").values(enabled=False))
            found = {"present": None, "capabilities": None, "context_tokens": None}
            db.session.execute(sa.update(ModelOffer).values(**found))
            db.session.execute(sa.delete(CloudDay))
            db.session.execute(sa.delete(Event))
            for plan in seeds.PLANS:
                kept = {"failover": plan["failover"], "priority": plan["priority"]}
                db.session.execute(sa.update(Plan).where(Plan.id == plan["id"]).values(**kept))
            db.session.commit()
        self.store.client.flushall()

    def _open(self) -> int:
        with self.app.app_context():
            return db.session.scalar(sa.select(sa.func.count()).select_from(Usage).where(Usage.state == "open")) or 0

    # -- what operators do ---------------------------------------------------------------------------------------------

    def switch(self, name: str, *, on: bool) -> None:
        with self.app.app_context():
            (providers.enable if on else providers.disable)(name)

    def found(self, provider: str, model: str, **values: object) -> None:
        """As a probe would have found it."""
        its = sa.select(Provider.id).where(Provider.name == provider).scalar_subquery()
        of = sa.select(LanguageModel.id).where(LanguageModel.name == model).scalar_subquery()
        there = sa.update(ModelOffer).where(ModelOffer.provider_id == its, ModelOffer.model_id == of)
        with self.app.app_context(), changing("catalog"):
            db.session.execute(there.values(**values))
            db.session.commit()

    def plan(self, name: str, **values: object) -> None:
        with self.app.app_context(), changing("catalog"):
            db.session.execute(sa.update(Plan).where(Plan.id == name).values(**values))
            db.session.commit()

    def spend_budget(self, used: int) -> None:
        """So many cloud requests were made today."""
        with self.app.app_context():
            assert budget.take(10_000) is not None
            db.session.execute(sa.update(CloudDay).values(used=used))
            db.session.commit()

    # -- what is seen --------------------------------------------------------------------------------------------------

    def cloud_used(self) -> int:
        with self.app.app_context():
            return budget.state(500).used

    def provider(self, name: str) -> Provider:
        with self.app.app_context():
            return db.session.scalars(sa.select(Provider).where(Provider.name == name)).one()

    def events(self, kind: str) -> list[Any]:
        """The facts of the events of a kind."""
        with self.app.app_context():
            return list(db.session.scalars(sa.select(Event.facts).where(Event.kind == kind)))

    def rate(self, model: str, provider: str) -> int:
        """The price row's: milli-credits for a million tokens of answer."""
        with self.app.app_context():
            query = sa.select(Price.rate_out).join(LanguageModel, LanguageModel.id == Price.model_id)
            rate = db.session.scalars(query.where(LanguageModel.name == model, Price.provider == provider)).one()
            assert rate is not None
            return rate

    def books_are_right(self) -> None:
        with self.app.app_context():
            assert ledger.check() == []

    def asked(self, server: str) -> int:
        """Chats that reached a server."""
        return len(self.sandbox.chats(server=server))

    def in_line(self) -> int:
        """Who waits, by the store."""
        client = self.store.client
        return sum(client.zcard(key) for key in client.keys("line:wait:*"))

    def busy(self, provider: str = "ollama-1") -> int:
        """Slots taken, by the store."""
        return int(self.store.client.zcard(f"line:busy:{provider}"))

    # -- traffic -------------------------------------------------------------------------------------------------------

    def ask(self, door: AnyDoor, person: Person, text: str = "Hello", /, **members: Any) -> Answer:
        headers = members.pop("headers", None)
        body = chat(text, **{"model": TWINNED, **members})
        answer = door.ask("POST", CHAT, key=person.api_key, body=body, headers=headers)
        if not members.get("stream"):
            answer.read()
        return answer

    def later(self, door: AnyDoor, person: Person, text: str = "Hello", /, **members: Any) -> "Future[Answer]":
        """The same from a thread: the whole answer, when it comes."""

        def whole() -> Answer:
            answer = self.ask(door, person, text, **members)
            answer.read()
            return answer

        return self.callers.submit(whole)

    @contextlib.contextmanager
    def occupied(self, door: AnyDoor, person: Person, *, waiting: int = 0, model: str = TWINNED) -> Iterator[None]:
        """The first server's slot is taken, and so many wait for it; at the end all of them are answered."""
        self.sandbox.control(model, hold_after=1, server=FIRST)
        local = {"x-portal-failover": "off"}
        running = self.later(door, person, model=model, stream=True, headers=local)
        eventually(lambda: self.busy() == 1, what="the request at the server")
        eventually(lambda: self.sandbox.counters(server=FIRST)["in_flight"] == 1, what="the request at the server")
        queue = []
        for number in range(1, waiting + 1):
            queue.append(self.later(door, person, model=model, headers=local))
            eventually(lambda n=number: self.in_line() == n, what=f"a line of {number}")  # type: ignore[misc]
        try:
            yield
        finally:
            self.release(model)
            for answer in [running, *queue]:
                assert answer.result(20).status == 200

    def release(self, model: str = TWINNED) -> None:
        self.sandbox.control(model, hold_after=None, server=FIRST)
        self.sandbox.release(server=FIRST)

    def close(self) -> None:
        self.callers.shutdown(cancel_futures=True)
        if "impatient_app" in self.__dict__:
            close(self.impatient_app)
        super().close()


def attempts(row: Usage) -> list[tuple[str, str]]:
    """(provider, fault) of those that failed the request."""
    return [(tried["provider"], tried["fault"]) for tried in json.loads(row.attempts or "[]")]


def median(numbers: Sequence[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


def comments(answer: Answer) -> list[bytes]:
    """A stream's comment lines so far."""
    told = b"".join(data for _, data in answer.arrived)
    return [line for line in told.split(b"\n") if line.startswith(b":")]


def pause(seconds: float) -> None:
    """Where the claim is that nothing happens."""
    time.sleep(seconds)


@pytest.fixture(scope="session")
def _fleet(sqlite_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with SandboxProcess(servers=(FIRST, SECOND), clouds=(CLOUD,)) as sandbox:
        fleet = Fleet(sqlite_engine.fresh("seeded"), tmp_path_factory.mktemp("fleet"), new_store(), sandbox)
        with fleet.app.app_context():
            seeds.seed(fleet.app.config["PORTAL"])  # the second server
        assert fleet.layla
        yield fleet
        fleet.close()
        fleet.store.remove()


@pytest.fixture
def fleet(_fleet: Fleet) -> Fleet:
    """The fleet as at its start."""
    _fleet.anew()
    return _fleet


@pytest.fixture
def fleet_complaints(fleet: Fleet) -> LogWatch:
    """What the fleet's web process logs as an error from now on."""
    return LogWatch(fleet.web.log)


@pytest.fixture
def fleet_hub(fleet: Fleet) -> Iterator[Hub]:
    hub = Hub(fleet.web.url)
    yield hub
    hub.close()


@pytest.fixture
def fleet_plain(fleet: Fleet) -> Plain:
    return Plain(fleet.app)


@pytest.fixture(params=["hub", "plain"])
def gate(request: pytest.FixtureRequest) -> AnyDoor:
    """Both transports, into the fleet."""
    found: AnyDoor = request.getfixturevalue(f"fleet_{request.param}")
    return found


@pytest.fixture(params=["hub", "plain"])
def hurried(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[AnyDoor]:
    """Both transports, into the impatient portal."""
    found: AnyDoor = Hub(fleet.impatient.url) if request.param == "hub" else Plain(fleet.impatient_app)
    yield found
    found.close()
