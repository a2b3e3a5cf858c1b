"""Books on each of the three databases, for papers."""

import pytest

from tests.ledger.books import Books
from tests.services.portal_app import MakeApp


@pytest.fixture
def books(make_app: MakeApp, database_url: str) -> Books:
    return Books(make_app(database_url))


@pytest.fixture
def sqlite_books(make_app: MakeApp, sqlite_url: str) -> Books:
    return Books(make_app(sqlite_url))
