"""Books whose database can be taken away and brought back in the middle of things."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import database
from portal.extensions import db
from tests.ledger.books import Books
from tests.ledger.relay import Relay

COMMITS = {"mysql": b"\x03COMMIT", "postgresql": b"WITH r AS ("}
"""How each server is told to commit, on the wire."""


def relayed(url: str, folder: Path) -> tuple[str, Relay | None]:
    """The address of the same database by way of a relay in the folder; SQLite has no line that could be cut."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url, None
    if parsed.get_backend_name() == "mysql":
        target, listen, query = Path(str(parsed.query["unix_socket"])), folder / "m.sock", "unix_socket"
    else:
        name = ".s.PGSQL.5432"
        target, listen, query = Path(str(parsed.query["host"])) / name, folder / name, "host"
    there = str(listen if query == "unix_socket" else folder)
    return parsed.update_query_dict({query: there}).render_as_string(False), Relay(listen, target)


class FragileBooks(Books):
    """`away()` takes the database away: the line is cut, or (SQLite) somebody locks the file and does not let go."""

    def __init__(self, app: Flask, relay: Relay | None, patience: pytest.MonkeyPatch) -> None:
        super().__init__(app)
        self.relay = relay
        self._patience = patience

    @contextmanager
    def away(self) -> Iterator[None]:
        if self.relay is None:
            # Who waits for the lock gives up after LOCK_SECONDS: a test has less patience than a customer.
            with self._patience.context() as patch, self._locked():
                patch.setattr(database, "LOCK_SECONDS", 0.02)
                yield
            return
        self.relay.cut()
        try:
            yield
        finally:
            self.relay.restore()

    @property
    def commit_message(self) -> bytes:
        with self.app.app_context():
            return COMMITS[db.engine.dialect.name]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        locked, release = threading.Event(), threading.Event()

        def lock() -> None:
            with self.app.app_context(), db.engine.begin():
                locked.set()
                release.wait(30)

        thread = threading.Thread(target=lock)
        thread.start()
        assert locked.wait(5)
        try:
            yield
        finally:
            release.set()
            thread.join()
