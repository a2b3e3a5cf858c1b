"""What the ground owes pages and failed statements: readers lock nobody out, refusals are named, no hash leaks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from portal.extensions import db
from portal.logs import JsonLines
from portal.models import User
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$bm9ib2R5c2hvdWxkcmVhZHRoaXM"


@contextmanager
def sent(app: Flask) -> Iterator[list[str]]:
    """The statements that this portal's database is sent."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", ["/dashboard", "/keys", "/settings", "/notifications", "/verify?step=code"])
def test_a_signed_in_get_takes_no_write_lock_on_sqlite(cast: Cast, path: str) -> None:
    """OPS-01: a reader that begins to write waits for every settlement, and they for it."""
    browser = cast.sign_in(cast.layla)
    with sent(cast.app) as seen:
        assert browser.get(path).status_code == 200
    assert "BEGIN" in seen, seen
    assert "BEGIN IMMEDIATE" not in seen, seen


@pytest.mark.parametrize("path", ["/login", "/register", "/keys"])
def test_a_refused_form_carries_its_request_id(app: Flask, path: str) -> None:
    """OPS-04: a form without its token is refused, and the refusal can be found in the log like any other."""
    answers = [app.test_client().post(path, data={"email": "layla@example.com"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert all(len(one) == 4 + 32 and one.startswith("req_") for one in ids), ids
    assert len(set(ids)) == 2


def test_a_failing_insert_tells_no_password_hash(database_url: str, make_app: MakeApp) -> None:
    """OPS-04: an error's text goes to the log. A second sign-up with one address wrote the password's hash there."""
    app = make_app(database_url)
    with app.app_context():
        for number in (1, 2):
            phone = f"+9655000777{number}"
            db.session.add(User(email="twice@example.com", phone=phone, password_hash=HASH, name="Twice"))
            if number == 1:
                db.session.commit()
        with pytest.raises(sa.exc.IntegrityError) as caught:
            db.session.commit()
        db.session.rollback()
    error = caught.value
    record = logging.LogRecord(
        "portal", logging.ERROR, __file__, 1, "unforeseen: %s", (error,), (type(error), error, error.__traceback__)
    )
    for told in (str(error), repr(error), JsonLines().format(record)):
        assert HASH not in told
        assert "argon2" not in told
    assert "INSERT INTO users" in str(error), "what failed is told all the same"
