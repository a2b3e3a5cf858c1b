"""A store of this folder's own: these tests kill it, and nobody else's may be gone at that moment."""

from collections.abc import Iterator

import pytest

from dev.embedded_redis import server_binary
from sandbox.process import SandboxProcess
from tests.services.programs import find, missing
from tests.services.redis_server import RedisServer


@pytest.fixture(scope="session")
def work_store() -> Iterator[RedisServer]:
    """A Redis that is emptied and started anew by every office."""
    binary = find("redis-server", "valkey-server") or server_binary()
    if binary is None:
        missing("Redis or Valkey")
        raise AssertionError
    server = RedisServer(binary)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def work_sandbox() -> Iterator[SandboxProcess]:
    """A sandbox of its own, which outlives single tests: an office of a whole file speaks to it."""
    with SandboxProcess() as sandbox:
        yield sandbox
