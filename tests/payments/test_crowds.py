"""Crowds in the one room, past the pause that usually keeps them apart: all have their answer, and all count at once.

Threads of this process, each with its own line to the database, and the sweep, the end of subscriptions, suspensions
beside them: nobody may wait for somebody who waits for them.
"""

import datetime as dt
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from portal import clock
from portal.models import Account, Payment, Subscription
from portal.services import payments, subscriptions
from portal.services.payments import confirming
from tests.ledger.books import Threads
from tests.payments.shop import PACK, PLAN, SERVER, Shop


@pytest.fixture
def shop(any_small_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Nobody is put off: as if the last question had always been long ago."""
    monkeypatch.setattr(confirming, "PAUSE", dt.timedelta(hours=-1))
    return any_small_shop


def _confirm(shop: Shop, payment_id: str, source: str = "webhook") -> str:
    with shop.app.app_context():
        return payments.confirm(payment_id, source=source)


@pytest.mark.parametrize("item", [PACK, PLAN])
def test_twenty_with_the_same_answer_count_it_once(shop: Shop, monkeypatch: pytest.MonkeyPatch, item: str) -> None:
    """TOP-02, CRD-01: each was told that it is paid, and all try to count it at the same moment."""
    together, settle = threading.Barrier(20, timeout=30), confirming.settle

    def at_once(*given: Any, **named: Any) -> str:
        together.wait()
        return settle(*given, **named)

    monkeypatch.setattr(confirming, "settle", at_once)
    layla = shop.customer()
    payment = shop.begin(layla, item)
    shop.pay(payment)
    assert Threads(*[partial(_confirm, shop, payment)] * 20).wait(60) == ["paid"] * 20
    assert shop.asked() == 20
    shop.counted(layla, payment)


def test_an_answer_from_before_the_money_that_comes_late_undoes_nothing(shop: Shop) -> None:
    """PAY-01: asked first and answered last, with a failure; meanwhile it was paid."""
    layla = shop.customer()
    payment = shop.begin(layla)
    shop.pay(payment, "failed")
    shop.sandbox.next({"answer_delay_ms": 400}, server=SERVER)
    slow = Threads(partial(_confirm, shop, payment, "return"))
    shop.sandbox.wait_for(lambda seen: any(one["path"] == "/v2/GetPaymentStatus" for one in seen), server=SERVER)
    shop.pay(payment)
    assert _confirm(shop, payment) == "paid"
    assert slow.wait() == ["paid"]
    shop.counted(layla, payment)
    assert "payment_failed" not in shop.messages(layla)


def test_many_payments_of_a_few_count_beside_everything_else_without_a_deadlock(shop: Shop) -> None:
    """CRD-01, SUB-02: plans and packs of the same accounts at once, each told of twice, beside others' ends."""
    crowd = [shop.customer() for _ in range(4)]
    items = (PACK, PLAN, "pack-15000", "basic", "pack-50000")
    orders = [(who, shop.begin(who, item)) for who in crowd for item in items]
    for _, payment in orders:
        shop.pay(payment)

    def end() -> None:
        with shop.app.app_context():
            subscriptions.end_due()

    def touch(account_id: str) -> None:
        """What staff's pages and the gateway write to an account meanwhile."""
        for _ in range(5):
            shop.change(sa.update(Account).where(Account.id == account_id).values(suspended_at=None))

    calls: list[Callable[[], object]] = [partial(_confirm, shop, payment) for _, payment in orders * 2]
    calls += [partial(touch, who.account) for who in crowd] + [end] * 2
    told = Threads(*calls).wait(90)
    assert told == ["paid"] * (2 * len(orders)) + [None] * 6, [one for one in told if one not in ("paid", None)]
    shop.books_are_right()
    for who in crowd:
        ((bought,),) = shop.rows(sa.select(sa.func.sum(Payment.credits)).where(Payment.account_id == who.account))
        assert shop.balance(who) == bought
        assert shop.messages(who) == {"topup_confirmed": 3, "subscription_confirmed": 2, "invoice_ready": 5}
        running = shop.rows(sa.select(Subscription.id).where(Subscription.running_of == who.account))
        assert len(running) == 1


@pytest.mark.parametrize("over", ["cancelled", "expired", "pending"])
def test_a_webhook_that_comes_while_an_older_answer_is_on_its_way_is_not_lost(small_shop: Shop, over: str) -> None:
    """TOP-02, PAY-03: it may not ask, since somebody just did; so the sweep does, whatever that older answer says."""
    shop, layla = small_shop, small_shop.customer()
    payment = shop.begin(layla)
    if over == "cancelled":
        shop.sandbox.cancel_invoice(payment)
    elif over == "expired":
        shop.run_out(payment)
    shop.sandbox.next({"answer_delay_ms": 400}, server=SERVER)
    slow = Threads(partial(_confirm, shop, payment, "return"))
    shop.sandbox.wait_for(lambda seen: any(one["path"] == "/v2/GetPaymentStatus" for one in seen), server=SERVER)
    shop.pay(payment, anyway=True)
    assert _confirm(shop, payment) == "pending"
    assert slow.wait() == [over]
    due = shop.payment(payment).due_at
    assert due is not None, "nobody will ever ask"
    assert due < clock.utcnow() + dt.timedelta(seconds=15)
    shop.hurry()
    shop.sweep()
    shop.counted(layla, payment)
