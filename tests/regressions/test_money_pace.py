"""The provider answers so many questions a minute, to all of us together: one customer can't have them all."""

import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.extensions import db
from portal.models import Payment
from portal.services import reconciliation, tunables
from tests.billing.conftest import layla, shop  # noqa: F401
from tests.doors.shop import LONG_AGO, Shop


@pytest.mark.xfail(strict=True, reason="may_ask has one count for everybody; the HTML return page is not slowed")
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
