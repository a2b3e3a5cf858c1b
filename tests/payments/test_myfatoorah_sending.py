"""What leaves for MyFatoorah: each of its rules kept before it is sent, and every digit of every amount."""

import datetime as dt
from typing import Any

import pytest

from portal.providers.payments import Method, Opened, Order, PaymentProvider
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.providers.payments.orders import execute_payment, mobile_of, name_of
from tests.payments.provider import KEY, ORDER, REFERENCE, fault_of, providing, success

OPENED: dict[str, Any] = {"InvoiceId": 7000001, "IsDirectPayment": False, "PaymentURL": "https://demo.MyFatoorah.com/En/KWT/x?k=1",
          "CustomerReference": REFERENCE, "RecurringId": ""}  # fmt: skip
NOON = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)


def sent(order: Order = ORDER) -> dict[str, Any]:
    with providing(success(OPENED)) as provider:
        provider.client().open(order)
        [asked] = provider.heard
        body: dict[str, Any] = asked.body
        return body


def test_an_order_is_sent_whole() -> None:
    """PAY-01, facts, section 4."""
    client: PaymentProvider
    with providing(success(OPENED)) as provider:
        client = provider.client()
        assert client.open(ORDER) == Opened("7000001", OPENED["PaymentURL"])
        [asked] = provider.heard
    assert (asked.method, asked.path) == ("POST", "/v2/ExecutePayment")
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {
        "PaymentMethodId": 1,
        "InvoiceValue": 2.5,
        "DisplayCurrencyIso": "KWD",
        "InvoiceItems": [{"ItemName": "5,000 credits", "Quantity": 1, "UnitPrice": 2.5}],
        "CustomerName": "عبدالله Al Sabah",
        "CustomerEmail": "abdullah@example.com",
        "MobileCountryCode": "+965",
        "CustomerMobile": "50001234",
        "CustomerReference": REFERENCE,
        "UserDefinedField": "CK-0197f0c2b7d37e95a08c4a1b2c3d4e60",
        "Language": "AR",
        "ExpiryDate": "2030-01-13T00:15:07",  # Kuwait's clock: the next day already
        "CallBackUrl": ORDER.callback,
        "ErrorUrl": ORDER.failure,
    }
    assert sent(ORDER._replace(webhook="https://portal.example.com/w"))["WebhookUrl"] == "https://portal.example.com/w"


@pytest.mark.parametrize(("fils", "written"), [
    (2500, b"2.500"), (10, b"0.010"), (4350, b"4.350"), (1_000_000, b"1000.000"), (12_345_670, b"12345.670"),
    (2**53 * 10, b"90071992547409.920"),
])  # fmt: skip
def test_amounts_leave_with_the_digits_they_have(fils: int, written: bytes) -> None:
    """Never again: three decimals lost, floats in totals. 4.35 is 4.3499999999999996 to a float's arithmetic."""
    with providing(success(OPENED)) as provider:
        provider.client().open(ORDER._replace(amount_fils=fils))
        provider.says(success({"RefundId": 1}))
        provider.answers.pop(0)
        provider.client().refund("7000001", fils, REFERENCE, "why")
    opened, refunded = provider.heard
    assert opened.raw.count(b'"InvoiceValue":' + written + b",") == 1
    assert opened.raw.count(b'"UnitPrice":' + written + b"}") == 1
    assert refunded.raw.count(b'"Amount":' + written + b",") == 1


@pytest.mark.parametrize("fils", [0, -10, 5, 2505, 2501, True, 2500.0, "2500", None])
def test_only_positive_multiples_of_ten_fils_are_paid(fils: Any) -> None:
    """SUB-01: 2.505 would be charged as 2.510, and never agree with what was sold."""
    client = MyFatoorah("http://127.0.0.1:9", KEY)
    with pytest.raises(ValueError, match="multiple of 10 fils"):
        client.open(ORDER._replace(amount_fils=fils))
    with pytest.raises(ValueError, match="multiple of 10 fils"):
        client.refund("7000001", fils, REFERENCE, "why")


@pytest.mark.parametrize(("phone", "country", "mobile"), [
    ("+96550001234", "+965", "50001234"),
    ("+966501234567", "+966", "501234567"),
    ("+12025550123", "+1", "2025550123"),
    ("+390612345678", "+39", "0612345678"),  # the zero is a part of Italian numbers
    ("+8613800138000", "+86", "13800138000"),
    ("+4915123456789012", None, None),  # 14 digits: longer than they take, and no reason to refuse a payment
    ("50001234", None, None),
    ("", None, None),
    ("+", None, None),
])  # fmt: skip
def test_a_mobile_is_split_or_left_out(phone: str, country: str | None, mobile: str | None) -> None:
    """Facts, 4 and 16.6: a number with its country code is longer than 11 characters, and the whole payment refused."""
    body = sent(ORDER._replace(phone=phone))
    assert (body["MobileCountryCode"], body["CustomerMobile"]) == (country, mobile)
    assert mobile_of("+٩٦٥٥٠٠٠١٢٣٤") == ("+965", "50001234")


@pytest.mark.parametrize(("name", "said"), [
    ("فاطمة الزهراء", "فاطمة الزهراء"),
    ("مُحَمَّد", "محمد"),
    ("Zoë O'Brien-Núñez", "Zoë OBrien Núñez"),
    ("<b>Ali</b>; DROP", "b Ali b DROP"),
    ("Ali\n\t 2", "Ali 2"),
    ("٣ أشخاص", "٣ أشخاص"),
    ("😀", ""),
    ("\ud800x", "x"),
    ("a" * 300, "a" * 100),
])  # fmt: skip
def test_a_name_is_letters_digits_and_spaces(name: str, said: str) -> None:
    """Facts, 4: nothing else survives there."""
    assert name_of(name) == said
    assert execute_payment(ORDER._replace(name=name))["CustomerName"] == (said or None)


def test_what_is_not_known_is_null_and_never_an_empty_text() -> None:
    """Facts, 4: "" is refused as an e-mail."""
    body = sent(ORDER._replace(name="", email="", phone="", user_field="", language="en"))
    empty = ("CustomerName", "CustomerEmail", "MobileCountryCode", "CustomerMobile", "UserDefinedField")
    assert [body[name] for name in empty] == [None] * 5
    assert (body["Language"], "WebhookUrl" in body) == ("EN", False)
    for odd in ("no address", "a@b", "آ@example.com", "a b@example.com"):
        assert execute_payment(ORDER._replace(email=odd))["CustomerEmail"] is None
    for item, said in (("<i>5,000</i> وحدة\n", "5,000 وحدة"), ("", REFERENCE), ("<>", REFERENCE)):
        [line] = execute_payment(ORDER._replace(item=item))["InvoiceItems"]
        assert line["ItemName"] == said


@pytest.mark.parametrize("wrong", [
    {"callback": "https://portal.example.com/" + "x" * 228},
    {"failure": "https://portal.example.com/" + "x" * 228},
    {"webhook": "https://portal.example.com/" + "x" * 228},
    {"callback": "/billing/return"},
    {"user_field": "CK-" + "x" * 48},
    {"user_field": "x" * 501},
    {"reference": ""},
])  # fmt: skip
def test_what_they_would_refuse_never_leaves(wrong: dict[str, str]) -> None:
    """Facts, 4: 254 characters of an address, 500 of a field, 50 of one that keeps cards."""
    with providing(success(OPENED)) as provider:
        fault = fault_of(lambda: provider.client().open(ORDER._replace(**wrong)))  # type: ignore[arg-type]
        assert (fault.permanent, fault.in_doubt) == (True, False)
        assert provider.heard == []
        at_the_limit = {name: value[:254] for name, value in wrong.items() if value.startswith("https")}
        provider.client().open(ORDER._replace(**at_the_limit))  # type: ignore[arg-type]


def test_an_instant_without_zone_is_a_mistake_of_ours() -> None:
    """Facts, 4: it would be read as Kuwait's clock, three hours off."""
    bare = dt.datetime(2026, 11, 21, 9, 0)  # noqa: DTZ001
    client = MyFatoorah("http://127.0.0.1:9", KEY)
    with pytest.raises(ValueError, match="zone"):
        client.open(ORDER._replace(expires_at=bare))
    with pytest.raises(ValueError, match="zone"):
        client.missed(bare, bare, 1)
    with pytest.raises(ValueError, match="an invoice or a reference"):
        client.status()


def test_every_other_call_is_asked_as_the_sheet_has_it() -> None:
    """Facts, 3, 7, 8, 9, 11."""
    token = "tok/+ &?=%"
    with providing(success({"PaymentMethods": []}), success({"InvoiceId": 7}), success({"InvoiceId": 7}),
                   success({"RefundId": 5}), success({"RefundStatusResult": []}), success({"Items": []}),
                   success(True), success({"Status": "SUCCESS"})) as provider:  # fmt: skip
        client = provider.client()
        assert client.methods() == ()
        client.status(invoice="0007")
        client.status(reference=REFERENCE)
        client.refund("7", 1500, REFERENCE, "He asked " + "x" * 400)
        assert client.refunds("7") == ()
        assert client.missed(NOON - dt.timedelta(hours=1), NOON.astimezone(dt.timezone(dt.timedelta(hours=3))), 2) == (
            (),
            False,
        )
        client.forget(token)
        client.charge(Opened("7", provider.url + "/v2/DirectPayment/x?y=1"), token)
    first, by_invoice, by_reference, refund, refunds, missed, forget, charge = provider.heard
    assert first.path == "/v2/InitiatePayment"
    assert first.raw == b'{"InvoiceAmount":1.000,"CurrencyIso":"KWD"}'
    assert by_invoice.body == {"Key": "0007", "KeyType": "InvoiceId"}
    assert by_reference.body == {"Key": REFERENCE, "KeyType": "CustomerReference"}
    assert refund.path == "/v2/MakeRefund"
    assert refund.body == {"KeyType": "InvoiceId", "Key": "7", "Amount": 1.5, "ServiceChargeOnCustomer": False,
                           "Comment": ("He asked " + "x" * 400)[:250], "ExternalIdentifier": REFERENCE}  # fmt: skip
    assert (refunds.path, refunds.body) == ("/v2/GetRefundStatus", {"KeyType": "InvoiceId", "Key": "7"})
    assert missed.path == "/v2/GetWebhooks"
    assert missed.body == {"Start": "2026-11-21T08:00:00Z", "End": "2026-11-21T09:00:00Z", "Page": 2}
    assert (forget.path, forget.raw) == ("/v2/CancelToken?token=tok%2F%2B+%26%3F%3D%25", b"")
    assert charge.path == "/v2/DirectPayment/x?y=1"
    assert charge.body == {"PaymentType": "token", "token": token, "Bypass3DS": True}


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/v2", "{}/v2/"])
def test_operators_configure_the_host_or_its_v2(form: str) -> None:
    """Facts, table of sources: a client package in use wants its address with /v2/."""
    with providing(success({"PaymentMethods": []})) as provider:
        MyFatoorah(form.format(provider.url), KEY).methods()
    assert provider.heard[0].path == "/v2/InitiatePayment"


@pytest.mark.parametrize("url", [
    "https://evil.example/x", "http://demo.myfatoorah.com/x", "https://demo.myfatoorah.com:8443/x",
    "https://myfatoorah.com.evil.example/", "https://evilmyfatoorah.com/", "https://demo.myfatoorah.com@evil.example/",
    "https://evil.example\\.myfatoorah.com/", "https://evil.example/.myfatoorah.com", "//demo.myfatoorah.com/x",
    "https://demo.myfatoorah.com%2eevil.example/", "ftp://demo.myfatoorah.com/", "https://[::1", "", "x", "https://",
    "https://demo.myfatoorah.com:0x/", "https://u:p@demo.myfatoorah.com/", "http://127.0.0.1:1/x",
    "https://demo.myfatoorah.com\n.evil.example/",
])  # fmt: skip
def test_a_card_goes_to_the_provider_and_nowhere_else(url: str) -> None:
    """OPS-03: the address is from an answer; whoever could change one would collect cards."""
    with providing(success({})) as provider:
        fault = fault_of(lambda: provider.client().charge(Opened("7", url), "the-token"))
        assert (fault.permanent, fault.in_doubt) == (True, False)
        assert "the-token" not in fault.reason
        assert provider.heard == []


def test_the_providers_own_hosts_may_have_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts, 4: the host is written with capitals, and is not the API's."""
    asked: list[str] = []
    client = MyFatoorah("https://api.myfatoorah.com", KEY)
    monkeypatch.setattr(client, "_call", lambda _, __, *, url: asked.append(url))
    for url in ("https://demo.MyFatoorah.com/En/KWT/x", "https://api.myfatoorah.com/v2/DirectPayment/1",
                "https://api.myfatoorah.com:443/x", "https://portal.myfatoorah.com/x"):  # fmt: skip
        client.charge(Opened("7", url), "the-token")
        assert asked.pop() == url
    fault_of(lambda: client.charge(Opened("7", "http://api.myfatoorah.com/x"), "the-token"))
    fault_of(lambda: client.charge(Opened("7", "https://api.myfatoorah.com/x"), ""))
    assert asked == []


def test_methods_come_in_their_order_with_their_codes() -> None:
    """Facts, 3: ids differ between accounts, codes do not."""
    listed = [
        {"PaymentMethodId": 11, "PaymentMethodAr": "أبل باي", "PaymentMethodEn": "Apple Pay", "PaymentMethodCode": "ap",
         "IsDirectPayment": False, "ServiceCharge": 0.1505, "TotalAmount": 1.1},
        {"PaymentMethodId": "1", "PaymentMethodAr": None, "PaymentMethodEn": "KNET", "PaymentMethodCode": "kn"},
        {"PaymentMethodId": 20, "PaymentMethodCode": "vm", "IsDirectPayment": True, "ServiceCharge": "0.100"},
        {"PaymentMethodId": 3}, {"PaymentMethodCode": "x"}, {"PaymentMethodId": -1, "PaymentMethodCode": "x"}, None,
    ]  # fmt: skip
    with providing(success({"PaymentMethods": listed})) as provider:
        assert provider.client().methods() == (
            Method(11, "ap", "أبل باي", "Apple Pay", False, 151),
            Method(1, "kn", "KNET", "KNET", False, 0),
            Method(20, "vm", "vm", "vm", True, 100),
        )
