"""What needs people: money that came and does not count, payments nobody gets an answer about, refunds that stick.

Staff let a held payment count after all, or give it back (`services/refunds`). Nothing here believes anybody but the
provider: it is asked once more before held money counts.
"""

import datetime as dt
from typing import NamedTuple

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Payment, Refund
from portal.services.payments import merchant
from portal.services.payments.confirming import read, settle
from portal.services.payments.transitions import OPEN
from portal.services.payments.verdict import COUNTABLE

LONG = dt.timedelta(hours=1)
"""After its end plus this, a payment that is still open is one that the provider tells nothing about."""
STUCK = dt.timedelta(days=3)
"""A refund that is not over by then."""


class NotHeld(Exception):
    """`str()` says why it can't be made to count. Nothing was changed."""


class Trouble(NamedTuple):
    """A line of the staff's list. what: `held`, `concern`, `unanswered`, `refund`. reason: a word of `reasons`, or
    a text."""

    what: str
    payment: str
    account: str
    fils: int
    reason: str
    since: dt.datetime


def release(payment_id: str, *, actor: str) -> str:
    """Let a held payment count, whatever held it. Returns its state. Commits.

    Raises NotHeld, NoSuchPayment, PaymentsError when the provider can't be asked.
    """
    payment = read(payment_id)
    if payment.state != "held":
        raise NotHeld(f"it is {payment.state}, not held")
    if payment.reason not in COUNTABLE:
        raise NotHeld(f"it is held for its {payment.reason}: it can only be given back")
    open_refund = db.session.scalar(sa.select(Refund.id).where(Refund.open_of == payment_id))
    db.session.rollback()
    if open_refund is not None:
        raise NotHeld("it is being given back")
    status = merchant.provider(patient=True).status(invoice=payment.invoice or "")
    if status.state != "paid":
        raise NotHeld("the provider does not say that it is paid")
    return settle(payment_id, status, source=actor, overrule=True)


def attention(limit: int = 200) -> list[Trouble]:
    """Everything that waits for people, the oldest first."""
    now = clock.utcnow()
    held = sa.select(Payment).where(Payment.state == "held")
    silent = sa.select(Payment).where(
        Payment.state.in_(OPEN), Payment.expires_at < now - LONG, Payment.due_at.is_not(None)
    )
    stuck = sa.select(Refund).where(sa.or_(
        sa.and_(Refund.open_of.is_not(None), Refund.created_at < now - STUCK),
        sa.and_(Refund.state.in_(("cancelled", "refused")), Refund.ended_at > now - dt.timedelta(days=30)),
    ))  # fmt: skip
    found = [
        Trouble("held", one.id, one.account_id, one.amount_fils, one.reason, one.created_at)
        for one in db.session.scalars(held.order_by(Payment.created_at).limit(limit))
    ]
    odd = sa.select(Payment).where(Payment.concern != "")
    found += [
        Trouble("concern", one.id, one.account_id, one.paid_fils, one.concern, one.created_at)
        for one in db.session.scalars(odd.order_by(Payment.created_at).limit(limit))
    ]
    found += [
        Trouble("unanswered", one.id, one.account_id, one.amount_fils, one.reason, one.created_at)
        for one in db.session.scalars(silent.order_by(Payment.created_at).limit(limit))
    ]
    found += [
        Trouble("refund", one.payment_id, one.account_id, one.amount_fils, one.error or one.state, one.created_at)
        for one in db.session.scalars(stuck.order_by(Refund.created_at).limit(limit))
    ]
    return sorted(found, key=lambda one: one.since)[:limit]
