"""Fixtures of the ledger's tests: books on each of the three databases, and a till that is closed again."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.services.ledger.till import Till
from sandbox.process import SandboxProcess
from tests.ledger.books import Books
from tests.ledger.fragile import FragileBooks, relayed
from tests.races.street import Street
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb


@pytest.fixture
def books(make_app: MakeApp, database_url: str) -> Books:
    """Books on each of the three databases in turn."""
    return Books(make_app(database_url))


@pytest.fixture
def till(books: Books) -> Iterator[Till]:
    """A till over those books."""
    till = books.till()
    yield till
    till.close()


@pytest.fixture
def fragile(make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FragileBooks]:
    """Books on each of the three databases, which can be taken away."""
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:  # pytest's own paths are too long for a socket
        url, relay = relayed(database_url, Path(folder))
        yield FragileBooks(make_app(url), relay, monkeypatch)
        if relay is not None:
            relay.close()


class _Book(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    """What the portal logs during the test."""
    book = _Book()
    logging.getLogger("portal").addHandler(book)
    yield book.records
    logging.getLogger("portal").removeHandler(book)


@pytest.fixture
def market(make_app: MakeApp, start_web: StartWeb, sqlite_url: str, sandbox: SandboxProcess) -> Street:
    """A portal in this process and, when opened, a gunicorn, selling from one catalogue on SQLite."""
    sandbox.control(slots=8)
    return Street(make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url), sqlite_url, start_web, sandbox)
