"""A street on each of the three databases, or on SQLite alone."""

import pytest

from sandbox.process import SandboxProcess
from tests.races.street import Street
from tests.services.portal_app import MakeApp
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
