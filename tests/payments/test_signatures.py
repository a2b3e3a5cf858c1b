"""Webhooks' signatures, V1 and V2: the vectors of the fact sheet, and everything that must not pass for one."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from portal.providers.payments import Notice, wire
from portal.providers.payments.signatures import V2_SIGNED, BadSignature, NotANotice, notices, sign, verify

SECRET = "portal-demo-webhook-secret"

V2_PAYMENT: dict[str, Any] = {
    "Event": {"Code": 1, "Name": "PAYMENT_STATUS_CHANGED", "CountryIsoCode": "KWT",
              "CreationDate": "2026-11-21T04:30:00.0000000Z", "Reference": "WH-000001"},
    "Data": {"Invoice": {"Id": "7000001", "Status": "PAID", "ExternalIdentifier": "topup-42"},
             "Transaction": {"Status": "SUCCESS", "PaymentId": "07077000001400000175"}},
}  # fmt: skip
V2_NO_REFERENCE = {**V2_PAYMENT, "Data": {
    "Invoice": {"Id": "7000001", "Status": "PAID", "ExternalIdentifier": None},
    "Transaction": {"Status": "SUCCESS", "PaymentId": "07077000001400000175"},
}}  # fmt: skip
V2_REFUND: dict[str, Any] = {
    "Event": {"Code": 2, "Name": "REFUND_STATUS_CHANGED", "Reference": "WH-000002"},
    "Data": {"Refund": {"Id": "90001", "Status": "REFUNDED"}, "Amount": {"ValueInBaseCurrency": "2.5"},
             "ReferencedInvoice": {"Id": "7000001"}},
}  # fmt: skip
V1_DATA = {
    "InvoiceId": 7000001, "InvoiceReference": "2026000001", "CreatedDate": "21112026073000",
    "CustomerReference": "topup-42", "CustomerName": "مستخدم", "CustomerMobile": "96550000000", "CustomerEmail": None,
    "TransactionStatus": "SUCCESS", "PaymentMethod": "KNET", "UserDefinedField": None, "ReferenceId": "632500000001",
    "TrackId": "21-11-2026_4000001", "PaymentId": "100202632500000001", "AuthorizationId": "B00001",
    "InvoiceValueInBaseCurrency": "2.5", "BaseCurrency": "KWD", "InvoiceValueInDisplayCurreny": "2.5",
    "DisplayCurrency": "KWD", "InvoiceValueInPayCurrency": "2.5", "PayCurrency": "KWD",
}  # fmt: skip
V1_PAYMENT = {"EventType": 1, "Event": "TransactionsStatusChanged", "DateTime": "21112026073000",
              "CountryIsoCode": "KWT", "Data": V1_DATA}  # fmt: skip
V1_DEPOSIT = {"EventType": 3, "Event": "BalanceTransferred", "Data": {
    "DepositReference": "2026000002", "DepositedAmount": "150.25", "NumberOfTransactions": "7", "DepositFor": "VENDOR",
    "SupplierCode": None,
}}  # fmt: skip
VECTORS: dict[str, tuple[dict[str, Any], str]] = {
    "V2 payment": (V2_PAYMENT, "xmtgQJ45TPb/I8gxxvw/wFn3VaFL11O+i1r5eGb6ubE="),
    "V2 payment, no reference": (V2_NO_REFERENCE, "wUzu0LljgsKxznizcoJiIqSrw7xK+YAtwVxApxhl+Q0="),
    "V2 refund": (V2_REFUND, "xqCQFTg/+eve4wQUlgusgJSzpHJfbL0uqh2R/B+YefE="),
    "V1 payment": (V1_PAYMENT, "KiYO4btJmUPcHXCHaz3XL4ttM3YzEWtgwpfcKzU6918="),
    "V1 deposit": (V1_DEPOSIT, "4V99sjMz9sUeC1bgeV8a5qCi/YR/aewIj+W49Wvsd3c="),
}


def raw(body: Any, **how: Any) -> bytes:
    return json.dumps(body, **how).encode()


def backwards(value: Any) -> Any:
    """The same object with every key in the opposite order."""
    return {name: backwards(value[name]) for name in reversed(value)} if isinstance(value, dict) else value


def refused(body: Any, signature: str, secret: str = SECRET, version: str | None = None) -> None:
    with pytest.raises(BadSignature):
        verify(body if isinstance(body, bytes) else raw(body), signature, secret, version)


@pytest.mark.parametrize("name", VECTORS)
def test_every_vector_of_the_sheet_is_right(name: str) -> None:
    """PAY-02, facts, 14; also with the fields in another order, spaced, escaped or raw, and with its version told."""
    body, signature = VECTORS[name]
    version = name[:2].lower()
    notice = verify(raw(body), signature, SECRET, None)
    for told in (raw(backwards(body)), raw(body, ensure_ascii=False), raw(body, indent=4), b"\xef\xbb\xbf" + raw(body)):
        assert verify(told, signature, SECRET, version) == notice
    assert verify(raw(body), f" {signature} ", SECRET, version.upper()) == notice
    assert verify(raw(body), signature, SECRET, "v9") == notice  # a version that nobody knows: the body tells
    refused(body, signature, version="v1" if version == "v2" else "v2")


def test_a_notice_says_what_to_ask_about() -> None:
    """PAY-02: a hint and no more. A refund's notice is of the original invoice, not of the refund's own."""
    assert verify(raw(V2_PAYMENT), VECTORS["V2 payment"][1], SECRET, "v2") == Notice(
        "payment", "WH-000001", "7000001", "topup-42", "SUCCESS", "07077000001400000175"
    )
    v1 = verify(raw(V1_PAYMENT), VECTORS["V1 payment"][1], SECRET, "v1")
    assert v1._replace(key="") == Notice("payment", "", "7000001", "topup-42", "SUCCESS", "100202632500000001")
    own = {**V2_REFUND, "Data": {**V2_REFUND["Data"], "Refund": {"Id": "90001", "Status": "REFUNDED",
                                                                 "InvoiceId": "8888888"}}}  # fmt: skip
    assert verify(raw(own), VECTORS["V2 refund"][1], SECRET, "v2") == Notice(
        "refund", "WH-000002", "7000001", "", "REFUNDED", "90001"
    )
    assert verify(raw(V1_DEPOSIT), VECTORS["V1 deposit"][1], SECRET, None).kind == "BALANCE_TRANSFERRED"


def test_a_key_is_the_same_for_each_delivery_and_another_for_another_event() -> None:
    """PAY-02: V1 has no reference of its own; the same bytes sent again are the same event."""

    def key(**other: Any) -> str:
        body = {**V1_PAYMENT, "Data": {**V1_DATA, **other}}
        return verify(raw(body), v1_signature(body), SECRET, "v1").key

    again = {**V1_PAYMENT, "DateTime": "21112026073500"}
    assert key() == verify(raw(backwards(again)), VECTORS["V1 payment"][1], SECRET, "v1").key
    keys = [key(), key(TransactionStatus="FAILED"), key(PaymentId="100202632500000002")]
    assert len(set(keys)) == 3
    assert all(len(one) == 40 for one in keys)
    nameless = {**V2_PAYMENT, "Event": {"Code": 1}}
    assert len(verify(raw(nameless), VECTORS["V2 payment"][1], SECRET, "v2").key) == 40


def v1_signature(body: dict[str, Any], secret: str = SECRET) -> str:
    """Ours, for bodies without a vector: the plain rule, written once more."""
    texts = {name: "" if value is None else str(value) for name, value in body["Data"].items()}
    return sign(",".join(f"{name}={texts[name]}" for name in sorted(texts, key=str.upper)), secret)


@pytest.mark.parametrize("name", sorted(V1_DATA))
def test_no_field_of_v1_can_be_changed_added_or_left_out(name: str) -> None:
    """PAY-02: V1 signs all of them."""
    signature = VECTORS["V1 payment"][1]
    refused({**V1_PAYMENT, "Data": {**V1_DATA, name: "999"}}, signature)
    refused({**V1_PAYMENT, "Data": {**V1_DATA, name: "" if V1_DATA[name] else "x"}}, signature)
    refused({**V1_PAYMENT, "Data": {**V1_DATA, name + "x": "1"}}, signature)
    refused({**V1_PAYMENT, "Data": {one: V1_DATA[one] for one in V1_DATA if one != name}}, signature)
    for nested in ({"a": 1}, [V1_DATA[name]]):
        refused({**V1_PAYMENT, "Data": {**V1_DATA, name: nested}}, signature)


@pytest.mark.parametrize(("vector", "path"), [
    (vector, path) for vector, code in (("V2 payment", 1), ("V2 refund", 2)) for path in V2_SIGNED[code]
])  # fmt: skip
@pytest.mark.parametrize("other", ["999", "", None, 7, True, {"Id": "7000002"}, ["7000001"]])
def test_no_signed_field_of_v2_can_be_changed(vector: str, path: str, other: Any) -> None:
    """PAY-02; and another code's list of fields never fits."""
    body, signature = VECTORS[vector]
    part, field = path.split(".")
    tampered = json.loads(raw(body))
    tampered["Data"][part][field] = other
    refused(tampered, signature)
    tampered["Data"][part] = other
    refused(tampered, signature)
    for code in (0, 2 if body["Event"]["Code"] == 1 else 1, 6, 8, None, "x", 1.5, True):
        refused({**body, "Event": {**body["Event"], "Code": code}}, signature)


def test_amount_and_currency_are_unsigned_in_v2_and_so_no_notice_has_them() -> None:
    """PAY-02, facts, 14: whoever changes them is not found out; that is why the status is asked."""
    lie = json.loads(raw(V2_PAYMENT))
    lie["Data"]["Amount"] = {"DisplayCurrency": "KWD", "ValueInDisplayCurrency": "25000"}
    assert verify(raw(lie), VECTORS["V2 payment"][1], SECRET, "v2") == verify(
        raw(V2_PAYMENT), VECTORS["V2 payment"][1], SECRET, "v2"
    )
    assert not {"amount", "value", "currency"} & set(Notice._fields)


@pytest.mark.parametrize("signature", [
    "", " ", "xmtgQJ45TPb/I8gxxvw/wFn3VaFL11O+i1r5eGb6ub", "xmtgQJ45TPb/I8gxxvw/wFn3VaFL11O+i1r5eGb6ubE",
    "XMTGQJ45TPB/I8GXXVW/WFN3VAFL11O+I1R5EGB6UBE=", "xmtgQJ45TPb_I8gxxvw_wFn3VaFL11O-i1r5eGb6ubE=", "مفتاح", "\ud800",
    "KiYO4btJmUPcHXCHaz3XL4ttM3YzEWtgwpfcKzU6918=", "\x00" * 44, "x" * 100_000,
])  # fmt: skip
def test_any_other_signature_is_refused(signature: str) -> None:
    """PAY-02: unsigned, cut, in other letters, of another event, no text at all."""
    refused(V2_PAYMENT, signature)


def test_no_secret_trusts_nobody() -> None:
    """PAY-02, never again: "accepted with an empty secret". Anybody can sign with that one."""
    message = ("Invoice.Id=7000001,Invoice.Status=PAID,Transaction.Status=SUCCESS,"
               "Transaction.PaymentId=07077000001400000175,Invoice.ExternalIdentifier=topup-42")  # fmt: skip
    assert sign(message, SECRET) == VECTORS["V2 payment"][1]
    refused(V2_PAYMENT, sign(message, ""), secret="")
    refused(V2_PAYMENT, sign(message, "another"))
    base64_like = "cG9ydGFs"  # looks like base64, and is the key as it stands
    assert verify(raw(V2_PAYMENT), sign(message, base64_like), base64_like, None).invoice == "7000001"
    refused(V2_PAYMENT, sign(message, "portal"), secret=base64_like)


def test_numbers_are_signed_as_they_stand() -> None:
    """Facts, 14.2: 2.50 is not 2.5, and a long number keeps its digits."""
    body = (
        b'{"EventType": 1, "Data": {"InvoiceId": 70000010000000000000001, "b": 2.50, "A": true, "c": false, "D": 1E+2}}'
    )
    signature = sign("A=true,b=2.50,c=false,D=1E+2,InvoiceId=70000010000000000000001", SECRET)
    assert verify(body, signature, SECRET, None).invoice == "70000010000000000000001"
    refused(body.replace(b"2.50", b"2.5"), signature)
    refused(body.replace(b"true", b"null"), signature)


def test_the_two_unsigned_fields_of_v1_are_left_out() -> None:
    """Facts, 14: GatewayReference of a refund, KycFeedback of a supplier; nowhere else."""
    data = {"RefundId": 90001, "RefundStatus": "REFUNDED", "Amount": "2.5", "InvoiceId": "7000001"}
    signature = sign("Amount=2.5,InvoiceId=7000001,RefundId=90001,RefundStatus=REFUNDED", SECRET)
    body = {"EventType": 2, "Data": {**data, "GatewayReference": {"PaymentId": "1"}}}
    assert verify(raw(body), signature, SECRET, None)._replace(key="") == Notice(
        "refund", "", "7000001", "", "REFUNDED", "90001"
    )
    refused({"EventType": 1, "Data": body["Data"]}, signature)
    refused({"EventType": 2, "Data": {**data, "KycFeedback": {}}}, signature)
    supplier = {"EventType": 4, "Data": {"SupplierCode": 1, "KycFeedback": [{}]}}
    assert verify(raw(supplier), sign("SupplierCode=1", SECRET), SECRET, None).kind == "SUPPLIER_STATUS_CHANGED"


@pytest.mark.parametrize("data", [
    {}, {"Invoice": {"Id": None, "Status": "PAID"}}, {"Invoice": None}, {"Invoice": {"Id": "a b\n"}},
    {"InvoiceId": "7000001", "CustomerReference": "x"},
])  # fmt: skip
def test_rightly_signed_and_about_nothing_is_no_notice(data: dict[str, Any]) -> None:
    """PAY-02: there is nothing to ask about; a field that is not signed is not looked at instead."""
    invoice = data.get("Invoice") or {}
    message = (f"Invoice.Id={invoice.get('Id') or ''},Invoice.Status={invoice.get('Status') or ''},"
               "Transaction.Status=,Transaction.PaymentId=,Invoice.ExternalIdentifier=")  # fmt: skip
    with pytest.raises(NotANotice):
        verify(raw({"Event": {"Code": 1}, "Data": data}), sign(message, SECRET), SECRET, None)
    refused({"Event": {"Code": 1}, "Data": data}, sign(message, "another"))


NAMES = ["Event", "EventType", "Data", "Code", "Reference", "Invoice", "Id", "Status", "Transaction", "PaymentId",
         "ExternalIdentifier", "InvoiceId", "GatewayReference", "Refund", "ReferencedInvoice", "Amount"]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)
BODIES = st.fixed_dictionaries({"Data": ANYTHING}, optional={"EventType": st.integers(0, 9), "Event": ANYTHING})


@given(
    (ANYTHING | BODIES).map(raw) | st.binary(max_size=100), st.text(max_size=50), st.sampled_from([None, "v1", "v2"])
)
def test_no_body_however_odd_breaks_the_door(body: bytes, signature: str, version: str | None) -> None:
    """PAY-02: it is a public address."""
    refused(body, signature, version=version)


@given(BODIES, st.sampled_from(["v1", "v2"]))
def test_no_rightly_signed_body_is_more_than_a_notice(body: dict[str, Any], version: str) -> None:
    """PAY-02: half characters, nested values, numbers for names: a notice or none, never a crash."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("portal.providers.payments.signatures.hmac.compare_digest", lambda *_: True)
        try:
            assert isinstance(verify(raw(body), "", SECRET, version), Notice)
        except (BadSignature, NotANotice):
            pass
    listed = wire.parsed(raw([{"EventCode": 1, **body}, {"EventCode": 2, "WebhookReference": "WH-1", **body}]))
    assert all(one.key for one in notices(listed))


def test_listed_webhooks_of_both_versions_are_the_same_notices() -> None:
    """PAY-03, facts, 11: `Data` of either version, as an object or as text; the key is the webhook's own."""
    items = [
        {"EventCode": 1, "EventName": "PAYMENT_STATUS_CHANGED", "WebhookReference": "WH-000001",
         "Data": V2_PAYMENT["Data"], "Signature": "", "Status": "Failed", "Attempts": []},
        {"EventCode": "1", "WebhookReference": "WH-000001", "Data": raw(V2_PAYMENT).decode()},
        {"EventName": "RefundStatusChanged", "WebhookReference": "WH-000002", "Data": V2_REFUND["Data"]},
        {"EventCode": 1, "WebhookReference": "WH-77", "Data": V1_DATA},
        {"EventCode": 3, "EventName": "BALANCE_TRANSFERED", "Data": {}},
        {"EventCode": 1, "WebhookReference": "WH-5", "Data": None},
        {"EventCode": 1, "WebhookReference": "WH-6", "Data": "no json"},
        {"EventCode": 1, "Data": {"Invoice": {"Id": "7"}}},
        None, "x", {},
    ]  # fmt: skip
    payment = verify(raw(V2_PAYMENT), VECTORS["V2 payment"][1], SECRET, "v2")
    refund = verify(raw(V2_REFUND), VECTORS["V2 refund"][1], SECRET, "v2")
    bare = Notice("payment", "", "7", "", "")
    v1 = verify(raw(V1_PAYMENT), VECTORS["V1 payment"][1], SECRET, "v1")
    found = notices(wire.parsed(raw(items)))
    assert (*found[:4], found[4]._replace(key="")) == (payment, payment, refund, v1, bare)
    assert (len(found), len(found[4].key)) == (5, 40)
    assert notices(None) == notices({}) == ()
