"""Whether a kept card will renew a subscription, or why not: one rule for renewals, reminders and pages.

Who let us keep a card agreed to what they had paid for. A period that costs more, lasts less or brings less credit than
that one is not taken from the card: they are reminded like those without a card, and decide. Reads only.
"""

import datetime as dt
from typing import Final, Literal

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Account, Payment, SavedCard, Subscription, User
from portal.services import tunables

BEFORE: Final = dt.timedelta(days=1)
"""So long before its end a renewal begins."""
Obstacle = Literal[
    "", "closed", "no_card", "not_active", "suspended", "plan_withdrawn", "card_expired", "terms_changed", "given_back"
]


def obstacle(subscription: Subscription) -> Obstacle:
    """What keeps it from being renewed by itself; empty: nothing. Two queries at most, and its plan's."""
    if subscription.card_id is None:
        return "no_card"
    if not tunables.get("automatic_renewal"):
        return "closed"
    if subscription.state != "active":
        return "not_active"
    plan = subscription.plan
    paid = sa.and_(
        Payment.account_id == SavedCard.account_id, Payment.subscription_id == subscription.id,
        Payment.item == plan.id, Payment.state == "paid",
    )  # fmt: skip
    card, last, *suspended = db.session.execute(
        sa.select(SavedCard, Payment, Account.suspended_at, User.suspended_at)
        .join(Account, Account.id == SavedCard.account_id)
        .join(User, User.id == Account.owner_id)
        .outerjoin(Payment, paid)
        .where(SavedCard.id == subscription.card_id)
        .order_by(Payment.paid_at.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one()
    if card.removed_at is not None:
        return "no_card"
    if any(suspended):
        return "suspended"
    if not plan.enabled or plan.price_fils == 0:
        return "plan_withdrawn"
    if _is_over(card, max(clock.utcnow(), subscription.ends_at - BEFORE)):
        return "card_expired"
    if last is None:
        return "terms_changed"  # begun by staff: nobody has agreed to a price
    if last.refunded_fils == last.paid_fils:
        return "given_back"
    worse = plan.price_fils > last.paid_fils or plan.credits < last.credits or plan.period_days < last.period_days
    return "terms_changed" if worse else ""


def _is_over(card: SavedCard, at: dt.datetime) -> bool:
    """Whether the card can't be charged at that instant: after the month that is printed on it. One that nobody can
    read is tried: the bank knows."""
    if not (card.expiry_month.isdecimal() and card.expiry_year.isdecimal()):
        return False
    year, month = int(card.expiry_year), int(card.expiry_month)
    day = clock.kuwait_day(at)
    return 1 <= month <= 12 and (year if year > 99 else 2000 + year, month) < (day.year, day.month)
