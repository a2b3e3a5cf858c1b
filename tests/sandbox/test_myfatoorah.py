"""The simulated MyFatoorah answers as the real one is documented, misspellings and all, and refuses what it refuses."""

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from tests.sandbox.myfatoorah import CALLBACK, FAILURE, SERVER, api, data, opened, order, status, wrong

KUWAIT = timezone(timedelta(hours=3))


def test_methods_are_told_apart_by_code_and_kind_and_never_by_id(sandbox: SandboxProcess) -> None:
    """PAY-01: ids differ between accounts, and two methods have one code."""
    asked = {"InvoiceAmount": 10, "CurrencyIso": "KWD"}
    first = data(api(sandbox, "InitiatePayment", asked))["PaymentMethods"]
    told = [(one["PaymentMethodId"], one["PaymentMethodCode"], one["IsDirectPayment"]) for one in first]
    assert told == [(1, "kn", False), (2, "vm", False), (11, "ap", False), (20, "vm", True)]
    assert [one["TotalAmount"] for one in first] == [10.0, 10.15, 10.15, 10.15]
    sandbox.control(server=SERVER, method_ids={"kn": 20, "direct": 1}, offered=["direct", "kn"])
    moved = data(api(sandbox, "InitiatePayment", {"InvoiceAmount": 0, "CurrencyIso": ""}))["PaymentMethods"]
    assert [(one["PaymentMethodId"], one["PaymentMethodEn"]) for one in moved] == [
        (1, "VISA/MASTER Direct"),
        (20, "KNET"),
    ]
    assert opened(sandbox, PaymentMethodId=1)["IsDirectPayment"] is True
    assert wrong(api(sandbox, "ExecutePayment", order(PaymentMethodId=2))) == ["PaymentMethodId"]


def test_an_order_is_an_invoice_with_a_page(sandbox: SandboxProcess) -> None:
    """PAY-01."""
    reply = api(sandbox, "ExecutePayment", order())
    made = data(reply)
    assert reply.json["Message"] == "Invoice Created Successfully!"
    assert (made["CustomerReference"], made["UserDefinedField"], made["IsDirectPayment"]) == ("ref-1", "CK-7", False)
    assert made["PaymentURL"].startswith(f"{sandbox.myfatoorah_url}/Ar/KWT/PayInvoice/Checkout?invoiceKey=")
    assert sandbox.invoices()[0]["asked"]["CustomerName"] == "نورة الصباح"
    entry = sandbox.requests(path="/v2/ExecutePayment", server=SERVER)[-1]
    assert (entry["body"]["CustomerMobile"], entry["status"]) == ("50000001", 200)


@pytest.mark.parametrize(("changed", "names"), [
    ({"InvoiceValue": 0, "InvoiceItems": None}, ["InvoiceValue"]),
    ({"InvoiceValue": "2.500"}, ["InvoiceValue"]),
    ({"InvoiceValue": 2.5001, "InvoiceItems": None}, ["InvoiceValue"]),
    ({"InvoiceValue": 2.51}, ["InvoiceItems"]),
    ({"InvoiceValue": 0.3, "InvoiceItems": [{"ItemName": "x", "Quantity": 3, "UnitPrice": 0.1}]}, []),
    ({"SessionId": "x"}, ["PaymentMethodId"]),
    ({"PaymentMethodId": "absent"}, ["PaymentMethodId"]),
    ({"CallBackUrl": "https://x.example/" + "a" * 237}, ["CallBackUrl"]),
    ({"CallBackUrl": "https://x.example/" + "a" * 236}, []),
    ({"CustomerMobile": "+96550000001"}, ["CustomerMobile"]),
    ({"CustomerMobile": "٥٠٠٠٠٠٠١"}, ["CustomerMobile"]),
    ({"CustomerMobile": 50000001}, ["CustomerMobile"]),
    ({"CustomerEmail": ""}, ["CustomerEmail"]),
    ({"Language": "fr", "DisplayCurrencyIso": "USD"}, ["DisplayCurrencyIso", "Language"]),
    ({"UserDefinedField": "CK-" + "7" * 48}, ["UserDefinedField"]),
    ({"UserDefinedField": "u" * 500}, []),
    ({"ExpiryDate": "2030-01-01T00:00:00Z"}, ["ExpiryDate"]),
    ({"RecurringModel": {"RecurringType": "Monthly"}}, ["RecurringModel"]),
])  # fmt: skip
def test_an_order_is_refused_for_what_is_wrong_with_it(
    sandbox: SandboxProcess, changed: dict[str, Any], names: list[str]
) -> None:
    """PAY-01: the limits of the fact sheet, section 4."""
    reply = api(sandbox, "ExecutePayment", order(**changed))
    if names:
        assert wrong(reply) == names
    else:
        assert data(reply)["InvoiceId"]
    assert len(sandbox.invoices()) == (0 if names else 1)


def test_addresses_on_this_machine_can_be_refused_as_the_real_one_does(sandbox: SandboxProcess) -> None:
    """PAY-01: localhost never reaches anybody."""
    sandbox.control(server=SERVER, allow_loopback=False)
    assert wrong(api(sandbox, "ExecutePayment", order())) == ["CallBackUrl", "ErrorUrl"]


def test_the_expiry_is_read_and_told_as_kuwaits_time(sandbox: SandboxProcess) -> None:
    """PAY-04: UTC written there would end three hours early; an hour ahead, it would be over at once."""
    inside = datetime.now(UTC) + timedelta(hours=1)
    assert wrong(api(sandbox, "ExecutePayment", order(ExpiryDate=f"{inside:%Y-%m-%dT%H:%M:%S}"))) == ["ExpiryDate"]
    there = inside.astimezone(KUWAIT)
    invoice = opened(sandbox, ExpiryDate=f"{there:%Y-%m-%dT%H:%M:%S}")["InvoiceId"]
    told = status(sandbox, invoice)
    assert told["ExpiryDate"] == f"{there:%B %d, %Y}"
    assert told["ExpiryTime"] == f"{there:%H:%M:%S}.000"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", told["CreatedDate"])
    sandbox.control(server=SERVER, now="2027-12-31T22:30:00+00:00")
    assert status(sandbox, opened(sandbox, CustomerReference="later")["InvoiceId"])["ExpiryDate"] == "January 04, 2028"


def test_a_failed_try_and_a_paid_one_stand_beside_each_other(sandbox: SandboxProcess) -> None:
    """PAY-02: a failure does not end an invoice; every amount of an attempt is a text with commas."""
    sandbox.control(server=SERVER, charges={"vm": "0.442"})
    items = [{"ItemName": "x", "Quantity": 1, "UnitPrice": 12345.005}]
    invoice = opened(sandbox, InvoiceValue=12345.005, InvoiceItems=items, PaymentMethodId=2)["InvoiceId"]
    assert status(sandbox, invoice)["InvoiceTransactions"] == []
    failed = sandbox.pay(invoice, "failed", error_code="MF010")
    assert re.fullmatch(rf"{re.escape(FAILURE)}\?paymentId=(0707{invoice}\d{{9}})&Id=\1", failed)
    told = status(sandbox, invoice)
    assert (told["InvoiceStatus"], told["InvoiceTransactions"][0]["TransactionStatus"]) == ("Pending", "Failed")
    assert told["InvoiceTransactions"][0]["ErrorCode"] == "MF010"
    paid = sandbox.pay(invoice)
    payment = re.fullmatch(rf"{re.escape(CALLBACK)}&paymentId=(\d+)&Id=\1", paid)
    assert payment is not None
    told = status(sandbox, payment.group(1), "paymentid")
    assert (told["InvoiceId"], told["InvoiceStatus"]) == (invoice, "Paid")
    assert (told["InvoiceValue"], told["InvoiceDisplayValue"]) == (12345.005, "12,345.005 KD")
    one, two = told["InvoiceTransactions"]
    assert one["PaymentId"] != two["PaymentId"] == payment.group(1)
    assert (two["TransactionStatus"], two["TransationValue"], two["ErrorCode"]) == ("Succss", "12,345.005", "")
    assert (two["DueValue"], two["PaidCurrency"], two["PaidCurrencyValue"]) == ("12,345.447", "KD", "12,345.450")
    with pytest.raises(SandboxError, match="is Paid"):
        sandbox.pay(invoice)
    sandbox.pay(invoice, anyway=True)
    assert status(sandbox, invoice)["InvoiceStatus"] == "DuplicatePayment"


def test_a_reference_finds_the_latest_invoice_and_an_unknown_key_none(sandbox: SandboxProcess) -> None:
    """PAY-02: they do not require references to be unique."""
    first, second = opened(sandbox)["InvoiceId"], opened(sandbox)["InvoiceId"]
    assert first != second
    assert status(sandbox, "ref-1", "CustomerReference")["InvoiceId"] == second
    for asked in ({"Key": "999", "KeyType": "InvoiceId"}, {"Key": "", "KeyType": "PaymentId"}):
        assert wrong(api(sandbox, "GetPaymentStatus", asked)) == ["Key"]
    assert wrong(api(sandbox, "GetPaymentStatus", {"Key": "1", "KeyType": "Order"})) == ["KeyType"]
    assert sandbox.pay(second).startswith(CALLBACK + "&paymentId=100"), "KNET has ids of its own form"


def test_ids_never_come_twice_whatever_is_reset(sandbox: SandboxProcess) -> None:
    """PAY-02: the portal's database outlives a reset; an old payment must not find a new invoice."""
    first = opened(sandbox)["InvoiceId"]
    sandbox.reset()
    assert opened(sandbox)["InvoiceId"] > first


def test_the_status_can_lie(sandbox: SandboxProcess) -> None:
    """PAY-02: amount, currency, reference, account and expiry are to be compared."""
    invoice = opened(sandbox)["InvoiceId"]
    sandbox.pay(invoice)
    sandbox.control(server=SERVER, status_value="2.000", status_currency="SR", status_reference="other",
                    status_user_field="CK-8", status_expired=True, status_invoice=7)  # fmt: skip
    told = status(sandbox, invoice)
    assert (told["InvoiceId"], told["InvoiceValue"], told["InvoiceDisplayValue"]) == (7, 2.0, "2.000 SR")
    assert (told["CustomerReference"], told["UserDefinedField"]) == ("other", "CK-8")
    yesterday = datetime.now(KUWAIT) - timedelta(days=1)
    assert told["ExpiryDate"] == f"{yesterday:%B %d, %Y}"
    assert told["InvoiceTransactions"][0]["TransationValue"] == "2.000"


def test_an_invoice_can_be_canceled_or_run_out_and_then_takes_no_money(sandbox: SandboxProcess) -> None:
    """PAY-04: `Expired` is never on the wire."""
    canceled, expired = opened(sandbox)["InvoiceId"], opened(sandbox)["InvoiceId"]
    sandbox.cancel_invoice(canceled)
    sandbox.expire_invoice(expired)
    assert [status(sandbox, one)["InvoiceStatus"] for one in (canceled, expired)] == ["Canceled", "Pending"]
    for one, state in ((canceled, "Canceled"), (expired, "Expired")):
        with pytest.raises(SandboxError, match=f"is {state}"):
            sandbox.pay(one)


def test_a_refund_is_a_request_until_staff_carry_it_out(sandbox: SandboxProcess) -> None:
    """PAY-05: twice asked is twice filed, up to what is left; a canceled one frees its part."""
    invoice = opened(sandbox)["InvoiceId"]
    asked = {"KeyType": "InvoiceId", "Key": str(invoice), "Amount": 1.25, "Comment": "c", "ExternalIdentifier": "r-1"}
    assert wrong(api(sandbox, "MakeRefund", asked)) == ["Key"], "nothing has been paid"
    sandbox.pay(invoice)
    made = [data(api(sandbox, "MakeRefund", asked)) for _ in range(2)]
    assert made[0]["RefundId"] != made[1]["RefundId"] != invoice
    assert wrong(api(sandbox, "MakeRefund", {**asked, "Amount": 0.001})) == ["Amount"]
    sandbox.settle_refund(made[0]["RefundId"])
    sandbox.settle_refund(made[1]["RefundId"], "canceled")
    found = data(api(sandbox, "GetRefundStatus", {"KeyType": "InvoiceId", "Key": str(invoice)}))["RefundStatusResult"]
    assert [(one["RefundStatus"], one["ExternalIdentifier"]) for one in found] == [
        ("Refunded", "r-1"),
        ("Canceled", "r-1"),
    ]
    assert [one["RRN"] is None for one in found] == [False, True]
    one = {"KeyType": "RefundId", "Key": str(made[1]["RefundId"])}
    assert len(data(api(sandbox, "GetRefundStatus", one))["RefundStatusResult"]) == 1
    with pytest.raises(SandboxError, match="is Refunded"):
        sandbox.settle_refund(made[0]["RefundId"])
    data(api(sandbox, "MakeRefund", asked))
    assert sandbox.refunds()[-1]["status"] == "Pending"


@pytest.mark.parametrize(("knobs", "name", "text"), [
    ({"refund_refusal": "processing"}, "Key", "The transaction is already under processing!"),
    ({"refund_refusal": "balance"}, "Amount", "Insufficient balance for vendor"),
])  # fmt: skip
def test_refunds_are_refused_in_the_vendors_words(
    sandbox: SandboxProcess, knobs: dict[str, Any], name: str, text: str
) -> None:
    """PAY-05."""
    invoice = opened(sandbox)["InvoiceId"]
    sandbox.pay(invoice)
    sandbox.control(server=SERVER, **knobs)
    reply = api(sandbox, "MakeRefund", {"KeyType": "InvoiceId", "Key": str(invoice), "Amount": 1})
    assert reply.json["ValidationErrors"] == [{"Name": name, "Error": text}]
    assert sandbox.refunds() == []


def test_a_card_is_kept_only_when_the_order_allows_it_and_the_payer_wants_it(sandbox: SandboxProcess) -> None:
    """SUB-04: and a KNET card never."""

    def token(keep: bool, **changed: Any) -> str | None:
        invoice = opened(sandbox, **changed)["InvoiceId"]
        sandbox.pay(invoice, keep_card=keep)
        card = status(sandbox, invoice)["InvoiceTransactions"][0]["Card"]
        return card["Token"] if card else None

    assert [
        token(True, PaymentMethodId=2, UserDefinedField="7"), token(False, PaymentMethodId=2), token(True),
    ] == [None] * 3  # fmt: skip
    assert token(True, PaymentMethodId=2)


def test_a_kept_card_is_charged_at_the_address_of_a_direct_invoice(sandbox: SandboxProcess) -> None:
    """SUB-04: what goes wrong is told in Data.ErrorMessage."""
    token = sandbox.keep_card("7")
    asked = {"PaymentType": "token", "Token": token, "Bypass3DS": True}
    invoice = opened(sandbox, PaymentMethodId=20)
    sandbox.control(server=SERVER, token_outcome="failed", token_error="MF002")
    failed = api(sandbox, invoice["PaymentURL"], asked)
    assert failed.json["IsSuccess"] is False
    assert failed.json["Data"]["ErrorMessage"] == "Declined by the issuer"
    sandbox.control(server=SERVER, token_outcome="paid")
    assert data(api(sandbox, invoice["PaymentURL"], asked))["Status"] == "SUCCESS"
    told = status(sandbox, invoice["InvoiceId"])
    assert [one["ErrorCode"] for one in told["InvoiceTransactions"]] == ["MF002", ""]
    assert told["InvoiceTransactions"][1]["Card"]["Token"] == token
    assert len(sandbox.requests(path="/v2/DirectPayment", server=SERVER)) == 2
    other = opened(sandbox, PaymentMethodId=20)
    assert data(api(sandbox, f"CancelToken?token={token}")) is True
    for refused in (token, "TKN-unknown", None):
        told = api(sandbox, other["PaymentURL"], {**asked, "Token": refused}).json["Data"]
        assert told["ErrorMessage"] == "The token is not valid or it is canceled"
    assert status(sandbox, other["InvoiceId"])["InvoiceTransactions"] == []
    assert wrong(api(sandbox, f"CancelToken?token={token}")) == ["token"]


def test_wrong_keys_and_unknown_places_are_told_in_the_real_ones_words(sandbox: SandboxProcess) -> None:
    """PAY-01."""
    reply = api(sandbox, "GetPaymentStatus", {}, key="wrong")
    assert (reply.status, reply.json["Message"]) == (401, "The token is not valid or it is expired!")
    reply = api(sandbox, "GetInvoiceStatus", {})
    assert reply.status == 404
    assert reply.json.keys() == {"Message", "MessageDetail"}


def test_status_calls_can_be_limited(sandbox: SandboxProcess) -> None:
    """PAY-04: polling has a price."""
    invoice = opened(sandbox)["InvoiceId"]
    sandbox.control(server=SERVER, status_per_minute=2)
    asked = {"Key": str(invoice), "KeyType": "InvoiceId"}
    began = time.monotonic()
    assert [api(sandbox, "GetPaymentStatus", asked).status for _ in range(3)] == [200, 200, 429]
    assert time.monotonic() - began < 2
