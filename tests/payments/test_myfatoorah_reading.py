"""What MyFatoorah tells, as the plain data of ours: its misspellings, its two amounts, its dates without zones."""

import contextlib
import datetime as dt
import json
import logging
from typing import Any

import pytest
from hypothesis import given, strategies as st

from portal.providers.payments import Attempt, Card, PaymentsError, Refunded, Status, invoices, wire
from portal.providers.payments.answers import Asked, data
from tests.payments.provider import REFERENCE, fault_of, providing, success


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc,arg-type]


def attempt(status: str, payment: str = "100202632500000001", **more: Any) -> dict[str, Any]:
    return {
        "TransactionDate": "2026-01-10T00:16:07.293", "PaymentGateway": "KNET", "ReferenceId": "000632500001",
        "TrackId": "10-01-2026_4000001", "TransactionId": "000111", "PaymentId": payment, "AuthorizationId": "B00001",
        "TransactionStatus": status, "TransationValue": "12,345.000", "PaidCurrency": "KD",
        "PaidCurrencyValue": "12,345.000", "Currency": "KD", "Error": None, "CardNumber": None, "ErrorCode": "",
        "Card": None, **more,
    }  # fmt: skip


def told(status: str = "Pending", *attempts: Any, **more: Any) -> dict[str, Any]:
    return {
        "InvoiceId": 7000001, "InvoiceStatus": status, "InvoiceReference": "2026000001",
        "CustomerReference": REFERENCE, "CreatedDate": "2026-01-10T00:15:07.293", "ExpiryDate": "January 13, 2026",
        "ExpiryTime": "00:15:07.293", "InvoiceValue": 12345.0, "Comments": None, "CustomerName": "Anonymous",
        "CustomerMobile": "+965", "CustomerEmail": None, "UserDefinedField": "CK-1",
        "InvoiceDisplayValue": "12,345.000 KD", "InvoiceItems": [], "InvoiceTransactions": list(attempts),
        "Suppliers": [], **more,
    }  # fmt: skip


def read(invoice: dict[str, Any]) -> Status:
    with providing(success(invoice)) as provider:
        return provider.client().status(invoice="7000001")


def test_an_invoice_is_read_whole() -> None:
    """Facts, 7: the misspelt Succss, commas, KD for KWD, two dates of Kuwait's, leading zeros."""
    card = {"NameOnCard": "A B", "Number": "512345xxxxxx0008", "Token": "the-token", "PanHash": "", "ExpiryMonth": "01",
            "ExpiryYear": "39", "Brand": "MASTERCARD"}  # fmt: skip
    failed = attempt("Failed", "07077000001400000174", ErrorCode="MF004",
                     Error="Insufficient funds of 5123450000000008", TransactionDate="2026-01-09T23:59:00")  # fmt: skip
    captured = attempt("Succss", "07077000001400000175", PaymentGateway="VISA/MASTER", Card=card)
    found = read(told("Paid", captured, failed))
    first = Attempt("07077000001400000174", "failed", "KNET", "000632500001", "MF004", "Insufficient funds of [digits]",
                    None, utc(2026, 1, 9, 20, 59))  # fmt: skip
    second = Attempt("07077000001400000175", "paid", "VISA/MASTER", "000632500001", "", "",
                     Card("the-token", "512345xxxxxx0008", "MASTERCARD", "01", "39"),
                     utc(2026, 1, 9, 21, 16, 7).replace(microsecond=293_000))  # fmt: skip
    assert found == Status("7000001", "paid", REFERENCE, "CK-1", 12_345_000, "KWD", utc(2026, 1, 12, 21, 15, 7),
                           (first, second))  # fmt: skip
    assert found.paid_by == second
    assert found.attempt("07077000001400000174") == first


@pytest.mark.parametrize(("status", "attempts", "state"), [
    ("Paid", ["Succss"], "paid"),
    ("paid", ["Failed", "SUCCESS"], "paid"),
    ("DuplicatePayment", ["Success", "Succss"], "paid"),
    ("Paid", [], "pending"),
    ("Paid", ["Failed", "InProgress", "Authorize"], "pending"),
    ("Pending", ["Succss"], "pending"),
    ("Pending", [], "pending"),
    ("Pending", ["Failed", "Failed"], "pending"),
    ("Canceled", ["Failed"], "canceled"),
    ("Canceled", ["Succss"], "pending"),
    ("Expired", [], "pending"),
    ("Failed", ["Failed"], "pending"),
    ("", [], "pending"),
    (None, ["Succss"], "pending"),
    (True, [], "pending"),
])  # fmt: skip
def test_paid_is_what_is_paid_and_captured(
    status: Any, attempts: list[str], state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """PAY-01: two words must agree before money is believed; what contradicts itself is asked for again, and logged."""
    with caplog.at_level(logging.WARNING):
        found = read(told(status, *[attempt(one) for one in attempts]))
    assert found.state == state
    in_order = state == "paid" or (status in ("Pending", "Canceled") and "Succss" not in attempts)
    assert any("contradicts" in one.message for one in caplog.records) is not in_order


@pytest.mark.parametrize(("value", "shown", "fils", "currency"), [
    (2.5, "2.500 KD", 2500, "KWD"),
    ("2.5", "2.500 KD", 2500, "KWD"),
    ("2,500.000", "2,500.000 KWD", 2_500_000, "KWD"),
    (2.5, "KD 2.500", 2500, "KWD"),
    (2.5, "2.500kd", 2500, "KWD"),
    (0.1, "25.000 KD", None, "KWD"),
    (25, "0.100 KD", None, "KWD"),
    (None, "2.500 KD", None, "KWD"),
    (2.5, "2.500 SR", 2500, "SAR"),
    (0.2, "2.500 SR", 2500, "SAR"),
    (2.5, "2.500 QR", 2500, "QAR"),
    (2.5, "2.500 BD", 2500, "BHD"),
    (2.5, "2.500 JD", 2500, "JOD"),
    (2.5, "2.500 OMR", 2500, "OMR"),
    (2.5, "2.500 AED", 2500, "AED"),
    (2.5, "2.500 EGP", 2500, "EGP"),
    (2.5, "2.500 $", 2500, "$"),
    (2.5, "2.500", None, ""),
    (2.5, "KD 2.500 SR", None, ""),
    (2.5, None, None, ""),
    (2.5, "", None, ""),
    (2.5, "2.500.000 KD", None, ""),
    (2.5, "2,5 KD", None, ""),
    (2.0005, "2.0005 KD", None, "KWD"),
    (0.1234567, "0.1234567 KD", None, "KWD"),
    (-2.5, "-2.500 KD", -2500, "KWD"),
    (0, "0.000 KD", 0, "KWD"),
    (True, "1.000 KD", None, "KWD"),
])  # fmt: skip
def test_the_amount_counts_where_both_say_it(value: Any, shown: Any, fils: int | None, currency: str) -> None:
    """PAY-01: InvoiceValue has no currency, InvoiceDisplayValue has one; 2.5 SR never pays for 2.5 KWD."""
    found = read(told(InvoiceValue=value, InvoiceDisplayValue=shown))
    assert (found.value_fils, found.currency) == (fils, currency)


@pytest.mark.parametrize(("day", "time", "at"), [
    ("January 13, 2026", "00:15:07.293", utc(2026, 1, 12, 21, 15, 7)),
    ("February 29, 2028", "02:59", utc(2028, 2, 28, 23, 59)),
    ("december 5, 2026", "23:59:59", utc(2026, 12, 5, 20, 59, 59)),
    ("Dec 05, 2026", "3:00:00", utc(2026, 12, 5)),
    ("January 13, 2026", None, utc(2026, 1, 13, 21)),  # the end of that day: never given up too early
    ("January 13, 2026", "soon", utc(2026, 1, 13, 21)),
    ("2026-01-13T00:15:07.2930000", None, utc(2026, 1, 12, 21, 15, 7).replace(microsecond=293_000)),
    ("2026-01-13T00:15:07Z", None, utc(2026, 1, 13, 0, 15, 7)),
    ("Ma 13, 2026", "00:00", None),
    ("Janvier 13, 2026", "00:00", None),
    ("February 30, 2026", "00:00", None),
    ("January 13, 2026", "25:00", None),
    ("January 1, 0001", "00:00", None),
    ("0001-01-01T00:00:00", None, None),
    ("December 31, 9999", None, None),
    (None, "00:15:07.293", None),
    (13, [], None),
])  # fmt: skip
def test_the_expiry_is_kuwaits_clock_in_english_whatever_the_machine_speaks(
    day: Any, time: Any, at: dt.datetime | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts, 7 and 16.3: nobody reports an expiry; it is computed, three hours off or not."""
    monkeypatch.setenv("TZ", "America/New_York")
    assert read(told(ExpiryDate=day, ExpiryTime=time)).expires_at == at


def test_what_is_odd_is_empty_and_what_is_secret_is_masked() -> None:
    """Every field may be null, missing or of another type; a whole card number is never ours to keep."""
    found = read({"InvoiceId": "0007000001", "InvoiceTransactions": [
        None, 1, {}, attempt("Sleeping", payment="a b", ErrorCode="MF04", ReferenceId=None, TransactionDate="?"),
        attempt("Failed", CardNumber="5123 4500 0000 0008"), attempt("Failed", Card={"Token": "t" * 201}),
    ], "CustomerReference": "x" * 600, "UserDefinedField": "a\u0000b"})  # fmt: skip
    assert found[:5] == ("0007000001", "pending", "", "", None)
    assert [(one.payment, one.state) for one in found.attempts[:2]] == [("", "waiting"), ("", "waiting")]
    assert found.attempts[2].card == Card("", "************0008", "", "", "")
    assert found.attempts[3].card is None
    assert found.attempt("") is None


@pytest.mark.parametrize("nothing", [None, True, [], {}, "", 5, {"InvoiceId": None}, {"InvoiceId": True},
                                     {"InvoiceId": "a b"}])  # fmt: skip
def test_an_answer_without_what_it_is_about_is_a_fault(nothing: Any) -> None:
    """Design, habit 7. What acts may have been done all the same; what only asks may not."""
    with providing(success(nothing)) as provider:
        client = provider.client()
        for ask in (lambda: client.status(invoice="7"), client.methods, lambda: client.refunds("7"),
                    lambda: client.missed(utc(2026, 1, 1), utc(2026, 1, 2), 1)):  # fmt: skip
            fault = fault_of(ask)
            assert (fault.permanent, fault.in_doubt, fault.unknown) == (False, False, False)
        fault = fault_of(lambda: client.refund("7", 2500, REFERENCE, "why"))
        assert (fault.permanent, fault.in_doubt) == (False, True)


def test_refunds_are_read_with_their_states() -> None:
    """PAY-04, facts, 8."""
    line = {"RefundId": 90001, "RefundStatus": "Refunded", "InvoiceId": 7, "Amount": 1.5, "RefundReference": "2026001",
            "ExternalIdentifier": REFERENCE, "RefundAmount": 1.4, "RRN": "0001", "BaseCurrency": "KWD"}  # fmt: skip
    canceled = {**line, "RefundId": "90002", "RefundStatus": "Canceled", "Amount": None, "RefundAmount": "1,001.5"}
    small = {"RefundReference": "R1", "RefundStatus": "Pending", "Amount": 0.0005}
    listed = [line, canceled, small, {"RefundStatus": "Lost"}, 7]
    with providing(success({"RefundStatusResult": listed}), success({"RefundId": 5, "Amount": 2.5})) as provider:
        client = provider.client()
        assert client.refunds("7") == (
            Refunded("90001", "refunded", 1500, REFERENCE),
            Refunded("90002", "canceled", 1_001_500, REFERENCE),
            Refunded("R1", "pending", None, ""),
            Refunded("", "pending", None, ""),
        )
        assert client.refund("7", 2500, REFERENCE, "why") == Refunded("5", "pending", 2500, "")


WORDS = ["InvoiceId", "InvoiceStatus", "InvoiceTransactions", "TransactionStatus", "Card", "Token", "CardNumber",
         "InvoiceValue", "InvoiceDisplayValue", "ExpiryDate", "ExpiryTime", "TransactionDate", "PaymentMethods",
         "PaymentMethodId", "PaymentMethodCode", "ServiceCharge", "RefundStatusResult", "RefundStatus", "Amount",
         "IsSuccess", "Data", "ValidationErrors", "Name", "Error", "Message", "ErrorMessage"]  # fmt: skip
VALUES = ["Paid", "Succss", "January 13, 2026", "00:15", "2.500 KD", "1", "-1", "1e400", "9" * 40, "Key", "true"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=8),
    max_leaves=30,
)


@given(ANYTHING)
def test_no_answer_however_odd_breaks_the_reading(anything: Any) -> None:
    """Design, habit 7: what they send is text from outside; only a fault of ours ever leaves."""
    odd = wire.parsed(json_of(anything))
    for one in (odd, {"InvoiceId": "7", **(odd if isinstance(odd, dict) else {"InvoiceTransactions": odd})}):
        found = invoices.status(one)
        assert found is None or found.state in ("pending", "paid", "canceled")
        invoices.methods(one), invoices.refunds(one), invoices.refund_made(one)


@given(st.binary(max_size=200) | ANYTHING.map(lambda one: json_of(one)), st.integers(200, 599), st.booleans())
def test_no_envelope_however_odd_is_more_than_a_fault(body: bytes, status: int, acts: bool) -> None:
    """Facts, 2: never parse JSON unguarded."""
    with contextlib.suppress(PaymentsError):
        data(Asked("GetPaymentStatus", acts=acts, seeks=True), status, body, "soon")
        assert status < 300


def json_of(value: Any) -> bytes:
    return json.dumps(value).encode()
