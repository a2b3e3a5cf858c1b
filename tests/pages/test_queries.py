"""What a page asks of the database, counted: a page that grows a query per row is found here."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.services import api_keys
from tests.pages.history import give_cloud_history, give_history
from tests.services.cast import Cast


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    """The statements that run inside, without BEGIN and COMMIT."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/dashboard", 5),
        ("/keys", 3),
        ("/billing", 13),
        ("/billing/payments", 5),
        ("/settings", 10),
        ("/notifications", 5),
        ("/", 8),
        ("/login", 1),
    ],
)
def test_a_page_asks_little_however_much_there_is(app: Flask, cast: Cast, path: str, most: int) -> None:
    """DASH-01, KEY-02: the same few queries for an empty account and a full one."""
    client = cast.sign_in(cast.layla)
    with counted(app) as empty:
        client.get(path)
    give_history(app, cast.layla)
    give_cloud_history(app, cast.layla)
    with app.app_context():
        for number in range(30):
            api_keys.create(cast.layla.account_id, cast.layla.user_id, label=f"key {number}")
    with counted(app) as full:
        client.get(path)
    assert len(full) == len(empty)
    assert len(full) <= most, full


def test_a_strangers_page_does_not_ask_who_they_are(app: Flask) -> None:
    """OPS-05: a visitor without a cookie costs no look-up."""
    client = app.test_client()
    for path in ("/login", "/register", "/forgot", "/reset", "/there-is-nothing-here"):
        with counted(app) as asked:
            client.get(path)
        assert asked == [], path
