"""What the simulated MyFatoorah tells the merchant: both versions, signed, lost, doubled, contradicting itself."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox.myfatoorah.signing import signature, signed, string_v1, string_v2
from sandbox.process import MYFATOORAH_SECRET, SandboxProcess
from tests.sandbox.myfatoorah import SERVER, api, data, opened
from tests.sandbox.whatsapp import Heard, Listener, listening, until

SECRET = "portal-demo-webhook-secret"
V2_PAID: dict[str, Any] = {
    "Invoice": {"Id": "7000001", "Status": "PAID", "ExternalIdentifier": "topup-42"},
    "Transaction": {"Status": "SUCCESS", "PaymentId": "07077000001400000175"},
}
V2_REFUND = {
    "Refund": {"Id": "90001", "Status": "REFUNDED"}, "Amount": {"ValueInBaseCurrency": "2.5"},
    "ReferencedInvoice": {"Id": "7000001"},
}  # fmt: skip
V1_PAID = {
    "InvoiceId": 7000001, "InvoiceReference": "2026000001", "CreatedDate": "21112026073000",
    "CustomerReference": "topup-42", "CustomerName": "مستخدم", "CustomerMobile": "96550000000", "CustomerEmail": None,
    "TransactionStatus": "SUCCESS", "PaymentMethod": "KNET", "UserDefinedField": None, "ReferenceId": "632500000001",
    "TrackId": "21-11-2026_4000001", "PaymentId": "100202632500000001", "AuthorizationId": "B00001",
    "InvoiceValueInBaseCurrency": "2.5", "BaseCurrency": "KWD", "InvoiceValueInDisplayCurreny": "2.5",
    "DisplayCurrency": "KWD", "InvoiceValueInPayCurrency": "2.5", "PayCurrency": "KWD",
}  # fmt: skip
V1_DEPOSIT = {
    "DepositReference": "2026000002", "DepositedAmount": "150.25", "NumberOfTransactions": "7", "DepositFor": "VENDOR",
    "SupplierCode": None,
}  # fmt: skip


@pytest.mark.parametrize(("string", "expected"), [
    (string_v2(1, V2_PAID), "xmtgQJ45TPb/I8gxxvw/wFn3VaFL11O+i1r5eGb6ubE="),
    (string_v2(1, {**V2_PAID, "Invoice": {**V2_PAID["Invoice"], "ExternalIdentifier": None}}),
     "wUzu0LljgsKxznizcoJiIqSrw7xK+YAtwVxApxhl+Q0="),
    (string_v2(2, V2_REFUND), "xqCQFTg/+eve4wQUlgusgJSzpHJfbL0uqh2R/B+YefE="),
    (string_v1(1, V1_PAID), "KiYO4btJmUPcHXCHaz3XL4ttM3YzEWtgwpfcKzU6918="),
    (string_v1(3, V1_DEPOSIT), "4V99sjMz9sUeC1bgeV8a5qCi/YR/aewIj+W49Wvsd3c="),
])  # fmt: skip
def test_the_sandbox_signs_as_the_fact_sheets_vectors_say(string: str, expected: str) -> None:
    """PAY-03: our own reading of the rules, Arabic raw, null as nothing, case ignored."""
    assert signature(string, SECRET) == expected


@pytest.fixture
def portal(sandbox: SandboxProcess) -> Iterator[Listener]:
    """A merchant's server that hears of everything."""
    with listening() as listener:
        sandbox.control(server=SERVER, webhook=listener.url)
        yield listener


def rightly_signed(heard: Heard, version: str, secret: str = MYFATOORAH_SECRET) -> bool:
    """Whether what arrived, parsed anew, has the signature of its header."""
    return heard.headers.get("myfatoorah-signature") == signed(version, heard.json, secret)


def test_a_payment_is_told_in_version_two(sandbox: SandboxProcess, portal: Listener) -> None:
    """PAY-03: ids and amounts as text, the reference as ExternalIdentifier, Arabic as it was written."""
    sandbox.control(server=SERVER, charges={"vm": "0.442"})
    invoice = opened(sandbox, PaymentMethodId=2)["InvoiceId"]
    sandbox.pay(invoice)
    heard = portal.wait(1)[0]
    assert heard.headers["myfatoorah-webhook-version"] == "v2"
    assert rightly_signed(heard, "v2")
    event, told = heard.json["Event"], heard.json["Data"]
    assert (event["Code"], event["Name"], event["Reference"][:3]) == (1, "PAYMENT_STATUS_CHANGED", "WH-")
    assert (told["Invoice"]["Id"], told["Invoice"]["Status"]) == (str(invoice), "PAID")
    assert (told["Invoice"]["ExternalIdentifier"], told["Transaction"]["Status"]) == ("ref-1", "SUCCESS")
    assert (told["Amount"]["ValueInBaseCurrency"], told["Amount"]["ValueInPayCurrency"]) == ("2.5", "2.95")
    assert "نورة الصباح".encode() in heard.raw


def test_a_payment_is_told_in_version_one_with_its_misspelling(sandbox: SandboxProcess, portal: Listener) -> None:
    """PAY-03: twenty fields, dates of Kuwait packed into digits."""
    sandbox.control(server=SERVER, webhook_version="v1")
    sandbox.pay(opened(sandbox)["InvoiceId"], "failed")
    heard = portal.wait(1)[0]
    assert rightly_signed(heard, "v1")
    told = heard.json["Data"]
    assert (heard.json["EventType"], heard.json["Event"]) == (1, "TransactionsStatusChanged")
    assert (len(told), told["TransactionStatus"], told["InvoiceValueInDisplayCurreny"]) == (20, "FAILED", "2.5")
    assert {type(value) for name, value in told.items() if name != "InvoiceId"} == {str, type(None)}
    assert len(heard.json["DateTime"]) == len(told["CreatedDate"]) == 14
    assert (told["CustomerMobile"], told["CustomerEmail"]) == ("96550000001", None)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_bodies_may_be_reordered_and_full_of_nulls_and_are_signed_all_the_same(
    sandbox: SandboxProcess, portal: Listener, version: str
) -> None:
    """PAY-03."""
    sandbox.control(server=SERVER, webhook_version=version)
    sandbox.pay(opened(sandbox)["InvoiceId"])
    sandbox.control(server=SERVER, webhook_reordered=True, webhook_nulls=True)
    sandbox.pay(opened(sandbox)["InvoiceId"])
    usual, other = portal.wait(2)
    assert list(other.json) == list(reversed(usual.json))
    assert rightly_signed(other, version)
    told = other.json["Data"]
    assert (told["CustomerReference"] if version == "v1" else told["Invoice"]["ExternalIdentifier"]) is None


def test_a_signature_can_be_wrong_or_missing(sandbox: SandboxProcess, portal: Listener) -> None:
    """PAY-03."""
    invoice = opened(sandbox)["InvoiceId"]
    for how in ("wrong", "none"):
        assert sandbox.send_webhook(invoice=invoice, signature=how) == [200]
    bad, none = portal.heard
    assert "myfatoorah-signature" in bad.headers
    assert not rightly_signed(bad, "v2")
    assert "myfatoorah-signature" not in none.headers


def test_a_webhook_comes_before_the_redirect_or_after_it_or_never(sandbox: SandboxProcess, portal: Listener) -> None:
    """PAY-03: and what was never posted can still be asked for, unless it never was."""
    sandbox.control(server=SERVER, webhook_timing="before")
    assert sandbox.pay(opened(sandbox)["InvoiceId"])
    assert len(portal.heard) == 1
    sandbox.control(server=SERVER, webhook_timing="after", webhook_after_ms=60)
    sandbox.pay(opened(sandbox)["InvoiceId"])
    assert len(portal.heard) == 1
    portal.wait(2)
    sandbox.control(server=SERVER, webhook_timing="none", redirect=False)
    assert sandbox.pay(opened(sandbox)["InvoiceId"]) == ""
    sandbox.control(server=SERVER, webhook_timing="never")
    sandbox.pay(opened(sandbox)["InvoiceId"])
    items = data(api(sandbox, "GetWebhooks", {"Page": 1}))["Items"]
    assert [item["Status"] for item in items] == ["Succeeded", "Succeeded", "Waiting"]
    assert len(portal.heard) == 2


@pytest.mark.parametrize(("knobs", "states"), [
    ({"webhook_copies": 3}, ["SUCCESS"] * 3),
    ({"webhook_events": "failed_then_success"}, ["FAILED", "SUCCESS"]),
    ({"webhook_events": "success_then_failed"}, ["SUCCESS", "FAILED"]),
    ({"webhook_copies": 2, "webhook_copies_are_events": True}, ["SUCCESS"] * 2),
])  # fmt: skip
def test_one_payment_can_be_told_more_than_once(
    sandbox: SandboxProcess, portal: Listener, knobs: dict[str, Any], states: list[str]
) -> None:
    """PAY-03: copies have one reference, events each their own; the order holds."""
    sandbox.control(server=SERVER, webhook_timing="before", **knobs)
    sandbox.pay(opened(sandbox)["InvoiceId"])
    assert [heard.json["Data"]["Transaction"]["Status"] for heard in portal.heard] == states
    references = {heard.json["Event"]["Reference"] for heard in portal.heard}
    assert len(references) == (1 if knobs == {"webhook_copies": 3} else 2)


def test_what_is_refused_is_posted_again_and_given_up_at_last(sandbox: SandboxProcess, portal: Listener) -> None:
    """PAY-03: the same body under the same reference, logged as attempts."""
    sandbox.control(server=SERVER, webhook_tries=3, webhook_gap_ms=10)
    portal.statuses[:] = [503, 500, 200]
    sandbox.pay(opened(sandbox)["InvoiceId"])
    heard = portal.wait(3)
    assert heard[0].raw == heard[2].raw
    portal.statuses[:] = [503] * 3
    sandbox.pay(opened(sandbox)["InvoiceId"])
    until(lambda: sandbox.counters(server=SERVER)["webhook_given_up"] == 1)
    log = data(api(sandbox, "GetWebhooks", {"Page": 1, "EventType": 1}))["Items"]
    assert [item["Status"] for item in log] == ["Succeeded", "Failed"]
    assert [attempt["Status"] for attempt in log[0]["Attempts"]] == ["Failed", "Failed", "Succeeded"]
    assert log[0]["Signature"] == heard[0].headers["myfatoorah-signature"]
    failed = data(api(sandbox, "GetWebhooks", {"Page": 1, "Status": "Failed"}))["Items"]
    assert [item["WebhookReference"] for item in failed] == [log[1]["WebhookReference"]]


def test_the_log_is_read_by_pages_times_and_keys(sandbox: SandboxProcess) -> None:
    """PAY-04: the sweep."""
    sandbox.control(server=SERVER, page_size=2, webhook_timing="none")
    for at in range(3):
        sandbox.pay(opened(sandbox, CustomerReference=f"ref-{at}")["InvoiceId"])

    def found(**asked: Any) -> list[str]:
        items = data(api(sandbox, "GetWebhooks", {"Page": 1, **asked}))["Items"]
        return [item["Data"]["Invoice"]["ExternalIdentifier"] for item in items]

    assert [found(), found(Page=2), found(Page=3)] == [["ref-0", "ref-1"], ["ref-2"], []]
    assert found(Key=["ref-1"], KeyType="CustomerReference") == ["ref-1"]
    now = datetime.now(UTC)
    for early, late, count in ((-60, 60, 2), (-60, -30, 0), (30, 60, 0)):
        start, end = (f"{now + timedelta(seconds=by):%Y-%m-%dT%H:%M:%SZ}" for by in (early, late))
        assert len(found(Start=start, End=end)) == count
    assert found(EventType="REFUND_STATUS_CHANGED") == []


def test_a_refund_is_told_when_it_is_decided(sandbox: SandboxProcess, portal: Listener) -> None:
    """PAY-05: its own invoice is not the one that was paid."""
    invoice = opened(sandbox)["InvoiceId"]
    sandbox.control(server=SERVER, webhook_timing="none")
    sandbox.pay(invoice)
    sandbox.control(server=SERVER, webhook_timing="before")
    for part, version in (("a", "v2"), ("b", "v1")):
        asked = {"KeyType": "InvoiceId", "Key": str(invoice), "Amount": 1, "ExternalIdentifier": part}
        data(api(sandbox, "MakeRefund", asked))
        sandbox.control(server=SERVER, webhook_version=version)
        sandbox.settle_refund(part, "refunded" if part == "a" else "canceled")
    two, one = portal.heard
    assert rightly_signed(two, "v2")
    assert rightly_signed(one, "v1"), "without GatewayReference"
    told = two.json["Data"]
    assert (told["Refund"]["Status"], told["Amount"]["ValueInBaseCurrency"]) == ("REFUNDED", "1")
    assert told["ReferencedInvoice"]["Id"] == str(invoice) != told["Refund"]["InvoiceId"]
    assert told["ReferencedInvoice"]["RemainingValueInBaseCurrency"] == "1.5"
    assert (one.json["Data"]["RefundStatus"], one.json["Data"]["InvoiceId"]) == ("CANCELED", str(invoice))
    assert "InvoiceRefernce" in one.json["Data"]


def test_an_order_may_name_its_own_address_and_a_test_may_tell_any_lie(
    sandbox: SandboxProcess, portal: Listener
) -> None:
    """PAY-03: replay of another payment's id, another amount, many times."""
    with listening() as own:
        invoice = opened(sandbox, WebhookUrl=own.url)["InvoiceId"]
        told = sandbox.send_webhook(
            invoice=invoice, state="SUCCESS", version="v1", times=2, payment="100", reference="other", value="9.000"
        )
        assert told == [200, 200]
        assert own.heard[0].raw == own.heard[1].raw
        lie = own.heard[0].json["Data"]
    assert (lie["PaymentId"], lie["CustomerReference"], lie["InvoiceValueInBaseCurrency"]) == ("100", "other", "9")
    assert portal.heard == []


def test_address_and_secret_of_the_command_line_hold_from_the_start_and_the_secret_is_not_shown(
    sandbox: SandboxProcess,
) -> None:
    """OPS-01: as make run starts it; without a secret nothing is signed."""
    with listening() as listener:
        for secret in ("another-secret", ""):
            with SandboxProcess(myfatoorah_webhook=listener.url, myfatoorah_secret=secret) as other:
                other.control(server=SERVER, webhook=None, webhook_timing="before")
                other.reset()
                other.send_webhook(invoice=opened(other)["InvoiceId"])
                assert secret == "" or secret not in json.dumps(other.state(server=SERVER))
        signed_one, bare = listener.wait(2)
    assert rightly_signed(signed_one, "v2", "another-secret")
    assert "myfatoorah-signature" not in bare.headers
