"""The one room that the return page, the webhook and the sweep all reach: ask the provider, judge, and count it once.

Nobody's word is taken but the provider's, asked by our own invoice. The asking happens outside any transaction; what
follows from it is one transaction, behind the wallet's lock: the payment's state, its trail, the credit, the plan, the
receipt and the messages. Whoever is second finds that it is done.
"""

import datetime as dt
import logging
from typing import Any

import sqlalchemy as sa

from portal import clock, database
from portal.extensions import db
from portal.freshness import changing
from portal.models import Account, LedgerEntry, Payment, PaymentEvent, User
from portal.models.base import beside_id
from portal.providers.payments import PaymentsError, Status
from portal.services import cards, events, ledger, papers, subscriptions, topups
from portal.services.notifications import notify
from portal.services.payments import concerns, merchant, reasons
from portal.services.payments.schedule import next_ask
from portal.services.payments.transitions import OPEN, UNDECIDED, before
from portal.services.payments.verdict import COUNTABLE, Verdict, judge, trail

log = logging.getLogger("portal.payments")
PAUSE = dt.timedelta(seconds=2)
"""Between one question about a payment and the next, whoever asks: a page that polls is no reason to ask."""
WAIT = dt.timedelta(seconds=20)
"""Until it is asked again after it was not its turn."""
AGAIN = dt.timedelta(minutes=1)
"""Until it is asked again where somebody told of it and the provider gave no answer."""
UNKNOWN_AFTER = dt.timedelta(minutes=5)
"""What the provider does not know by then was never made there."""


class NoSuchPayment(LookupError):
    """There is no payment with this id."""


def confirm(payment_id: str, *, source: str, tried: str = "", patient: bool = False, again: bool = False) -> str:
    """Find out what became of a payment and do what follows. Returns its state. Commits; safe to call by many at once.

    source: who asks: `return`, `webhook`, `sweep`, `console`, `user:<id>`. tried: the provider's payment id that a
    browser came back with, a hint of which attempt to tell of. patient: nobody waits for the answer. again: ask also
    about one that is over, since another attempt at it is said to have paid.
    Raises NoSuchPayment; a provider that can't be asked is no error: it is asked again in time.
    """
    database.reading.set(False)  # the return page is a GET, and writes
    payment = read(payment_id)
    never_made = payment.state == "failed" and payment.invoice is None
    if not (again or payment.state in UNDECIDED) or never_made or not merchant.is_open():
        return payment.state
    if (due := _claim(payment)) is None:
        return read(payment_id).state
    # Nothing stays open while the provider is asked (`may_ask` sees to it too), nor beside the line that puts it off.
    if not merchant.may_ask(by_browser=source == "return"):
        _put_off(payment, WAIT)
        return payment.state
    try:
        provider = merchant.provider(patient=patient)
        wanted = {"invoice": payment.invoice} if payment.invoice else {"reference": payment.id}
        status = provider.status(**wanted)
    except PaymentsError as fault:
        return _unanswered(payment, fault, source, due)
    return settle(payment.id, status, source=source, tried=tried, due=due)


def settle(
    payment_id: str,
    status: Status,
    *,
    source: str,
    tried: str = "",
    overrule: bool = False,
    due: dt.datetime | None = None,
) -> str:
    """Do what follows from what the provider says. Returns the payment's state. Commits.

    due: when it is asked about next, as whoever asked had set it; another time is somebody's word left meanwhile.
    overrule: staff let a held payment count: another amount or currency, or a suspended account, holds it no more.
    """
    payment = read(payment_id)
    if not payment.invoice and status.reference == payment.id:
        payment = _adopt(payment, status.invoice)
    verdict = judge(payment, status, clock.utcnow(), tried)
    if overrule and verdict.state == "held" and verdict.reason in COUNTABLE:
        verdict = Verdict("paid", "", verdict.attempt)
    if verdict.state in ("paid", "held"):
        state = _count(payment, verdict, status, source, overrule)
        _look_for_a_second(payment.id, status, source)
        return state
    return _note_unpaid(payment, verdict, status, source, due)


def read(payment_id: str) -> Payment:
    """The payment as it stands, detached: no transaction is left open. Raises NoSuchPayment."""
    db.session.rollback()
    payment = db.session.get(Payment, payment_id, populate_existing=True)
    if payment is None:
        raise NoSuchPayment(payment_id)
    db.session.expunge(payment)
    db.session.rollback()
    return payment


def _claim(payment: Payment) -> dt.datetime | None:
    """Take the turn to ask. Returns when it is asked about next; None for who comes too soon, and leaves word: they may
    know more than the answer that is on its way."""
    now = clock.utcnow()
    # An instant to come was written by a host whose clock is ahead: nobody waits for that.
    free = sa.or_(Payment.asked_at.is_(None), Payment.asked_at <= now - PAUSE, Payment.asked_at > now + PAUSE)
    # With its state: whoever had read it a moment before it was paid made it due again.
    mine = sa.update(Payment).where(Payment.id == payment.id, beside_id(Payment.state) == payment.state, free)
    due = next_ask(payment.created_at, now, payment.expires_at)
    values = {"asked_at": now, "asks": Payment.asks + 1} | ({"due_at": due} if payment.state in UNDECIDED else {})
    with db.engine.begin() as connection:
        taken = connection.execute(mine.values(**values)).rowcount == 1
    if not taken:
        _put_off(payment, PAUSE)
    return due if taken else None


def _put_off(payment: Payment, wait: dt.timedelta) -> None:
    """It is asked about that soon; never later than it was."""
    at = clock.utcnow() + wait
    open_still = sa.update(Payment).where(Payment.id == payment.id, beside_id(Payment.state).in_(UNDECIDED))
    later = sa.or_(Payment.due_at.is_(None), Payment.due_at > at)
    with db.engine.begin() as connection:
        connection.execute(_the_row(payment.id))  # or MariaDB might take the index of due_at before the row
        connection.execute(open_still.where(later).values(due_at=at))


def _unanswered(payment: Payment, fault: PaymentsError, source: str, due: dt.datetime) -> str:
    now = clock.utcnow()
    if fault.retry_after:
        merchant.rest(fault.retry_after)
    # An invoice of ours that the provider does not know is another account's key, and no reason to forget the payment:
    # it stays on the staff's list (`held.attention`).
    if fault.unknown and payment.invoice is None and payment.created_at + UNKNOWN_AFTER < now:
        return _close(payment, "expired", source, {"why": fault.reason}, due)
    if source != "sweep":
        _put_off(payment, AGAIN)  # they had a reason to ask: the schedule may be hours away
    log.warning("payment unanswered", extra={"payment": payment.id, "source": source, "reason": fault.reason})
    return payment.state


def _adopt(payment: Payment, invoice: str) -> Payment:
    """Note the invoice of a payment whose opening had lost the provider's answer."""
    with db.engine.begin() as connection:
        mine = sa.update(Payment).where(Payment.id == payment.id, beside_id(Payment.invoice) == "")
        connection.execute(mine.values(invoice=invoice))
    return read(payment.id)


def _count(payment: Payment, verdict: Verdict, status: Status, source: str, overrule: bool) -> str:
    """The transaction of money that came: wallet, payment, account, subscription, numbers, in this order of locks."""
    with changing(f"account:{payment.account_id}"):
        try:
            ledger.lock(payment.account_id)
            if verdict.state == "paid" and not overrule and _is_suspended(payment.account_id):
                verdict = verdict._replace(state="held", reason="suspended")
            if not _move(payment, verdict, status):
                db.session.rollback()
                return read(payment.id).state  # somebody was first
            db.session.add(PaymentEvent(
                payment_id=payment.id, what=verdict.state, source=source,
                facts=trail(status) | ({"reason": verdict.reason} if verdict.reason else {}),
            ))  # fmt: skip
            if verdict.state == "paid":
                _give(payment, verdict)
            else:
                events.record(db.session, events.PAYMENT_HELD, payment.id, payment=payment.id, reason=verdict.reason)
            db.session.commit()
        except BaseException:
            db.session.rollback()
            raise
    told = {"payment": payment.id, "state": verdict.state, "source": source, "reason": verdict.reason}
    log.info("money came", extra=told)
    return verdict.state


def _move(payment: Payment, verdict: Verdict, status: Status) -> bool:
    """The state, by the table of transitions; of all who come at once, one."""
    now, by = clock.utcnow(), verdict.attempt
    values: dict[str, Any] = {"state": verdict.state, "reason": verdict.reason, "due_at": None}
    if status.currency == payment.currency and status.value_fils != payment.amount_fils:
        values["came_fils"] = status.value_fils
    if verdict.state == "paid":
        values |= {"paid_at": now, "closed_at": now}
    if by is not None:
        number = by.card.number if by.card is not None else ""
        values |= {"provider_payment": by.payment[:64], "gateway": by.method[:40], "card_number": number[:30]}
    # Held money that is being given back does not count meanwhile: the customer would have both.
    kept = Payment.refunded_fils == 0
    moved = sa.update(Payment).where(
        Payment.id == payment.id, beside_id(Payment.state).in_(before(verdict.state)), kept
    )
    options = {"synchronize_session": False}
    return bool(db.session.execute(moved.values(**values), execution_options=options).rowcount == 1)  # type: ignore[attr-defined]


def _give(payment: Payment, verdict: Verdict) -> None:
    """What was paid for, with its receipt and its messages."""
    row = db.session.get_one(Payment, payment.id, populate_existing=True)
    actor = f"payment:{row.id}"
    if _is_booked(row):
        concerns.note(row.id, concerns.BOOKED, source=actor)
    elif row.kind == "plan":
        subscriptions.lock(row.account_id)
        length = dt.timedelta(days=row.period_days)
        given, time = subscriptions.give(
            row.account_id, row.item, length, row.credits, reference=row.id, actor=actor, fils=row.paid_fils
        )  # fmt: skip
        row.subscription_id, row.seconds_given = given.id, int(time.total_seconds())
        if row.keeps_card and verdict.attempt is not None and verdict.attempt.card is not None:
            given.card_id = cards.keep(row.account_id, verdict.attempt.card) or given.card_id
    else:
        topups.give(row.account_id, row.item, row.credits, reference=row.id, actor=actor)
    db.session.flush()
    paper = papers.receipt(row)
    link = f"/billing/payments/{row.id}/receipt"
    notify(row.account_id, "invoice_ready", row.id, number=paper.number, amount=paper.amount_fils, link=link)


def _is_booked(payment: Payment) -> bool:
    """Whether staff booked it by hand under its own reference, while the provider was silent: it gave what it gives."""
    kind = "subscription" if payment.kind == "plan" else "topup"
    booked = sa.select(LedgerEntry.id).where(LedgerEntry.kind == kind, LedgerEntry.reference == payment.id)
    return db.session.scalar(booked) is not None


def _look_for_a_second(payment_id: str, status: Status, source: str) -> None:
    """Two tabs of the payment page, both paid: one counts, the other's money is ours to give back."""
    captured = sorted(one.payment for one in status.attempts if one.state == "paid")
    if len(captured) < 2:
        return
    if concerns.note(payment_id, concerns.TWICE, source=source, key=str(len(captured)), attempts=",".join(captured)):
        db.session.commit()
    db.session.rollback()


def _note_unpaid(payment: Payment, verdict: Verdict, status: Status, source: str, due: dt.datetime | None) -> str:
    """It is not paid: say what is new about that, and nothing else."""
    if verdict.state in ("expired", "cancelled"):
        return _close(payment, verdict.state, source, trail(status), due)
    news = (verdict.state, verdict.reason) != (payment.state, payment.reason)
    if not news or verdict.state not in ("pending", "failed"):
        return payment.state
    moved = sa.update(Payment).where(
        Payment.id == payment.id,
        beside_id(Payment.state).in_({*before(verdict.state), verdict.state} - {"paid", "held"}),
    )
    values: dict[str, Any] = {"state": verdict.state, "reason": verdict.reason}
    if db.session.execute(moved.values(**values), execution_options={"synchronize_session": False}).rowcount != 1:  # type: ignore[attr-defined]
        db.session.rollback()
        return read(payment.id).state
    db.session.add(PaymentEvent(payment_id=payment.id, what=verdict.state, source=source, facts=trail(status)))
    if verdict.state == "failed":
        words = reasons.words(verdict.reason)
        notify(payment.account_id, "payment_failed", payment.id, amount=payment.amount_fils, reason=words)
    db.session.commit()
    return verdict.state


def _close(payment: Payment, state: str, source: str, facts: dict[str, Any], due: dt.datetime | None) -> str:
    """Over without money, and asked about no more but where somebody left word. A failed try keeps its reason."""
    db.session.execute(_the_row(payment.id))
    closed = sa.update(Payment).where(Payment.id == payment.id, beside_id(Payment.state).in_(before(state)))
    moved = db.session.execute(
        closed.values(state=state, closed_at=clock.utcnow()), execution_options={"synchronize_session": False}
    )
    if moved.rowcount == 1:  # type: ignore[attr-defined]
        db.session.add(PaymentEvent(payment_id=payment.id, what=state, source=source, facts=facts))
    # Also where it was over before: one look at an old return page had the sweep ask about it every six hours.
    over = sa.update(Payment).where(Payment.id == payment.id, beside_id(Payment.state).in_(UNDECIDED - OPEN))
    if due is not None:
        over = over.where(Payment.due_at == due)
    db.session.execute(over.values(due_at=None), execution_options={"synchronize_session": False})
    db.session.commit()
    return read(payment.id).state


def _the_row(payment_id: str) -> sa.Select[str]:
    """Its lock, by nothing but its id."""
    return sa.select(Payment.id).where(Payment.id == payment_id).with_for_update()


def _is_suspended(account_id: str) -> bool:
    query = sa.select(Account.suspended_at, User.suspended_at).join(User, User.id == Account.owner_id)
    row = db.session.execute(query.where(Account.id == account_id)).one_or_none()
    return row is None or row[0] is not None or row[1] is not None
