"""The three databases. A test that takes `database_url` runs once on each, with a fresh, migrated and seeded database.

`migrated_url` is without seeds, `empty_url` without tables, `sqlite_url` is for tests to which the engine is all one.
The schema is built once per engine by the product's own commands; tests get copies.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.services.environment import ROOT, TOOLS, portal_environment
from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from tests.services.sqlite import Sqlite

ENGINES = ("sqlite", "mariadb", "postgresql")


class Server(Protocol):
    """A database server of one kind."""

    @property
    def name(self) -> str: ...
    def empty(self) -> str: ...
    def copy(self, template: str) -> str: ...
    def drop(self, url: str) -> None: ...
    def stop(self) -> None: ...


class Engine:
    """A server and the templates made on it, each at its first use."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self._folder = server, folder
        self._templates: dict[str, str] = {}

    def fresh(self, kind: str) -> str:
        """The address of a new database: `empty`, `migrated` or `seeded`."""
        return self.server.empty() if kind == "empty" else self.server.copy(self._template(kind))

    def _template(self, kind: str) -> str:
        if kind not in self._templates:
            if kind == "migrated":
                url = self.server.empty()
                self._flask(url, "db", "upgrade")
            else:
                url = self.server.copy(self._template("migrated"))
                self._flask(url, "seed")
            self._templates[kind] = url
        return self._templates[kind]

    def _flask(self, url: str, *command: str) -> None:
        done = subprocess.run(
            [str(TOOLS / "flask"), "--app", "wsgi", *command],
            cwd=ROOT, env=portal_environment(self._folder, DATABASE_URL=url),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.fail(f"flask {' '.join(command)} on {self.server.name}:\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.fixture(scope="session")
def sqlite_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("sqlite")
    return Engine(Sqlite(folder), folder)


@pytest.fixture(scope="session")
def mariadb_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    server = MariaDb()
    yield Engine(server, tmp_path_factory.mktemp("mariadb"))
    server.stop()


@pytest.fixture(scope="session")
def postgresql_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    server = PostgreSql()
    yield Engine(server, tmp_path_factory.mktemp("postgresql"))
    server.stop()


@pytest.fixture(params=ENGINES)
def database_engine(request: pytest.FixtureRequest) -> Engine:
    """The engine of this run of the test; its server starts now if it has not yet."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine


def _lend(engine: Engine, kind: str) -> Iterator[str]:
    url = engine.fresh(kind)
    yield url
    engine.server.drop(url)


@pytest.fixture
def database_url(database_engine: Engine) -> Iterator[str]:
    """Migrated and seeded; once on each of the three databases."""
    yield from _lend(database_engine, "seeded")


@pytest.fixture
def migrated_url(database_engine: Engine) -> Iterator[str]:
    """All tables, no row; once on each of the three databases."""
    yield from _lend(database_engine, "migrated")


@pytest.fixture
def empty_url(database_engine: Engine) -> Iterator[str]:
    """No table; once on each of the three databases."""
    yield from _lend(database_engine, "empty")


@pytest.fixture
def sqlite_url(sqlite_engine: Engine) -> Iterator[str]:
    """Migrated and seeded, on SQLite alone."""
    yield from _lend(sqlite_engine, "seeded")
