"""How each of the three databases is opened so that they behave alike under gevent, threads and several processes.

The story of each option is beside it; what a statement may assume afterwards: READ COMMITTED or stronger, times in
UTC, foreign keys on, a lock waited for at most some seconds.
"""

import contextvars
import random
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

LOCK_SECONDS = 15.0
PRIVATE = {"hide_parameters": True}
"""A failed statement's values stay out of its error, and so out of the logs: they may be hashes and addresses."""
reading: contextvars.ContextVar[bool] = contextvars.ContextVar("reading", default=False)
"""Whether what runs now only reads: on SQLite its transactions then take no write lock (set for GET and HEAD)."""


def engine_options(url: str) -> dict[str, Any]:
    """The SQLAlchemy engine options for a database address."""
    if url.startswith("sqlite"):
        return {**PRIVATE, "connect_args": {"timeout": 0, "check_same_thread": False}}
    if url.startswith(("mysql", "mariadb")):
        # REPEATABLE READ reads stale balances beside its own locks; READ COMMITTED is what PostgreSQL does.
        init = "SET time_zone='+00:00', innodb_lock_wait_timeout=10, sql_mode='TRADITIONAL'"
        connect = {
            "init_command": init,
            "charset": "utf8mb4",
            "connect_timeout": 5,
            "read_timeout": 30,
            "write_timeout": 30,
        }
        return {
            **PRIVATE,
            "isolation_level": "READ COMMITTED",
            "pool_pre_ping": True,
            "pool_recycle": 280,
            "pool_size": 10,
            "max_overflow": 10,  # those above pool_size are opened and thrown away: a burst had better wait
            "connect_args": connect,
        }
    # A lock_timeout set inside a transaction is undone by its rollback: it belongs into the connection's options.
    connect = {"connect_timeout": 5, "options": "-c lock_timeout=10000 -c timezone=UTC"}
    return {**PRIVATE, "pool_pre_ping": True, "pool_size": 10, "max_overflow": 10, "connect_args": connect}


def prepare(engine: sa.Engine) -> None:
    """Install what SQLite needs; the other two need nothing after `engine_options`."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None  # sqlite3 must not send BEGIN by itself
        for pragma in (
            "busy_timeout=5000",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "busy_timeout=0",
        ):
            dbapi.execute("PRAGMA " + pragma)

    @event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("sqlite_read_only", reading.get()):
            connection.exec_driver_sql("BEGIN")
        else:
            begin_immediate(lambda: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def read_only() -> None:
    """First thing before reading: on SQLite the transaction then takes no write lock. Nothing may be written in it."""
    from portal.extensions import db

    db.session.connection(execution_options={"sqlite_read_only": True})


def begin_immediate(begin: Any) -> None:
    """Call `begin` until it gets SQLite's write lock.

    The wait is Python's, not SQLite's: the C library's busy wait froze every greenlet of the worker for its length,
    and where the lock's owner was one of them, nobody could ever release it.
    Raises the last "locked" error after LOCK_SECONDS.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            begin()
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311
