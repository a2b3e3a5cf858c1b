"""Subscriptions: a plan until an instant. Begun, prolonged, changed for another, cancelled, reminded of, and ended.

A day before nothing happens; at the end (and its grace, a setting) the account falls to the free level and keeps its
credit. What a payment has to do with it is the payment's business: `give` is part of its transaction. Which time a
period gives, beside whatever runs, is `terms.py`'s.
"""

import datetime as dt
import logging
from typing import Any

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.freshness import changing
from portal.ids import new_id
from portal.models import Account, Plan, Subscription
from portal.services import events, ledger, renewable, tunables
from portal.services.notifications import notify
from portal.services.terms import terms

log = logging.getLogger("portal.subscriptions")
FREE_PLAN = "basic"
REMIND_DAYS = 3
RUNNING = ("active", "cancelled", "grace")


class NoSuchPlan(LookupError):
    """There is no such plan, or it is not sold."""


class NothingRuns(LookupError):
    """The account has no subscription to which this can be done."""


def running(account_id: str) -> Subscription | None:
    """What the account has now, its plan loaded."""
    query = sa.select(Subscription).where(Subscription.running_of == account_id)
    return db.session.scalar(query.options(sa.orm.joinedload(Subscription.plan)))


def activate(account_id: str, plan_id: str, *, reference: str, actor: str, days: int | None = None) -> Subscription:
    """Begin, prolong or change a plan, with a period's credit and the message of it. Commits.

    reference: what was paid, such as a transfer's number: the same one never gives a second period, however many tell
    of it. days: how long, by default the plan's own period. actor: who caused it (`console`, `user:<id>`).
    Raises NoSuchPlan, ledger.AlreadyBooked, LookupError for an unknown account.
    """
    plan = db.session.get(Plan, plan_id)
    if plan is None or not plan.enabled:
        raise NoSuchPlan(plan_id)
    length, credits = dt.timedelta(days=days or plan.period_days), plan.credits
    with changing(f"account:{account_id}"):
        lock(account_id)
        try:
            given, _ = give(account_id, plan_id, length, credits, reference=reference, actor=actor)
        except ledger.AlreadyBooked:
            db.session.rollback()
            raise
        db.session.commit()
    return given


def lock(account_id: str) -> None:
    """The wallet before the account, as whoever credits and then tells: MariaDB locks the account for the message.

    Raises LookupError for an unknown account.
    """
    ledger.lock(account_id)
    db.session.scalar(sa.select(Account.id).where(Account.id == account_id).with_for_update())


def give(
    account_id: str,
    plan_id: str,
    length: dt.timedelta,
    credits: int,
    *,
    reference: str,
    actor: str,
    fils: int | None = None,
) -> tuple[Subscription, dt.timedelta]:
    """A period of a plan in the caller's transaction, behind `lock`: its time, its credit (milli-credits) and its
    message; the caller commits, within `changing("account:…")`. fils: what was paid; by default the plan's price.

    Returns the subscription and the time that was paid for: what the days left of another plan became is not part of
    it. Raises ledger.AlreadyBooked.
    """
    now = clock.utcnow()
    plan = db.session.get_one(Plan, plan_id)
    # As it is behind the lock: a row that this session read earlier may have been prolonged meanwhile.
    present = sa.select(Subscription).where(Subscription.running_of == account_id)
    old = db.session.scalar(present.execution_options(populate_existing=True))
    deal = terms(old, plan, length, now, fils)
    if deal.move == "extend" or deal.move == "convert":
        assert old is not None
        current = old
        current.ends_at = deal.ends_at
        if current.state == "cancelled":
            current.card_id = None  # whoever cancelled and pays by hand is not charged by itself afterwards
        if deal.move == "extend":
            current.state = "active"
    else:
        cancelled = old is not None and old.state == "cancelled"
        if old is not None:
            _end(old, now)
        current = Subscription(
            id=new_id(), account_id=account_id, plan_id=plan_id, state="active", starts_at=now, ends_at=deal.ends_at,
            running_of=account_id, actor=actor, price_fils=0, period_days=plan.period_days,
        )  # fmt: skip
        if old is not None and old.ends_at > now and not cancelled:
            current.card_id = old.card_id  # whoever renewed the smaller plan by card goes on with the greater one
        db.session.add(current)
    if current.plan_id == plan_id:
        current.price_fils = plan.price_fils if fils is None else fils
        current.period_days = plan.period_days if fils is None else length.days
    db.session.execute(sa.update(Account).where(Account.id == account_id).values(plan_id=current.plan_id))
    db.session.flush()
    own = deal.given - deal.carried
    if credits:
        meta = {"plan": plan_id, "subscription": current.id, "seconds": int(own.total_seconds())}
        ledger.credit(account_id, credits, kind="subscription", reference=reference, actor=actor, meta=meta)
    had = db.session.get_one(Plan, current.plan_id)  # not always the one that was paid for: a lower one prolongs it
    facts: dict[str, Any] = {
        "plan": {"ar": had.name_ar, "en": had.name_en}, "expires": current.ends_at.isoformat(),
    }  # fmt: skip
    if not notify(account_id, "subscription_confirmed", reference, credits=credits, **facts):
        raise ledger.AlreadyBooked(f"subscription {reference}")  # a plan without credit has no entry to tell
    highest = db.session.scalar(sa.select(sa.func.max(Plan.rank)).where(Plan.enabled))
    if plan.rank == highest and current.plan_id == plan_id:
        events.record(db.session, events.ENTERPRISE_CUSTOMER, current.id, account=account_id, plan=plan_id)
    return current, own


def take_back(subscription: Subscription, time: dt.timedelta) -> None:
    """What is left of a refunded payment's time (`given_time`), in the caller's transaction behind `lock`: it ends so
    much earlier, and at once where nothing is left."""
    now = clock.utcnow()
    subscription.ends_at = max(now, subscription.ends_at - time)
    if subscription.ends_at <= now:
        _end(subscription, now)
        db.session.execute(
            sa.update(Account).where(Account.id == subscription.account_id).values(plan_id=FREE_PLAN)
        )  # fmt: skip
        _tell_end(subscription.account_id, subscription.id, subscription.plan, subscription.ends_at)
    db.session.flush()


def cancel(account_id: str) -> Subscription:
    """It runs to its end, is not renewed and not reminded of. Commits. Raises NothingRuns."""
    return _turn(account_id, ("active", "grace"), "cancelled")


def reactivate(account_id: str) -> Subscription:
    """As if it had not been cancelled. Commits. Raises NothingRuns when none is, or its end is past."""
    return _turn(account_id, ("cancelled",), "active")


def stop_renewing(account_id: str) -> None:
    """It goes on to its end, and no card is charged for another period. Commits. Raises NothingRuns."""
    _lock_known(account_id)
    renews = sa.update(Subscription).where(Subscription.running_of == account_id, Subscription.card_id.is_not(None))
    if db.session.execute(renews.values(card_id=None)).rowcount != 1:  # type: ignore[attr-defined]
        db.session.rollback()
        raise NothingRuns(account_id)
    db.session.commit()


def remind() -> int:
    """Tell everybody whose subscription ends within three days, once an end. Returns how many. Commits.

    Not those who cancelled, and not those whose card will be charged in time.
    """
    now = clock.utcnow()
    last = clock.kuwait_day(now) + dt.timedelta(days=REMIND_DAYS)
    until = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), clock.KUWAIT).astimezone(dt.UTC)
    due = (Subscription.state == "active", Subscription.ends_at > now, Subscription.ends_at < until)
    return sum(remind_of(row.id) for row in _running(*due) if row.card_id is None or not _renews(row.id))


def remind_of(subscription_id: str) -> bool:
    """Tell its owner that it is about to end, once an end. Returns whether that is news. Commits."""
    for row in _running(Subscription.id == subscription_id, Subscription.state == "active"):
        facts = {"plan": {"ar": row.name_ar, "en": row.name_en}, "expires": row.ends_at.isoformat()}
        told = notify(row.account_id, "subscription_expiring", f"{row.id}:{row.ends_at.isoformat()}", **facts)
        db.session.commit()
        return told
    return False  # cancelled or ended a moment ago


def end_due() -> int:
    """End what has run out, or let its grace begin: at the end of both the account falls to the free level, its credit
    stays. Returns how many ended. Commits."""
    now, grace = clock.utcnow(), dt.timedelta(hours=tunables.get("grace_hours"))
    ended = 0
    for row in _running(Subscription.ends_at <= now):
        if row.state != "cancelled" and row.ends_at + grace > now:
            if row.state == "active":
                late = sa.update(Subscription).where(Subscription.id == row.id, Subscription.ends_at == row.ends_at)
                db.session.execute(late.where(Subscription.state == "active").values(state="grace"))
                db.session.commit()
            continue
        with changing(f"account:{row.account_id}"):
            # The account first, as a purchase does: the other way round each waited for what the other had locked.
            db.session.execute(sa.update(Account).where(Account.id == row.account_id).values(plan_id=FREE_PLAN))
            claim = sa.update(Subscription).where(
                Subscription.id == row.id, Subscription.state == row.state, Subscription.ends_at == row.ends_at
            )
            over = claim.values(state="ended", running_of=None, ended_at=now)
            if db.session.execute(over.execution_options(synchronize_session=False)).rowcount != 1:  # type: ignore[attr-defined]
                db.session.rollback()  # prolonged a moment ago, or ended by another worker
                continue
            _tell_end(row.account_id, row.id, row, row.ends_at)
            db.session.commit()
        ended += 1
        log.info("subscription ended", extra={"account": row.account_id, "subscription": row.id})
    return ended


def grace_ends(subscription: Subscription) -> dt.datetime:
    """Until when an active subscription's plan is kept."""
    return subscription.ends_at + dt.timedelta(hours=tunables.get("grace_hours"))


def _renews(subscription_id: str) -> bool:
    renews = not renewable.obstacle(db.session.get_one(Subscription, subscription_id, populate_existing=True))
    db.session.rollback()
    return renews


def _tell_end(account_id: str, occasion: str, plan: Any, ends_at: dt.datetime) -> None:
    names = {"ar": plan.name_ar, "en": plan.name_en}
    notify(account_id, "subscription_ended", occasion, plan=names, expires=ends_at.isoformat())


def _turn(account_id: str, before: tuple[str, ...], after: str) -> Subscription:
    _lock_known(account_id)
    turned = sa.update(Subscription).where(
        Subscription.running_of == account_id, Subscription.state.in_(before), Subscription.ends_at > clock.utcnow()
    )
    if db.session.execute(turned.values(state=after)).rowcount != 1:  # type: ignore[attr-defined]
        db.session.rollback()
        raise NothingRuns(account_id)
    db.session.commit()
    subscription = running(account_id)
    assert subscription is not None
    return subscription


def _lock_known(account_id: str) -> None:
    """In the order of a purchase: whoever had the subscription first and then waited for its index was broken off."""
    try:
        lock(account_id)
    except LookupError:
        db.session.rollback()
        raise NothingRuns(account_id) from None


def _running(*conditions: sa.ColumnElement[bool]) -> list[sa.Row[str, str, str, dt.datetime, str, str, str | None]]:
    """Plain rows, read to the end: each is then changed in a transaction of its own."""
    query = (
        sa.select(
            Subscription.id, Subscription.account_id, Subscription.state, Subscription.ends_at, Plan.name_ar,
            Plan.name_en, Subscription.card_id,
        )
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(Subscription.state.in_(RUNNING), *conditions)
        .order_by(Subscription.ends_at)
    )  # fmt: skip
    rows = list(db.session.execute(query))
    db.session.rollback()
    return rows


def _end(subscription: Subscription, now: dt.datetime) -> None:
    subscription.state, subscription.running_of, subscription.ended_at = "ended", None, now
    db.session.flush()
