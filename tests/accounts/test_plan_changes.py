"""A higher plan starts at once, its days left credited; a lower one is never a loss; cancelled, and paid for late."""

import datetime as dt
from functools import partial

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import Event, Notification, Plan, Subscription
from portal.services import events, ledger, subscriptions, tunables
from portal.services.terms import rate, terms, worth
from tests.accounts.test_subscriptions import ENTERPRISE, PRO, balance, begin, plan_of, rows, told
from tests.ledger.books import Threads
from tests.notifications.outside import Clock, customer, notes
from tests.services.portal_app import MakeApp


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Noon in Kuwait."""
    return Clock(monkeypatch)


@pytest.fixture
def portal(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases."""
    return make_app(database_url)


def test_of_two_plans_at_once_the_higher_runs_and_no_worth_is_lost(portal: Flask, clock: Clock) -> None:
    """SUB-03, CRD-01: in whatever order they come, every period is credited and its time is worth the same."""
    with portal.app_context():
        owner = customer()

    def choose(plan: str) -> None:
        with portal.app_context():
            begin(owner.account, plan)

    results = Threads(*[partial(choose, plan) for plan in ("pro", "enterprise") * 4]).wait(60)
    assert results == [None] * 8
    with portal.app_context():
        [row] = rows(Subscription.running_of == owner.account)
        assert row.plan_id == plan_of(owner.account) == "enterprise"
        assert balance(owner.account) == 4 * (PRO + ENTERPRISE)
        assert len(notes(Notification.kind == "subscription_confirmed")) == 8
        pro, enterprise = (db.session.get_one(Plan, plan) for plan in ("pro", "enterprise"))
        whole = dt.timedelta(days=4 * 30) + worth(dt.timedelta(days=4 * 30), rate(pro), rate(enterprise))
        assert dt.timedelta() <= row.starts_at + whole - row.ends_at < dt.timedelta(seconds=8)  # each rounded down
        assert ledger.check() == []


def test_a_higher_plan_starts_at_once_and_the_days_left_are_credited(portal: Flask, clock: Clock) -> None:
    """SUB-03: half a month of Pro is worth five days of an Enterprise that costs three times as much."""
    with portal.app_context():
        owner = customer()
        began = begin(owner.account, "pro")
        clock.later(days=15)
        now = clock.now
        assert begin(owner.account, "enterprise") != began
        old, new = rows()
        assert (old.state, old.running_of, old.ended_at) == ("ended", None, now)
        assert (new.state, new.starts_at, new.ends_at) == ("active", now, now + dt.timedelta(days=35))
        assert (plan_of(owner.account), balance(owner.account)) == ("enterprise", PRO + ENTERPRISE)
        assert told(owner.account, "ended") == []  # nobody lost a plan


def test_a_lower_plan_that_was_paid_for_late_prolongs_the_higher_one(portal: Flask, clock: Clock) -> None:
    """SUB-03: checkout does not sell it, a slow payment may bring it: nothing of it is lost, and nobody falls."""
    with portal.app_context():
        owner = customer()
        begin(owner.account, "enterprise")
        begin(owner.account, "pro")
        [row] = rows()
        assert (row.plan_id, row.ends_at) == ("enterprise", clock.now + dt.timedelta(days=40))
        assert (plan_of(owner.account), balance(owner.account)) == ("enterprise", PRO + ENTERPRISE)
        [news] = db.session.scalars(sa.select(Event).where(Event.kind == events.ENTERPRISE_CUSTOMER))
        assert news.occasion == row.id


def test_time_is_never_made_by_changing_plans(portal: Flask) -> None:
    """SUB-03: rounded down, and nothing for what costs nothing."""
    free, paid = (
        Plan(id=name, rank=n, price_fils=fils, period_days=30) for n, (name, fils) in enumerate((("a", 0), ("b", 10)))
    )
    month, now = dt.timedelta(days=30), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert worth(month, rate(free), rate(paid)) == worth(month, rate(paid), rate(free)) == dt.timedelta()
    over = Subscription(plan=paid, plan_id="b", ends_at=now - dt.timedelta(seconds=1))
    assert terms(over, free, month, now).move == "new"
    assert terms(over, paid, month, now) == ("extend", over.ends_at + month, month, dt.timedelta())
    over.ends_at = now - month
    assert terms(over, paid, month, now).move == "new"


def test_who_cancels_keeps_the_plan_to_its_end_and_may_think_again(portal: Flask, clock: Clock) -> None:
    """SUB-04: cancelled, not reminded, reactivated, and over at the end without any grace."""
    with portal.app_context():
        owner = customer()
        with pytest.raises(subscriptions.NothingRuns):
            subscriptions.cancel(owner.account)
        begin(owner.account)
        assert subscriptions.cancel(owner.account).state == "cancelled"
        with pytest.raises(subscriptions.NothingRuns):
            subscriptions.cancel(owner.account)
        assert plan_of(owner.account) == "pro"
        assert subscriptions.reactivate(owner.account).state == "active"
        subscriptions.cancel(owner.account)
        tunables.put("grace_hours", "24")
        clock.later(days=28)
        assert subscriptions.remind() == 0
        clock.later(days=2)
        with pytest.raises(subscriptions.NothingRuns):
            subscriptions.reactivate(owner.account)
        assert subscriptions.end_due() == 1
        assert plan_of(owner.account) == "basic"


def test_within_its_grace_a_plan_is_kept_and_prolonged_from_its_end(portal: Flask, clock: Clock) -> None:
    """SUB-03: paid a little late costs no day and gives none; after the grace it is over, told once."""
    with portal.app_context():
        owner = customer()
        tunables.put("grace_hours", "48")
        begin(owner.account)
        end = rows()[0].ends_at
        clock.later(days=31)
        assert (subscriptions.end_due(), rows()[0].state, plan_of(owner.account)) == (0, "grace", "pro")
        begin(owner.account)
        [row] = rows()
        assert (row.state, row.ends_at) == ("active", end + dt.timedelta(days=30))
        clock.later(days=29 + 2, seconds=1)
        assert subscriptions.end_due() == 1
        assert (rows()[0].state, plan_of(owner.account), subscriptions.end_due()) == ("ended", "basic", 0)
        assert len(told(owner.account, "ended")) == 1
