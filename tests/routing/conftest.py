"""A store with the test's clock, and two workers over it."""

from collections.abc import Iterator

import pytest

from tests.routing.clocked import ClockedScripts
from tests.routing.one_worker import Worker
from tests.services.redis_server import RedisServer


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[ClockedScripts]:
    store = ClockedScripts(redis_server.url)
    yield store
    store.close()


@pytest.fixture
def worker(store: ClockedScripts) -> Worker:
    return Worker(store, "one")


@pytest.fixture
def other(store: ClockedScripts) -> Worker:
    return Worker(store, "two")
