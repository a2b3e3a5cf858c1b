"""A customer with a past at the till, as the rules of payments leave it: every state that a payment can be in, a plan
that runs, a kept card, money given back in part."""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from flask import Flask

from portal import clock
from portal.extensions import db
from portal.models import Paper, Payment, Refund, SavedCard, Subscription
from portal.providers.payments import KWD, Attempt, Card, Status
from portal.services import payments, tunables
from portal.services.payments import checkout
from portal.services.subscriptions import running
from tests.papers.past import give_back
from tests.services.cast import Person

STATES = ("paid", "paid", "pending", "failed", "expired", "cancelled", "held", "returned", "opening")
REASONS = {"failed": "MF004", "held": "amount", "returned": "amount"}
PACK = checkout.Item("pack", "pack-15000", "15,000 وحدة", "15,000 credits", 5_000, 15_000_000)
CARD = Card("token-of-a-card", "512345xxxxxx0008", "VISA", "01", "2039")


def write(account_id: str, item: checkout.Item, method: str = "kn", **values: object) -> str:
    """A payment as checkout leaves it once the provider has made its invoice; within an app context. Returns its id."""
    ends = (clock.utcnow() + dt.timedelta(hours=24)).replace(microsecond=0)
    payment = checkout.write(account_id, "test", item, method, expires_at=ends)
    payment.state, payment.invoice = "pending", str(int(payment.id[-12:], 16))
    payment.url = f"https://demo.myfatoorah.com/En/KWT/PayInvoice/Checkout?invoiceKey={payment.id}"
    for name, value in values.items():
        setattr(payment, name, value)
    db.session.commit()
    return payment.id


def settle(payment_id: str, *, card: Card | None = None) -> str:
    """The provider says that it was paid: what follows is the rule's. Returns its state."""
    row = db.session.get_one(Payment, payment_id)
    attempt = Attempt("07076543210123456789", "paid", "KNET", payment_id, "", "", card, clock.utcnow())
    status = Status(row.invoice or "", "paid", row.id, row.account_id, row.amount_fils, KWD, None, (attempt,))
    return payments.settle(payment_id, status, source="test")


def plan_item(plan_id: str) -> checkout.Item:
    """A plan as its row sells it; within an app context."""
    plans, _ = payments.catalogue()
    return checkout.plan_item(next(plan for plan in plans if plan.id == plan_id))


def give_plan(app: Flask, person: Person, plan_id: str = "pro", *, days: float | None = None) -> str:
    """Buy a plan, as if long enough ago that it ends in so many days. Returns the payment's id."""
    with app.app_context():
        payment_id = write(person.account_id, plan_item(plan_id))
        assert settle(payment_id) == "paid"
        if days is not None:
            end_in(person, dt.timedelta(days=days))
        return payment_id


def end_in(person: Person, time: dt.timedelta) -> None:
    """The running subscription's end; within an app context."""
    moved = sa.update(Subscription).where(Subscription.running_of == person.account_id)
    db.session.execute(moved.values(ends_at=clock.utcnow() + time))
    db.session.commit()


def give_payments(app: Flask, person: Person, states: Sequence[str] = STATES) -> list[str]:
    """One payment a state, a day apart, with receipts where money counted. Returns their ids, the newest first."""
    ids = []
    with app.app_context():
        for number, state in enumerate(states):
            item = plan_item("pro") if number == 1 else PACK
            payment_id = write(person.account_id, item, ("kn", "vm")[number % 2])
            if state == "paid":
                assert settle(payment_id) == "paid"
            at = clock.utcnow() - dt.timedelta(days=number, hours=1)
            values: dict[str, object] = {"created_at": at, "reason": REASONS.get(state, "")}
            if state == "opening":
                values |= {"url": "", "invoice": None}
            if state in ("expired", "opening"):
                values["expires_at"] = at + dt.timedelta(hours=5)
            db.session.execute(sa.update(Payment).where(Payment.id == payment_id).values(state=state, **values))
            db.session.commit()
            ids.append(payment_id)
    return ids


def give_refunds(app: Flask, payment_id: str, *states: str) -> None:
    """Refunds of a part, in these states, as rows."""
    with app.app_context():
        row = db.session.get_one(Payment, payment_id)
        for state in states:
            over = None if state in ("waiting", "filed") else clock.utcnow()
            db.session.add(Refund(
                payment_id=row.id, account_id=row.account_id, amount_fils=1_000, credits=0, reason="asked for",
                actor="test", state=state, ended_at=over, open_of=None if over else row.id,
            ))  # fmt: skip
        db.session.commit()


def give_card(app: Flask, person: Person, *, renews: bool = True) -> str:
    """A kept card, which renews what runs where the operator has opened that. Returns its id."""
    with app.app_context():
        card = SavedCard(
            account_id=person.account_id, token=CARD.token + person.account_id, number=CARD.number, brand=CARD.brand,
            expiry_month=CARD.expiry_month, expiry_year=CARD.expiry_year,
        )  # fmt: skip
        db.session.add(card)
        db.session.flush()
        if renews and (row := running(person.account_id)) is not None:
            row.card_id = card.id
            tunables.put("automatic_renewal", "1")
        db.session.commit()
        return card.id


def give_everything(app: Flask, person: Person) -> list[str]:
    """All of it. Returns the payments' ids, the newest first."""
    ids = give_payments(app, person)
    with app.app_context():
        receipt = db.session.scalars(sa.select(Paper).where(Paper.payment_id == ids[0])).one()
    give_back(app, receipt, 1_000, 3_000_000)
    give_refunds(app, ids[0], "waiting")
    give_card(app, person)
    return ids
