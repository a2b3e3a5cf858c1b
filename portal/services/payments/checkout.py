"""Beginning a payment: what is bought, a row that says so, then an invoice at the provider. In this order.

The row is committed before the provider is asked: money that comes for it always finds it. What it costs and gives is
written down there, from the catalogue's rows at that moment. Where the provider's answer was lost, the sweep asks by
our own reference.
"""

import datetime as dt
import logging
import time
from typing import NamedTuple

import sqlalchemy as sa
from flask import current_app

from portal import clock
from portal.config import Settings
from portal.errors import (
    AccountSuspended,
    HigherPlanRuns,
    NoSuchMethod,
    NotForSale,
    PaymentRefused,
    PaymentServiceAway,
    TooManyPayments,
)
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Pack, Payment, PaymentEvent, Plan, User
from portal.models.base import beside_id
from portal.providers.payments import Method, Opened, Order, PaymentsError
from portal.services import subscriptions, tunables
from portal.services.payments import merchant
from portal.services.payments.schedule import next_ask
from portal.services.payments.verdict import kept_by

log = logging.getLogger("portal.payments")
AGAIN = dt.timedelta(minutes=10)
"""Who presses the button again within this comes to the same invoice: two could both be paid."""
OPENED_WITHIN = sum(merchant.SOON)
"""Seconds: so long the provider may take to make an invoice."""
UNANSWERED = "unanswered"
"""The reason of a payment whose opening had no answer."""
UNPAID_A_DAY = 40


class Item(NamedTuple):
    """Something for sale, as it is written into a payment. credits: milli-credits."""

    kind: str
    id: str
    name_ar: str
    name_en: str
    amount_fils: int
    credits: int
    period_days: int = 0


def begin(account: Account, user: User, item: str, method: str, *, language: str, keep_card: bool = False) -> Payment:
    """Make a payment and its invoice; `payment.url` is where the customer pays. Commits.

    item: a plan's or a pack's id. method: one of `merchant.methods()` by its code. keep_card: for renewals by itself,
    where the operator has opened them. Raises NotForSale, NoSuchMethod, HigherPlanRuns, TooManyPayments,
    PaymentsClosed, PaymentServiceAway, PaymentRefused, AccountSuspended.
    """
    if account.suspended_at is not None or user.suspended_at is not None:
        raise AccountSuspended  # the money would only be held
    chosen = _method(method)
    bought = _item(account, item)
    keeps = bool(keep_card and bought.kind == "plan" and chosen.code != "kn" and tunables.get("automatic_renewal"))
    payment, is_new = _write_or_find(account.id, f"user:{user.id}", bought, chosen.code, keeps)
    if not is_new:
        return _opened_by_other(payment)
    order = Order(
        amount_fils=payment.amount_fils, method_id=chosen.id, reference=payment.id,
        user_field=kept_by(account.id) if keeps else account.id, name=user.name, email=user.email, phone=user.phone,
        item=bought.name_ar if language == "ar" else bought.name_en, language=language, expires_at=payment.expires_at,
        callback=return_url(payment.id), failure=return_url(payment.id), webhook=webhook_url(),
    )  # fmt: skip
    open_invoice(payment, order)
    return payment


def open_invoice(payment: Payment, order: Order) -> Opened:
    """Ask the provider for the invoice of a committed payment, and note it. Commits.

    Raises PaymentServiceAway (the row waits for the sweep, which asks by our reference), PaymentRefused.
    """
    payment_id = payment.id
    db.session.rollback()  # nothing stays open while the provider is asked
    try:
        opened = merchant.provider().open(order)
    except PaymentsError as fault:
        log.warning("no invoice", extra={"payment": payment_id, "reason": fault.reason, "in_doubt": fault.in_doubt})
        if fault.retry_after:
            merchant.rest(fault.retry_after)
        if fault.in_doubt:
            _leave(payment_id)
        else:
            _give_up(payment_id, fault.reason)
        raise (PaymentRefused if fault.permanent else PaymentServiceAway) from fault
    # Whoever looked meanwhile found the invoice by our reference, and not its address.
    mine = sa.update(Payment).where(Payment.id == payment_id, beside_id(Payment.invoice).in_(("", opened.invoice)))
    states = sa.case((Payment.state == "opening", "pending"), else_=Payment.state)
    noted = mine.values(state=states, invoice=opened.invoice, url=opened.url)
    db.session.execute(noted, execution_options={"synchronize_session": False})
    _note(payment_id, "pending", "checkout", invoice=opened.invoice)
    db.session.commit()
    db.session.refresh(payment)
    db.session.commit()  # nothing stays open: whoever renews goes on to charge a card
    return opened


def catalogue() -> tuple[list[Plan], list[Pack]]:
    """What can be bought, the smallest first."""
    plans = db.session.scalars(sa.select(Plan).where(Plan.enabled, Plan.price_fils > 0).order_by(Plan.rank))
    packs = db.session.scalars(sa.select(Pack).where(Pack.enabled).order_by(Pack.price_fils))
    return list(plans), list(packs)


def return_url(payment_id: str) -> str:
    """Where the browser comes back to, whatever became of the payment."""
    settings: Settings = current_app.config["PORTAL"]
    return f"{settings.base_url}/billing/return/{payment_id}"


def webhook_url() -> str:
    """Where the provider tells of it; empty without a secret, since the door is shut then."""
    settings: Settings = current_app.config["PORTAL"]
    return f"{settings.base_url}/webhooks/myfatoorah" if settings.myfatoorah_webhook_secret else ""


def write(account_id: str, actor: str, item: Item, method: str, *, expires_at: dt.datetime, **more: object) -> Payment:
    """The row of a payment that is about to be opened, in the caller's transaction."""
    now = clock.utcnow()
    payment = Payment(
        id=new_id(), account_id=account_id, actor=actor, kind=item.kind, item=item.id, name_ar=item.name_ar,
        name_en=item.name_en, credits=item.credits, period_days=item.period_days, amount_fils=item.amount_fils,
        method=method, state="opening", created_at=now, expires_at=expires_at,
        due_at=next_ask(now, now, expires_at), **more,
    )  # fmt: skip
    db.session.add(payment)
    db.session.flush()
    _note(payment.id, "opening", actor)
    return payment


def plan_item(plan: Plan) -> Item:
    """A period of a plan, as it is sold now."""
    return Item("plan", plan.id, plan.name_ar, plan.name_en, plan.price_fils, plan.credits, plan.period_days)


def _write_or_find(account_id: str, actor: str, item: Item, method: str, keeps: bool) -> tuple[Payment, bool]:
    """The row, and whether it is new: of two presses at once, in two tabs, the second finds the first's."""
    subscriptions.lock(account_id)
    if (same := _begun(account_id, item, method, keeps)) is not None:
        db.session.commit()
        return same, False
    now = clock.utcnow()
    today = dt.datetime.combine(clock.kuwait_day(now), dt.time(), clock.KUWAIT)
    unpaid = sa.select(sa.func.count()).select_from(Payment).where(
        Payment.account_id == account_id, Payment.created_at >= today, Payment.state.not_in(("paid", "held"))
    )  # fmt: skip
    if (db.session.scalar(unpaid) or 0) >= UNPAID_A_DAY:
        raise TooManyPayments
    # Whole seconds: the provider is told no more.
    ends = (now + dt.timedelta(hours=tunables.get("checkout_hours"))).replace(microsecond=0)
    payment = write(account_id, actor, item, method, expires_at=ends, keeps_card=keeps)
    db.session.commit()
    return payment, True


def _opened_by_other(payment: Payment) -> Payment:
    """The same order, once whoever began it has its address. Raises PaymentServiceAway when they don't get one."""
    deadline = time.monotonic() + OPENED_WITHIN
    while not payment.url and (payment.state, payment.reason) == ("opening", "") and time.monotonic() < deadline:
        db.session.rollback()
        time.sleep(0.2)
        db.session.refresh(payment)
    db.session.commit()
    if not payment.url:
        raise PaymentServiceAway
    return payment


def _item(account: Account, item: str) -> Item:
    plan = db.session.get(Plan, item)
    if plan is not None and plan.enabled and plan.price_fils > 0:
        runs = subscriptions.running(account.id)
        if runs is not None and runs.ends_at > clock.utcnow() and runs.plan.rank > plan.rank:
            raise HigherPlanRuns
        return plan_item(plan)
    pack = db.session.get(Pack, item)
    if pack is None or not pack.enabled:
        raise NotForSale(param="item")
    count = f"{pack.credits // 1000:,}"
    return Item("pack", pack.id, f"{count} وحدة", f"{count} credits", pack.price_fils, pack.credits)


def _method(code: str) -> Method:
    db.session.rollback()
    try:
        found = next((one for one in merchant.methods() if one.code == code), None)
    except PaymentsError as fault:
        raise PaymentServiceAway from fault
    if found is None:
        raise NoSuchMethod(param="method")
    return found


def _begun(account_id: str, item: Item, method: str, keeps: bool) -> Payment | None:
    """The same order of a moment ago that can still be paid, or is just being opened."""
    now = clock.utcnow()
    can_be_paid = sa.and_(Payment.state == "pending", Payment.url != "")
    a_moment_ago = Payment.created_at > now - dt.timedelta(seconds=OPENED_WITHIN)
    being_opened = sa.and_(Payment.state == "opening", Payment.reason == "", a_moment_ago)
    query = sa.select(Payment).where(
        Payment.account_id == account_id, Payment.created_at > now - AGAIN, Payment.expires_at > now,
        sa.or_(can_be_paid, being_opened), Payment.item == item.id, Payment.kind == item.kind,
        Payment.method == method, Payment.amount_fils == item.amount_fils, Payment.credits == item.credits,
        Payment.keeps_card == keeps,
    )  # fmt: skip
    return db.session.scalar(query.order_by(Payment.created_at.desc()).limit(1))


def _leave(payment_id: str) -> None:
    """Its answer was lost: nobody waits for it, and the sweep asks by our reference."""
    lost = sa.update(Payment).where(Payment.id == payment_id, beside_id(Payment.state) == "opening")
    db.session.execute(lost.values(reason=UNANSWERED), execution_options={"synchronize_session": False})
    db.session.commit()


def _give_up(payment_id: str, why: str) -> None:
    """No invoice was made: nobody can pay it."""
    refused = sa.update(Payment).where(Payment.id == payment_id, beside_id(Payment.state) == "opening")
    now = clock.utcnow()
    db.session.execute(refused.values(state="failed", reason="refused", due_at=None, closed_at=now))
    _note(payment_id, "failed", "checkout", why=why)
    db.session.commit()


def _note(payment_id: str, what: str, source: str, **facts: object) -> None:
    db.session.add(PaymentEvent(payment_id=payment_id, what=what, source=source, facts=facts))
