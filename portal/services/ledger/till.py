"""The till: holds and settlements of many requests in one short transaction (group commit, without a timer).

While one batch commits, the next one fills; alone, a request's commit starts at once. Whoever finds the till idle leads:
it commits everything that waits, then hands the lead to the first of those who came meanwhile. So no thread of its own
is needed, and it works the same under gevent, threads and a single-threaded host.

No ORM: `statements` has the raw SQL of each database. A batch that fails is split, never dropped; a settlement that
can't be written is told loudly and tried again until it can (`retry_settlements`).
"""

import contextlib
import logging
import threading
import time
from collections import deque
from typing import Any

import sqlalchemy as sa

from portal.services.ledger.statements import Hold, Settlement, Statements, statements_for

log = logging.getLogger("portal.till")
BATCH = 256
TRIES = 5
DOUBT_SECONDS = 60.0
"""So long a hold whose line broke is looked for: some lock time-outs of the server's."""
PATIENCE_SECONDS = 12.0
"""After so long a batch is not tried again: behind it everybody waits."""


class NotHeld(Exception):
    """The wallet does not cover the hold. Nothing was written."""


class TillAway(Exception):
    """The database can't be written at the moment. For a hold: nothing is held, or it is given back by itself."""


class _Ticket:
    __slots__ = ("answered", "error", "forsaken", "gate", "lead", "over", "result", "work")

    def __init__(self, work: Hold | Settlement) -> None:
        self.work = work
        self.gate = threading.Lock()
        self.gate.acquire()
        self.lead = False
        self.answered = False
        """It has its result or its error."""
        self.over = False
        """Its batch is: the leader won't look at it again."""
        self.forsaken = False
        """Who waited for it was killed."""
        self.result: int | None = None
        self.error: Exception | None = None


class Till:
    """One a process. Opens its connection at the first commit, so after the fork."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._sql: Statements = statements_for(engine.dialect.name)
        self._connection: Any = None
        self._mutex = threading.Lock()
        self._queue: deque[_Ticket] = deque()
        self._busy = False
        self._late: deque[Settlement] = deque()
        self._doubts: dict[str, float] = {}
        """Holds of which nobody knows whether they were written, and until when they may still be (monotonic)."""

    @property
    def waiting(self) -> int:
        """How many requests wait for the next batch."""
        return len(self._queue)

    def hold(self, hold: Hold) -> None:
        """Set the hold's amount aside and open its usage row; durable when this returns.

        Raises NotHeld when the wallet does not cover it, TillAway when the database can't be written.
        """
        if self._submit(hold) is None:
            raise NotHeld

    def settle(self, settlement: Settlement) -> int | None:
        """Charge, release the hold and book the entry; durable when this returns.

        Returns the balance after it in milli-credits; None when the request was settled before, which changes nothing.
        Raises TillAway when the database can't be written: it is kept then, and written by `retry_settlements`.
        """
        return self._submit(settlement)

    def retry_settlements(self) -> int:
        """Write what could not be written earlier; returns how many still wait. Called with the sign of life."""
        for _ in range(len(self._late)):
            settlement = self._late.popleft()
            try:
                written = self._submit(settlement) is not None
            except TillAway:
                break
            if written:
                log.warning("late settlement written", extra={"request": settlement.id})
            if written or self._doubts.get(settlement.id, 0.0) < time.monotonic():
                self._doubts.pop(settlement.id, None)
            else:
                self._late.append(settlement)
        return sum(settlement.id not in self._doubts for settlement in self._late)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                self._sql.end(connection)
                connection.close()
            except Exception:  # noqa: BLE001  (a line that broke while it was idle)
                connection.invalidate()

    # -- who commits -------------------------------------------------------------------------------------------------

    def _submit(self, work: Hold | Settlement) -> int | None:
        ticket = _Ticket(work)
        with self._mutex:
            self._queue.append(ticket)
            lead, self._busy = not self._busy, True
        if not lead:
            try:
                ticket.gate.acquire()
            except BaseException:
                self._forsake(ticket)
                raise
            lead = ticket.lead
        if lead:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def _lead(self) -> None:
        with self._mutex:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
        try:
            self._commit(batch)
        except BaseException as error:
            self._break_off(batch, error)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._mutex:
                for ticket in batch:
                    ticket.over = True
                    if ticket.forsaken:
                        self._give_back(ticket)
                self._hand_over()
            for ticket in batch[1:]:
                ticket.gate.release()

    def _hand_over(self) -> None:
        """The first of those who wait leads from now on. Called with the mutex."""
        self._busy = bool(self._queue)
        if self._queue:
            self._queue[0].lead = True
            self._queue[0].gate.release()

    def _forsake(self, ticket: _Ticket) -> None:
        """Who waited was killed: nobody will lead in its name, settle its hold, or send its settlement again."""
        with self._mutex:
            ticket.forsaken = True
            if ticket.over:
                self._give_back(ticket)
            elif ticket in self._queue:
                self._queue.remove(ticket)
                if isinstance(ticket.work, Settlement):
                    self._late.append(ticket.work)
                if ticket.lead:
                    self._hand_over()

    def _give_back(self, ticket: _Ticket) -> None:
        """A hold that nobody owns: what it set aside is released with the next sign of life."""
        if isinstance(ticket.work, Hold) and ticket.result is not None:
            self._late.append(_void(ticket.work))  # it is there, so once is enough

    # -- how it is committed -----------------------------------------------------------------------------------------

    def _commit(self, batch: list[_Ticket]) -> None:
        settlements = [t for t in batch if isinstance(t.work, Settlement)]
        holds = [t for t in batch if isinstance(t.work, Hold)]
        error: Exception | None = None
        opened, deadline = False, time.monotonic() + PATIENCE_SECONDS
        for attempt in range(TRIES):
            if attempt and time.monotonic() > deadline:
                break
            sent = opened = False
            try:
                connection = self._open()
                opened = True
                sent = self._sql.commits_at_once(len(settlements), len(holds))
                settled, held = self._sql.write(connection, [t.work for t in settlements], [t.work for t in holds])  # type: ignore[misc]
                sent = True
                connection.commit()
            except Exception as failure:  # noqa: BLE001  (every driver has errors of its own; none may lose a ticket)
                error = failure
                if self._undo(failure) and sent and holds:
                    # The commit may have been done before the line broke: trying the holds again could hold twice.
                    for ticket in holds:
                        self._give_up(ticket, failure, in_doubt=True)
                    batch, holds = settlements, []
                    if not batch:
                        return
                time.sleep(0.01 * (attempt + 1))
                continue
            for ticket in settlements:
                ticket.result = settled.pop(ticket.work.id, None)  # of two that settle one request, one did
                ticket.answered = True
            for ticket in holds:
                ticket.result = 0 if ticket.work.id in held else None
                ticket.answered = True
            return
        assert error is not None
        if len(batch) > 1 and opened and self._connection is not None:
            for ticket in batch:  # one bad row must not take the others with it
                self._commit([ticket])
            return
        for ticket in batch:
            self._give_up(ticket, error, in_doubt=False)

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        self._sql.begin(self._connection)
        return self._connection

    def _undo(self, failure: Exception) -> bool:
        """Roll back; returns whether the connection is lost."""
        connection = self._connection
        if connection is None:
            return True
        lost = _connection_lost(self._engine, failure)
        try:
            if not lost:
                connection.rollback()
        except Exception:  # noqa: BLE001  (a connection that can't roll back is lost)
            lost = True
        if lost:
            self._connection = None
            connection.invalidate()
        return lost

    def _give_up(self, ticket: _Ticket, error: BaseException, *, in_doubt: bool) -> None:
        """in_doubt: it may have been committed all the same. Only then is a hold given back: one that the database
        refused because the request is open already would else be settled under whoever runs it."""
        work = ticket.work
        if isinstance(work, Settlement):
            log.error(
                "settlement not written, kept for later", exc_info=error, extra={"request": work.id, "cost": work.cost}
            )
            self._late.append(work)
        else:
            log.error("hold not written", exc_info=error, extra={"request": work.id})
            if in_doubt:
                # The server may do it yet, when the lock it waits for is free: one look is not enough.
                self._doubts[work.id] = time.monotonic() + DOUBT_SECONDS
                self._late.append(_void(work))
        ticket.error, ticket.answered = TillAway(), True

    def _break_off(self, batch: list[_Ticket], error: BaseException) -> None:
        """The leader was killed. What it had half done must never be committed by the next one, so its line goes too;
        how far it came is not known."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
        for ticket in batch:
            if not ticket.answered:
                self._give_up(ticket, error, in_doubt=True)


def _void(hold: Hold) -> Settlement:
    """The end of a request that never was."""
    return Settlement.abandoned(hold.id, hold.account_id, hold.amount, hold.provider, hold.created_at)


def _connection_lost(engine: sa.Engine, error: Exception) -> bool:
    if isinstance(error, sa.exc.DBAPIError):  # raised while connecting
        return True
    dbapi = engine.dialect.loaded_dbapi
    interface = getattr(dbapi, "InterfaceError", ())
    return isinstance(error, interface) or (
        isinstance(error, getattr(dbapi, "Error", ())) and engine.dialect.is_disconnect(error, None, None)  # type: ignore[arg-type]
    )
