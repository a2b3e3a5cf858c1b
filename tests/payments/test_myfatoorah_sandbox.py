"""The client and the stand-in of MyFatoorah, written apart from one fact sheet: do they understand each other?"""

import datetime as dt
import json
from typing import Any

import pytest

from portal import clock
from portal.providers.payments import Notice, Opened, Order
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.providers.payments.signatures import BadSignature, verify
from sandbox.process import MYFATOORAH_SECRET, SandboxError, SandboxProcess
from tests.payments.provider import ORDER, REFERENCE, fault_of

CALLBACK = "http://127.0.0.1:9/billing/return/1"


@pytest.fixture
def client(sandbox: SandboxProcess) -> MyFatoorah:
    sandbox.control(server="myfatoorah", webhook_timing="none")
    return MyFatoorah(sandbox.myfatoorah_url, "sandbox", seconds=(2.0, 2.0))


def order(client: MyFatoorah, code: str = "kn", *, direct: bool = False, reference: str = REFERENCE) -> Order:
    [method] = [one for one in client.methods() if (one.code, one.direct) == (code, direct)]
    at = clock.utcnow() + dt.timedelta(hours=1)
    return ORDER._replace(
        method_id=method.id,
        reference=reference,
        callback=CALLBACK,
        failure=CALLBACK,
        expires_at=at.replace(microsecond=0),
    )


def test_a_payment_from_its_methods_to_its_money(sandbox: SandboxProcess, client: MyFatoorah) -> None:
    """PAY-01: pending, failed and still pending, paid; by our reference and by the invoice's id."""
    wanted = order(client)
    opened = client.open(wanted)
    [invoice] = sandbox.invoices()
    assert (opened.invoice, opened.url) == (str(invoice["id"]), invoice["url"])
    assert invoice["expires_at"] == wanted.expires_at.timestamp()
    fresh = client.status(invoice=opened.invoice)
    assert (fresh.state, fresh.value_fils, fresh.currency) == ("pending", 2500, "KWD")
    assert (fresh.reference, fresh.user_field) == (REFERENCE, wanted.user_field)
    assert fresh.expires_at == wanted.expires_at
    sandbox.pay(opened.invoice, "failed", error_code="MF004")
    failed = client.status(reference=REFERENCE)
    [attempt] = failed.attempts
    assert (failed.state, attempt.state, attempt.error_code) == ("pending", "failed", "MF004")
    back = sandbox.pay(opened.invoice)
    paid = client.status(invoice=opened.invoice)
    assert (paid.state, [one.state for one in paid.attempts]) == ("paid", ["failed", "paid"])
    assert paid.paid_by is not None
    assert f"paymentId={paid.paid_by.payment}&Id={paid.paid_by.payment}" in back
    assert paid.paid_by.at is not None
    assert abs(paid.paid_by.at - clock.utcnow()) < dt.timedelta(minutes=1)


def test_a_canceled_and_an_unknown_invoice(sandbox: SandboxProcess, client: MyFatoorah) -> None:
    """PAY-03: final, and nothing by this key."""
    opened = client.open(order(client))
    sandbox.cancel_invoice(opened.invoice)
    assert client.status(invoice=opened.invoice).state == "canceled"
    for fault in (fault_of(lambda: client.status(invoice="1")), fault_of(lambda: client.status(reference="f" * 32))):
        assert (fault.unknown, fault.permanent, fault.in_doubt) == (True, False, False)


def test_lies_of_the_status_are_told_as_they_stand(sandbox: SandboxProcess, client: MyFatoorah) -> None:
    """PAY-01, never again: a paid 0.100 KWD payment activated a 25 KWD pack. The rule must see the lie."""
    opened = client.open(order(client))
    sandbox.pay(opened.invoice)
    sandbox.control(server="myfatoorah", status_value="0.100", status_reference="x", success_as_text=True)
    told = client.status(invoice=opened.invoice)
    assert (told.state, told.value_fils, told.currency, told.reference) == ("paid", 100, "KWD", "x")
    sandbox.control(server="myfatoorah", status_currency="SR", status_nulls=True, status_invoice=999)
    told = client.status(invoice=opened.invoice)
    assert (told.invoice, told.value_fils, told.currency, told.reference) == ("999", 100, "SAR", "")


def test_money_is_asked_back_once_and_followed(sandbox: SandboxProcess, client: MyFatoorah) -> None:
    """PAY-04: filed, looked for, done; never more than is left."""
    opened = client.open(order(client))
    sandbox.pay(opened.invoice)
    for no_refunds_400 in (False, True):
        sandbox.control(server="myfatoorah", no_refunds_400=no_refunds_400)
        assert client.refunds(opened.invoice) == ()
    first = client.refund(opened.invoice, 1500, "refund-1", "He asked for it")
    assert (first.state, first.amount_fils, first.reference) == ("pending", 1500, "refund-1")
    assert client.refunds(opened.invoice) == (first,)
    sandbox.settle_refund("refund-1")
    second = client.refund(opened.invoice, 1000, "refund-2", "")
    sandbox.settle_refund("refund-2", "canceled")
    assert [(one.id, one.state) for one in client.refunds(opened.invoice)] == [
        (first.id, "refunded"),
        (second.id, "canceled"),
    ]
    fault = fault_of(lambda: client.refund(opened.invoice, 1010, "refund-3", ""))
    assert (fault.permanent, "Amount" in fault.reason) == (True, True)
    for refusal, permanent, in_doubt in (("processing", False, True), ("balance", False, False)):
        sandbox.control(server="myfatoorah", refund_refusal=refusal)
        fault = fault_of(lambda: client.refund(opened.invoice, 1000, "refund-4", ""))
        assert (fault.permanent, fault.in_doubt) == (permanent, in_doubt)


def test_a_kept_card_is_charged_refused_and_forgotten(sandbox: SandboxProcess, client: MyFatoorah) -> None:
    """SUB: automatic renewal by the provider's token; only the status tells what became of it."""
    token = sandbox.keep_card("0197f0c2b7d37e95a08c4a1b2c3d4e60")
    opened = client.open(order(client, "vm", direct=True))
    sandbox.control(server="myfatoorah", token_outcome="failed")
    fault = fault_of(lambda: client.charge(opened, token))
    assert (fault.permanent, fault.reason) == (True, "the card was refused")
    assert client.status(invoice=opened.invoice).state == "pending"
    sandbox.control(server="myfatoorah", token_outcome="paid")
    client.charge(opened, token)
    paid = client.status(invoice=opened.invoice).paid_by
    assert paid is not None
    assert paid.card is not None
    assert (paid.card.token, paid.card.expiry_month != "") == (token, True)
    client.forget(token)
    assert fault_of(lambda: client.forget(token)).permanent
    again = client.open(order(client, "vm", direct=True, reference="e" * 32))
    assert fault_of(lambda: client.charge(again, token)).reason == "the card was refused"


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("odd", [{}, {"webhook_nulls": True}, {"webhook_reordered": True}])
def test_every_webhook_of_the_stand_in_is_rightly_signed(
    sandbox: SandboxProcess, client: MyFatoorah, version: str, odd: dict[str, Any]
) -> None:
    """PAY-02: two readings of one rule that agree; with Arabic names, nulls, another order; listed the same."""
    sandbox.control(server="myfatoorah", webhook_version=version, **odd)
    opened = client.open(order(client))
    sandbox.pay(opened.invoice, "failed")
    sandbox.pay(opened.invoice)
    client.refund(opened.invoice, 2500, "refund-1", "why")
    sandbox.settle_refund("refund-1")
    sandbox.control(server="myfatoorah", webhook_signature="wrong")
    sandbox.pay(client.open(order(client, reference="e" * 32)).invoice)
    *right, wrong = sandbox.webhooks()
    found: list[Notice] = []
    for event in right:
        body = json.dumps(event["body"], ensure_ascii=False).encode()
        signature = event["headers"]["MyFatoorah-Signature"]
        found.append(verify(body, signature, MYFATOORAH_SECRET, event["headers"]["MyFatoorah-Webhook-Version"]))
        assert verify(body, signature, MYFATOORAH_SECRET, None) == found[-1]
    assert [(one.kind, one.invoice, one.state) for one in found] == [
        ("payment", opened.invoice, "FAILED"),
        ("payment", opened.invoice, "SUCCESS"),
        ("refund", opened.invoice, "REFUNDED"),
    ]
    with pytest.raises(BadSignature):
        verify(json.dumps(wrong["body"]).encode(), wrong["headers"]["MyFatoorah-Signature"], MYFATOORAH_SECRET, None)
    now = clock.utcnow()
    for as_text in (False, True):
        sandbox.control(server="myfatoorah", webhooks_data_as_text=as_text, page_size=3)
        listed, further = client.missed(now - dt.timedelta(hours=1), now + dt.timedelta(hours=1), 1)
        assert (listed, further) == (tuple(found), True)
        rest, further = client.missed(now - dt.timedelta(hours=1), now + dt.timedelta(hours=1), 2)
        assert (len(rest), further) == (1, False)
    assert client.missed(now - dt.timedelta(hours=2), now - dt.timedelta(hours=1), 1) == ((), False)


DONE_ALL_THE_SAME = ("500_after", "502_after", "empty_after", "stall_after", "reset_after", "cut_after")


@pytest.mark.parametrize(("fault", "permanent", "in_doubt", "retry_after"), [
    ("400", True, False, None), ("400_fields", True, False, None), ("200_false", False, False, None),
    ("401_permission", False, False, None), ("401_token", False, False, None), ("401_country", False, False, None),
    ("401_empty", False, False, None), ("403_html", False, False, None), ("404_route", False, False, None),
    ("429", False, False, 60), ("429_retry_after", False, False, 90), ("500", False, True, None),
    ("502_html", False, True, None), ("empty", False, True, None), ("html", False, True, None),
    ("json_string", False, True, None), ("no_success", False, True, None), ("reset_before", False, True, None),
    ("stall_before", False, True, None), *((name, False, True, None) for name in DONE_ALL_THE_SAME),
])  # fmt: skip
def test_each_fault_of_the_matrix_says_whether_the_payment_may_be_open(
    sandbox: SandboxProcess, fault: str, permanent: bool, in_doubt: bool, retry_after: int | None
) -> None:
    """PAY-01, the issue's matrix: whatever was done all the same is in doubt, and a status asked for never is."""
    client = MyFatoorah(sandbox.myfatoorah_url, "sandbox", seconds=(0.4, 0.4))
    wanted = order(client)
    sandbox.control(server="myfatoorah", fault=fault, retry_after_s=90, times=1)
    told = fault_of(lambda: client.open(wanted))
    assert (told.permanent, told.in_doubt, told.retry_after) == (permanent, in_doubt, retry_after), told.reason
    opened = sandbox.invoices()
    assert bool(opened) == (fault in DONE_ALL_THE_SAME)
    if opened:  # by our reference it is found again
        assert client.status(reference=REFERENCE).invoice == str(opened[0]["id"])
    if "400" not in fault:
        sandbox.control(server="myfatoorah", fault=fault, retry_after_s=90, times=1)
        told = fault_of(lambda: client.status(invoice="7000001"))
        assert (told.permanent, told.in_doubt, told.unknown) == (False, False, False), told.reason


def test_a_wrong_key_is_no_fault_of_the_payment(sandbox: SandboxProcess, client: MyFatoorah) -> None:
    """OPS: a key that was replaced must not kill what waits for an answer."""
    wanted = order(client)
    for key in ("wrong", "مفتاح"):
        fault = fault_of(lambda: MyFatoorah(sandbox.myfatoorah_url, key).open(wanted))  # noqa: B023
        assert (fault.permanent, fault.in_doubt) == (False, False)
        assert "MYFATOORAH_API_KEY" in fault.reason
    assert sandbox.invoices() == []
    with pytest.raises(SandboxError):
        sandbox.pay("7000001")


def test_an_address_of_this_machine_is_refused_by_the_real_one(sandbox: SandboxProcess, client: MyFatoorah) -> None:
    """Facts, 4: localhost is refused; the reason names the field, so that an operator finds BASE_URL."""
    sandbox.control(server="myfatoorah", allow_loopback=False)
    fault = fault_of(lambda: client.open(order(client)))
    assert (fault.permanent, fault.reason) == (
        True,
        "the payment provider refuses ExecutePayment: CallBackUrl, ErrorUrl",
    )
    assert isinstance(client.open(order(client)._replace(callback=ORDER.callback, failure=ORDER.failure)), Opened)
