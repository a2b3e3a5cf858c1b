"""The hot path's SQL is counted: a warm request costs the hold's statements and the settlement's, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from portal.extensions import db
from sandbox.process import SandboxProcess
from tests.gateway.wire import CHAT, Plain, chat
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp


@contextmanager
def through_sqlalchemy(app: Flask) -> Iterator[list[str]]:
    """Statements that an engine or a session sends; the sign of life is left out, no request waits for it."""
    seen: list[str] = []

    def sent(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "gateway_processes" not in statement and "last_used_at" not in statement:
            seen.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", sent)
    yield seen
    event.remove(engine, "before_cursor_execute", sent)


class Warm:
    """A portal whose process remembers Layla and the catalogue."""

    def __init__(self, app: Flask) -> None:
        self.app, self.layla = app, Cast(app).layla
        with app.app_context():
            plan = "UPDATE plans SET requests_per_minute = 1000"
            db.session.execute(sa.text(plan))
            db.session.commit()
        for stream in (False, True, False):
            self.ask(self.layla, stream)

    def ask(self, person: Person, stream: bool) -> None:
        answer = Plain(self.app).ask("POST", CHAT, key=person.api_key, body=chat(stream=stream, max_tokens=5))
        assert answer.status == 200, answer.read()
        answer.read()


@pytest.mark.parametrize("stream", [False, True])
def test_a_warm_request_asks_the_rows_for_nothing(
    database_url: str, make_app: MakeApp, sandbox: SandboxProcess, stream: bool
) -> None:
    """never-again, "Every call slow": no list call, no query for key, plan, price or model; on each database."""
    warm = Warm(make_app(database_url, OLLAMA_URL=sandbox.ollama_url))
    with through_sqlalchemy(warm.app) as seen:
        warm.ask(warm.layla, stream)
    assert seen == []
    with through_sqlalchemy(warm.app) as seen:
        warm.ask(Cast(warm.app).zaid, stream)
    asked = [statement for statement in seen if "api_keys" in statement and statement.startswith("SELECT")]
    assert len(asked) >= 1, "the spy does not see"


@pytest.mark.parametrize("stream", [False, True])
def test_a_warm_request_is_two_short_transactions(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess, stream: bool
) -> None:
    """design, "one short transaction" to hold, one to settle: counted below SQLAlchemy, at the driver."""
    warm = Warm(make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url))
    till = warm.app.extensions["chat_door"].process().till
    seen: list[str] = []
    connection = till._connection.driver_connection
    connection.set_trace_callback(seen.append)
    warm.ask(warm.layla, stream)
    connection.set_trace_callback(None)
    first_words = [" ".join(statement.split()[:3]) for statement in seen]
    assert first_words == [
        "BEGIN IMMEDIATE", "UPDATE wallets SET", "INSERT INTO usage_records", "COMMIT",
        "BEGIN IMMEDIATE", "UPDATE usage_records SET", "UPDATE wallets SET", "SELECT balance, seq,",
        "INSERT INTO ledger_entries", "COMMIT",
    ]  # fmt: skip


def test_a_refused_request_writes_nothing(app: Flask) -> None:
    """design, "A request": what is refused before the hold leaves no row."""
    warm = Warm(app)
    till = app.extensions["chat_door"].process().till
    seen: list[str] = []
    till._connection.driver_connection.set_trace_callback(seen.append)
    for body in (
        chat(model="bge-m3"),
        chat(max_tokens=0),
        chat(tools=[{}], model="smollm2:135m"),
        chat(model="gpt-oss:20b"),
    ):
        answer = Plain(app).ask("POST", CHAT, key=warm.layla.api_key, body=body)
        assert answer.status in (400, 403, 404)
    till._connection.driver_connection.set_trace_callback(None)
    assert seen == []
