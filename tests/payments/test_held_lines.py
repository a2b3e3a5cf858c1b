"""Nobody keeps a line to the database while the provider thinks: on SQLite the whole portal would wait for it."""

import datetime as dt
import json
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from portal import clock
from portal.errors import PaymentServiceAway
from portal.extensions import db
from portal.models import Account, SavedCard, Subscription
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.services import cards, refunds, renewals, tunables
from portal.services.payments import confirm, held
from tests.payments.shop import PACK, PLAN, SERVER, Shop


@pytest.fixture
def asked(small_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each endpoint was asked; whoever asks with a line to the database in their hands fails the test."""
    count, wire = Counter[str](), MyFatoorah._ask

    def ask(self: MyFatoorah, what: Any, *rest: Any) -> Any:
        pool: Any = db.engine.pool
        assert pool.checkedout() == 0, f"{what.endpoint} is asked within a transaction"
        count[what.endpoint] += 1
        return wire(self, what, *rest)

    monkeypatch.setattr(MyFatoorah, "_ask", ask)
    return count


def test_no_transaction_is_open_while_the_provider_is_asked(small_shop: Shop, asked: Counter[str]) -> None:
    """PAY-03, CRD-01: through every endpoint, with every fate of a payment, by the doors and by the clock."""
    shop = small_shop
    with shop.app.app_context():
        tunables.put("automatic_renewal", "1")
    for fate in ("pending", "failed", "paid", "cancelled", "held", "expired"):
        payment = shop.begin(shop.customer())
        if fate in ("failed", "paid", "held"):
            shop.pay(payment, "failed" if fate == "failed" else "paid")
        elif fate == "cancelled":
            shop.sandbox.cancel_invoice(payment)
        elif fate == "expired":
            shop.run_out(payment)
        shop.sandbox.control(server=SERVER, status_value="0.100" if fate == "held" else None)
        with shop.app.app_context():
            assert confirm(payment, source="console") == fate
    _by_the_doors(shop)
    _pages_of_missed(shop)
    _lost(shop)
    _people(shop)
    _cards(shop)
    assert set(asked) == {
        "InitiatePayment", "ExecutePayment", "GetPaymentStatus", "MakeRefund", "GetRefundStatus", "GetWebhooks",
        "CancelToken", "DirectPayment",
    }  # fmt: skip


def _by_the_doors(shop: Shop) -> None:
    omar = shop.customer()
    payment = shop.begin(omar)
    browser = shop.app.test_client(use_cookies=False)
    headers = {"Cookie": omar.cookie, "Accept": "application/json"}
    assert browser.get(f"/billing/return/{payment}", headers=headers).get_json() == {"waiting": True}
    shop.pay(payment)
    shop.hurry()
    last = shop.sandbox.webhooks()[-1]
    posted = browser.post(
        "/webhooks/myfatoorah", data=json.dumps(last["body"], ensure_ascii=False).encode(), headers=last["headers"]
    )
    assert posted.status_code == 200
    shop.counted(omar, payment)


def _pages_of_missed(shop: Shop) -> None:
    shop.sandbox.control(server=SERVER, page_size=1)
    paid = [(who, shop.begin(who)) for who in (shop.customer(), shop.customer(), shop.customer())]
    for _, payment in paid:
        shop.pay(payment)
    assert shop.missed() >= len(paid)
    for who, payment in paid:
        shop.counted(who, payment)


def _lost(shop: Shop) -> None:
    """No answer, and too many questions: what is put off is put off on a line of its own."""
    who = shop.customer()
    shop.sandbox.control(server=SERVER, endpoint="ExecutePayment", fault="502_after", times=1)
    with pytest.raises(PaymentServiceAway):
        shop.begin(who)
    ((payment,),) = shop.rows(sa.text("SELECT id FROM payments WHERE state = 'opening'"))
    for fault in ("500", "429_retry_after", "500"):
        shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=fault)
        shop.hurry()
        assert shop.sweep()
    shop.not_counted(who, payment, "opening")
    shop.sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault=None)
    shop.store.client.flushall()


def _people(shop: Shop) -> None:
    """Staff release what is held, and give money back."""
    who = shop.customer()
    payment = shop.begin(who)
    shop.pay(payment)
    at = {"suspended_at": clock.utcnow()}
    shop.change(sa.update(Account).where(Account.id == who.account).values(**at))
    with shop.app.app_context():
        assert confirm(payment, source="sweep") == "held"
        assert held.release(payment, actor="console") == "paid"
        refund = refunds.request(payment, 1000, reason="x", actor="console")
        assert refunds.carry_on(refund) == "filed"


def _cards(shop: Shop) -> None:
    """A plan is renewed with a kept card, which is then forgotten."""
    who = shop.customer()
    payment = shop.begin(who, PLAN, "vm", keep_card=True)
    shop.pay(payment, keep_card=True)
    shop.news("sweep", who, payment)
    soon = clock.utcnow() + dt.timedelta(hours=3)
    shop.change(sa.update(Subscription).where(Subscription.account_id == who.account).values(ends_at=soon))
    with shop.app.app_context():
        assert renewals.renew_due() == 1
        ((card,),) = shop.rows(sa.select(SavedCard.id).where(SavedCard.account_id == who.account))
        cards.remove(who.account, card)
        assert renewals.forget_removed() == 1


def test_whoever_died_of_an_error_leaves_the_next_one_a_clean_session(
    small_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRD-01: the receipt can't be written, so nothing is; in the same process the next question counts it."""
    layla = small_shop.customer()
    payment = small_shop.begin(layla, PACK)
    small_shop.pay(payment)

    def no_paper(_payment: object) -> None:
        raise RuntimeError("no paper")

    with small_shop.app.app_context():
        with monkeypatch.context() as patch:
            patch.setattr("portal.services.papers.receipt", no_paper)
            with pytest.raises(RuntimeError, match="no paper"):
                confirm(payment, source="sweep")
        pool: Any = db.engine.pool
        assert pool.checkedout() == 0
        small_shop.not_counted(layla, payment, "pending")
        small_shop.hurry()
        assert confirm(payment, source="sweep") == "paid"
    small_shop.counted(layla, payment)
