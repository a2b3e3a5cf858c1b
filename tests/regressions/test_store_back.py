"""The store comes back after an outage, remembering everything: what was changed and uncounted meanwhile is seen."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from portal.extensions import db
from portal.models import ApiKey
from portal.pipeline import LOOK_AGAIN_SECONDS
from portal.services import api_keys
from sandbox.process import SandboxProcess
from tests.gateway.wire import CHAT, Answer, Hub, Plain, chat, eventually
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp
from tests.services.redis_server import RedisServer
from tests.services.web import StartWeb

REMAINING = "x-ratelimit-remaining-requests"


def asked(door: Hub | Plain, person: Person) -> Answer:
    answer = door.ask("POST", CHAT, key=person.api_key, body=chat(max_tokens=2))
    answer.read()
    return answer


def test_a_key_deleted_while_the_store_was_away_is_refused_by_a_worker_that_slept_through_it(
    sqlite_url: str, make_app: MakeApp, start_web: StartWeb, sandbox: SandboxProcess, redis_server: RedisServer
) -> None:
    """KEY-03: no request came to this worker during the outage, and the store has the old marks of freshness again."""
    app, web = make_app(sqlite_url), start_web(sqlite_url, OLLAMA_URL=sandbox.ollama_url)
    layla, zaid, hub = Cast(app).layla, Cast(app).zaid, Hub(web.url)
    assert [asked(hub, person).status for person in (zaid, layla, zaid, layla)] == [200] * 4
    tokens = {name: redis_server.client.get(name) for name in redis_server.client.keys("fresh:*")}
    assert any(layla.account_id.encode() in name for name in tokens), "the worker remembers Layla under this mark"
    redis_server.stop()
    with app.app_context():
        key_id = db.session.scalars(sa.select(ApiKey.id).where(ApiKey.account_id == layla.account_id)).one()
        api_keys.delete(layla.account_id, key_id)  # the mark reaches nobody
    redis_server.start()
    for name, token in tokens.items():  # a store that was only cut off has forgotten nothing
        redis_server.client.set(name, token or b"")
    time.sleep(LOOK_AGAIN_SECONDS + 0.3)  # before that the worker reads the rows anyhow
    answer = hub.ask("POST", CHAT, key=layla.api_key, body=chat())
    assert (answer.status, answer.error()["code"]) == (401, "key_revoked")
    again = asked(hub, zaid)
    assert again.status == 200
    assert REMAINING in again.headers, "the store is back for this worker"
    hub.close()


@contextmanager
def told() -> Iterator[list[logging.LogRecord]]:
    """What the gateway logs."""
    records: list[logging.LogRecord] = []

    class Book(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    book, gateway = Book(), logging.getLogger("portal.gateway")
    gateway.addHandler(book)
    yield records
    gateway.removeHandler(book)


def test_who_was_let_through_uncounted_is_told_once_with_their_number(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess, redis_server: RedisServer
) -> None:
    """RATE-03, OPS-04: an operator sees how many requests an outage let past the limits."""
    app = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url)
    door, layla = Plain(app), Cast(app).layla
    assert REMAINING in asked(door, layla).headers
    uncounted = 0
    with told() as records:
        redis_server.stop()
        for _ in range(3):
            answer = asked(door, layla)
            assert answer.status == 200
            assert REMAINING not in answer.headers
            uncounted += 1

        def numbers() -> list[int]:
            return [r.__dict__["count"] for r in records if r.getMessage() == "requests were let through uncounted"]

        assert numbers() == []
        redis_server.start()

        def counted() -> bool:
            nonlocal uncounted
            answer = asked(door, layla)
            uncounted += REMAINING not in answer.headers
            time.sleep(0.1)
            return REMAINING in answer.headers

        eventually(counted, what="the counting")
        assert numbers() == [uncounted]
        assert REMAINING in asked(door, layla).headers
        assert numbers() == [uncounted]
