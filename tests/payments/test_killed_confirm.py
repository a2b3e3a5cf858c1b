"""A server that is killed at any moment of taking money: after the next sweep it counts once, or not at all."""

import datetime as dt
import itertools

import sqlalchemy as sa

from portal import clock
from portal.models import Payment
from tests.payments.shop import PACK, PLAN, Customer, Shop


def _stands(shop: Shop, who: Customer, payment_id: str) -> None:
    """All of it, or nothing."""
    if shop.state(payment_id) == "paid":
        shop.counted(who, payment_id, books=False)
    else:
        shop.not_counted(who, payment_id, "pending", books=False)


def test_killed_at_every_statement_of_confirm_it_counts_once_after_the_sweep(any_small_shop: Shop) -> None:
    """PAY-01, CRD-01, never-again "apart": one credit, one receipt, one set of messages; no number is lost. A plan
    writes all that a pack does, and more."""
    _killed_everywhere(any_small_shop, PLAN, "vm")


def test_killed_at_every_statement_of_a_pack_it_counts_once_after_the_sweep(small_shop: Shop) -> None:
    """TOP-02: the same for a pack, where the engine is all one."""
    _killed_everywhere(small_shop, PACK, "kn")


def _killed_everywhere(shop: Shop, item: str, method: str) -> None:
    dead = list[tuple[Customer, str]]()
    for moment in itertools.count(1):
        layla = shop.customer()
        payment = shop.begin(layla, item, method)
        shop.pay(payment)
        died = shop.mortals.dies_at(moment, "confirm", payment, "webhook")
        _stands(shop, layla, payment)
        dead.append((layla, payment))
        if not died:
            break
    shop.books_are_right()
    states = [shop.state(one) for _, one in dead]
    assert states == sorted(states, reverse=True)  # pending up to the commit, paid from there on
    assert states.count("pending") > 20, states
    shop.hurry()
    while shop.sweep():
        pass
    for who, one in dead:
        shop.counted(who, one, books=False)
    shop.books_are_right()


def test_killed_at_every_statement_of_a_failure_it_is_told_once(any_small_shop: Shop) -> None:
    """PAY-01: the same for a payment that failed; the customer hears of it once, and may pay on."""
    shop, dead = any_small_shop, list[tuple[Customer, str]]()
    for moment in itertools.count(1):
        layla = shop.customer()
        payment = shop.begin(layla)
        shop.pay(payment, "failed")
        dead.append((layla, payment))
        if not shop.mortals.dies_at(moment, "confirm", payment, "return"):
            break
    shop.hurry()
    while shop.sweep():
        pass
    for who, one in dead:
        shop.not_counted(who, one, "failed", books=False)
        assert shop.messages(who) == {"payment_failed": 1}
        assert shop.trail(one).count("failed") == 1
    shop.books_are_right()


def test_killed_at_every_statement_of_checkout_no_money_is_lost(any_small_shop: Shop) -> None:
    """PAY-01: where the provider has an invoice, whoever pays it has the credit; where it has none, nobody can pay."""
    shop, begun = any_small_shop, list[Customer]()
    for moment in itertools.count(1):
        layla = shop.customer()
        begun.append(layla)
        if not shop.mortals.dies_at(moment, "begin", layla.account, layla.user, PACK):
            break
    there = {one["reference"] for one in shop.sandbox.invoices(server="myfatoorah")}
    rows = shop.rows(sa.select(Payment.id, Payment.account_id, Payment.state, Payment.invoice))
    mine = {row.account_id: row for row in rows}
    assert len(mine) == len(rows), "somebody has two"
    assert there <= {row.id for row in rows}, "an invoice without a row: its money would find nothing"
    lost = [row for row in rows if row.id in there and row.invoice is None]
    assert lost, "no death came between the invoice and our note of it"
    for row in rows:
        if row.id in there:
            shop.pay(row.id)
    shop.hurry()
    while shop.sweep():
        pass
    for who in begun:
        row = mine.get(who.account)
        if row is not None and row.id in there:
            shop.counted(who, row.id)
        elif row is not None:
            shop.not_counted(who, row.id, "opening")
            # At once they would wait for whoever is opening it, as a second tab does: nobody knows yet that it died.
            minute = clock.utcnow() - dt.timedelta(minutes=1)
            shop.change(sa.update(Payment).where(Payment.id == row.id).values(created_at=minute))
            again = shop.begin(who)
            assert again != row.id
