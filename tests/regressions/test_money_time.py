"""Paid time: what is left of it keeps its worth, and a cancelled subscription charges no card."""

import datetime as dt

import pytest

from portal.models import Payment
from portal.services import payments, sale, subscriptions, tunables
from portal.tasks import payments as jobs
from tests.notifications.outside import customer
from tests.payments.world import World
from tests.regressions.money_world import give_back, world  # noqa: F401

MONTH, DAY = dt.timedelta(days=30), dt.timedelta(days=1)


def ends(world: World, account_id: str) -> dt.datetime:  # noqa: F811
    found = world.subscription(account_id)
    assert found is not None
    at: dt.datetime = found.ends_at
    return at


def test_days_left_of_a_plan_that_is_sold_no_more_are_worth_what_was_paid(world: World) -> None:  # noqa: F811
    """SUB-03: "A price of 0 takes it off sale" (`flask plans set`). Whoever had 30 paid days of it upgraded and got
    nothing for them: 15 dinars gone. The same holds for a price that was only lowered."""
    with world.app.app_context():
        account = str(customer().account)
        world.buy(account, "pro")
        sale.change_plan("pro", price_fils=0)
        world.buy(account, "enterprise")
        assert ends(world, account) - world.now > MONTH + 9 * DAY


def test_a_slow_payment_of_a_lower_plan_is_worth_something_beside_a_plan_that_is_sold_no_more(
    world: World,  # noqa: F811
) -> None:
    """SUB-03: a paid period gave not a second."""
    with world.app.app_context():
        account = str(customer().account)
        slow = world.begin(account, "basic")
        world.buy(account, "enterprise")
        sale.change_plan("enterprise", price_fils=0)
        before = ends(world, account)
        world.sandbox.pay(slow.invoice or "")
        assert payments.confirm(slow.id, source="webhook") == "paid"
        assert ends(world, account) > before


def test_a_refund_leaves_what_was_paid_for_by_transfer(world: World) -> None:  # noqa: F811
    """PAY-04, decision 37: thirty days by card, thirty more by transfer (`flask subscribe`). On day ten the card's
    payment goes back: its twenty days left go. Thirty went, ten of them the transfer's."""
    with world.app.app_context():
        account = str(customer().account)
        payment = world.buy(account, "pro")
        subscriptions.activate(account, "pro", reference="transfer 4711", actor="console")
        world.on(days=10)
        give_back(world, payment.id, payment.amount_fils)
        assert ends(world, account) - world.now > MONTH - DAY


@pytest.mark.parametrize("item", ["basic", "pro"])
def test_who_cancelled_and_pays_by_hand_is_not_charged_by_itself_afterwards(world: World, item: str) -> None:  # noqa: F811
    """SUB-04, decision 46: cancelled is "do not renew". Another period (or a higher plan) paid for with KNET, nothing
    ticked, made it renewing again: a day before the end the card was charged."""
    with world.app.app_context():
        tunables.put("automatic_renewal", "1")
        account = str(customer().account)
        world.buy(account, "basic", "vm", keep_card=True)
        subscriptions.cancel(account)
        world.on(days=1)
        world.buy(account, item, "kn")
        world.at(ends(world, account) - dt.timedelta(hours=23))
        jobs.renew()
        assert world.rows(Payment, Payment.account_id == account, Payment.actor == "renewal") == []


def test_the_message_of_a_converted_period_promises_no_plan_that_is_not_there(world: World) -> None:  # noqa: F811
    """NOTIF-02: "Basic is active until …", with the end of Enterprise."""
    with world.app.app_context():
        account = str(customer().account)
        slow = world.begin(account, "basic")
        world.buy(account, "enterprise")
        world.sandbox.pay(slow.invoice or "")
        assert payments.confirm(slow.id, source="webhook") == "paid"
        first, second = world.told("subscription_confirmed")
        assert (first.facts["plan"]["en"], second.facts["plan"]["en"]) == ("Enterprise", "Enterprise")
