"""Fixtures of the ledger's tests: books on each of the three databases, and a till that is closed again."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.services.ledger.till import Till
from tests.ledger.books import Books
from tests.ledger.fragile import FragileBooks, relayed
from tests.services.portal_app import MakeApp


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


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    """What the portal logs during the test."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("portal").addHandler(handler)
    yield records
    logging.getLogger("portal").removeHandler(handler)
