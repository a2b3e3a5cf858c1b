"""Giving money back, in two steps: asked for at the provider, and booked when it says that it was done.

What is asked for is bounded by what was paid and by the credit that is left to take back; that credit is held from
then on, so that nobody spends it meanwhile. The provider cannot tell a second asking from a repeated one: one refund a
payment at a time, and after an answer that was lost it is looked for before anything is asked again.
"""

import datetime as dt
import logging
from typing import Any, NamedTuple

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.freshness import changing
from portal.ids import new_id
from portal.models import Payment, PaymentEvent, Refund, Wallet
from portal.models.base import beside_id, database_now
from portal.providers.payments import PaymentsError, Refunded
from portal.services import credit_alerts, events, given_time, ledger, papers, subscriptions
from portal.services.notifications import notify
from portal.services.payments import NoSuchPayment, concerns, merchant
from portal.services.payments.transitions import before

log = logging.getLogger("portal.payments")
LEASE = dt.timedelta(seconds=90)
PAUSES = (60, 300, 1800, 7200, 21_600)
"""Seconds until the provider is asked again what became of it; afterwards the last again."""


class NotRefundable(Exception):
    """`str()` says why, and what would be possible. Nothing was changed."""


class Bounds(NamedTuple):
    """What can be given back of a payment now. fils: at most; credits: milli-credits that go with it."""

    fils: int
    credits: int


def bounds(payment: Payment) -> Bounds:
    """What was paid and not yet given back, as far as its credit is still there to be taken."""
    rest = payment.paid_fils - payment.refunded_fils
    if payment.state == "held":
        return Bounds(rest, 0)
    if payment.state != "paid":
        return Bounds(0, 0)
    wallet = db.session.get_one(Wallet, payment.account_id, populate_existing=True)
    fils = _covered(payment, rest, wallet.available)
    return Bounds(fils, _credits(payment, fils))


def request(payment_id: str, fils: int, *, reason: str, actor: str, ends_period: bool | None = None) -> str:
    """Ask for money to be given back, and try to file it at once. Returns the refund's id. Commits.

    fils: a multiple of 10. actor: `console`, `user:<id>`. ends_period: whether what is left of the time that a plan's
    payment gave goes back too; by default with a whole refund or the part that makes it whole, not with another part.
    Raises NotRefundable, NoSuchPayment, ValueError.
    """
    reason = reason.strip()
    if not reason or fils <= 0 or fils % 10:
        raise ValueError("a refund has a reason and an amount in steps of 10 fils")
    account_id = db.session.scalar(sa.select(Payment.account_id).where(Payment.id == payment_id))
    if account_id is None:
        raise NoSuchPayment(payment_id)
    db.session.rollback()
    try:
        refund_id = _write(payment_id, account_id, fils, reason[:300], actor, ends_period)
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise
    carry_on(refund_id)
    return refund_id


def carry_on(refund_id: str, *, patient: bool = True) -> str:
    """Do the next step of a refund: file it, or ask what became of it. Returns its state. Commits.

    patient: nobody waits for the answer.
    Safe to call by many at once; a provider that can't be asked is no error.
    """
    refund = _claim(refund_id)
    if refund is None:
        db.session.rollback()
        return db.session.scalar(sa.select(Refund.state).where(Refund.id == refund_id)) or ""
    payment_id, fils, reason, own = refund.payment_id, refund.amount_fils, refund.reason, refund.provider_refund
    filed, looks = refund.state == "filed", refund.in_doubt or refund.state == "filed"
    invoice = db.session.scalar(sa.select(Payment.invoice).where(Payment.id == payment_id)) or ""
    others = sa.select(Refund.provider_refund).where(Refund.payment_id == payment_id, Refund.id != refund_id)
    known = set(db.session.scalars(others))
    refund.in_doubt = True  # from here on it may be there, should this process end now
    db.session.commit()
    provider = merchant.provider(patient=patient)
    found = None
    if looks:
        try:
            found = _find(provider.refunds(invoice), refund_id, fils, own, known)
        except PaymentsError as fault:
            return _unanswered(refund_id, fault)
        if filed and found is None:
            return _unanswered(refund_id, PaymentsError("the provider no longer knows the refund"))
    if found is None:
        try:
            found = provider.refund(invoice, fils, refund_id, reason)
        except PaymentsError as fault:
            return _not_filed(refund_id, fault)
    return _note(refund_id, found)


def hear(payment_id: str, provider_refund: str) -> None:
    """Somebody told of a refund: ours is asked about, by the next sweep where it can't be now; one that is not ours is
    people's business. Commits.

    provider_refund: the provider's id of one that was made, empty for another.
    """
    opened = db.session.scalar(sa.select(Refund.id).where(Refund.open_of == payment_id))
    mine = sa.update(Refund).where(Refund.id == opened, beside_id(Refund.open_of) != "")
    known = sa.select(Refund.id).where(Refund.payment_id == payment_id, Refund.provider_refund == provider_refund)
    if opened is not None:
        db.session.execute(mine.values(due_at=clock.utcnow()), execution_options={"synchronize_session": False})
    elif provider_refund and db.session.scalar(known) is None:
        concerns.note(payment_id, concerns.REFUNDED, source="webhook", key=provider_refund, refund=provider_refund)
    filed = db.session.scalar(sa.select(Refund.id).where(Refund.open_of == payment_id, Refund.state == "filed"))
    db.session.commit()
    if filed is not None:
        carry_on(filed, patient=False)


def of_payment(payment_id: str) -> list[Refund]:
    """Every refund of a payment, the oldest first."""
    return list(db.session.scalars(sa.select(Refund).where(Refund.payment_id == payment_id).order_by(Refund.id)))


def due(limit: int = 50) -> list[str]:
    """Ids of refunds whose next step is due."""
    waiting = sa.select(Refund.id).where(Refund.open_of.is_not(None), Refund.due_at <= clock.utcnow())
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        return list(connection.scalars(waiting.order_by(Refund.due_at).limit(limit)))


def _credits(payment: Payment, fils: int, earlier: int | None = None) -> int:
    """Milli-credits that go with so many fils, after what went earlier (all that was asked for until now, unless it is
    said otherwise): all parts together are all of it."""
    earlier = payment.refunded_fils if earlier is None else earlier
    after = payment.credits * (earlier + fils) // payment.paid_fils
    return after - payment.credits * earlier // payment.paid_fils


def _covered(payment: Payment, fils: int, available: int) -> int:
    """As many of the fils, in steps of ten, as go with no more than the credit that is available."""
    if _credits(payment, fils) <= available:
        return fils
    # One milli-credit more than there is: the rounding of a part may be that much in its favour, and never more.
    fils = min(fils, (available + 1) * payment.paid_fils // payment.credits) // 10 * 10
    while fils and _credits(payment, fils) > available:
        fils -= 10
    return fils


def _write(payment_id: str, account_id: str, fils: int, reason: str, actor: str, ends_period: bool | None) -> str:
    ledger.lock(account_id)
    payment = db.session.get_one(Payment, payment_id, populate_existing=True, with_for_update=True)
    if payment.state not in ("paid", "held"):
        raise NotRefundable(f"it is {payment.state}, not paid")
    if db.session.scalar(sa.select(Refund.id).where(Refund.open_of == payment_id)) is not None:
        raise NotRefundable("another refund of it is under way; one at a time")
    most = bounds(payment)
    if payment.state == "held" and fils != most.fils:
        raise NotRefundable("it never counted, so it can only be given back whole")
    if fils > most.fils:
        raise NotRefundable(f"at most {most.fils} fils can be given back: the rest was given back or its credit spent")
    credits = 0 if payment.state == "held" else _credits(payment, fils)
    whole = payment.refunded_fils + fils == payment.paid_fils
    takes_time = payment.kind == "plan" and payment.state == "paid" and (whole if ends_period is None else ends_period)
    now = clock.utcnow()
    refund = Refund(
        id=new_id(), payment_id=payment_id, account_id=account_id, open_of=payment_id, amount_fils=fils,
        credits=credits, reason=reason, actor=actor, state="waiting", created_at=now, due_at=now,
        ends_period=takes_time and not _time_was_taken(payment_id),
    )  # fmt: skip
    try:
        ledger.set_aside(account_id, credits)
    except ledger.NotCovered as error:
        raise NotRefundable("the credit that goes with it was spent a moment ago") from error
    payment.refunded_fils += fils
    db.session.add(refund)
    _trail(refund, "waiting", actor, reason=reason)
    return refund.id


def _time_was_taken(payment_id: str) -> bool:
    """By an earlier part: nobody's time is taken twice."""
    taken = sa.select(Refund.id).where(Refund.payment_id == payment_id, Refund.ends_period, Refund.state == "done")
    return db.session.scalar(taken.limit(1)) is not None


def _claim(refund_id: str) -> Refund | None:
    """Take it for the length of a lease, by the database's clock."""
    db.session.rollback()
    present: dt.datetime = db.session.execute(sa.select(database_now())).scalar_one()
    free = sa.or_(Refund.lease_until.is_(None), Refund.lease_until < present)
    claim = sa.update(Refund).where(Refund.id == refund_id, beside_id(Refund.open_of) != "", free)
    values = {"lease_until": present + LEASE, "asks": Refund.asks + 1}
    if db.session.execute(claim.values(**values), execution_options={"synchronize_session": False}).rowcount != 1:  # type: ignore[attr-defined]
        return None
    db.session.commit()
    return db.session.get_one(Refund, refund_id, populate_existing=True)


def _find(
    there: tuple[Refunded, ...], refund_id: str, fils: int, own: str | None, known: set[str | None]
) -> Refunded | None:
    """Ours among what the provider has: by its id, by our reference, and where it keeps no reference, by the amount of
    one that is nobody else's."""
    for one in there:
        if one.id == own or one.reference == refund_id:
            return one
    return next((one for one in there if not one.reference and one.amount_fils == fils and one.id not in known), None)


def _unanswered(refund_id: str, fault: PaymentsError) -> str:
    """What became of it is not known: it is asked again."""
    log.warning("refund unanswered", extra={"refund": refund_id, "reason": fault.reason, "in_doubt": fault.in_doubt})
    if fault.retry_after:
        merchant.rest(fault.retry_after)
    refund = db.session.get_one(Refund, refund_id, populate_existing=True)
    _again(refund, fault.reason)
    db.session.commit()
    return refund.state


def _not_filed(refund_id: str, fault: PaymentsError) -> str:
    """It was asked for, and the provider did not take it, or its answer was lost."""
    if fault.permanent and not fault.in_doubt:
        return _give_up(refund_id, "refused", fault.reason)
    if not fault.in_doubt:
        plainly = sa.update(Refund).where(Refund.id == refund_id, beside_id(Refund.state) == "waiting")
        db.session.execute(plainly.values(in_doubt=False))
    return _unanswered(refund_id, fault)


def _note(refund_id: str, found: Refunded) -> str:
    """What the provider says of it."""
    if found.state == "refunded":
        return _done(refund_id, found)
    if found.state == "canceled":
        return _give_up(refund_id, "cancelled", "the provider did not carry it out", found.id)
    refund = db.session.get_one(Refund, refund_id, populate_existing=True)
    if refund.state == "waiting":
        refund.state, refund.provider_refund = "filed", found.id[:40]
        _trail(refund, "filed", "provider", provider=found.id)
    _again(refund, "")
    db.session.commit()
    return refund.state


def _done(refund_id: str, found: Refunded) -> str:
    """The transaction of money given back: wallet, payment, account, subscription, numbers, in this order of locks."""
    account_id = db.session.scalar(sa.select(Refund.account_id).where(Refund.id == refund_id)) or ""
    db.session.rollback()
    with changing(f"account:{account_id}"):
        try:
            ledger.lock(account_id)
            if not _end(refund_id, "done", found.id, ""):
                db.session.rollback()
                return db.session.scalar(sa.select(Refund.state).where(Refund.id == refund_id)) or ""
            refund = db.session.get_one(Refund, refund_id, populate_existing=True)
            payment = db.session.get_one(Payment, refund.payment_id, populate_existing=True, with_for_update=True)
            _fit(refund, payment, found)
            _trail(refund, "done", "provider", provider=found.id)
            balance = _take(refund, payment)
            if payment.state == "held":
                returned = sa.update(Payment).where(
                    Payment.id == payment.id, beside_id(Payment.state).in_(before("returned"))
                )
                db.session.execute(returned.values(state="returned", closed_at=clock.utcnow()))
            else:
                papers.credit_note(refund, payment, refund.credits)
            amount, credits = refund.amount_fils, refund.credits
            notify(account_id, "refund_made", refund_id, amount=amount, credits=credits, balance=balance)
            db.session.commit()
        except BaseException:
            db.session.rollback()
            raise
    log.info("refund done", extra={"refund": refund_id})
    return "done"


def _fit(refund: Refund, payment: Payment, found: Refunded) -> None:
    """The provider's people carry refunds out by hand: where another amount went back, the books have that one (never
    more than was asked for), and people look at it."""
    asked, given = refund.amount_fils, found.amount_fils
    if given is None or given == asked:
        return
    concerns.note(payment.id, concerns.OTHER_AMOUNT, source="provider", key=refund.id, asked=asked, given=given)
    if not 0 < given < asked or given % 10 or payment.state == "held":
        return
    credits = _credits(payment, given, payment.refunded_fils - asked) if refund.credits else 0
    ledger.release(refund.account_id, refund.credits - credits)
    payment.refunded_fils -= asked - given
    refund.amount_fils, refund.credits = given, credits
    db.session.flush()


def _take(refund: Refund, payment: Payment) -> int:
    """The credit and the time that go back. Returns the balance afterwards, in milli-credits."""
    if refund.ends_period:
        subscriptions.lock(refund.account_id)
        if (left := given_time.left_of(payment)) is not None:
            subscriptions.take_back(left.subscription, left.time)
    if not refund.credits:
        return db.session.get_one(Wallet, refund.account_id, populate_existing=True).balance
    entry = ledger.take_aside(
        refund.account_id, refund.credits, kind="refund", reference=refund.id, actor=refund.actor,
        meta={"payment": payment.id, "reason": refund.reason},
    )  # fmt: skip
    credit_alerts.taken(entry)
    return entry.balance_after


def _give_up(refund_id: str, state: str, why: str, provider_refund: str | None = None) -> str:
    """It was not made: the credit is free again, and staff must know."""
    account_id = db.session.scalar(sa.select(Refund.account_id).where(Refund.id == refund_id)) or ""
    db.session.rollback()
    try:
        ledger.lock(account_id)
        if not _end(refund_id, state, provider_refund, why):
            db.session.rollback()
            return db.session.scalar(sa.select(Refund.state).where(Refund.id == refund_id)) or ""
        refund = db.session.get_one(Refund, refund_id, populate_existing=True)
        if refund.credits:
            ledger.release(account_id, refund.credits)
        less = sa.update(Payment).where(Payment.id == refund.payment_id)
        db.session.execute(less.values(refunded_fils=Payment.refunded_fils - refund.amount_fils))
        _trail(refund, state, "provider", why=why)
        events.record(db.session, events.REFUND_FAILED, refund_id, refund=refund_id)
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise
    return state


def _end(refund_id: str, state: str, provider_refund: str | None, error: str) -> bool:
    """Close it; of all who come at once, one does."""
    values: dict[str, Any] = {
        "state": state, "open_of": None, "due_at": None, "lease_until": None, "ended_at": clock.utcnow(),
        "error": error[:300],
    }  # fmt: skip
    if provider_refund:
        values["provider_refund"] = provider_refund[:40]
    ended = sa.update(Refund).where(Refund.id == refund_id, beside_id(Refund.open_of) != "").values(**values)
    return bool(db.session.execute(ended, execution_options={"synchronize_session": False}).rowcount == 1)  # type: ignore[attr-defined]


def _again(refund: Refund, error: str) -> None:
    refund.lease_until, refund.error = None, error[:300]
    pause = PAUSES[min(refund.asks, len(PAUSES)) - 1]
    refund.due_at = clock.utcnow() + dt.timedelta(seconds=pause)


def _trail(refund: Refund, state: str, source: str, **facts: Any) -> None:
    told = {"refund": refund.id, "fils": refund.amount_fils} | facts
    db.session.add(PaymentEvent(payment_id=refund.payment_id, what=f"refund:{state}", source=source, facts=told))
