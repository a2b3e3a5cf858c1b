"""Subscriptions: a plan until an instant. Started, reminded of three days before its end, and ended.

A day before nothing happens; at the end the account falls to the free level and keeps its credit. What a payment has to
do with it is the payment's business: here a subscription begins because somebody says so.
"""

import datetime as dt
import logging
from typing import Any

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.freshness import changing
from portal.ids import new_id
from portal.models import Account, Plan, Subscription, Wallet
from portal.services import events, ledger
from portal.services.notifications import notify

log = logging.getLogger("portal.subscriptions")
FREE_PLAN = "basic"
REMIND_DAYS = 3
RUNNING = ("active", "cancelled")


class NoSuchPlan(LookupError):
    """There is no such plan, or it is not sold."""


class AlreadySubscribed(Exception):
    """The account has another plan that runs. Nothing was changed."""


def activate(account_id: str, plan_id: str, *, reference: str, actor: str, days: int | None = None) -> Subscription:
    """Start a plan, or extend the same one from its end, with a period's credit and the message of it. Commits.

    reference: what was paid, such as a payment or a transfer's number: the same one never gives a second period,
    however many tell of it. days: how long, by default the plan's own period. actor: who caused it (`console`,
    `user:<id>`).
    Raises NoSuchPlan, AlreadySubscribed, ledger.AlreadyBooked, LookupError for an unknown account.
    """
    plan = db.session.get(Plan, plan_id)
    if plan is None or not plan.enabled:
        raise NoSuchPlan(plan_id)
    now, length = clock.utcnow(), dt.timedelta(days=days or plan.period_days)
    with changing(f"account:{account_id}"):
        # The wallet before the account, as whoever credits and then tells: MariaDB locks the account for the message.
        db.session.scalar(sa.select(Wallet.account_id).where(Wallet.account_id == account_id).with_for_update())
        locked = sa.update(Account).where(Account.id == account_id).values(plan_id=plan_id)
        if db.session.execute(locked).rowcount != 1:  # type: ignore[attr-defined]
            raise LookupError(f"there is no account {account_id}")
        # As it is behind the lock: a row that this session read earlier may have been extended meanwhile.
        present = sa.select(Subscription).where(Subscription.running_of == account_id)
        running = db.session.scalar(present.execution_options(populate_existing=True))
        if running is not None and running.plan_id != plan_id and running.ends_at > now:
            db.session.rollback()
            raise AlreadySubscribed
        if running is not None and running.plan_id == plan_id and running.ends_at > now:
            running.ends_at += length
            running.state = "active"
        else:
            if running is not None:
                _end(running, now)
            running = Subscription(
                id=new_id(), account_id=account_id, plan_id=plan_id, state="active", starts_at=now,
                ends_at=now + length, running_of=account_id, actor=actor,
            )  # fmt: skip
            db.session.add(running)
        db.session.flush()
        facts: dict[str, Any] = {
            "plan": {"ar": plan.name_ar, "en": plan.name_en}, "expires": running.ends_at.isoformat(),
        }  # fmt: skip
        try:
            if plan.credits:
                ledger.credit(account_id, plan.credits, kind="subscription", reference=reference, actor=actor)
            if not notify(account_id, "subscription_confirmed", reference, credits=plan.credits, **facts):
                raise ledger.AlreadyBooked(f"subscription {reference}")  # a plan without credit has no entry to tell
        except ledger.AlreadyBooked:
            db.session.rollback()
            raise
        if plan.rank == db.session.scalar(sa.select(sa.func.max(Plan.rank)).where(Plan.enabled)):
            events.record(db.session, events.ENTERPRISE_CUSTOMER, running.id, account=account_id, plan=plan_id)
        db.session.commit()
    return running


def remind() -> int:
    """Tell everybody whose subscription ends within three days, once an end. Returns how many. Commits."""
    now = clock.utcnow()
    last = clock.kuwait_day(now) + dt.timedelta(days=REMIND_DAYS)
    until = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), clock.KUWAIT).astimezone(dt.UTC)
    told = 0
    for row in _running(Subscription.ends_at > now, Subscription.ends_at < until):
        facts = {"plan": {"ar": row.name_ar, "en": row.name_en}, "expires": row.ends_at.isoformat()}
        told += notify(row.account_id, "subscription_expiring", f"{row.id}:{row.ends_at.isoformat()}", **facts)
        db.session.commit()
    return told


def end_due() -> int:
    """End what has run out: the account falls to the free level, its credit stays. Returns how many. Commits."""
    now = clock.utcnow()
    ended = 0
    for row in _running(Subscription.ends_at <= now):
        with changing(f"account:{row.account_id}"):
            # The account first, as a purchase does: the other way round each waited for what the other had locked.
            db.session.execute(sa.update(Account).where(Account.id == row.account_id).values(plan_id=FREE_PLAN))
            claim = sa.update(Subscription).where(
                Subscription.id == row.id, Subscription.state.in_(RUNNING), Subscription.ends_at == row.ends_at
            )
            over = claim.values(state="ended", running_of=None, ended_at=now)
            if db.session.execute(over.execution_options(synchronize_session=False)).rowcount != 1:  # type: ignore[attr-defined]
                db.session.rollback()  # extended a moment ago, or ended by another worker
                continue
            facts = {"plan": {"ar": row.name_ar, "en": row.name_en}, "expires": row.ends_at.isoformat()}
            notify(row.account_id, "subscription_ended", row.id, **facts)
            db.session.commit()
        ended += 1
        log.info("subscription ended", extra={"account": row.account_id, "subscription": row.id})
    return ended


def _running(*conditions: sa.ColumnElement[bool]) -> list[sa.Row[str, str, dt.datetime, str, str]]:
    """Plain rows, read to the end: each is then changed in a transaction of its own."""
    query = (
        sa.select(Subscription.id, Subscription.account_id, Subscription.ends_at, Plan.name_ar, Plan.name_en)
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(Subscription.state.in_(RUNNING), *conditions)
        .order_by(Subscription.ends_at)
    )
    rows = list(db.session.execute(query))
    db.session.rollback()
    return rows


def _end(subscription: Subscription, now: dt.datetime) -> None:
    subscription.state, subscription.running_of, subscription.ended_at = "ended", None, now
    db.session.flush()
