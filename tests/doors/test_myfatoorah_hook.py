"""The payment provider's webhook: whatever it says, it makes us ask, and only what is rightly signed does that."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import LedgerEntry
from portal.services import reconciliation, tunables
from portal.services.payments import merchant, notices
from sandbox.myfatoorah.signing import signature, signed, string_v2
from sandbox.process import MYFATOORAH_SECRET, SandboxProcess
from tests.doors.shop import SERVER, Shop
from tests.fail2ban.waiting import eventually
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb

PACK = 5_000_000
"""Milli-credits of what is bought here."""


def second(**changed: Any) -> dict[str, Any]:
    """A V2 body of a payment."""
    data = {"invoice": "7000001", "reference": "topup-42", "status": "SUCCESS", **changed}
    return {
        "Event": {"Code": data.get("code", 1), "Name": "PAYMENT_STATUS_CHANGED", "Reference": "WH-000001"},
        "Data": {
            "Invoice": {"Id": data["invoice"], "Status": "PAID", "ExternalIdentifier": data["reference"]},
            "Transaction": {"Status": data["status"], "PaymentId": "07077000001400000175"},
        },
    }


def by_us(body: dict[str, Any], version: str = "v2") -> tuple[bytes, dict[str, str]]:
    """Rightly signed."""
    raw = json.dumps(body, ensure_ascii=False).encode()
    return raw, {"MyFatoorah-Signature": signed(version, body, MYFATOORAH_SECRET)}


def refused(shop: Shop, body: bytes, headers: dict[str, str]) -> None:
    """401 in the hook's dialect, without a row and without a question."""
    before = shop.asked()
    with shop.without_a_row():
        answer = shop.post(body, headers)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "invalid_token")
    assert shop.asked() == before


# --- who is believed ------------------------------------------------------------------------------------------------


def test_the_door_is_shut_without_a_secret(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess) -> None:
    """PAY-02, never-again "empty secret": 503, also for what is signed with the empty one."""
    shop = Shop(make_app, sqlite_url, sandbox, MYFATOORAH_WEBHOOK_SECRET="")
    payment = shop.begin()
    shop.pay(payment)
    body, headers = shop.latest()
    empty = {"MyFatoorah-Signature": signed("v2", json.loads(body), "")}
    before = shop.asked()
    with shop.without_a_row():
        for given in (headers, empty, {}):
            answer = shop.post(body, given)
            assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "service_unavailable")
    assert (shop.asked(), shop.row(payment).state) == (before, "pending")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_is_not_signed_with_our_secret_changes_nothing(shop: Shop, version: str) -> None:
    """PAY-02, never-again "accepted without signature": unsigned, another secret, another body, cut, of another
    encoding; no row is read, the provider is not asked."""
    shop.sandbox.control(server=SERVER, webhook_version=version)
    payment = shop.begin()
    shop.pay(payment)
    body, headers = shop.latest()
    right = headers["MyFatoorah-Signature"]
    said = json.loads(body)
    theirs = signed(version, said, "not-the-secret")
    for wrong in ("", " ", theirs, right[:-1], right + "=", right.lower(), f"sha256={right}", "\xe9" * 44, "=" * 44):
        refused(shop, body, headers | {"MyFatoorah-Signature": wrong})
    refused(shop, body, {})
    changed = body.replace(b'"SUCCESS"', b'"FAILED"')
    assert changed != body
    refused(shop, changed, headers)
    refused(shop, body[:-1], headers)
    assert shop.row(payment).state == "pending"
    shop.tell()  # the same, as it was signed
    assert shop.row(payment).state == "paid"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"Event": {"Code": 1e400}}',
             b'{"EventType": 1, "Data": {"InvoiceId": {"a": 1}}}', b'{"EventType": 1, "Data": {"\\ud800": "\\udfff"}}',
             b'{"Event": {"Code": 99}, "Data": {}}', b'{"EventType": 1, "Data": null}'],
)  # fmt: skip
def test_garbage_is_refused_and_never_a_fault_of_ours(shop: Shop, body: bytes) -> None:
    """PAY-02: whoever knocks gets a 401, never a 500."""
    for given in ("", "A" * 44, signature("", MYFATOORAH_SECRET)):
        refused(shop, body, {"MyFatoorah-Signature": given})


def test_a_body_of_any_size_is_not_read(shop: Shop) -> None:
    """Never again: 2 MB in memory for a door that everybody can knock at."""
    with shop.without_a_row():
        answer = shop.post(b'{"x": "' + b"x" * 2_000_000 + b'"}', {"MyFatoorah-Signature": "A" * 44})
    assert answer.status_code == 413
    assert str(notices.LARGEST) in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_version_that_lies_convinces_nobody(shop: Shop, version: str) -> None:
    """PAY-02: the header says how it was signed, and what was signed otherwise is not signed. Without one, or with one
    that nobody knows, the body tells."""
    shop.sandbox.control(server=SERVER, webhook_version=version)
    payment = shop.begin()
    shop.pay(payment)
    body, headers = shop.latest()
    assert headers.pop("MyFatoorah-Webhook-Version") == version
    refused(shop, body, headers | {"MyFatoorah-Webhook-Version": {"v1": "v2", "v2": "V1 "}[version]})
    assert shop.post(body, headers | {"MyFatoorah-Webhook-Version": "v9"}).status_code == 200
    assert shop.row(payment).state == "paid"
    assert shop.post(body, headers).status_code == 200


def test_refusals_are_told_to_staff_now_and_then_and_shut_nobody_out(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A secret mistyped on either side: an error in the log, not one a call, and no line that fail2ban counts, which
    would ban the provider's own servers."""
    counted = tmp_path / "app" / "logs" / "auth.log"
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            refused(shop, b"{}", {"MyFatoorah-Signature": "A" * 44})
            refused(shop, b"{}", {})
        told = [one for one in caplog.records if one.levelno >= logging.ERROR]
        assert [(one.name, one.__dict__["fault"]) for one in told] == [("portal.payments", "signed otherwise")]
        assert counted.read_text() == ""
        last, silent = shop.app.extensions["refused notices"]
        shop.app.extensions["refused notices"] = last - notices.TOLD_EVERY, silent
        refused(shop, b"{}", {})
    told = [one for one in caplog.records if one.levelno >= logging.ERROR][1:]
    assert [(one.__dict__["fault"], one.__dict__["before"]) for one in told] == [("no signature", 9)]


# --- what is believed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_signed_notice_alone_credits_once_however_it_is_written(any_shop: Shop, version: str) -> None:
    """TOP-02, PAY-02, on every database: fields in another order, null fields, an Arabic name, from a spelling of the
    header that proxies like. Told again, it answers 200, and the provider is not even asked."""
    shop = any_shop
    shop.sandbox.control(server=SERVER, webhook_version=version, webhook_reordered=True, webhook_nulls=True)
    before = shop.balance()
    payment = shop.begin()
    shop.pay(payment)
    body, headers = shop.latest()
    lower = {name.lower(): value for name, value in headers.items()}
    assert shop.post(body, lower).get_json() == {}
    assert (shop.row(payment).state, shop.balance()) == ("paid", before + PACK)
    asked = shop.asked()
    shop.let_time_pass(payment)
    for _ in range(3):
        assert shop.post(body, headers).status_code == 200
    assert (shop.asked(), shop.balance()) == (asked, before + PACK)


def test_names_and_signs_of_any_script_are_signed_and_looked_for(any_shop: Shop) -> None:
    """PAY-02, on every database: a reference of another shop of the same merchant may be in Arabic, or longer than any
    of ours; a name with commas and signs of four bytes is a part of what V1 signs."""
    shop = any_shop
    for reference in ("طلب-٤٢", "🧾" * 60, "x" * 400, "' or 1=1 --", "%", "", None):
        answer = shop.post(*by_us(second(invoice="7000001", reference=reference)))
        assert (answer.status_code, answer.get_json()) == (200, {})
    payment = shop.begin()
    shop.pay(payment)
    data = {
        "InvoiceId": int(shop.row(payment).invoice), "CustomerReference": payment, "TransactionStatus": "SUCCESS",
        "CustomerName": "فاطمة, الصباح=🌴\tx", "CustomerEmail": None, "InvoiceValueInBaseCurrency": "2",
    }  # fmt: skip
    answer = shop.post(*by_us({"EventType": 1, "Event": "TransactionsStatusChanged", "Data": data}, "v1"))
    assert (answer.status_code, shop.row(payment).state) == (200, "paid")


def test_paid_by_its_word_and_pending_by_the_providers_is_no_credit(shop: Shop) -> None:
    """Never-again "rightly signed but the provider says Pending": asked, and nothing is credited."""
    payment, before = shop.begin(), shop.balance()
    body, headers = by_us(second(invoice=shop.row(payment).invoice, reference=payment))
    assert shop.post(body, headers).get_json() == {}
    assert (shop.asked(), shop.row(payment).state, shop.balance()) == (1, "pending", before)
    assert shop.row(payment).due_at is not None


def test_a_failure_told_after_the_money_came_undoes_nothing(shop: Shop) -> None:
    """PAY-01: SUCCESS, then FAILED of another attempt, both rightly signed."""
    payment = shop.bought()
    balance, asked = shop.balance(), shop.asked()
    failed = second(invoice=shop.row(payment).invoice, reference=payment, status="FAILED")
    assert shop.post(*by_us(failed)).status_code == 200
    assert (shop.row(payment).state, shop.balance(), shop.asked()) == ("paid", balance, asked)


def test_what_is_not_ours_is_taken_and_asks_nobody(shop: Shop) -> None:
    """PAY-02: another shop's invoice, other events, what names nothing: 200, or it would be repeated; nothing asked."""
    payment = shop.begin()
    bodies: list[dict[str, Any]] = [second(), second(invoice="", reference=None), second(invoice=None, reference=" ")]
    for body in bodies:
        assert shop.post(*by_us(body)).get_json() == {}
    other_events: list[tuple[str, str, dict[str, Any]]] = [
        ("v2", "Deposit.Reference=2026000002,Deposit.ValueInBaseCurrency=150.25,Deposit.NumberOfTransactions=7",
         {"Event": {"Code": 3}, "Data": {"Deposit": {"Reference": "2026000002", "ValueInBaseCurrency": "150.25",
                                                     "NumberOfTransactions": "7"}}}),
        ("v2", "Supplier.Code=5,RequestStatus.Status=",
         {"Event": {"Code": 7}, "Data": {"Supplier": {"Code": 5}, "RequestStatus": None}}),
        ("v1", "DepositedAmount=150.25,DepositFor=VENDOR,DepositReference=2026000002,SupplierCode=",
         {"EventType": 3, "Data": {"DepositReference": "2026000002", "DepositFor": "VENDOR", "SupplierCode": None,
                                   "DepositedAmount": "150.25"}}),
    ]  # fmt: skip
    for version, string, body in other_events:
        headers = {
            "MyFatoorah-Signature": signature(string, MYFATOORAH_SECRET), "MyFatoorah-Webhook-Version": version,
        }  # fmt: skip
        assert shop.post(json.dumps(body).encode(), headers).get_json() == {}
    assert (shop.asked(), shop.row(payment).asks) == (0, 0)


def test_another_orders_invoice_with_our_reference_asks_about_ours(shop: Shop) -> None:
    """PAY-01: a signed event of an invoice that was paid elsewhere names our reference: we ask by our own invoice."""
    mine, before = shop.begin(), shop.balance()
    stranger = shop.begin("pack-15000", person=shop.cast.zaid)
    shop.pay(stranger)
    body = second(invoice="9999999", reference=mine)
    assert shop.post(*by_us(body)).status_code == 200
    assert (
        shop.sandbox.requests(path="/v2/GetPaymentStatus", server=SERVER)[-1]["body"]["Key"] == shop.row(mine).invoice
    )
    assert (shop.row(mine).state, shop.row(stranger).state, shop.balance()) == ("pending", "pending", before)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_notice_of_a_refund_books_it_once(shop: Shop, version: str) -> None:
    """Issue 5 part 6: filed, then confirmed by the provider's word about it; told twice, it is taken back once."""
    shop.sandbox.control(server=SERVER, webhook_version=version)
    payment = shop.bought()
    refund, before = shop.given_back(payment, 1_000), shop.balance()
    assert shop.refund(refund).state == "filed"
    shop.sandbox.settle_refund(refund)
    shop.tell()
    assert (shop.refund(refund).state, shop.balance()) == ("done", before - PACK // 2)
    asked = shop.asked("GetRefundStatus")
    shop.tell()
    assert (shop.asked("GetRefundStatus"), shop.balance()) == (asked, before - PACK // 2)


def test_a_signed_refund_that_the_provider_has_not_made_is_not_booked(shop: Shop) -> None:
    """Issue 5 part 6: its word is a hint there too."""
    payment = shop.bought()
    refund, before = shop.given_back(payment, 1_000), shop.balance()
    data = {"Refund": {"Id": "1", "Status": "REFUNDED"}, "Amount": {"ValueInBaseCurrency": "1"},
            "ReferencedInvoice": {"Id": shop.row(payment).invoice}}  # fmt: skip
    headers = {"MyFatoorah-Signature": signature(string_v2(2, data), MYFATOORAH_SECRET)}
    assert shop.post(json.dumps({"Event": {"Code": 2}, "Data": data}).encode(), headers).status_code == 200
    assert (shop.refund(refund).state, shop.balance()) == ("filed", before)


# --- what goes wrong meanwhile --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "403_html", "empty", "401_empty", "429_retry_after", "reset_before"])
def test_a_provider_that_can_not_be_asked_now_is_asked_again(shop: Shop, fault: str) -> None:
    """PAY-03: the notice is taken, since repeating it would help nobody; the payment is due soon, and the sweep finds
    the money."""
    payment, before = shop.begin(), shop.balance()
    shop.pay(payment)
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=fault, times=1, retry_after_s=1)
    shop.tell()
    row = shop.row(payment)
    assert (row.state, row.asks, shop.balance()) == ("pending", 1, before)
    assert row.due_at is not None and (row.due_at - row.asked_at).total_seconds() < 65

    def found() -> bool:
        shop.let_time_pass(payment)
        with shop.app.app_context():
            reconciliation.ask_due()
        return bool(shop.row(payment).state == "paid")

    eventually(found, "the sweep finds it, after the second of rest that the provider asked for")
    assert shop.balance() == before + PACK


def test_what_the_rate_limit_keeps_back_is_due_soon(shop: Shop) -> None:
    """Part 4, respect for the status call's limit: not asked, and due within half a minute."""
    payment = shop.begin()
    shop.pay(payment)
    with shop.app.app_context():
        tunables.put("status_calls_a_minute", "1")
        merchant.may_ask()
    shop.tell()
    row = shop.row(payment)
    assert (shop.asked(), row.state) == (0, "pending")
    assert (row.due_at - row.asked_at).total_seconds() <= 30


def test_a_secret_without_a_key_is_no_reason_to_repeat(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """PAY-02: an operator took the key away; a repetition would change nothing. With it back, the sweep finds it."""
    open_shop = Shop(make_app, sqlite_url, sandbox)
    refund, payment = open_shop.given_back(open_shop.bought(), 1_000), open_shop.begin("pack-15000")
    open_shop.pay(payment)
    sandbox.settle_refund(refund)
    closed = Shop(make_app, sqlite_url, sandbox, MYFATOORAH_API_KEY="")
    before = open_shop.asked()
    for event in sandbox.webhooks():
        answer = closed.post(json.dumps(event["body"]).encode(), event["headers"])
        assert (answer.status_code, answer.get_json()) == (200, {})
    assert open_shop.asked() == before
    assert (open_shop.row(payment).state, open_shop.refund(refund).state) == ("pending", "filed")
    open_shop.let_time_pass(payment)
    with open_shop.app.app_context():
        reconciliation.ask_due()
    assert open_shop.row(payment).state == "paid"


def test_a_database_that_is_away_is_told_again(shop: Shop) -> None:
    """TOP-02: 5xx, so that the provider repeats it; then it counts, once."""
    payment, before = shop.begin(), shop.balance()
    shop.pay(payment)
    body, headers = shop.latest()

    def away(*_: object) -> None:
        raise sa.exc.OperationalError("select 1", None, Exception("server has gone away"))

    with shop.app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", away)
    assert shop.post(body, headers).status_code >= 500
    sa.event.remove(engine, "before_cursor_execute", away)
    assert shop.post(body, headers).status_code == 200
    assert (shop.row(payment).state, shop.balance()) == ("paid", before + PACK)


# --- over the wire --------------------------------------------------------------------------------------------------


def test_the_sandboxs_webhooks_reach_the_portal(
    make_app: MakeApp, start_web: StartWeb, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """TOP-02, end to end: the provider posts to a gunicorn, V2 and V1, each twice; one credit each."""
    keys = {
        "MYFATOORAH_BASE_URL": sandbox.myfatoorah_url, "MYFATOORAH_API_KEY": "sandbox",
        "MYFATOORAH_WEBHOOK_SECRET": MYFATOORAH_SECRET,
    }  # fmt: skip
    web = start_web(sqlite_url, **keys)
    shop = Shop(make_app, sqlite_url, sandbox, BASE_URL=web.url)  # each invoice says where to tell of it
    before, bought = shop.balance(), []
    for version, item in (("v2", "pack-5000"), ("v1", "pack-15000")):
        sandbox.control(server=SERVER, webhook_timing="together", webhook_copies=2, webhook_version=version)
        bought.append(shop.begin(item))
        shop.pay(bought[-1])
    eventually(lambda: sandbox.counters(server=SERVER)["webhook_pending"] == 0, "all is told")
    counters = sandbox.counters(server=SERVER)
    assert (counters["webhook_posts"], counters["webhook_refused"]) == (4, 0)
    assert [shop.row(payment).state for payment in bought] == ["paid", "paid"]
    assert shop.balance() == before + PACK + 15_000_000
    with shop.app.app_context():
        credited = db.session.scalars(sa.select(LedgerEntry.reference).where(LedgerEntry.kind == "topup")).all()
    assert sorted(credited) == sorted(bought)
    assert web.errors() == []
