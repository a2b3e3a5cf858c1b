"""The one room, whoever comes to it, in whatever order and with whatever news: credit exactly once, or not at all.

Real HTTP on all sides: the return page and the webhook through a gunicorn with two workers, the provider in the
sandbox; the sweep as the timetable runs it. The rows of all cases stay: the receipts' numbers run through them.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from portal import clock
from portal.errors import PaymentRefused, PaymentServiceAway
from portal.models import Account, Payment
from portal.services.payments import held, merchant
from tests.ledger.books import Threads
from tests.payments.shop import PACK, PLAN, SERVER, Customer, Shop

WAYS = ("return", "webhook", "sweep", "missed")
CROWD = 20


# --- who brings it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [PACK, PLAN])
@pytest.mark.parametrize("way", WAYS)
def test_whoever_brings_the_news_alone_credits(shop: Shop, way: str, item: str) -> None:
    """TOP-02, never-again "top-ups never credited": return page, webhook, sweep, the provider's list of webhooks."""
    layla = shop.customer()
    payment = shop.begin(layla, item)
    shop.news(way, layla, payment)
    shop.not_counted(layla, payment, "pending")
    shop.pay(payment)
    shop.news(way, layla, payment)
    shop.counted(layla, payment)


@pytest.mark.parametrize("order", list(itertools.permutations(WAYS[:3])), ids="-".join)
def test_in_any_order_and_twice_it_counts_once(shop: Shop, order: tuple[str, ...]) -> None:
    """TOP-02, PAY-01: the first one credits; afterwards the provider is not even asked."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    shop.news(order[0], layla, payment)
    shop.counted(layla, payment)
    asked = shop.asked()
    for way in (*order, *order):
        shop.news(way, layla, payment)
    shop.counted(layla, payment)
    assert shop.asked() == asked


@pytest.mark.parametrize("item", [PACK, PLAN])
def test_all_at_once_it_counts_once(shop: Shop, item: str) -> None:
    """TOP-02, CRD-01: twenty of the three kinds within a moment, and the provider is asked once for all of them."""
    layla = shop.customer()
    payment = shop.begin(layla, item)
    paid_by = shop.pay(payment)
    notice = shop.notice(payment)
    shop.hurry(payment)
    comers: tuple[Callable[[], object], ...] = (
        lambda: shop.come_back(layla, payment, paid_by).status, notice, lambda: shop.sweep() and 200,
    )  # fmt: skip
    told = Threads(*(comers[number % len(comers)] for number in range(CROWD))).wait(60)
    assert set(told) <= {200, 0}, told
    shop.counted(layla, payment)
    assert shop.asked() == 1


def test_a_delivered_webhook_may_come_again_for_ever(shop: Shop) -> None:
    """PAY-01, never-again "a second delivery answers 200 and changes nothing": the same one, five at once, twice."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    notice = shop.notice(payment)
    for _ in range(2):
        assert Threads(*[notice] * 5).wait() == [200] * 5
        shop.counted(layla, payment)


# --- what is told, and what is true -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_try_is_told_of_and_may_be_followed_by_the_money(shop: Shop, way: str) -> None:
    """PAY-01: FAILED, then SUCCESS on the same invoice. One message of the first, then the credit."""
    layla = shop.customer()
    payment = shop.begin(layla)
    for _ in range(2):
        shop.pay(payment, "failed", error_code="MF004")
        shop.news(way, layla, payment)
    shop.not_counted(layla, payment, "failed")
    assert (shop.payment(payment).reason, dict(shop.messages(layla))) == ("MF004", {"payment_failed": 1})
    shop.pay(payment)
    shop.news(way, layla, payment)
    shop.counted(layla, payment)
    assert shop.trail(payment) == ["opening", "pending", "failed", "paid"]


@pytest.mark.parametrize("way", WAYS)
def test_a_late_failure_undoes_nothing(shop: Shop, way: str) -> None:
    """PAY-01, paid is final: SUCCESS, then FAILED, in the status and in whatever tells of it."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    shop.news(way, layla, payment)
    shop.pay(payment, "failed", anyway=True)
    shop.news(way, layla, payment)
    shop.webhook(payment, state="FAILED", version="v1")
    shop.webhook(payment, state="CANCELED")
    shop.counted(layla, payment)
    assert "payment_failed" not in shop.messages(layla)


def test_a_failure_that_is_told_after_the_money_came_hides_it_from_nobody(shop: Shop) -> None:
    """PAY-01: the webhook says FAILED, the status says paid: only the status is believed."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    shop.pay(payment, "failed", anyway=True)
    shop.webhook(payment, state="FAILED")
    shop.counted(layla, payment)


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "less than was asked for": ({"status_value": "0.100"}, "amount"),
    "more than was asked for": ({"status_value": "2.010"}, "amount"),
    "another currency": ({"status_currency": "SR"}, "currency"),
    "another order": ({"status_reference": "0197f0c2b7d37e95a08c4a1b2c3d4e5f"}, "reference"),
    "another account": ({"status_user_field": "0197f0c2b7d37e95a08c4a1b2c3d4e60"}, "account"),
    "another account's kept card": ({"status_user_field": "CK-0197f0c2b7d37e95a08c4a1b2c3d4e60"}, "account"),
    "another invoice": ({"status_invoice": 7}, "reference"),
    "no reference at all": ({"status_nulls": True}, "reference"),
}


@pytest.mark.parametrize(("lie", "way"), list(zip(LIES, itertools.cycle(WAYS), strict=False)))
def test_money_that_is_not_what_was_asked_for_is_held(shop: Shop, way: str, lie: str) -> None:
    """PAY-01, never-again "a paid 0.100 KWD payment activated a 25 KWD pack": held for people, who hear of it once."""
    knobs, reason = LIES[lie]
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    shop.sandbox.control(server=SERVER, **knobs)
    for one in (way, *WAYS):
        shop.news(one, layla, payment)
    shop.not_counted(layla, payment, "held")
    row = shop.payment(payment)
    assert (row.reason, row.due_at, row.paid_at) == (reason, None, None)
    assert shop.staff_events(payment) == [{"payment": payment, "reason": reason}]
    assert shop.trail(payment) == ["opening", "pending", "held"]


@pytest.mark.parametrize("knobs", [{"status_value": "0.100"}, {"status_currency": "SR"}], ids=["amount", "currency"])
def test_twenty_who_bring_wrong_money_hold_it_once(shop: Shop, knobs: dict[str, Any]) -> None:
    """PAY-01: of a crowd, one holds it; staff hear of it once."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    shop.sandbox.control(server=SERVER, **knobs)
    notice = shop.notice(payment)
    comers = (notice, lambda: shop.come_back(layla, payment).status)
    assert set(Threads(*(comers[number % 2] for number in range(CROWD))).wait(60)) == {200}
    shop.not_counted(layla, payment, "held")
    assert len(shop.staff_events(payment)) == 1


# --- somebody else's money --------------------------------------------------------------------------------------------


def test_another_payments_id_on_my_return_page_brings_nothing(shop: Shop) -> None:
    """PAY-01, never-again "trust in one query parameter": what is asked about is my own invoice."""
    layla, omar = shop.customer(), shop.customer()
    mine, theirs = shop.begin(layla), shop.begin(omar)
    paid_by = shop.pay(theirs)
    shop.come_back(layla, mine, tried=paid_by)
    shop.not_counted(layla, mine, "pending")
    assert shop.come_back(layla, theirs, tried=paid_by).status == 404
    shop.not_counted(omar, theirs, "pending")
    shop.news("webhook", omar, theirs)
    shop.hurry()
    shop.come_back(layla, mine, tried=paid_by)
    shop.not_counted(layla, mine, "pending")
    shop.counted(omar, theirs)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_webhook_credits_nobody_it_merely_names(shop: Shop, version: str) -> None:
    """PAY-01: my reference on their paid invoice, their paid payment id on mine, an amount that nobody asked for."""
    layla, omar = shop.customer(), shop.customer()
    mine, theirs = shop.begin(layla), shop.begin(omar)
    paid_by = shop.pay(theirs)
    shop.webhook(mine, state="SUCCESS", reference=theirs, payment=paid_by, value="15.000", version=version)
    shop.not_counted(layla, mine, "pending")
    shop.not_counted(omar, theirs, "pending")
    shop.hurry()
    shop.webhook(theirs, state="SUCCESS", reference=mine, version=version)
    shop.not_counted(layla, mine, "pending")
    shop.counted(omar, theirs)


# --- accounts that may not have it ------------------------------------------------------------------------------------


def _suspend(shop: Shop, who: Customer, yes: bool) -> None:
    at = clock.utcnow() if yes else None
    shop.change(sa.update(Account).where(Account.id == who.account).values(suspended_at=at))


@pytest.mark.parametrize(("way", "item"), [("webhook", PACK), ("sweep", PLAN), ("missed", PACK)])
def test_money_for_a_suspended_account_waits_for_people_who_release_it_once(shop: Shop, way: str, item: str) -> None:
    """PAY-01: held, whoever tells of it; five of the staff press the button at once, and it counts once."""
    layla = shop.customer()
    payment = shop.begin(layla, item)
    _suspend(shop, layla, True)
    shop.pay(payment)
    shop.news(way, layla, payment)
    shop.news(way, layla, payment)
    shop.not_counted(layla, payment, "held")
    assert shop.staff_events(payment) == [{"payment": payment, "reason": "suspended"}]

    def release() -> str:
        with shop.app.app_context():
            return held.release(payment, actor="user:staff")

    _suspend(shop, layla, False)
    told = Threads(*[release] * 5).wait(60)
    assert [one for one in told if not isinstance(one, held.NotHeld)].count("paid") >= 1
    assert all(one == "paid" or isinstance(one, held.NotHeld) for one in told), told
    shop.counted(layla, payment)
    with pytest.raises(held.NotHeld):
        release()


# --- an opening whose answer was lost ---------------------------------------------------------------------------------

LOST = ("502_after", "500_after", "empty_after", "reset_after", "cut_after", "stall_after")


@pytest.mark.parametrize(("fault", "way"), list(zip(LOST, itertools.cycle(WAYS[1:]), strict=False)))
def test_an_invoice_whose_making_was_not_heard_of_is_found_when_it_is_paid(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, way: str, fault: str
) -> None:
    """PAY-01, PAY-03: the customer saw an error, and paid by the message that the provider had sent."""
    monkeypatch.setattr(merchant, "SOON", (1, 0.2))
    shop.sandbox.control(server=SERVER, endpoint="ExecutePayment", fault=fault, times=1)
    layla = shop.customer()
    with pytest.raises(PaymentServiceAway):
        shop.begin(layla)
    ((payment,),) = shop.rows(sa.select(Payment.id).where(Payment.account_id == layla.account))
    shop.not_counted(layla, payment, "opening")
    shop.pay(payment)
    shop.news(way, layla, payment)
    shop.counted(layla, payment)
    assert shop.payment(payment).invoice == str(shop.sandbox.invoices()[0]["id"])


def test_an_order_that_the_provider_refuses_is_over(shop: Shop) -> None:
    """PAY-01: no invoice was made, so there is nothing to ask about, and a new order is another payment."""
    layla = shop.customer()
    shop.sandbox.control(server=SERVER, endpoint="ExecutePayment", fault="400", times=1)
    with pytest.raises(PaymentRefused):
        shop.begin(layla)
    ((payment,),) = shop.rows(sa.select(Payment.id).where(Payment.account_id == layla.account))
    shop.not_counted(layla, payment, "failed")
    assert shop.payment(payment).due_at is None
    again = shop.begin(layla)
    shop.pay(again)
    shop.news("sweep", layla, again)
    shop.counted(layla, again)
    assert shop.state(payment) == "failed"


# --- a provider that gives no answer ----------------------------------------------------------------------------------

FAULTS = (
    "403_html", "empty", "401_token", "401_empty", "401_permission", "400", "200_false", "404_route", "500", "502_html",
    "html", "json_string", "no_success", "reset_before", "cut_after", "reset_after",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_no_answer_is_no_verdict_and_the_next_one_credits(shop: Shop, fault: str) -> None:
    """PAY-03, TOP-02: whoever asked, it stays as it was and is asked again; then it counts."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=fault)
    for way in ("return", "webhook", "sweep"):
        shop.news(way, layla, payment)
        shop.not_counted(layla, payment, "pending")
        assert shop.payment(payment).due_at > clock.utcnow()
    assert shop.asked() == 3
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=None)
    shop.news("sweep", layla, payment)
    shop.counted(layla, payment)


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_silent_provider_is_given_up_and_asked_again(shop: Shop, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """PAY-03: thirty seconds of silence (here: a fifth of one) leave it as it is, and nothing locked."""
    monkeypatch.setattr(merchant, "SOON", (1, 0.2))
    monkeypatch.setattr(merchant, "PATIENT", (1, 0.2))
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment)
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault="stall_before", times=1)
    shop.news("sweep", layla, payment)
    shop.not_counted(layla, payment, "pending")
    shop.news(way, layla, payment)
    shop.counted(layla, payment)


@pytest.mark.parametrize("fault", ["429", "429_retry_after"])
def test_who_is_told_to_wait_leaves_the_provider_alone(shop: Shop, fault: str) -> None:
    """PAY-03: after 429 nobody asks, in no process, until the time is over; then it counts."""
    layla, omar = shop.customer(), shop.customer()
    mine, theirs = shop.begin(layla), shop.begin(omar)
    shop.pay(mine)
    shop.pay(theirs)
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=fault, retry_after_s=40, times=1)
    shop.news("webhook", layla, mine)
    assert 0 < shop.store.client.ttl(merchant.REST) <= 60
    for way in ("return", "webhook", "sweep", "missed"):
        shop.news(way, layla, mine)
        shop.news(way, omar, theirs)
    assert shop.asked() == 1
    shop.not_counted(layla, mine, "pending")
    shop.not_counted(omar, theirs, "pending")
    shop.store.client.delete(merchant.REST)
    shop.hurry()
    shop.sweep()
    shop.counted(layla, mine)
    shop.counted(omar, theirs)


# --- the end, and what comes after it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS[1:])
def test_what_ran_out_counts_when_it_is_paid_late(shop: Shop, way: str) -> None:
    """PAY-01: expired is what we believe, money is what is true."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.run_out(payment)
    shop.news("sweep", layla, payment)
    shop.not_counted(layla, payment, "expired")
    assert shop.payment(payment).due_at is None
    shop.pay(payment, anyway=True)
    if way == "sweep":  # which asks about what is over only where somebody left word that came too soon
        shop.change(sa.update(Payment).where(Payment.id == payment).values(asked_at=clock.utcnow()))
        shop.webhook(payment)
        shop.not_counted(layla, payment, "expired")
    shop.news(way, layla, payment)
    shop.counted(layla, payment)


@pytest.mark.parametrize("way", WAYS[:3])
def test_what_was_cancelled_is_over_and_money_counts_all_the_same(shop: Shop, way: str) -> None:
    """PAY-01: the provider's staff cancelled it; should it be paid anyhow, it counts."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.sandbox.cancel_invoice(payment)
    shop.news(way, layla, payment)
    shop.not_counted(layla, payment, "cancelled")
    assert shop.payment(payment).due_at is None
    paid_by = shop.pay(payment, anyway=True)
    shop.hurry()
    if way == "return":
        shop.come_back(layla, payment, paid_by)
    else:
        shop.webhook(payment)
    shop.counted(layla, payment)


@pytest.mark.parametrize("way", WAYS[:3])
def test_what_is_over_is_asked_about_once_and_not_for_ever(shop: Shop, way: str) -> None:
    """PAY-03: somebody asks about what ran out; it has run out still, and the sweep has nothing to do with it."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.run_out(payment)
    shop.news("sweep", layla, payment)
    shop.hurry()
    asked = shop.asked()
    if way == "return":
        shop.come_back(layla, payment, tried="1")
    elif way == "webhook":
        shop.webhook(payment, state="FAILED")
    else:
        shop.change(sa.update(Payment).where(Payment.id == payment).values(due_at=clock.utcnow()))
        shop.sweep()
    assert shop.asked() == asked + 1
    shop.not_counted(layla, payment, "expired")
    assert shop.payment(payment).due_at is None
