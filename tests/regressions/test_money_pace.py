"""The provider answers so many questions a minute, to all of us together: nobody may stop them for all."""

import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal import store
from portal.extensions import db
from portal.models import Payment
from portal.services import reconciliation, tunables
from portal.services.payments import merchant
from tests.billing.conftest import layla, shop  # noqa: F401
from tests.doors.shop import LONG_AGO, SERVER, Shop


def test_one_customers_return_pages_do_not_use_up_everybodys_questions(
    shop: Shop,  # noqa: F811
    layla: FlaskClient,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TOP-02, PAY-03: three begun payments whose pages are reloaded every two seconds are 90 questions a minute, and 60
    are allowed: as long as somebody does that, nobody's webhook, return page or sweep is asked about.
    """
    one_minute = SimpleNamespace(time=lambda: 1_800_000_000.0, monotonic=time.monotonic)
    monkeypatch.setattr("portal.services.payments.merchant.time", one_minute)
    with shop.app.app_context():
        tunables.put("status_calls_a_minute", "12")
    mine = [shop.begin(item) for item in ("pack-5000", "pack-15000", "pack-50000")]
    theirs = shop.begin(person=shop.cast.zaid)
    for _ in range(4):
        for payment in mine:
            layla.get(f"/billing/return/{payment}")
            shop.let_time_pass(payment)  # two seconds later
    shop.pay(theirs)
    shop.tell()
    with shop.app.app_context():
        with db.engine.begin() as connection:
            connection.execute(sa.update(Payment).values(due_at=LONG_AGO))
        reconciliation.ask_due()
    assert shop.row(theirs).state == "paid"


def test_one_odd_answer_does_not_stop_all_questions_for_a_day(shop: Shop) -> None:  # noqa: F811
    """TOP-02, PAY-03: `429, Retry-After: 86400` (or a 503 of their maintenance) to one question, and for a day nobody's
    payment is asked about; `read_missed` returned 0 meanwhile, so job, /readyz and the staff's list were green."""
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault="429_retry_after", retry_after_s=86_400)
    assert shop.confirm(shop.begin()) == "pending"
    with shop.app.app_context():
        assert 0 < store.client().ttl(merchant.REST) <= 3_600
