"""A shop with a gunicorn on each of the three databases, one for all tests of a file; or without one, on SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.process import SandboxProcess
from tests.payments.shop import Shop
from tests.services.databases import ENGINES, Engine
from tests.services.redis_server import RedisServer


@pytest.fixture(scope="module", params=ENGINES)
def _shop(
    request: pytest.FixtureRequest,
    _sandbox: SandboxProcess,
    _redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    url = engine.fresh("seeded")
    _redis_server.start()
    shop = Shop(url, _sandbox, _redis_server, tmp_path_factory.mktemp("shop"), workers=2)
    yield shop
    shop.close()
    engine.server.drop(url)


@pytest.fixture
def shop(_shop: Shop) -> Shop:
    """Two workers at the till. Its rows stay from test to test, as in a real shop; nothing else does."""
    _shop.fresh()
    return _shop


@pytest.fixture
def small_shop(sqlite_url: str, sandbox: SandboxProcess, redis_server: RedisServer, tmp_path: Path) -> Iterator[Shop]:
    """Without a gunicorn, where the engine is all one."""
    shop = Shop(sqlite_url, sandbox, redis_server, tmp_path / "shop", workers=0)
    yield shop
    shop.close()


@pytest.fixture
def any_small_shop(
    database_url: str, sandbox: SandboxProcess, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Shop]:
    """Without a gunicorn, on each of the three databases."""
    shop = Shop(database_url, sandbox, redis_server, tmp_path / "shop", workers=0)
    yield shop
    shop.close()
