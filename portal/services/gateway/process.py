"""What one gateway process shares among its requests: till, line to the store, memories, connections, sign of life.

Made lazily in the worker, after the fork; nothing of it is opened while the app is built. Its sign of life is a row:
when it stays silent for DEAD_AFTER, `sweep` settles what it left open.
"""

import contextlib
import datetime as dt
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import sqlalchemy as sa
from flask import Flask

from portal import models
from portal.clock import utcnow
from portal.config import Settings
from portal.database import read_only
from portal.extensions import db
from portal.ids import new_id
from portal.models.base import database_now
from portal.pipeline import open_scripts
from portal.services import provider_health
from portal.services.callers import CallerMemory
from portal.services.catalog import CatalogMemory
from portal.services.ledger.till import Till
from portal.services.routing.connections import Connections
from portal.services.routing.line import Line
from portal.services.routing.ways import WaysMemory

log = logging.getLogger("portal.gateway")
SIGN_OF_LIFE_SECONDS = 5
AT_ONCE = 500
MOST_TO_DO = 1000
FAREWELL_SECONDS = 3
DEAD_AFTER = dt.timedelta(seconds=30)


class GatewayProcess:
    """One a process; `start` before the first request."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.settings: Settings = app.config["PORTAL"]
        self.id = new_id()
        self.pid = os.getpid()
        self.scripts = open_scripts(self.settings.redis_url)
        with app.app_context():
            self.engine = db.engine
        self.till = Till(self.engine)
        self.caller_memory = CallerMemory()
        self.catalog_memory = CatalogMemory()
        self.ways = WaysMemory()
        self.connections = Connections()
        self.line = Line(
            self.scripts,
            self.id,
            rested=self._server_rested,
            recovered=self._server_recovered,
            length=self.settings.queue_length,
        )
        self.keys_used: set[str] = set()
        """Since the last sign of life, which notes it: no request should wait for that."""
        self.uncounted = 0
        """Requests let through while the store was away; told in the log when it is back."""
        self._losses = 0
        self.reading_catalog = threading.Lock()
        self._to_do: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]] | None] = SimpleQueue()
        self._doer = threading.Thread(target=self._do_later, name="later", daemon=True)
        self._stopped = threading.Event()
        self._started_at = utcnow()

    def start(self) -> None:
        """Write the sign of life and keep it up. Raises SQLAlchemyError when the database is away."""
        self._write_sign_of_life()
        self.line.start(self.settings.redis_url)
        threading.Thread(target=self._live, name="sign-of-life", daemon=True).start()
        self._doer.start()

    def stop(self) -> None:
        """The process ends in good order: no sign of life is waited for."""
        self._stopped.set()
        self.line.stop()
        self.connections.close()
        self._to_do.put(None)
        if self._doer.is_alive():
            self._doer.join(FAREWELL_SECONDS)
        try:
            self.till.retry_settlements()
            self._write_sign_of_life()
            with self.engine.begin() as connection:
                connection.execute(sa.delete(models.GatewayProcess).where(models.GatewayProcess.id == self.id))
        except sa.exc.SQLAlchemyError as error:
            log.warning("no farewell written", extra={"error": type(error).__name__})
        with contextlib.suppress(Exception):  # a database that is gone has closed it for us
            self.till.close()
        self.scripts.close()

    def forget_after_outages(self) -> None:
        """Trust nothing that was remembered before the line to the store broke: a change may have been missed."""
        if self.scripts.losses != self._losses:
            self._losses = self.scripts.losses
            self.caller_memory.clear()
            self.catalog_memory.clear()

    @contextmanager
    def rows(self) -> Iterator[None]:
        """A database session for the cold paths; given back at the end, long before the upstream is called."""
        with self.app.app_context():
            read_only()
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The app around a service that has a short transaction of its own; for the cold paths."""
        with self.app.app_context():
            yield

    def later(self, what: Callable[..., object], *arguments: object) -> None:
        """Have it done beside the requests: by a service that has a transaction of its own. Never blocks.

        It is called in the hub, when the store's answer tells that a server rests. A thread begun there waits until it
        runs, which the hub can't: the answers behind that one were lost, and with them the store for some seconds.
        """
        if self._to_do.qsize() < MOST_TO_DO:
            self._to_do.put((what, arguments))
        else:
            log.error("not noted: the database is too slow for so much", extra={"what": what.__name__})

    def _do_later(self) -> None:
        while (task := self._to_do.get()) is not None:
            what, arguments = task
            try:
                with self.app.app_context():
                    what(*arguments)
            except Exception as error:  # whatever it was, the next one is due
                log.error("not noted", exc_info=error, extra={"what": what.__name__})

    def _server_rested(self, server: str, reason: str, seconds: int) -> None:
        log.warning("server rests", extra={"provider": server, "reason": reason, "seconds": seconds})
        self.later(provider_health.rested, server, reason, seconds)

    def _server_recovered(self, server: str) -> None:
        log.warning("server is back", extra={"provider": server})
        self.later(provider_health.recovered, server)

    def _live(self) -> None:
        while not self._stopped.wait(SIGN_OF_LIFE_SECONDS):
            try:
                self._write_sign_of_life()
                self.till.retry_settlements()
            except Exception as error:  # noqa: BLE001  (whatever it was, the next sign of life is due)
                log.warning("no sign of life written", extra={"error": type(error).__name__})

    def _write_sign_of_life(self) -> None:
        process = models.GatewayProcess
        with self.engine.begin() as connection:
            seen = connection.execute(sa.update(process).where(process.id == self.id).values(seen_at=database_now()))
            if not seen.rowcount:
                # At the start; and after minutes without a database, when the sweep had cleared the row away: without
                # it everything this process answers would be settled at nothing from then on.
                me = {"id": self.id, "host": socket.gethostname()[:120], "pid": self.pid}
                connection.execute(sa.insert(process).values(**me, started_at=self._started_at, seen_at=database_now()))
            seen_at = connection.scalars(sa.select(process.seen_at)).all()
            self.line.processes = sum(at > max(seen_at) - DEAD_AFTER for at in seen_at)
        self._write_last_use()

    def _write_last_use(self) -> None:
        """In a transaction of its own: the sign of life waits for nobody's lock on a key."""
        used, self.keys_used = self.keys_used, set()
        key = models.ApiKey
        try:
            with self.engine.begin() as connection:
                ids = sorted(used)
                for start in range(0, len(ids), AT_ONCE):
                    some = sa.update(key).where(key.id.in_(ids[start : start + AT_ONCE]))
                    connection.execute(some.values(last_used_at=utcnow()))
        except sa.exc.SQLAlchemyError:
            self.keys_used |= used  # two processes may lock the same keys in turn; the next sign of life tells it
            raise
