"""A customer before the till: payments that were begun at the simulated provider, and its webhooks as it signs them."""

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from portal.extensions import db
from portal.models import Account, Payment, Refund, User, Wallet
from portal.services import payments, refunds
from sandbox.process import MYFATOORAH_SECRET, SandboxProcess
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp

DOOR = "/webhooks/myfatoorah"
SERVER = "myfatoorah"
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Shop:
    """A portal that takes money at the sandbox. Nobody is told of anything by himself: a test posts what it wants."""

    def __init__(self, make_app: MakeApp, url: str, sandbox: SandboxProcess, **settings: str) -> None:
        self.sandbox = sandbox
        usual = {
            "MYFATOORAH_BASE_URL": sandbox.myfatoorah_url, "MYFATOORAH_API_KEY": "sandbox",
            "MYFATOORAH_WEBHOOK_SECRET": MYFATOORAH_SECRET,
        }  # fmt: skip
        self.app: Flask = make_app(url, **(usual | settings))
        self.cast = Cast(self.app)
        sandbox.control(server=SERVER, webhook_timing="none")

    def begin(self, item: str = "pack-5000", *, person: Person | None = None) -> str:
        """A payment of Layla's that can be paid. Returns its id."""
        who = person or self.cast.layla
        with self.app.app_context():
            account, user = db.session.get_one(Account, who.account_id), db.session.get_one(User, who.user_id)
            return payments.begin(account, user, item, "kn", language="ar").id

    def pay(self, payment_id: str, outcome: str = "paid", **more: Any) -> None:
        """What happens on the provider's page. The portal hears nothing of it."""
        self.sandbox.pay(self.row(payment_id).invoice, outcome, **more)

    def bought(self, item: str = "pack-5000", *, person: Person | None = None) -> str:
        """A payment that counted."""
        payment_id = self.begin(item, person=person)
        self.pay(payment_id)
        assert self.confirm(payment_id) == "paid"
        return payment_id

    def confirm(self, payment_id: str) -> str:
        self.let_time_pass(payment_id)
        with self.app.app_context():
            return payments.confirm(payment_id, source="sweep")

    def given_back(self, payment_id: str, fils: int) -> str:
        """A refund that is filed at the provider. Returns its id."""
        with self.app.app_context():
            return refunds.request(payment_id, fils, reason="x", actor="test")

    def let_time_pass(self, payment_id: str) -> None:
        """Whoever asked last did it long ago, and the next question is due."""
        asked = sa.update(Payment).where(Payment.id == payment_id)
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(asked.where(Payment.asked_at.is_not(None)).values(asked_at=LONG_AGO))
            connection.execute(asked.where(Payment.due_at.is_not(None)).values(due_at=LONG_AGO))

    def row(self, payment_id: str) -> Any:
        with self.app.app_context(), db.engine.connect() as connection:
            return connection.execute(sa.select(Payment.__table__).where(Payment.id == payment_id)).one()

    def refund(self, refund_id: str) -> Any:
        with self.app.app_context(), db.engine.connect() as connection:
            return connection.execute(sa.select(Refund.__table__).where(Refund.id == refund_id)).one()

    def balance(self, person: Person | None = None) -> int:
        """Milli-credits."""
        account_id = (person or self.cast.layla).account_id
        with self.app.app_context(), db.engine.connect() as connection:
            return connection.execute(sa.select(Wallet.balance).where(Wallet.account_id == account_id)).scalar_one()

    def asked(self, endpoint: str = "GetPaymentStatus") -> int:
        """How often the provider was asked that."""
        return len(self.sandbox.requests(path=f"/v2/{endpoint}", server=SERVER))

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def latest(self) -> tuple[bytes, dict[str, str]]:
        """The provider's last webhook: body and headers as it would post them."""
        last = self.sandbox.webhooks()[-1]
        return json.dumps(last["body"], ensure_ascii=False).encode(), last["headers"]

    def post(self, body: bytes, headers: dict[str, str]) -> TestResponse:
        return self.app.test_client().post(DOOR, data=body, headers={"Content-Type": "application/json"} | headers)

    def tell(self) -> None:
        """The provider's last webhook arrives, and is taken."""
        answer = self.post(*self.latest())
        assert (answer.status_code, answer.get_json()) == (200, {})

    @contextmanager
    def without_a_row(self) -> Iterator[None]:
        """Nothing may even take a connection to the database."""
        taken: list[object] = []

        def take(*given: object) -> None:
            taken.append(given)

        with self.app.app_context():
            pool = db.engine.pool
        sa.event.listen(pool, "checkout", take)
        try:
            yield
        finally:
            sa.event.remove(pool, "checkout", take)
        assert taken == []


@pytest.fixture
def shop(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess) -> Shop:
    return Shop(make_app, sqlite_url, sandbox)


@pytest.fixture
def any_shop(make_app: MakeApp, database_url: str, sandbox: SandboxProcess) -> Shop:
    """On each of the three databases."""
    return Shop(make_app, database_url, sandbox)
