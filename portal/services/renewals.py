"""Renewing a plan by a kept card, where the operator has opened that: from a day before its end, in three tries.

A renewal is a payment like any other, made by the clock: its row first, then an invoice, then the card's token; what
became of it is asked as for every payment, and nobody is told of money before the provider says it came. A try begins
only when the one before it has failed for certain.
"""

import datetime as dt
import logging
from typing import Final

import sqlalchemy as sa

from portal import clock
from portal.errors import PortalError
from portal.extensions import db
from portal.models import Account, Payment, Plan, SavedCard, Subscription, User
from portal.providers.payments import Order, PaymentsError
from portal.services import cards, tunables
from portal.services.payments import checkout, confirm, merchant

log = logging.getLogger("portal.payments")
BEFORE: Final = dt.timedelta(days=1)
APART: Final = dt.timedelta(hours=7)
TRIES: Final = 3
VALID: Final = dt.timedelta(hours=1)
"""So long an invoice of a renewal can be paid: nobody sees it but the provider."""
FAILED: Final = ("failed", "expired", "cancelled")


def renew_due() -> int:
    """Begin every renewal that is due. Returns how many. Commits."""
    if not tunables.get("automatic_renewal") or not merchant.is_open():
        return 0
    now = clock.utcnow()
    due = sa.select(Subscription.id).where(
        Subscription.state == "active", Subscription.card_id.is_not(None), Subscription.ends_at <= now + BEFORE,
        Subscription.ends_at > now,
    )  # fmt: skip
    ids = db.session.scalars(due.order_by(Subscription.ends_at)).all()
    db.session.rollback()
    return sum(renew(subscription_id) for subscription_id in ids)


def renew(subscription_id: str) -> bool:
    """Begin the next try for one. Returns whether there was one to begin."""
    try:
        begun = _write(subscription_id)
    except sa.exc.IntegrityError:
        db.session.rollback()  # another worker began this very try
        return False
    if begun is None:
        db.session.rollback()
        return False
    payment, order, token = begun
    try:
        opened = checkout.open_invoice(payment, order)
        merchant.provider(patient=True).charge(opened, token)
    except PortalError as error:
        log.warning("renewal not opened", extra={"payment": order.reference, "error": error.code})
    except PaymentsError as fault:
        log.warning("renewal not charged", extra={"payment": order.reference, "reason": fault.reason})
    confirm(order.reference, source="renewal", patient=True)
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


def _write(subscription_id: str) -> tuple[Payment, Order, str] | None:
    """The payment of the next try, committed; None when none is due."""
    now = clock.utcnow()
    row = db.session.execute(
        sa.select(Subscription, Plan, SavedCard, User)
        .join(Plan, Plan.id == Subscription.plan_id)
        .join(SavedCard, SavedCard.id == Subscription.card_id)
        .join(Account, Account.id == Subscription.account_id)
        .join(User, User.id == Account.owner_id)
        .where(
            Subscription.id == subscription_id, Subscription.state == "active", Plan.enabled, Plan.price_fils > 0,
            SavedCard.removed_at.is_(None), Account.suspended_at.is_(None), User.suspended_at.is_(None),
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        return None
    subscription, plan, card, owner = row
    occasion = f"renewal:{subscription.id}:{subscription.ends_at.isoformat()}"
    query = sa.select(Payment.state, Payment.created_at).where(Payment.occasion.like(f"{occasion}:%"))
    tries = db.session.execute(query.order_by(Payment.created_at)).all()
    if len(tries) >= TRIES or any(one.state not in FAILED or one.created_at > now - APART for one in tries):
        return None
    ends = (now + VALID).replace(microsecond=0)
    token, language = card.token, owner.language
    name = {"ar": plan.name_ar, "en": plan.name_en}[language]
    contact = {"name": owner.name, "email": owner.email, "phone": owner.phone}
    db.session.rollback()
    method = merchant.direct_method()
    if method is None:
        return None
    item = checkout.plan_item(db.session.get_one(Plan, plan.id))
    payment = checkout.write(
        subscription.account_id, "renewal", item, method.code, expires_at=ends, occasion=f"{occasion}:{len(tries) + 1}"
    )
    db.session.commit()
    return payment, Order(
        amount_fils=payment.amount_fils, method_id=method.id, reference=payment.id, user_field=payment.account_id,
        item=name, language=language, expires_at=ends, callback=checkout.return_url(payment.id),
        failure=checkout.return_url(payment.id), webhook=checkout.webhook_url(), **contact,
    ), token  # fmt: skip
