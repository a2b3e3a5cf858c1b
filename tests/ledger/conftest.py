"""Fixtures of the ledger's tests: books on each of the three databases, and a till that is closed again."""

from collections.abc import Iterator

import pytest

from portal.services.ledger.till import Till
from tests.ledger.books import Books
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
