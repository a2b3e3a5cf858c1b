"""Finding what nobody told us: open payments and refunds are asked about on their schedule, lost webhooks are read.

A webhook says which payment to ask about and nothing else, whoever brings it. Both sweeps keep within what the provider
allows (`merchant.may_ask`): what is not asked now is asked a little later.
"""

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Payment, Setting
from portal.providers.payments import Notice, PaymentsError
from portal.services import payments, refunds
from portal.services.payments import concerns, merchant
from portal.services.payments.transitions import UNDECIDED

log = logging.getLogger("portal.payments")
AT_ONCE = 40
"""Questions a sweep: it runs every fifteen seconds."""
READ_UNTIL = "webhooks_read_until"
PAID, REFUNDED = "SUCCESS", "REFUNDED"
"""What a notice says of an attempt that was captured, and of a refund that was made."""
OVERLAP = dt.timedelta(hours=1)
LONGEST = dt.timedelta(days=3)
PAGES = 20


def hear(notice: Notice, *, source: str = "webhook", patient: bool = False) -> bool:
    """Do what a notice is a reason for: ask about its payment, or about its refund, or show it to people.

    Returns whether it is of anything of ours.
    """
    payment = _payment_of(notice)
    if payment is None:
        log.info("webhook of nothing of ours", extra={"kind": notice.kind, "invoice": notice.invoice})
        return False
    match notice.kind:
        case "refund":
            refunds.hear(payment.id, notice.about if notice.state.upper() == REFUNDED else "")
        case "dispute":
            concerns.note(payment.id, concerns.DISPUTED, source=source, key=notice.about or notice.key)
            db.session.commit()
        case "payment":
            payments.confirm(payment.id, source=source, patient=patient, again=_is_second(notice, payment))
    return True


def ask_due() -> int:
    """Ask about every open payment and refund that is due. Returns how many were asked about."""
    if not merchant.is_open():
        return 0
    waiting = sa.select(Payment.id).where(Payment.due_at <= clock.utcnow(), Payment.state.in_(UNDECIDED))
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        ids = list(connection.scalars(waiting.order_by(Payment.due_at).limit(AT_ONCE)))
    for payment_id in ids:
        _guarded(payment_id, payments.confirm, payment_id, source="sweep", patient=True)
    back = refunds.due(AT_ONCE)
    for refund_id in back:
        _guarded("", refunds.carry_on, refund_id)
    return len(ids) + len(back)


def read_missed() -> int:
    """Read the provider's own list of webhooks since the last time, and ask about what is still open.

    Returns how many notices were of something of ours. Raises PaymentsError, and reads the same time again later.
    """
    if not merchant.is_open() or merchant.is_resting():
        return 0
    since, until, first = _window()
    heard, seen = 0, set[tuple[str, str, str]]()
    for page in range(first, first + PAGES):
        db.session.rollback()  # nothing stays open while the provider is asked, for any of the pages
        try:
            notices, more = merchant.provider(patient=True).missed(since, until, page)
        except PaymentsError as fault:
            if fault.retry_after:
                merchant.rest(fault.retry_after)
            raise
        for notice in notices:
            about = (notice.kind, notice.invoice or notice.reference, notice.about)
            payment = None if about in seen else _payment_of(notice)
            if payment is not None and _is_news(notice, payment):
                heard += _guarded(payment.id, hear, notice, source="sweep", patient=True) is not None
            seen.add(about)
        if not more:
            _remember({"until": until.isoformat()})
            return heard
    _remember({"since": since.isoformat(), "until": until.isoformat(), "page": first + PAGES})
    return heard


def _window() -> tuple[dt.datetime, dt.datetime, int]:
    """From when to when is read now, and from which page: what was broken off is gone on with."""
    now = clock.utcnow()
    row = db.session.get(Setting, READ_UNTIL)
    value = row.value if row is not None else {}
    # An instant to come was written by a host whose clock was ahead.
    until = min(dt.datetime.fromisoformat(value["until"]), now) if value else now - dt.timedelta(days=1)
    if value.get("page"):
        return dt.datetime.fromisoformat(value["since"]), until, int(value["page"])
    return max(until - OVERLAP, now - LONGEST), now, 1


def _guarded(payment_id: str, does: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """One that fails stands in nobody's way: it is logged, shown to people, and tried again. Returns None then."""
    try:
        return does(*values, **named)
    except Exception:
        log.exception("reconciliation failed", extra={"payment": payment_id, "of": values[0]})
        db.session.rollback()
        if payment_id:
            concerns.note(payment_id, concerns.STUCK, source="sweep")
            db.session.commit()
        return None


def _payment_of(notice: Notice) -> Payment | None:
    """Ours by the provider's invoice, or by our own reference where its answer to the opening was lost; detached."""
    for known in (Payment.invoice == notice.invoice, Payment.id == notice.reference):
        present = sa.select(Payment).where(known).execution_options(populate_existing=True)
        if (found := db.session.scalar(present)) is not None:
            db.session.expunge(found)
            db.session.rollback()
            return found
    return None


def _is_second(notice: Notice, payment: Payment) -> bool:
    """Whether it tells of a captured attempt other than the one that paid."""
    return notice.state.upper() == PAID and bool(notice.about) and notice.about != payment.provider_payment != ""


def _is_news(notice: Notice, payment: Payment) -> bool:
    """Whether there is still something to be done about it: the same list is read again and again."""
    if notice.kind == "payment":
        return payment.state in UNDECIDED or (_is_second(notice, payment) and payment.concern != concerns.TWICE)
    return True  # a refund, a dispute: one or two rows looked at


def _remember(window: dict[str, Any]) -> None:
    db.session.rollback()
    row = db.session.get(Setting, READ_UNTIL)
    if row is None:
        db.session.add(Setting(name=READ_UNTIL, value=window))
    else:
        row.value = window
    db.session.commit()
