"""Money given back, asked for and then booked: bounded by what was paid and by the credit that is left. Of packs."""

import datetime as dt
import json

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies as st

from portal import clock
from portal.extensions import db
from portal.models import Account, Pack, Payment, Refund
from portal.services import events, ledger, payments, refunds
from portal.services.payments import NoSuchPayment, held
from portal.services.refunds import NotRefundable
from portal.tasks import payments as jobs
from sandbox.process import SandboxProcess
from tests.notifications.outside import customer
from tests.payments.world import SERVER, SETTINGS, World
from tests.services.portal_app import MakeApp

PACK, PAID = 5_000_000, 2_000
"""Milli-credits and fils of pack-5000."""


@pytest.fixture
def world(make_app: MakeApp, database_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """On each of the three databases."""
    return _world(make_app, database_url, sandbox, monkeypatch)


@pytest.fixture
def one(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """Where the database is all one."""
    return _world(make_app, sqlite_url, sandbox, monkeypatch)


def _world(make_app: MakeApp, url: str, sandbox: SandboxProcess, patch: pytest.MonkeyPatch) -> World:
    return World(make_app(url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS), sandbox, patch)


def ask(payment_id: str, fils: int, **more: bool) -> str:
    return refunds.request(payment_id, fils, reason="طلب العميل", actor="console", **more)


# --- two steps -------------------------------------------------------------------------------------------------------


def test_a_refund_is_asked_for_and_booked_when_it_was_made(world: World) -> None:
    """PAY-04, CRD-01, SUB-20: from the request on its credit is held; at the provider's word it is taken, with the
    credit note and the message; once, whoever asks again."""
    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pack-5000")
        refund = ask(payment.id, PAID)
        [there] = world.sandbox.refunds()
        assert (there["reference"], there["amount"], there["status"]) == (refund, "2.000", "Pending")
        row = world.refund(refund)
        assert (row.state, row.provider_refund, row.credits) == ("filed", str(there["id"]), PACK)
        assert (world.wallet(layla.account).balance, world.wallet(layla.account).held) == (PACK, PACK)
        assert (world.payment(payment.id).refunded_fils, world.papers("credit_note")) == (PAID, [])
        assert (world.entries(layla.account, "refund"), world.told("refund_made")) == ([], [])
        world.books_are_right()

        assert world.sweep(seconds=59) == 0
        assert world.sweep(seconds=2) == 1
        assert world.refund(refund).state == "filed"  # its staff have not come to it
        world.sandbox.settle_refund(refund)
        assert world.sweep(minutes=5) == 1
        for again in (world.sweep(days=2), refunds.carry_on(refund), jobs.read_missed_webhooks()):
            assert again in (0, "done")

        row = world.refund(refund)
        assert (row.state, row.open_of, row.due_at, row.lease_until) == ("done", None, None, None)
        assert (world.wallet(layla.account).balance, world.wallet(layla.account).held) == (0, 0)
        [entry] = world.entries(layla.account, "refund")
        assert (entry.amount, entry.reference, entry.actor) == (-PACK, refund, "console")
        assert world.papers("credit_note") == ["C-2026-000001"]
        [note] = world.told("refund_made")
        assert note.facts == {"amount": PAID, "credits": PACK, "balance": 0}
        assert world.asked("MakeRefund") == 1
        assert world.payment(payment.id).state == "paid"
        world.books_are_right()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_webhook_of_a_refund_is_enough(one: World, version: str) -> None:
    """PAY-03, PAY-04: their notice names the payment, we ask with the next sweep, and it is booked; told three times,
    it is booked once."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pack-5000")
        one.sandbox.control(server=SERVER, webhook_version=version, webhook_timing="none")
        refund = ask(payment.id, 500)
        one.sandbox.settle_refund(refund)
        told = one.sandbox.webhooks()[-1]
        assert told["code"] == 2
        for _ in range(3):
            body = json.dumps(told["body"]).encode()
            answer = one.app.test_client().post("/webhooks/myfatoorah", data=body, headers=told["headers"])
            assert answer.status_code == 200
        one.sweep(seconds=15)  # the schedule's own next question would be a minute after the request
        assert one.refund(refund).state == "done"
        assert len(one.entries(layla.account, "refund")) == len(one.told("refund_made")) == 1
        one.books_are_right()


def test_a_webhook_of_a_refund_that_nobody_heard_is_read_later(one: World) -> None:
    """PAY-03: also days before the schedule would ask again."""
    with one.app.app_context():
        payment = one.buy(customer().account, "pack-5000")
        refund = ask(payment.id, PAID)
        for _ in range(6):
            one.sweep(hours=7)
        one.sandbox.settle_refund(refund)
        one.on(minutes=5)
        assert jobs.read_missed_webhooks() >= 1
        one.sweep(seconds=15)
        assert one.refund(refund).state == "done"


# --- how much --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**12), st.lists(st.integers(1, 5_000), min_size=1, max_size=12))
def test_parts_are_together_the_whole_to_the_milli_credit(credits: int, parts: list[int]) -> None:
    """CRD-01: whatever the rounding of each, nothing is left over and nothing is taken twice."""
    payment = Payment(credits=credits, amount_fils=10 * sum(parts), refunded_fils=0)
    taken = []
    for part in parts:
        taken.append(refunds._credits(payment, 10 * part))
        payment.refunded_fils += 10 * part
    assert sum(taken) == credits
    assert all(one >= 0 for one in taken)


@given(st.integers(0, 10**9), st.integers(1, 500), st.integers(0, 500), st.integers(0, 10**9))
def test_what_can_be_given_back_is_all_that_the_credit_covers(credits: int, tens: int, gone: int, left: int) -> None:
    """PAY-04: what is told is covered, and ten fils more is not."""
    payment = Payment(credits=credits, amount_fils=10 * tens, refunded_fils=10 * (gone % (tens + 1)))
    rest = payment.amount_fils - payment.refunded_fils
    fils = refunds._covered(payment, rest, left)
    assert 0 <= fils <= rest
    assert fils % 10 == 0
    assert refunds._credits(payment, fils) <= left
    assert fils == rest or refunds._credits(payment, fils + 10) > left


def test_parts_that_follow_each_other_add_up_and_no_more_is_given_back(world: World) -> None:
    """PAY-04, SUB-20: one after the other, each with its credit note; after the last there is nothing left."""
    with world.app.app_context():
        db.session.add(Pack(id="odd", price_fils=1_230, credits=1_000_003))
        db.session.commit()
        layla = customer(credit=7)
        payment = world.buy(layla.account, "odd")
        for fils in (10, 420, 790, 10):
            with pytest.raises(NotRefundable, match="at most"):
                ask(payment.id, 1_240 - world.payment(payment.id).refunded_fils)
            refund = ask(payment.id, fils)
            with pytest.raises(NotRefundable, match="under way"):
                ask(payment.id, 10)
            world.sandbox.settle_refund(refund)
            assert world.sweep(minutes=1) == 1
            world.books_are_right()
        with pytest.raises(NotRefundable, match="at most 0 fils"):
            ask(payment.id, 10)
        taken = [row.credits for row in world.rows(Refund)]
        assert (sum(taken), world.wallet(layla.account).balance) == (1_000_003, 7)
        assert taken[0] == 1_000_003 * 10 // 1_230
        assert world.papers("credit_note") == [f"C-2026-00000{n}" for n in range(1, 5)]
        assert [note.facts["amount"] for note in world.told("refund_made")] == [10, 420, 790, 10]
        assert sum(float(one["amount"]) for one in world.sandbox.refunds()) == pytest.approx(1.23)


@pytest.mark.parametrize("fils", [0, -10, 5, 1_995])
def test_an_amount_that_is_none_is_refused(one: World, fils: int) -> None:
    """PAY-04: steps of ten fils, and more than nothing."""
    with one.app.app_context():
        payment = one.buy(customer().account, "pack-5000")
        with pytest.raises(ValueError, match="steps of 10"):
            ask(payment.id, fils)
        with pytest.raises(ValueError, match="reason"):
            refunds.request(payment.id, 10, reason="  ", actor="console")
        with pytest.raises(NoSuchPayment):
            ask("0" * 32, 10)
        assert one.rows(Refund) == []


def test_what_is_not_paid_is_not_given_back(one: World) -> None:
    """PAY-04: neither begun nor failed."""
    with one.app.app_context():
        payment = one.begin(customer().account, "pack-5000")
        with pytest.raises(NotRefundable, match="pending, not paid"):
            ask(payment.id, 10)
        one.sandbox.pay(payment.invoice or "", "failed")
        payments.confirm(payment.id, source="return")
        with pytest.raises(NotRefundable, match="failed, not paid"):
            ask(payment.id, 10)
        assert one.asked("MakeRefund") == 0


def test_spent_credit_is_told_with_what_is_possible(one: World) -> None:
    """PAY-04, CRD-01: what the customer has used is not given back, nor what another request holds at the moment."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pack-5000")
        ledger.adjust(layla.account, -3_000_000, reference="used", actor="test", reason="as if it was used")
        ledger.set_aside(layla.account, 999_000)
        db.session.commit()
        assert refunds.bounds(db.session.get_one(Payment, payment.id)) == (400, 1_000_000)
        db.session.rollback()
        with pytest.raises(NotRefundable, match="at most 400 fils"):
            ask(payment.id, 410)
        assert one.rows(Refund) == []
        refund = ask(payment.id, 400)
        ledger.release(layla.account, 999_000)
        db.session.commit()
        one.sandbox.settle_refund(refund)
        assert one.sweep(minutes=1) == 1
        assert one.wallet(layla.account).balance == 1_000_000
        one.books_are_right()


# --- not made --------------------------------------------------------------------------------------------------------


def test_a_refund_that_the_provider_did_not_carry_out_leaves_everything_as_it_was(world: World) -> None:
    """PAY-04, NOTIF-10: the credit is free, the payment can be refunded, staff are told once, the customer nothing."""
    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pack-5000")
        first = ask(payment.id, PAID)
        world.sandbox.settle_refund(first, "canceled")
        assert world.sweep(minutes=1) == 1
        assert refunds.carry_on(first) == "cancelled"
        assert (world.wallet(layla.account).balance, world.wallet(layla.account).held) == (PACK, 0)
        assert world.payment(payment.id).refunded_fils == 0
        assert (world.told("refund_made"), world.papers("credit_note")) == ([], [])
        assert [event.occasion for event in world.news(events.REFUND_FAILED)] == [first]
        world.follow_up()
        [note] = world.told("refund_failed")
        assert (note.facts["payment"], note.facts["amount"], note.facts["email"]) == (payment.id, PAID, layla.email)
        assert [(one.what, one.payment) for one in held.attention()] == [("refund", payment.id)]
        world.books_are_right()

        second = ask(payment.id, PAID)  # the one that was cancelled is not taken for this one
        assert world.refund(second).provider_refund != world.refund(first).provider_refund
        world.sandbox.settle_refund(second)
        assert world.sweep(minutes=1) == 1
        assert (world.refund(second).state, world.wallet(layla.account).balance) == ("done", 0)
        world.books_are_right()


def test_a_refund_that_the_provider_refuses_leaves_everything_as_it_was(one: World) -> None:
    """PAY-04, NOTIF-10."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pack-5000")
        one.fault("MakeRefund", "400")
        refund = ask(payment.id, 500)
        assert (one.refund(refund).state, one.refund(refund).open_of) == ("refused", None)
        assert "InvoiceValue" in one.refund(refund).error
        assert (one.wallet(layla.account).held, one.payment(payment.id).refunded_fils) == (0, 0)
        one.follow_up()
        assert len(one.told("refund_failed")) == 1
        assert one.sweep(days=1) == 0
        assert one.asked("MakeRefund") == 1
        one.books_are_right()


def test_our_balance_that_is_too_small_there_is_waited_for(one: World) -> None:
    """PAY-04: tomorrow's payments fill it: that is no refusal."""
    with one.app.app_context():
        payment = one.buy(customer().account, "pack-5000")
        one.sandbox.control(server=SERVER, refund_refusal="balance")
        refund = ask(payment.id, PAID)
        assert one.sweep(minutes=1) == 1
        assert (one.refund(refund).state, one.asked("MakeRefund")) == ("waiting", 2)
        assert "balance" in one.refund(refund).error
        one.sandbox.control(server=SERVER, refund_refusal=None)
        assert one.sweep(minutes=5) == 1
        assert one.refund(refund).state == "filed"


# --- held money ------------------------------------------------------------------------------------------------------


def held_payment(world: World, account_id: str) -> str:
    """Paid for an account that was suspended meanwhile."""
    payment = world.begin(account_id, "pack-5000")
    suspend(account_id, clock.utcnow())
    world.sandbox.pay(payment.invoice or "")
    assert payments.confirm(payment.id, source="return") == "held"
    return payment.id


def suspend(account_id: str, at: dt.datetime | None) -> None:
    db.session.execute(sa.update(Account).where(Account.id == account_id).values(suspended_at=at))
    db.session.commit()


def test_money_that_never_counted_goes_back_whole_and_leaves_no_trace_in_the_books(world: World) -> None:
    """PAY-04, PAY-02: no credit was given, none is taken; no sale, so no credit note; the payer is told."""
    with world.app.app_context():
        layla = customer()
        payment = held_payment(world, layla.account)
        with pytest.raises(NotRefundable, match="only be given back whole"):
            ask(payment, 500)
        refund = ask(payment, PAID)
        with pytest.raises(held.NotHeld, match="given back"):
            held.release(payment, actor="console")
        world.sandbox.settle_refund(refund)
        assert world.sweep(minutes=1) == 1
        assert (world.payment(payment).state, world.refund(refund).credits) == ("returned", 0)
        assert (world.entries(layla.account), world.papers("credit_note"), world.papers("receipt")) == ([], [], [])
        [note] = world.told("refund_made")
        assert note.facts == {"amount": PAID, "credits": 0, "balance": 0}
        suspend(layla.account, None)
        assert payments.confirm(payment, source="webhook") == "returned"
        world.books_are_right()


def test_held_money_that_is_being_given_back_does_not_count_meanwhile(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PAY-04: one of the staff lets it count while another gives it back: the customer had both."""
    with one.app.app_context():
        layla = customer()
        payment = held_payment(one, layla.account)
        asked = []

        def between(*what: object, **more: object) -> str:
            asked.append(ask(payment, PAID))
            return payments.settle(*what, **more)  # type: ignore[arg-type]

        monkeypatch.setattr("portal.services.payments.held.settle", between)
        assert held.release(payment, actor="console") == "held"
        assert one.wallet(layla.account).balance == 0
        one.sandbox.settle_refund(asked[0])
        assert one.sweep(minutes=1) == 1
        assert one.payment(payment).state == "returned"
        one.books_are_right()
