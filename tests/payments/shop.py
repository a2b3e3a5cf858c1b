"""A shop with everything real: a gunicorn on a database, the sandbox as MyFatoorah, customers who are signed in.

The portal of this process shares the database: it sweeps, and looks into the rows. Nobody hears of a payment by itself:
a test chooses who brings the news. Time is moved in the rows (`hurry`), so that no test waits out a pause.
"""

import datetime as dt
import http.client
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import Flask

from portal import clock, create_app
from portal.config import load_settings
from portal.extensions import db
from portal.models import (
    Account,
    Event,
    LedgerEntry,
    Notification,
    Paper,
    PaperSeries,
    Payment,
    PaymentEvent,
    Subscription,
    User,
    Wallet,
)
from portal.services import ledger, payments, reconciliation, sessions, tunables
from portal.services.ledger import open_wallet
from sandbox.process import MYFATOORAH_SECRET, SandboxProcess
from tests.payments.dying import Mortals
from tests.services.environment import portal_environment
from tests.services.portal_app import close
from tests.services.redis_server import RedisServer
from tests.services.web import Web

SERVER: Final = "myfatoorah"
STATUS: Final = "/v2/GetPaymentStatus"
LONG_AGO: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PACK, PLAN = "pack-5000", "pro"
MESSAGES: Final = ("topup_confirmed", "subscription_confirmed", "invoice_ready", "payment_failed")
_numbers = itertools.count(1)


class Customer(NamedTuple):
    """Somebody with an account and a browser that is signed in. cookie: its header."""

    account: str
    user: str
    cookie: str


class Answer(NamedTuple):
    status: int
    body: bytes


class Shop:
    """Every method opens and ends its own transactions. `web`: the gunicorn; `app`: the portal of this process."""

    def __init__(
        self, url: str, sandbox: SandboxProcess, store: RedisServer, folder: Path, *, workers: int = 1, **settings: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url, self.sandbox, self.store = url, sandbox, store
        environ = portal_environment(
            folder,
            **{
                "DATABASE_URL": url, "REDIS_URL": store.url, "MYFATOORAH_BASE_URL": sandbox.myfatoorah_url,
                "MYFATOORAH_API_KEY": "sandbox", "MYFATOORAH_WEBHOOK_SECRET": MYFATOORAH_SECRET, **settings,
            },
        )  # fmt: skip
        self.web: Web | None = None
        if workers:
            self.web = Web(workers, environ, folder / "web.log")
            environ["BASE_URL"] = self.web.url
        self.environ = environ
        self._mortals: Mortals | None = None
        self.app: Flask = create_app(load_settings(environ))
        with self.app.app_context():
            tunables.put("status_calls_a_minute", "100000")  # no limit, unless a test is about it
        self.fresh()

    def fresh(self) -> None:
        """As in the morning: the provider without invoices and knobs, the store empty, nothing due from yesterday."""
        self.change(sa.update(Payment).values(due_at=None))
        self.sandbox.reset(server=SERVER)
        self.sandbox.control(server=SERVER, webhook_timing="none")
        self.store.client.flushall()
        for name in ("payments", "payments patient", "payment methods", "payments pace"):
            self.app.extensions.pop(name, None)

    @property
    def mortals(self) -> Mortals:
        """Processes of this portal that may die."""
        self._mortals = self._mortals or Mortals(self.environ)
        return self._mortals

    def close(self) -> None:
        if self._mortals is not None:
            self._mortals.close()
        if self.web is not None:
            self.web.stop(5)
        close(self.app)

    # -- customers and their orders ------------------------------------------------------------------------------------

    def customer(self) -> Customer:
        number = next(_numbers)
        with self.app.app_context():
            user = User(
                email=f"buyer{number}@example.com", phone=f"+96551{number:06}", password_hash="-", name="نورة الصباح"
            )
            db.session.add(user)
            db.session.flush()
            account = Account(owner_id=user.id, plan_id="basic")
            db.session.add(account)
            db.session.flush()
            open_wallet(account.id)
            token = sessions.begin(user.id, sessions.Browser(address="203.0.113.7"))
            db.session.commit()
            signed = self.app.session_interface.get_signing_serializer(self.app)  # type: ignore[attr-defined]
            cookie = f"portal={signed.dumps({'_user_id': token, '_fresh': True})}"
            return Customer(account.id, user.id, cookie)

    def begin(self, who: Customer, item: str = PACK, method: str = "kn", *, keep_card: bool = False) -> str:
        """The id of a payment that can be paid. Raises as `payments.begin`."""
        with self.app.app_context():
            account, user = db.session.get_one(Account, who.account), db.session.get_one(User, who.user)
            return payments.begin(account, user, item, method, language="ar", keep_card=keep_card).id

    def pay(self, payment_id: str, outcome: str = "paid", **more: Any) -> str:
        """What happens on the provider's page; its payment id. Nobody is told."""
        back = self.sandbox.pay(payment_id, outcome, **more)
        return urlsplit(back).query.rpartition("=")[2]

    # -- those who bring the news --------------------------------------------------------------------------------------

    def come_back(self, who: Customer, payment_id: str, tried: str = "") -> Answer:
        """The browser is on the return page, over HTTP."""
        query = f"?paymentId={tried}&Id={tried}" if tried else ""
        headers = {"Cookie": who.cookie, "Accept": "application/json"}
        return self.ask("GET", f"/billing/return/{payment_id}{query}", headers=headers)

    def webhook(self, payment_id: str, **more: Any) -> None:
        """The provider posts what it says of the invoice (more: its lies), and hears 200."""
        told = self.sandbox.send_webhook(invoice=payment_id, **more)
        assert set(told) == {200}, told

    def notice(self, payment_id: str) -> Callable[[], int]:
        """The provider's latest webhook of it, signed and not yet posted: whoever calls posts it. Gives the status."""
        invoice = int(self.payment(payment_id).invoice)
        last = [one for one in self.sandbox.webhooks() if one["invoice"] == invoice][-1]
        body = json.dumps(last["body"], ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", **last["headers"]}
        return lambda: self.ask("POST", "/webhooks/myfatoorah", body, headers).status

    def sweep(self) -> int:
        """The timetable's question after all that is due."""
        with self.app.app_context():
            return reconciliation.ask_due()

    def missed(self) -> int:
        """The timetable's reading of the provider's own list, two seconds from now: it asks for whole ones."""
        soon = clock.utcnow() + dt.timedelta(seconds=2)
        with self.app.app_context(), mock.patch.object(clock, "utcnow", return_value=soon):
            return reconciliation.read_missed()

    def news(self, way: str, who: Customer, payment_id: str) -> None:
        """Let it be known: `return`, `webhook`, `sweep` or `missed`. Whoever asked before did so long ago."""
        self.hurry()
        if way == "return":
            answer = self.come_back(who, payment_id)
            assert answer.status == 200, answer
        elif way == "webhook":
            self.webhook(payment_id)
        elif way == "sweep":
            self.sweep()
        else:
            assert way == "missed"
            self.missed()

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """A request to the gunicorn, on a connection of its own."""
        assert self.web is not None
        line = http.client.HTTPConnection(urlsplit(self.web.url).netloc, timeout=60)
        try:
            line.request(method, path, body, headers or {})
            answer = line.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            line.close()

    # -- time ----------------------------------------------------------------------------------------------------------

    def hurry(self, *only: str) -> None:
        """As if the pauses were over: nobody has asked of late, and what will be asked is due."""
        mine = sa.update(Payment).where(Payment.id.in_(only)) if only else sa.update(Payment)
        self.change(
            mine.where(Payment.asked_at.is_not(None)).values(asked_at=LONG_AGO),
            mine.where(Payment.due_at.is_not(None)).values(due_at=LONG_AGO),
        )

    def run_out(self, payment_id: str) -> None:
        """Its time is up since a day ago, here and at the provider."""
        ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        mine = sa.update(Payment).where(Payment.id == payment_id)
        self.change(mine.values(created_at=ago - dt.timedelta(hours=3), expires_at=ago))
        self.sandbox.control(server=SERVER, now=ago.isoformat())  # by whose clock it runs out now
        self.sandbox.expire_invoice(payment_id)
        self.sandbox.control(server=SERVER, now=None)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def change(self, *statements: sa.Update) -> None:
        with self.app.app_context(), db.engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, query: sa.Executable) -> list[Any]:
        with self.app.app_context(), db.engine.connect().execution_options(sqlite_read_only=True) as connection:
            return list(connection.execute(query))

    def payment(self, payment_id: str) -> Any:
        (row,) = self.rows(sa.select(Payment.__table__).where(Payment.id == payment_id))
        return row

    def state(self, payment_id: str) -> str:
        return str(self.payment(payment_id).state)

    def balance(self, who: Customer) -> int:
        """Milli-credits."""
        ((found,),) = self.rows(sa.select(Wallet.balance).where(Wallet.account_id == who.account))
        return int(found)

    def messages(self, who: Customer) -> Counter[str]:
        """How many of each kind they were told, of those about payments."""
        mine = sa.select(Notification.kind).where(
            Notification.account_id == who.account, Notification.kind.in_(MESSAGES)
        )
        return Counter(kind for (kind,) in self.rows(mine))

    def trail(self, payment_id: str) -> list[str]:
        """What happened to it, in that order."""
        mine = sa.select(PaymentEvent.what).where(PaymentEvent.payment_id == payment_id)
        return [what for (what,) in self.rows(mine.order_by(PaymentEvent.id))]

    def staff_events(self, payment_id: str) -> list[Any]:
        """The facts of every event that staff hear of."""
        held = sa.select(Event.facts).where(Event.kind == "payment_held", Event.occasion == payment_id)
        return [facts for (facts,) in self.rows(held)]

    def asked(self, endpoint: str = "GetPaymentStatus") -> int:
        """How often the provider was asked that, by anybody."""
        return len(self.sandbox.requests(path=f"/v2/{endpoint}", server=SERVER))

    # -- what must be --------------------------------------------------------------------------------------------------

    def counted(self, who: Customer, payment_id: str, *, books: bool = True) -> None:
        """It is paid, and all that follows was done once. For the one payment of a customer that counted.

        books: whether all the others' are looked at too.
        """
        payment = self.payment(payment_id)
        assert payment.state == "paid", (payment.state, payment.reason)
        assert payment.due_at is None and payment.paid_at is not None
        assert self.balance(who) == payment.credits
        entries = self.rows(sa.select(LedgerEntry.kind, LedgerEntry.amount).where(LedgerEntry.reference == payment_id))
        assert entries == [({"plan": "subscription", "pack": "topup"}[payment.kind], payment.credits)]
        came = payment.amount_fils if payment.came_fils is None else payment.came_fils
        assert self.rows(sa.select(Paper.amount_fils).where(Paper.about == payment_id)) == [(came,)]
        told = self.messages(who)
        assert told["topup_confirmed"] + told["subscription_confirmed"] == told["invoice_ready"] == 1, told
        assert self.trail(payment_id).count("paid") == 1
        if payment.kind == "plan":
            plans = self.rows(sa.select(Subscription.id, Account.plan_id).join(
                Account, Account.id == Subscription.account_id).where(Account.id == who.account))  # fmt: skip
            assert plans == [(payment.subscription_id, payment.item)]
        if books:
            self.books_are_right()

    def not_counted(self, who: Customer, payment_id: str, *states: str, books: bool = True) -> None:
        """It is in one of these states, and nobody has got anything for it."""
        assert self.state(payment_id) in states, self.payment(payment_id)
        assert self.balance(who) == 0
        assert self.rows(sa.select(LedgerEntry.id).where(LedgerEntry.reference == payment_id)) == []
        assert self.rows(sa.select(Paper.id).where(Paper.about == payment_id)) == []
        assert not set(self.messages(who)) - {"payment_failed"}
        if books:
            self.books_are_right()

    def books_are_right(self) -> None:
        """The ledger adds up; every paid payment has one receipt; their numbers have no gap."""
        with self.app.app_context():
            assert ledger.check() == []
            db.session.rollback()
        paid = [one for (one,) in self.rows(sa.select(Payment.id).where(Payment.state == "paid"))]
        receipts = self.rows(sa.select(Paper.about, Paper.series, Paper.place).where(Paper.kind == "receipt"))
        assert sorted(row.about for row in receipts) == sorted(paid)
        for name, latest in self.rows(sa.select(PaperSeries.name, PaperSeries.latest)):
            places = sorted(row.place for row in receipts if row.series == name)
            assert places == list(range(1, latest + 1))
