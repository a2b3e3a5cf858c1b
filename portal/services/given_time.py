"""How much of the time that a payment gave is still to come, for whoever gives its money back.

Periods are used up in the order in which they were paid: what was paid later lies behind, and is nobody's to take. A
plan that was changed for a higher one took its days along at their worth (`terms`), and so does this. Reads only.
"""

import datetime as dt
from typing import NamedTuple

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import LedgerEntry, Payment, Refund, Subscription
from portal.services.terms import rate, worth


class Left(NamedTuple):
    """What is still to come of it, in the time of the subscription in which it has come to lie."""

    subscription: Subscription
    time: dt.timedelta


def left_of(payment: Payment) -> Left | None:
    """None when nothing of it is left, or nothing was given. Behind the account's lock, if it is to be acted upon."""
    if payment.subscription_id is None:
        return None
    current = db.session.get_one(Subscription, payment.subscription_id, populate_existing=True)
    own, behind = dt.timedelta(seconds=payment.seconds_given), dt.timedelta()
    while True:
        behind += _paid_later(payment, current)
        own = min(own, current.ends_at - (current.ended_at or clock.utcnow()) - behind)
        if own <= dt.timedelta():
            return None
        if current.running_of is not None:
            return Left(current, own)
        went_on = sa.select(Subscription).where(
            Subscription.account_id == current.account_id, Subscription.starts_at == current.ended_at
        )
        higher = db.session.scalar(went_on.execution_options(populate_existing=True))
        if higher is None:
            return None
        own, behind = (worth(time, rate(current), rate(higher)) for time in (own, behind))
        current = higher


def _paid_later(payment: Payment, subscription: Subscription) -> dt.timedelta:
    """What later periods gave to the subscription, transfers' too, but for those whose time was taken back already."""
    taken_back = sa.select(Refund.payment_id).where(Refund.ends_period, Refund.state == "done")
    later = sa.select(LedgerEntry.meta).where(
        LedgerEntry.account_id == payment.account_id, LedgerEntry.kind == "subscription",
        LedgerEntry.created_at >= payment.paid_at, LedgerEntry.reference != payment.id,
        LedgerEntry.reference.not_in(taken_back),
    )  # fmt: skip
    given = (meta["seconds"] for meta in db.session.scalars(later) if meta.get("subscription") == subscription.id)
    return dt.timedelta(seconds=sum(given))
