"""A plan until an instant: begun and extended with credit and message, reminded of once, ended in good order."""

import datetime as dt
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import KUWAIT
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Event, LedgerEntry, Notification, Plan, Subscription, Wallet
from portal.services import events, ledger, subscriptions
from portal.services.subscriptions import NoSuchPlan
from tests.gateway.wire import CHAT, Plain, chat
from tests.ledger.books import Threads
from tests.notifications.outside import Clock, Line, at_once, customer, deliveries, notes, reading
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp

PRO, ENTERPRISE = 60_000_000, 250_000_000
"""Milli-credits of a period."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Noon in Kuwait."""
    return Clock(monkeypatch)


@pytest.fixture
def portal(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases."""
    return make_app(database_url)


def begin(account: str, plan: str = "pro", **values: Any) -> str:
    """Returns the subscription's id."""
    return subscriptions.activate(account, plan, reference=new_id(), actor="console", **values).id


def rows(*conditions: Any) -> list[Line]:
    with reading() as connection:
        return list(connection.execute(sa.select(Subscription.__table__).where(*conditions).order_by(Subscription.id)))


def plan_of(account: str) -> str:
    with reading() as connection:
        return str(connection.scalar(sa.select(Account.plan_id).where(Account.id == account)))


def balance(account: str) -> int:
    with reading() as connection:
        return int(connection.scalar(sa.select(Wallet.balance).where(Wallet.account_id == account)) or 0)


def periods(account: str) -> int:
    """How many periods were credited."""
    with reading() as connection:
        query = sa.select(sa.func.count()).where(LedgerEntry.account_id == account, LedgerEntry.kind == "subscription")
        return int(connection.scalar(query) or 0)


def told(account: str, kind: str) -> list[Line]:
    return notes(Notification.account_id == account, Notification.kind == f"subscription_{kind}")


# --- beginning -------------------------------------------------------------------------------------------------------


def test_a_plan_begins_with_its_credit_and_its_message(portal: Flask, clock: Clock) -> None:
    """SUB-01, NOTIF-02: at once, and all of it in one transaction."""
    with portal.app_context():
        owner = customer(credit=5_000)
        one = begin(owner.account)
        [row] = rows()
        assert (row.id, row.state, row.plan_id, row.running_of) == (one, "active", "pro", owner.account)
        assert (row.starts_at, row.ends_at, row.actor) == (clock.now, clock.now + dt.timedelta(days=30), "console")
        assert (plan_of(owner.account), balance(owner.account)) == ("pro", 5_000 + PRO)
        [note] = told(owner.account, "confirmed")
        assert note.facts == {
            "plan": {"ar": "احترافي", "en": "Pro"}, "credits": PRO, "expires": row.ends_at.isoformat(),
        }  # fmt: skip
        assert ledger.check() == []


def test_the_same_plan_again_is_another_period(portal: Flask, clock: Clock) -> None:
    """SUB-02: from its end on, not from today; with the credit and the message of it."""
    with portal.app_context():
        owner = customer()
        one, began = begin(owner.account), clock.now
        clock.later(days=10)
        assert begin(owner.account, days=7) == one
        [row] = rows()
        assert row.ends_at == began + dt.timedelta(days=37)
        assert (periods(owner.account), balance(owner.account)) == (2, 2 * PRO)
        assert [note.facts["expires"] for note in told(owner.account, "confirmed")] == [
            (began + dt.timedelta(days=30)).isoformat(), row.ends_at.isoformat(),
        ]  # fmt: skip


def test_what_can_not_begin_changes_nothing(portal: Flask) -> None:
    """SUB-03: an unknown plan or a withdrawn one, or for nobody: no plan, no credit, no message."""
    with portal.app_context():
        owner = customer()
        begin(owner.account)
        db.session.execute(sa.update(Plan).where(Plan.id == "basic").values(enabled=False))
        db.session.commit()
        refused: list[tuple[type[Exception], Callable[[], str]]] = [
            (NoSuchPlan, partial(begin, owner.account, "gold")),
            (NoSuchPlan, partial(begin, owner.account, "basic")),
            (LookupError, partial(begin, "0" * 32)),
        ]
        for error, call in refused:
            with pytest.raises(error):
                call()
            db.session.rollback()
        assert (plan_of(owner.account), periods(owner.account), len(rows())) == ("pro", 1, 1)
        assert len(notes()) == 1
        assert ledger.check() == []


def test_a_message_that_fails_takes_the_credit_along(portal: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """SUB-01: one transaction: no credit without its message, no plan without its credit."""
    with portal.app_context():
        owner = customer()

        def broken(*_: Any, **__: Any) -> bool:
            raise RuntimeError

        monkeypatch.setattr(subscriptions, "notify", broken)
        with pytest.raises(RuntimeError):
            begin(owner.account)
        db.session.rollback()
        assert (plan_of(owner.account), balance(owner.account), rows()) == ("basic", 0, [])


def test_the_highest_plan_is_news_to_staff_once(portal: Flask, clock: Clock) -> None:
    """NOTIF-10: a new Enterprise customer; not with each period, and not for other plans."""
    with portal.app_context():
        other, owner = customer(), customer()
        begin(other.account)
        one = begin(owner.account, "enterprise")
        begin(owner.account, "enterprise")
        [event] = db.session.scalars(sa.select(Event).where(Event.kind == events.ENTERPRISE_CUSTOMER))
        assert (event.occasion, event.facts) == (one, {"account": owner.account, "plan": "enterprise"})


def test_ten_at_once_are_ten_periods_of_one_subscription(portal: Flask, clock: Clock) -> None:
    """SUB-02; never again, "Paid subscribers never activated": each has its days, its credit and its message."""
    with portal.app_context():
        owner = customer()
    results = at_once(portal, 10, begin, owner.account)
    with portal.app_context():
        [row] = rows()
        assert results == [row.id] * 10
        assert (row.state, row.ends_at) == ("active", clock.now + dt.timedelta(days=300))
        assert (periods(owner.account), balance(owner.account)) == (10, 10 * PRO)
        ends = {note.facts["expires"] for note in told(owner.account, "confirmed")}
        assert ends == {(clock.now + dt.timedelta(days=30 * n)).isoformat() for n in range(1, 11)}
        assert ledger.check() == []


def test_a_period_is_added_to_what_is_there_now(portal: Flask, clock: Clock) -> None:
    """SUB-02: not to what this session read before somebody else extended it."""
    with portal.app_context():
        owner = customer()
        mine = subscriptions.activate(owner.account, "pro", reference=new_id(), actor="a")
        assert at_once(portal, 1, begin, owner.account) == [mine.id]
        again = subscriptions.activate(owner.account, "pro", reference=new_id(), actor="a")
        assert again.ends_at == rows()[0].ends_at == clock.now + dt.timedelta(days=90)


# --- three days before -----------------------------------------------------------------------------------------------


def test_who_is_near_the_end_is_reminded_once(portal: Flask, clock: Clock) -> None:
    """NOTIF-06: within three days, once an end; extended, the new end is another one."""
    with portal.app_context():
        owner = customer()
        begin(owner.account)
        end = rows()[0].ends_at
        clock.now = dt.datetime.combine(end.astimezone(KUWAIT).date() - dt.timedelta(days=4), dt.time(9), KUWAIT)
        assert subscriptions.remind() == 0
        clock.later(days=1)
        assert subscriptions.remind() == 1
        assert [subscriptions.remind() for _ in range(10)] == [0] * 10
        [note] = told(owner.account, "expiring")
        assert note.facts == {"plan": {"ar": "احترافي", "en": "Pro"}, "expires": end.isoformat()}
        begin(owner.account)
        assert subscriptions.remind() == 0
        clock.later(days=30)
        assert subscriptions.remind() == 1
        assert len(told(owner.account, "expiring")) == 2


def test_reminders_of_two_schedulers_are_one(portal: Flask, clock: Clock) -> None:
    """NOTIF-06: eight at once over five subscriptions: five messages, each counted by one of them."""
    with portal.app_context():
        owners = [customer() for _ in range(5)]
        for owner in owners:
            begin(owner.account)
    clock.later(days=28)
    results = at_once(portal, 8, subscriptions.remind)
    assert sum(result for result in results if isinstance(result, int)) == 5, results
    with portal.app_context():
        assert [len(told(owner.account, "expiring")) for owner in owners] == [1] * 5


def test_who_cancelled_is_not_reminded_and_the_ended_are_not(portal: Flask, clock: Clock) -> None:
    """NOTIF-06, SUB-04: who said that they will not go on is left alone."""
    with portal.app_context():
        cancelled, over = customer(), customer()
        for owner in (cancelled, over):
            begin(owner.account)
        change = sa.update(Subscription).where(Subscription.account_id == cancelled.account)
        db.session.execute(change.values(state="cancelled"))
        db.session.commit()
        clock.later(days=29)
        db.session.execute(
            sa.update(Subscription).where(Subscription.account_id == over.account).values(ends_at=clock.now)
        )
        db.session.commit()
        assert subscriptions.remind() == 0
        assert told(cancelled.account, "expiring") == []


# --- the end ---------------------------------------------------------------------------------------------------------


def test_at_the_end_the_account_falls_and_keeps_its_credit(portal: Flask, clock: Clock) -> None:
    """SUB-04: to the free level, at the instant and not before; told once, and by day."""
    with portal.app_context():
        owner, other = customer(), customer()
        begin(owner.account)
        begin(other.account, days=31)
        clock.later(days=30, seconds=-1)
        assert subscriptions.end_due() == 0
        clock.later(seconds=1)
        assert subscriptions.end_due() == 1
        assert [subscriptions.end_due() for _ in range(3)] == [0] * 3
        row, other_row = rows()
        assert (row.state, row.running_of, row.ended_at) == ("ended", None, clock.now)
        assert (plan_of(owner.account), balance(owner.account)) == ("basic", PRO)
        assert (plan_of(other.account), other_row.state) == ("pro", "active")
        [note] = told(owner.account, "ended")
        assert [way.address for way in deliveries() if way.notification_id == note.id] == [owner.phone]


def test_a_new_plan_after_the_end_is_not_ended_with_the_old_one(portal: Flask, clock: Clock) -> None:
    """SUB-04: bought after the old one ran out, before the clock saw it: that is history, and this runs."""
    with portal.app_context():
        owner = customer()
        old = begin(owner.account)
        clock.later(days=30, minutes=1)
        new = begin(owner.account, "enterprise")
        assert new != old
        assert subscriptions.end_due() == 0
        assert [(row.id, row.state, row.running_of) for row in rows()] == [
            (old, "ended", None), (new, "active", owner.account),
        ]  # fmt: skip
        assert (plan_of(owner.account), balance(owner.account)) == ("enterprise", PRO + ENTERPRISE)


def test_the_gate_follows_at_once(app: Flask, clock: Clock) -> None:
    """SUB-04: the very next request knows the plan, as a worker's cache is told of the change."""
    layla = Cast(app).layla

    def ask() -> int:
        answer = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(model="gpt-oss:20b", max_tokens=5))
        answer.read()
        return answer.status

    assert ask() == 403
    with app.app_context():
        begin(layla.account_id)
    assert ask() == 200
    clock.later(days=30)
    with app.app_context():
        assert subscriptions.end_due() == 1
    assert ask() == 403


def test_an_end_and_an_extension_at_the_same_moment_agree(portal: Flask, clock: Clock) -> None:
    """SUB-04: four that end and four that buy, over six accounts: nobody is broken off (locks are taken in one order),
    every purchase has its days, its credit and its message, and each account has the plan that runs."""
    with portal.app_context():
        owners = [customer() for _ in range(6)]
        for owner in owners:
            begin(owner.account, days=1)
    clock.later(days=1)

    def end() -> list[str]:
        with portal.app_context():
            return [str(subscriptions.end_due())]

    def buy(number: int) -> list[str]:
        with portal.app_context():
            return [begin(owner.account, "pro", days=30) for owner in owners[number:] + owners[:number]]

    calls: list[Callable[[], object]] = [call for n in range(4) for call in (end, partial(buy, n))]
    results = Threads(*calls).wait(60)
    assert [result for result in results if not isinstance(result, list)] == []
    with portal.app_context():
        for owner in owners:
            *old, new = rows(Subscription.account_id == owner.account)  # ended first, or prolonged from its end
            assert [row.id for row in rows(Subscription.running_of == owner.account)] == [new.id]
            assert {row.state for row in old} <= {"ended"}
            assert (new.state, plan_of(owner.account)) == ("active", "pro")
            assert new.ends_at == clock.now + dt.timedelta(days=120)
            assert (periods(owner.account), len(told(owner.account, "confirmed"))) == (5, 5)
        assert ledger.check() == []


def test_an_end_waits_for_a_purchase_and_not_the_other_way_round(portal: Flask, clock: Clock) -> None:
    """SUB-04: both lock the account first. An end that held the subscription and waited for the account was a deadlock
    with the purchase that held the account, and the database broke one of them off."""
    with portal.app_context():
        owner = customer()
        one = begin(owner.account, days=1)
        clock.later(days=1)

        def end() -> int:
            with portal.app_context():
                return subscriptions.end_due()

        with db.engine.begin() as purchase:
            purchase.execute(sa.update(Account).where(Account.id == owner.account).values(plan_id="pro"))
            ending = Threads(end)
            time.sleep(0.3)
            purchase.execute(sa.update(Subscription).where(Subscription.id == one).values(actor="x"))
        assert ending.wait() == [1]
        assert plan_of(owner.account) == "basic"


def test_a_plan_that_runs_is_never_taken_by_an_end(
    portal: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SUB-04: extended after the clock had read who is due and before it wrote: nothing ends, nobody is told so."""
    with portal.app_context():
        owner = customer()
        one = begin(owner.account)
        clock.later(days=30)
        due = subscriptions._running(Subscription.ends_at <= clock.now)
        clock.later(days=-1)
        begin(owner.account)
        clock.later(days=1)
        monkeypatch.setattr(subscriptions, "_running", lambda *_: due)
        assert subscriptions.end_due() == 0
        assert [(row.id, row.state) for row in rows()] == [(one, "active")]
        assert (plan_of(owner.account), told(owner.account, "ended")) == ("pro", [])
