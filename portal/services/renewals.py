"""Renewing a plan by a kept card, where the operator has opened that: from a day before its end, in three tries.

A renewal is a payment like any other, made by the clock: its row first, then an invoice, then the card's token; what
became of it is asked as for every payment, and nobody is told of money before the provider says it came. A try begins
only when the one before it has failed for certain.
"""

import datetime as dt
import logging
from typing import Final, NamedTuple

import sqlalchemy as sa

from portal import clock
from portal.errors import PortalError
from portal.extensions import db
from portal.models import Account, Payment, SavedCard, Subscription, User
from portal.providers.payments import Order, PaymentsError
from portal.services import cards, renewable, subscriptions, tunables
from portal.services.payments import checkout, confirm, merchant

log = logging.getLogger("portal.payments")
APART: Final = dt.timedelta(hours=7)
TRIES: Final = 3
VALID: Final = dt.timedelta(hours=1)
"""So long an invoice of a renewal can be paid: nobody sees it but the provider."""
FAILED: Final = ("failed", "expired", "cancelled")


class _Hopeless(Exception):
    """It will not be renewed by itself: its owner must know, in time."""


class _Try(NamedTuple):
    payment: Payment
    order: Order
    token: str
    ends_at: dt.datetime


def renew_due() -> int:
    """Begin every renewal that is due. Returns how many. Commits."""
    if not tunables.get("automatic_renewal") or not merchant.is_open():
        return 0
    now = clock.utcnow()
    due = sa.select(Subscription.id).where(
        Subscription.state == "active", Subscription.card_id.is_not(None),
        Subscription.ends_at <= now + renewable.BEFORE, Subscription.ends_at > now,
    )  # fmt: skip
    ids = db.session.scalars(due.order_by(Subscription.ends_at)).all()
    db.session.rollback()
    return sum(_renewed(subscription_id) for subscription_id in ids)


def _renewed(subscription_id: str) -> bool:
    """One that fails stands in nobody's way, and its turn comes again."""
    try:
        return renew(subscription_id)
    except Exception:
        log.exception("renewal failed", extra={"subscription": subscription_id})
        db.session.rollback()
        return False


def renew(subscription_id: str) -> bool:
    """Begin the next try for one. Returns whether there was one to begin. Commits.

    Who can't be renewed, or not any more, is reminded of the end like those without a card, once.
    """
    try:
        begun = _write(subscription_id)
    except sa.exc.IntegrityError:
        db.session.rollback()  # another worker began this very try
        return False
    except _Hopeless as why:
        db.session.rollback()
        if subscriptions.remind_of(subscription_id):
            log.info("not renewed", extra={"subscription": subscription_id, "reason": str(why)})
        return False
    if begun is None:
        db.session.rollback()
        return False
    reference = begun.order.reference
    try:
        opened = checkout.open_invoice(begun.payment, begun.order)
        # Asked once more: a card may have been removed, or the plan paid for by hand, while the invoice was made.
        if _is_wanted(subscription_id, begun.ends_at):
            merchant.provider(patient=True).charge(opened, begun.token)
    except PortalError as error:
        log.warning("renewal not opened", extra={"payment": reference, "error": error.code})
    except PaymentsError as fault:
        log.warning("renewal not charged", extra={"payment": reference, "reason": fault.reason})
    confirm(reference, source="renewal", patient=True)
    return True


def forget_removed() -> int:
    """Have the provider forget the cards that their owners removed. Returns how many it has forgotten. Commits."""
    if not merchant.is_open():
        return 0
    forgotten = 0
    gone = [(card.id, card.token) for card in cards.removed()]
    db.session.rollback()
    for card_id, token in gone:
        try:
            merchant.provider(patient=True).forget(token)
        except PaymentsError as fault:
            if not fault.permanent:
                log.warning("card not forgotten", extra={"card": card_id, "reason": fault.reason})
                continue
        forgot = sa.update(SavedCard).where(SavedCard.id == card_id, SavedCard.removed_at.is_not(None))
        db.session.execute(forgot.values(forgotten_at=clock.utcnow()))
        db.session.commit()
        forgotten += 1
    return forgotten


def _is_wanted(subscription_id: str, ends_at: dt.datetime) -> bool:
    subscription = db.session.get_one(Subscription, subscription_id, populate_existing=True)
    wanted = subscription.ends_at == ends_at and not renewable.obstacle(subscription)
    db.session.rollback()
    return wanted


def _write(subscription_id: str) -> _Try | None:
    """The payment of the next try, committed; None when it is not its time. Raises _Hopeless."""
    now = clock.utcnow()
    subscription = db.session.get_one(Subscription, subscription_id, populate_existing=True)
    if not now < subscription.ends_at <= now + renewable.BEFORE:
        return None  # renewed since it was found due: its next end is a month away, and another occasion
    if why := renewable.obstacle(subscription):
        raise _Hopeless(why)
    occasion = f"renewal:{subscription.id}:{subscription.ends_at.isoformat()}"
    query = sa.select(Payment.state, Payment.created_at).where(Payment.occasion.like(f"{occasion}:%"))
    tries = db.session.execute(query.order_by(Payment.created_at)).all()
    if any(one.state not in FAILED for one in tries):
        return None
    if len(tries) >= TRIES:
        raise _Hopeless("every try failed")
    if any(one.created_at > now - APART for one in tries):
        return None
    owner = db.session.execute(
        sa.select(User.name, User.email, User.phone, User.language)
        .join(Account, Account.owner_id == User.id)
        .where(Account.id == subscription.account_id)
    ).one()
    token = db.session.scalars(sa.select(SavedCard.token).where(SavedCard.id == subscription.card_id)).one()
    account_id, ends_at = subscription.account_id, subscription.ends_at
    item = checkout.plan_item(subscription.plan)
    db.session.rollback()
    method = merchant.direct_method()
    if method is None:
        raise _Hopeless("the provider charges no kept cards")
    valid = (now + VALID).replace(microsecond=0)
    number = f"{occasion}:{len(tries) + 1}"
    payment = checkout.write(account_id, "renewal", item, method.code, expires_at=valid, occasion=number)
    db.session.commit()
    order = Order(
        amount_fils=payment.amount_fils, method_id=method.id, reference=payment.id, user_field=payment.account_id,
        name=owner.name, email=owner.email, phone=owner.phone,
        item=item.name_ar if owner.language == "ar" else item.name_en, language=owner.language, expires_at=valid,
        callback=checkout.return_url(payment.id), failure=checkout.return_url(payment.id),
        webhook=checkout.webhook_url(),
    )  # fmt: skip
    return _Try(payment, order, token, ends_at)
