"""A plan's payment given back: which time goes with the money, and which stays."""

import datetime as dt
from collections.abc import Callable
from functools import partial

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, Refund, Subscription
from portal.services import payments, refunds, subscriptions
from sandbox.process import SandboxProcess
from tests.ledger.books import Threads
from tests.notifications.outside import Line, customer, reading
from tests.payments.world import SETTINGS, World
from tests.services.portal_app import MakeApp

MONTH, DAY = dt.timedelta(days=30), dt.timedelta(days=1)
BASIC, PRO = 5_000, 15_000
"""Fils."""


@pytest.fixture
def world(make_app: MakeApp, database_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """On each of the three databases."""
    app = make_app(database_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS)
    return World(app, sandbox, monkeypatch)


@pytest.fixture
def one(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """Where the database is all one."""
    return World(make_app(sqlite_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS), sandbox, monkeypatch)


def give_back(world: World, payment_id: str, fils: int, **more: bool) -> None:
    """Asked for, carried out, booked."""
    refund = refunds.request(payment_id, fils, reason="طلب العميل", actor="console", **more)
    world.sandbox.settle_refund(refund)
    assert world.sweep(minutes=1) == 1
    assert world.refund(refund).state == "done"
    world.books_are_right()


def runs(world: World, account_id: str) -> Line:
    found = world.subscription(account_id)
    assert found is not None
    return found


def plan_of(account_id: str) -> str:
    with reading() as connection:
        return str(connection.scalar(sa.select(Account.plan_id).where(Account.id == account_id)))


def test_a_plan_that_was_given_back_whole_ends(world: World) -> None:
    """PAY-04, SUB-04: at the provider's word and not before; the account is free, and told so once."""
    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pro")
        refund = refunds.request(payment.id, PRO, reason="طلب العميل", actor="console")
        assert (runs(world, layla.account).state, plan_of(layla.account)) == ("active", "pro")
        world.sandbox.settle_refund(refund)
        world.sweep(minutes=1)
        [row] = world.rows(Subscription)
        assert (row.state, row.running_of, row.ends_at, row.ended_at) == ("ended", None, world.now, world.now)
        assert (plan_of(layla.account), world.wallet(layla.account).balance) == ("basic", 0)
        assert len(world.told("subscription_ended")) == len(world.told("refund_made")) == 1
        world.on(days=31)
        assert subscriptions.end_due() == 0
        assert len(world.told("subscription_ended")) == 1
        world.books_are_right()


@pytest.mark.parametrize("which", [0, 1])
def test_one_of_two_periods_goes_and_the_other_stays(one: World, which: int) -> None:
    """PAY-04, SUB-02: whichever payment it is, its month goes, but for the days of it that are over; a reminder comes
    before the new end."""
    with one.app.app_context():
        layla = customer()
        both = [one.buy(layla.account, "pro")]
        one.on(days=3)
        both.append(one.buy(layla.account, "pro"))
        ends = runs(one, layla.account).ends_at
        give_back(one, both[which].id, PRO)
        row = runs(one, layla.account)
        assert (row.state, row.ends_at) == ("active", one.now + MONTH if which == 0 else ends - MONTH)
        assert one.told("subscription_ended") == []
        one.at(row.ends_at - DAY)
        assert subscriptions.remind() == 1


def test_a_part_keeps_the_time_and_the_part_that_makes_it_whole_takes_it(one: World) -> None:
    """PAY-04: money back in two halves is money back."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pro")
        ends = runs(one, layla.account).ends_at
        give_back(one, payment.id, 5_000)
        assert runs(one, layla.account).ends_at == ends
        assert one.wallet(layla.account).balance == 40_000_000
        give_back(one, payment.id, 10_000)
        assert (one.subscription(layla.account), plan_of(layla.account)) == (None, "basic")


def test_staff_may_say_otherwise_and_time_is_never_taken_twice(one: World) -> None:
    """PAY-04: a courtesy that leaves the plan; a part that ends it."""
    with one.app.app_context():
        layla = customer()
        kept = one.buy(layla.account, "pro")
        one.on(seconds=5)
        other = one.buy(layla.account, "pro")
        ends = runs(one, layla.account).ends_at
        give_back(one, kept.id, PRO, ends_period=False)
        assert runs(one, layla.account).ends_at == ends
        give_back(one, other.id, 10, ends_period=True)
        assert runs(one, layla.account).ends_at == ends - MONTH
        give_back(one, other.id, 20, ends_period=True)
        give_back(one, other.id, PRO - 30)
        assert runs(one, layla.account).ends_at == ends - MONTH
        assert [row.ends_period for row in one.rows(Refund)] == [False, True, False, False]


@pytest.mark.parametrize("first", ["small", "great"])
def test_after_an_upgrade_each_payment_takes_its_own_worth(one: World, first: str) -> None:
    """PAY-04, SUB-03: the small plan's days went on as a third as many of the great one. Giving back the small one
    takes those and no more; giving back the great one leaves them; after both there is nothing."""
    with one.app.app_context():
        layla = customer()
        small = one.buy(layla.account, "basic")
        bought = one.now
        one.on(days=15)
        great = one.buy(layla.account, "pro")
        row = runs(one, layla.account)
        began, carried = row.starts_at, row.ends_at - row.starts_at - MONTH
        left = MONTH - (began - bought)
        assert abs(carried - left / 3) < dt.timedelta(seconds=1)
        order = [(small, BASIC), (great, PRO)] if first == "small" else [(great, PRO), (small, BASIC)]
        give_back(one, order[0][0].id, order[0][1])
        row = runs(one, layla.account)
        assert row.plan_id == plan_of(layla.account) == "pro"
        assert row.ends_at == (one.now + MONTH if first == "small" else began + carried)
        give_back(one, order[1][0].id, order[1][1])
        assert (one.subscription(layla.account), plan_of(layla.account)) == (None, "basic")
        assert one.wallet(layla.account).balance == 0
        assert len(one.told("subscription_ended")) == 1


def test_two_upgrades_carry_it_on(one: World) -> None:
    """PAY-04, SUB-03: Basic to Pro to Enterprise: a ninth of the days, and a ninth goes."""
    with one.app.app_context():
        layla = customer()
        small = one.buy(layla.account, "basic")
        for plan in ("pro", "enterprise"):
            one.on(seconds=60)
            one.buy(layla.account, plan)
        ends = runs(one, layla.account).ends_at
        give_back(one, small.id, BASIC)
        taken = ends - runs(one, layla.account).ends_at
        assert abs(taken - MONTH / 9) < dt.timedelta(minutes=2)


def test_time_that_is_over_is_over(one: World) -> None:
    """PAY-04: months later its credit can still be given back, and the plan that runs now is none of its business."""
    with one.app.app_context():
        layla = customer()
        old = one.buy(layla.account, "pro")
        one.on(days=31)
        assert subscriptions.end_due() == 1
        one.buy(layla.account, "pro")
        ends = runs(one, layla.account).ends_at
        give_back(one, old.id, PRO)
        assert runs(one, layla.account).ends_at == ends


def test_what_was_paid_later_is_not_taken_for_what_was_used(one: World) -> None:
    """PAY-04: the first month is over and is given back as a courtesy: the second, which was paid for, goes on."""
    with one.app.app_context():
        layla = customer()
        first = one.buy(layla.account, "pro")
        one.on(days=25)
        one.buy(layla.account, "pro")
        one.on(days=10)
        ends = runs(one, layla.account).ends_at
        give_back(one, first.id, PRO)
        assert runs(one, layla.account).ends_at == ends


def test_a_cancelled_plan_that_is_given_back_ends_as_well(one: World) -> None:
    """PAY-04, SUB-04."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pro")
        subscriptions.cancel(layla.account)
        give_back(one, payment.id, PRO)
        assert one.subscription(layla.account) is None
        assert len(one.told("subscription_ended")) == 1


def test_refunds_purchases_and_ends_at_the_same_moment_agree(world: World) -> None:
    """PAY-04, SUB-04: four accounts, each with a refund that was made, an end that is due and a purchase: no lock is
    waited for in a circle, every one of them comes to its end, and the books are right."""
    with world.app.app_context():
        accounts = [customer().account for _ in range(4)]
        paid = [world.buy(account, "pro") for account in accounts]
        made = [refunds.request(one.id, PRO, reason="x", actor="console") for one in paid]
        for refund in made:
            world.sandbox.settle_refund(refund)
        world.on(days=30)
        bought = [world.begin(account, "pro").id for account in accounts]
        for payment in bought:
            world.sandbox.pay(payment)
        db.session.rollback()

        def end() -> None:
            with world.app.app_context():
                subscriptions.end_due()

        def back(refund: str) -> None:
            with world.app.app_context():
                refunds.carry_on(refund)

        def buy(payment: str) -> None:
            with world.app.app_context():
                payments.confirm(payment, source="webhook")

        calls: list[Callable[[], object]] = [end, end, *(partial(back, one) for one in made)]
        calls += [partial(buy, payment) for payment in bought * 2]
        assert Threads(*calls).wait(60) == [None] * len(calls)
        assert {world.refund(refund).state for refund in made} == {"done"}
        for account in accounts:
            assert world.wallet(account).balance == 60_000_000
            row = world.subscription(account)
            # It was extended or began anew, whichever came first: the month that was paid for is there.
            assert row is not None
            assert dt.timedelta() <= world.now + MONTH - row.ends_at < dt.timedelta(minutes=5)
            assert plan_of(account) == "pro"
        world.books_are_right()
