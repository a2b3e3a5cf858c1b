"""A street on each of the three databases, or on SQLite alone; with one simulated server, or with two."""

from collections.abc import Iterator

import pytest

from sandbox.process import SandboxProcess
from tests.races.street import Street
from tests.races.two_servers import TwoServers
from tests.services.portal_app import MakeApp
from tests.services.redis_server import RedisServer
from tests.services.web import StartWeb


@pytest.fixture
def street(make_app: MakeApp, start_web: StartWeb, database_url: str, sandbox: SandboxProcess) -> Street:
    """On each of the three databases in turn."""
    sandbox.control(slots=128)
    return Street(make_app(database_url), database_url, start_web, sandbox)


@pytest.fixture
def sqlite_street(make_app: MakeApp, start_web: StartWeb, sqlite_url: str, sandbox: SandboxProcess) -> Street:
    """Where the engine is all one."""
    sandbox.control(slots=128)
    return Street(make_app(sqlite_url), sqlite_url, start_web, sandbox)


@pytest.fixture(scope="session")
def _other_sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def servers(sandbox: SandboxProcess, _other_sandbox: SandboxProcess) -> tuple[SandboxProcess, SandboxProcess]:
    """Two processes; a test may kill the second one and start it again."""
    _other_sandbox.start()
    _other_sandbox.reset()
    return sandbox, _other_sandbox


def _two_servers(
    make_app: MakeApp,
    start_web: StartWeb,
    url: str,
    servers: tuple[SandboxProcess, SandboxProcess],
    store: RedisServer,
) -> TwoServers:
    app = make_app(url, OLLAMA_URL=",".join(server.ollama_url for server in servers))
    return TwoServers(app, url, start_web, servers, store)


@pytest.fixture
def two_servers(
    make_app: MakeApp,
    start_web: StartWeb,
    database_url: str,
    servers: tuple[SandboxProcess, SandboxProcess],
    redis_server: RedisServer,
) -> TwoServers:
    """On each of the three databases in turn."""
    return _two_servers(make_app, start_web, database_url, servers, redis_server)


@pytest.fixture
def sqlite_two_servers(
    make_app: MakeApp,
    start_web: StartWeb,
    sqlite_url: str,
    servers: tuple[SandboxProcess, SandboxProcess],
    redis_server: RedisServer,
) -> TwoServers:
    """Where the engine is all one."""
    return _two_servers(make_app, start_web, sqlite_url, servers, redis_server)
