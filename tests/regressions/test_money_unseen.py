"""Money that moved and that nobody here would ever hear of: each is on the staff's list, or comes to be asked about."""

import datetime as dt
import json
from typing import Any

import pytest

from portal.services import payments, reconciliation
from portal.services.payments import held
from sandbox.myfatoorah.signing import signature
from sandbox.process import MYFATOORAH_SECRET
from tests.notifications.outside import customer
from tests.payments.world import SERVER, World
from tests.regressions.money_world import world  # noqa: F401
from tests.sandbox import myfatoorah as merchant


def told(world: World) -> list[str]:  # noqa: F811
    """What staff hear of by themselves: their list, and events of money."""
    return [one.payment for one in held.attention()] + [one.occasion for one in world.news("payment_held")]


@pytest.mark.parametrize("before", [True, False])
def test_an_invoice_that_was_paid_twice_is_shown_to_people(world: World, before: bool) -> None:  # noqa: F811
    """PAY-01, CRD-01: two tabs of the payment page, KNET in both: the provider says DuplicatePayment with two captured
    attempts. One credit is right; that the second 2.000 dinars are ours to give back was written down nowhere."""
    with world.app.app_context():
        payment = world.begin(customer().account, "pack-5000")
        world.sandbox.pay(payment.invoice or "")
        if before:
            world.sandbox.pay(payment.invoice or "", anyway=True)
        world.on(seconds=3)
        assert payments.confirm(payment.id, source="return") == "paid"
        if not before:
            world.sandbox.pay(payment.invoice or "", anyway=True)
            world.on(minutes=5)
            reconciliation.read_missed()
        assert payment.id in told(world)


def test_a_refund_made_at_the_provider_is_shown_to_people(world: World) -> None:  # noqa: F811
    """PAY-04: an operator presses Refund on the provider's own pages. Its webhook comes, rightly signed; the customer
    has the money and kept the credit, and neither list nor log had a word of it."""
    with world.app.app_context():
        payment = world.buy(customer().account, "pack-5000")
        asked = {"KeyType": "InvoiceId", "Key": payment.invoice, "Amount": 2, "ServiceChargeOnCustomer": False}
        made = merchant.data(merchant.api(world.sandbox, "MakeRefund", asked | {"Comment": "by hand"}))
        world.sandbox.settle_refund(str(made["RefundId"]))
        last = world.sandbox.webhooks()[-1]
        assert (last["code"], last["body"]["Data"]["ReferencedInvoice"]["Id"]) == (2, payment.invoice)
        assert post(world, last["body"], last["headers"]) == 200
        world.on(minutes=5)
        reconciliation.read_missed()
        assert payment.id in told(world)


def test_a_disputed_payment_is_shown_to_people(world: World) -> None:  # noqa: F811
    """PAY-03: buy by card, spend, have the bank take the money back: the classic. The provider tells of it (V2 code 6),
    rightly signed, and it was answered 200 and forgotten."""
    with world.app.app_context():
        payment = world.buy(customer().account, "pack-5000", "vm")
        data = {
            "Dispute": {"DisputeTransactionId": "9001", "Status": "OPEN"},
            "Invoice": {"Id": payment.invoice, "Status": "PAID", "ExternalIdentifier": payment.id},
            "Transaction": {"Status": "SUCCESS", "PaymentId": payment.provider_payment},
        }
        signed = (
            f"Dispute.DisputeTransactionId=9001,Dispute.Status=OPEN,Invoice.Id={payment.invoice},Invoice.Status=PAID,"
            f"Transaction.Status=SUCCESS,Transaction.PaymentId={payment.provider_payment},"
            f"Invoice.ExternalIdentifier={payment.id}"
        )
        event = {"Code": 6, "Name": "DISPUTE_STATUS_CHANGED", "Reference": "WH-900001"}
        headers = {"MyFatoorah-Signature": signature(signed, MYFATOORAH_SECRET), "MyFatoorah-Webhook-Version": "v2"}
        assert post(world, {"Event": event, "Data": data}, headers) == 200
        assert payment.id in told(world)


def test_what_was_not_read_of_the_list_is_not_counted_as_read(
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PAY-03: after an outage, or on an account that a busier shop shares, there is more than PAGES pages."""
    monkeypatch.setattr(reconciliation, "PAGES", 2)
    monkeypatch.setattr("portal.providers.payments.myfatoorah.PAGE", 1)
    world.sandbox.control(server=SERVER, page_size=1)
    with world.app.app_context():
        ids = []
        for _ in range(4):
            payment = world.begin(customer().account, "pack-5000")
            world.sandbox.pay(payment.invoice or "")
            ids.append(payment.id)
            world.on(minutes=10)
        for _ in range(6):
            reconciliation.read_missed()
            world.on(hours=2)  # the overlap is an hour
        assert {world.payment(one).state for one in ids} == {"paid"}


def test_a_clock_that_was_ahead_does_not_stop_the_reading_of_webhooks(world: World) -> None:  # noqa: F811
    """PAY-03, OPS-05: one host was a month ahead for a minute; until that month was over no webhook was read, and the
    job and /readyz were green."""
    with world.app.app_context():
        world.on(days=30)
        reconciliation.read_missed()
        world.on(days=-30)
        payment = world.begin(customer().account, "pack-5000")
        world.sandbox.pay(payment.invoice or "")
        world.on(minutes=5)
        reconciliation.read_missed()
        assert world.payment(payment.id).state == "paid"


def test_a_clock_that_was_ahead_does_not_keep_a_payment_from_being_asked_about(world: World) -> None:  # noqa: F811
    """PAY-03, OPS-05: one look by a host that is ten minutes ahead, and for ten minutes every other host "comes too
    soon": return page, webhook and sweep alike. Leases go by the database's clock for this reason."""
    with world.app.app_context():
        payment = world.begin(customer().account, "pack-5000")
        world.now += dt.timedelta(minutes=10)
        payments.confirm(payment.id, source="return")
        world.now -= dt.timedelta(minutes=10)
        world.sandbox.pay(payment.invoice or "")
        world.on(seconds=30)
        assert payments.confirm(payment.id, source="webhook") == "paid"


def post(world: World, body: dict[str, Any], headers: dict[str, str]) -> int:  # noqa: F811
    return world.app.test_client().post("/webhooks/myfatoorah", data=json.dumps(body), headers=headers).status_code
