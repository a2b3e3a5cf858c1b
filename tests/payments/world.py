"""A portal whose money is taken in the sandbox, and one clock for both, which stands still until it is moved.

For tests of what takes days and months: refunds, renewals, a whole year. Every `utcnow` follows, also those that were
imported by name and those that columns have as their default; leases follow as well (`database_clock`).
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import clock
from portal.extensions import db
from portal.models import Account, Base, Event, EventStep, LedgerEntry, Paper, Payment, Refund, Subscription, User
from portal.services import ledger, payments, reconciliation, runs, tunables, work
from portal.services.payments import merchant
from portal.tasks.graph import GRAPH
from sandbox.process import SandboxProcess
from tests.ledger.books import Held
from tests.notifications.outside import Line, notes, reading
from tests.services import database_clock

SERVER = "myfatoorah"
NOON = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)
"""In Kuwait."""
SETTINGS = {"MYFATOORAH_API_KEY": "sandbox", "MYFATOORAH_WEBHOOK_SECRET": "sandbox-webhook-secret"}


_told: Callable[[], dt.datetime]
"""A name that only `clock` has a value for: the code that is lent to it there speaks of it."""


class World:
    """One portal, its provider, its time. To be used within the app's context."""

    def __init__(self, app: Flask, sandbox: SandboxProcess, patch: pytest.MonkeyPatch, now: dt.datetime = NOON) -> None:
        self.app, self.sandbox, self.now = app, sandbox, now
        # In the function itself: half of the product has it by its name, and columns have it as their default.
        patch.setattr(clock, "_told", lambda: self.now, raising=False)
        patch.setattr(clock.utcnow, "__code__", (lambda: _told()).__code__)  # noqa: F821
        database_clock.follow(patch, lambda: self.now)
        # Nobody waits half a minute for an answer that will not come.
        patch.setattr(merchant, "SOON", (2.0, 0.5))
        patch.setattr(merchant, "PATIENT", (2.0, 0.5))
        self.on()
        with app.app_context():
            tunables.put("status_calls_a_minute", "100000")

    def on(self, **span: float) -> None:
        """Later, here and there."""
        self.at(self.now + dt.timedelta(**span))

    def at(self, instant: dt.datetime) -> None:
        self.now = instant
        self.sandbox.control(server=SERVER, now=instant.isoformat())

    # -- money ---------------------------------------------------------------------------------------------------------

    def begin(self, account_id: str, item: str, method: str = "kn", *, keep_card: bool = False) -> Payment:
        """What a customer does before leaving for the provider. The payment is detached."""
        db.session.rollback()
        account = db.session.get_one(Account, account_id)
        user = db.session.get_one(User, account.owner_id)
        return payments.read(
            payments.begin(account, user, item, method, language=user.language, keep_card=keep_card).id
        )

    def buy(self, account_id: str, item: str, method: str = "kn", *, keep_card: bool = False) -> Payment:
        """Begun, paid at the provider and back: it counts, or is held."""
        payment = self.begin(account_id, item, method, keep_card=keep_card)
        self.sandbox.pay(payment.invoice or "", keep_card=keep_card)
        self.on(seconds=3)
        assert payments.confirm(payment.id, source="return") in ("paid", "held")
        return payments.read(payment.id)

    def sweep(self, **span: float) -> int:
        """The clock's question about all that is open, after so long."""
        self.on(**span)
        db.session.rollback()
        return reconciliation.ask_due()

    def asked(self, endpoint: str) -> int:
        """How often the provider was asked for this."""
        return len(self.sandbox.requests(path=f"/v2/{endpoint}", server=SERVER))

    def fault(self, endpoint: str, fault: str | None, **more: Any) -> None:
        self.sandbox.control(server=SERVER, endpoint=endpoint, fault=fault, **more)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def rows(self, model: type[Base], *conditions: Any) -> list[Line]:
        """As they stand, the oldest first."""
        with reading() as connection:
            return list(connection.execute(sa.select(model.__table__).where(*conditions).order_by(model.id)))  # type: ignore[attr-defined]

    def refund(self, refund_id: str) -> Line:
        [found] = self.rows(Refund, Refund.id == refund_id)
        return found

    def payment(self, payment_id: str) -> Line:
        [found] = self.rows(Payment, Payment.id == payment_id)
        return found

    def subscription(self, account_id: str) -> Line | None:
        """What runs."""
        found = self.rows(Subscription, Subscription.running_of == account_id)
        return found[0] if found else None

    def entries(self, account_id: str, *kinds: str) -> list[Line]:
        """Of the ledger."""
        mine = [LedgerEntry.account_id == account_id, *([LedgerEntry.kind.in_(kinds)] if kinds else [])]
        return self.rows(LedgerEntry, *mine)

    def papers(self, kind: str) -> list[str]:
        """Numbers, in their order."""
        return [paper.number for paper in self.rows(Paper, Paper.kind == kind)]

    def wallet(self, account_id: str) -> Held:
        with reading() as connection:
            query = sa.text("SELECT balance, held, total, seq FROM wallets WHERE account_id = :id")
            return Held(*connection.execute(query, {"id": account_id}).one())

    def told(self, kind: str) -> list[Line]:
        """The messages of a kind, each once an occasion."""
        return [note for note in notes() if note.kind == kind]

    def news(self, kind: str) -> list[Line]:
        """The events of a kind."""
        return self.rows(Event, Event.kind == kind)

    def follow_up(self) -> None:
        """All that follows from events, done."""
        db.session.rollback()
        runs.unfold_new(GRAPH)
        while due := work.due(EventStep, 100):
            assert {runs.run_step(GRAPH, step_id) for step_id in due} == {"done"}

    def books_are_right(self) -> None:
        db.session.rollback()
        assert ledger.check() == []
        db.session.rollback()
