"""Payments at the terminal: found by any id, asked about, let count, given back; and never a card's token."""

import datetime as dt
import re

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, Payment, PaymentEvent, Refund, User
from portal.services import ledger, payments, tunables
from sandbox.process import SandboxProcess
from tests.doors.shop import LONG_AGO, SERVER, Shop
from tests.doors.typing_at import refused, said, typed
from tests.services.portal_app import MakeApp

PACK = 5_000_000


def held(shop: Shop, **lie: object) -> str:
    """Money that came and does not count: the provider reports another amount."""
    payment = shop.begin()
    shop.pay(payment)
    shop.sandbox.control(server=SERVER, **(lie or {"status_value": "1.990"}))  # type: ignore[arg-type]
    assert shop.confirm(payment) == "held"
    return payment


def honest(shop: Shop) -> None:
    shop.sandbox.control(server=SERVER, status_value=None, status_currency="KD", status_reference=None)


def spend(shop: Shop, milli: int) -> None:
    with shop.app.app_context():
        ledger.adjust(shop.cast.layla.account_id, -milli, reference=f"spent:{milli}", actor="test", reason="spent")
        db.session.commit()


# --- what there is --------------------------------------------------------------------------------------------------


def test_payments_are_listed_and_found_by_any_id(any_shop: Shop) -> None:
    """ADMIN-05, on every database: by state and account, page by page; one of them by our id, the provider's invoice or
    its payment id; its trail with instants in Kuwait's time, its receipt, its refunds."""
    shop = any_shop
    other = shop.begin("pro", person=shop.cast.zaid)
    paid = shop.bought()
    everything = said(shop.app, "payments", "list")
    assert [line.split()[0] for line in everything.splitlines()] == [paid, other]
    assert f"{shop.cast.layla.email}  pack-5000  2.000 KWD  paid" in everything
    assert paid not in said(shop.app, "payments", "list", "--state", "pending")
    assert other not in said(shop.app, "payments", "list", "--account", shop.cast.layla.email)
    first = said(shop.app, "payments", "list", "--limit", "1")
    assert f"--before {paid}" in first
    assert other in said(shop.app, "payments", "list", "--before", paid)
    assert "There are none." in said(shop.app, "payments", "list", "--state", "held")

    shop.given_back(paid, 500)
    row = shop.row(paid)
    shown = said(shop.app, "payments", "show", paid)
    assert shown == said(shop.app, "payments", "show", row.invoice)
    assert shown == said(shop.app, "payments", "show", f" {row.provider_payment} ")
    kuwait = (row.paid_at + dt.timedelta(hours=3)).strftime("%Y-%m-%d %H:%M")
    assert f"paid {kuwait}" in shown
    trail = re.findall(r"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (\S+), by (\S+):", shown, re.M)
    assert trail == [
        ("opening", f"user:{shop.cast.layla.user_id}"), ("pending", "checkout"), ("paid", "sweep"),
        ("refund:waiting", "test"), ("refund:filed", "provider"),
    ]  # fmt: skip
    assert re.search(r"^receipt R-\d{4}-000001, ", shown, re.M)
    assert "0.500 KWD with 1,250.000 credits  filed" in shown
    assert "no payment nonsense" in refused(shop.app, "payments", "show", "nonsense")
    for nothing in ("", " "):
        assert "no payment" in refused(shop.app, "payments", "show", nothing)


def test_the_token_of_a_kept_card_is_shown_nowhere(shop: Shop) -> None:
    """SUB-22: masked numbers alone; the token charges the card for whoever has our key."""
    with shop.app.app_context():
        tunables.put("automatic_renewal", "1")
        account, user = (
            db.session.get_one(row, key)
            for row, key in ((Account, shop.cast.layla.account_id), (User, shop.cast.layla.user_id))
        )
        assert isinstance(account, Account)
        assert isinstance(user, User)
        payment = payments.begin(account, user, "pro", "vm", language="en", keep_card=True).id
    shop.pay(payment, keep_card=True)
    assert shop.confirm(payment) == "paid"
    with shop.app.app_context():
        token, number = db.session.execute(sa.text("select token, number from saved_cards")).one()
    shown = said(shop.app, "payments", "show", payment)
    assert number in shown
    assert "to be kept for renewals" in shown
    told = shown + "".join(said(shop.app, "payments", *words) for words in (["list"], ["refunds", payment]))
    assert token not in told


def test_what_waits_for_people_is_an_exit_code(shop: Shop) -> None:
    """Part 4, a staff list: held money, a payment long over that nobody answers about, a refund that sticks."""
    assert "Nothing waits" in said(shop.app, "payments", "attention")
    kept, silent = held(shop), shop.begin("pack-15000")
    honest(shop)
    refund = shop.given_back(shop.bought("pack-50000"), 1_000)
    with shop.app.app_context(), db.engine.begin() as connection:
        over = {"expires_at": LONG_AGO, "created_at": LONG_AGO, "due_at": LONG_AGO}
        connection.execute(sa.update(Payment).where(Payment.id == silent).values(**over))
        later = LONG_AGO + dt.timedelta(days=4)
        connection.execute(sa.update(Refund).where(Refund.id == refund).values(created_at=later))
    result = typed(shop.app, "payments", "attention")
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["unanswered", "refund", "held"]
    assert f"{kept}" in result.stdout
    assert "another amount was paid than was asked for" in result.stdout
    assert "payments release" in result.stdout


def test_the_ways_to_pay_are_a_check_of_the_connection(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """PAY-01: asked anew each time, not remembered; a wrong key, silence and a missing key are told, each in words."""
    shop = Shop(make_app, sqlite_url, sandbox)
    told = said(shop.app, "payments", "methods")
    assert told.startswith(f"{sandbox.myfatoorah_url} answers.\nkn ")
    assert "KNET · " in told
    assert "for kept cards, not shown to customers" in told
    assert "Webhooks come to http://127.0.0.1:8000/webhooks/myfatoorah" in told
    sandbox.control(server=SERVER, offered=["direct"])
    assert "customers can't pay" in said(shop.app, "payments", "methods")
    sandbox.control(server=SERVER, fault="401_empty")
    assert "key" in refused(shop.app, "payments", "methods")
    sandbox.control(server=SERVER, fault="reset_before")
    assert "Error: The payment provider" in refused(shop.app, "payments", "methods")
    keyless = Shop(make_app, sqlite_url, sandbox, MYFATOORAH_API_KEY="")
    assert "MYFATOORAH_API_KEY is not set" in refused(keyless.app, "payments", "methods")
    silent = Shop(make_app, sqlite_url, sandbox, MYFATOORAH_WEBHOOK_SECRET="")
    sandbox.control(server=SERVER, fault=None)
    assert "MYFATOORAH_WEBHOOK_SECRET is not set" in said(silent.app, "payments", "methods")


# --- what staff do --------------------------------------------------------------------------------------------------


def test_asking_by_hand_finds_the_money(shop: Shop) -> None:
    """PAY-03: what nobody told us; the trail says who asked. Still unpaid: when it is asked next."""
    payment, before = shop.begin(), shop.balance()
    assert "pending\nIt is asked about again at " in said(shop.app, "payments", "ask", payment)
    shop.pay(payment)
    shop.let_time_pass(payment)
    assert "  paid" in said(shop.app, "payments", "ask", shop.row(payment).invoice)
    assert shop.balance() == before + PACK
    with shop.app.app_context():
        sources = db.session.scalars(sa.select(PaymentEvent.source).where(PaymentEvent.what == "paid")).all()
    assert sources == ["console"]
    asked = shop.asked()
    assert "  paid" in said(shop.app, "payments", "ask", payment)
    assert shop.asked() == asked


def test_held_money_counts_when_staff_say_so_and_the_provider_still_does(shop: Shop) -> None:
    """PAY-01: the amount was another; asked once more; the credit of what was bought, once. An invoice of another order
    is never let count."""
    before = shop.balance()
    payment = held(shop)
    assert "another amount was paid" in said(shop.app, "payments", "show", payment)
    assert shop.balance() == before
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault="500")
    assert "Error: The payment provider" in refused(shop.app, "payments", "release", payment)
    assert shop.row(payment).state == "held"
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=None)
    assert "It is paid." in said(shop.app, "payments", "release", payment)
    assert shop.balance() == before + PACK
    assert "It is paid, not held. Nothing was changed." in refused(shop.app, "payments", "release", payment)
    honest(shop)
    strange = held(shop, status_reference="somebody-elses")
    assert "only be given back" in refused(shop.app, "payments", "release", strange)
    assert shop.balance() == before + PACK


def test_money_is_given_back_in_dinars_whole_or_in_part(shop: Shop) -> None:
    """Part 6: filed at once, booked at the provider's word; `all` is what is left; a typed amount is exact."""
    payment = shop.bought()
    balance = shop.balance()
    for wrong in ("2.0055", "x", "", "-1", "1,5", "0.005", "0"):
        assert "dinars" in refused(shop.app, "payments", "refund", "--reason", "r", "--", payment, wrong)
    assert "reason" in refused(shop.app, "payments", "refund", payment, "1")
    assert "reason" in refused(shop.app, "payments", "refund", payment, "1", "--reason", "  ")
    more = refused(shop.app, "payments", "refund", payment, "2.010", "--reason", "r")
    assert "Up to 2.000 KWD can be given back now, with 5,000.000 credits." in more
    assert shop.sandbox.refunds() == []

    told = said(shop.app, "payments", "refund", payment, "0.5", "--reason", "طلب العميل")
    assert "0.500 KWD with 1,250.000 credits  filed" in told
    assert "one at a time" in refused(shop.app, "payments", "refund", payment, "all", "--reason", "r")
    [filed] = shop.sandbox.refunds()
    shop.sandbox.settle_refund(filed["id"])
    shop.tell()
    assert shop.balance() == balance - 1_250_000
    told = said(shop.app, "payments", "refund", payment, "all", "--reason", "r")
    assert "1.500 KWD with 3,750.000 credits  filed" in told
    shown = said(shop.app, "payments", "refunds", payment)
    assert ("0.500 KWD with 1,250.000 credits  done" in shown, "طلب العميل; console" in shown) == (True, True)
    assert "Nothing of it can be given back now." in shown


def test_a_refusal_says_what_would_be_possible(shop: Shop) -> None:
    """Part 6, bounded by what is left to take back: the credit was spent; and what the provider refuses is told."""
    payment = shop.bought()
    spend(shop, shop.balance() - 2_001_000)
    told = refused(shop.app, "payments", "refund", payment, "all", "--reason", "r")
    assert "Up to 0.800 KWD can be given back now, with 2,000.000 credits." in told
    assert "Nothing was changed" in told
    shop.sandbox.next({"fault": "400"}, server=SERVER)
    told = refused(shop.app, "payments", "refund", payment, "0.8", "--reason", "r")
    assert ("  refused (" in told or "  refused: " in told, "the credit is free again" in told) == (True, True)
    assert "Up to 0.800 KWD" in said(shop.app, "payments", "refunds", payment)
    shop.sandbox.control(server=SERVER, refund_refusal="balance")
    told = said(shop.app, "payments", "refund", payment, "0.8", "--reason", "r")
    assert "waiting: our balance at the payment provider does not reach" in told
    assert "It is tried again by itself" in told
    pending = shop.begin("pack-15000")
    assert "It is pending, not paid" in refused(shop.app, "payments", "refund", pending, "all", "--reason", "r")


@pytest.mark.parametrize(
    ("amount", "words", "ends"),
    [("all", [], True), ("all", ["--keep-period"], False), ("1", [], False), ("1", ["--end-period"], True)],
)
def test_the_time_of_a_plan_goes_back_when_it_is_said(shop: Shop, amount: str, words: list[str], ends: bool) -> None:
    """Part 6: with a whole refund by itself, with a part only when staff say so."""
    payment = shop.bought("pro")
    told = said(shop.app, "payments", "refund", payment, amount, "--reason", "r", *words)
    assert ("and the period's time" in told) == ends


def test_held_money_is_given_back_whole(shop: Shop) -> None:
    """Part 3, held for staff: no credit was given, so none is taken."""
    payment, before = held(shop), shop.balance()
    assert "only be given back whole" in refused(shop.app, "payments", "refund", payment, "1", "--reason", "r")
    assert "1.990 KWD with 0.000 credits  filed" in said(
        shop.app, "payments", "refund", payment, "all", "--reason", "r"
    )
    assert "being given back" in refused(shop.app, "payments", "release", payment)
    shop.sandbox.settle_refund(shop.sandbox.refunds()[0]["id"])
    shop.tell()
    assert (shop.row(payment).state, shop.balance()) == ("returned", before)


def test_nothing_is_written_down_when_there_is_no_key(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """PAY-01: without a key a refund can't be filed; its credit is not put aside for that."""
    payment = Shop(make_app, sqlite_url, sandbox).bought()
    closed = Shop(make_app, sqlite_url, sandbox, MYFATOORAH_API_KEY="")
    for words in (["ask", payment], ["refund", payment, "all", "--reason", "r"]):
        assert "MYFATOORAH_API_KEY is not set" in refused(closed.app, "payments", *words)
    assert "There are none." in said(closed.app, "payments", "refunds", payment)


def test_what_is_over_does_not_come_back_onto_the_schedule(shop: Shop) -> None:
    """PAY-03: expired a month ago, asked about once more by hand or by a late webhook: still expired, and not asked
    about for ever. Money that came all the same counts."""
    payment, before = shop.begin(), shop.balance()
    shop.sandbox.control(server=SERVER, now=LONG_AGO.isoformat())
    shop.sandbox.expire_invoice(payment)
    shop.sandbox.control(server=SERVER, now=None)
    with shop.app.app_context(), db.engine.begin() as connection:
        over = {"state": "expired", "expires_at": LONG_AGO, "due_at": None}
        connection.execute(sa.update(Payment).where(Payment.id == payment).values(**over))
    assert "asked about again" not in said(shop.app, "payments", "ask", payment)
    assert (shop.asked(), shop.row(payment).state, shop.row(payment).due_at) == (1, "expired", None)
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault="500")
    shop.let_time_pass(payment)
    assert "asked about again" in said(shop.app, "payments", "ask", payment)  # no answer is no answer
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=None)
    shop.pay(payment, anyway=True)
    assert shop.confirm(payment) == "paid"
    assert shop.balance() == before + PACK
