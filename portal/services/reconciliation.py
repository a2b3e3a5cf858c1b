"""Finding what nobody told us: open payments and refunds are asked about on their schedule, lost webhooks are read.

A webhook says which payment to ask about and nothing else, whoever brings it. Both sweeps keep within what the provider
allows (`merchant.may_ask`): what is not asked now is asked a little later.
"""

import datetime as dt
import logging

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Payment, Refund, Setting
from portal.providers.payments import Notice, PaymentsError
from portal.services import payments, refunds
from portal.services.payments import merchant
from portal.services.payments.transitions import UNDECIDED

log = logging.getLogger("portal.payments")
AT_ONCE = 40
"""Questions a sweep: it runs every fifteen seconds."""
READ_UNTIL = "webhooks_read_until"
OVERLAP = dt.timedelta(hours=1)
LONGEST = dt.timedelta(days=3)
PAGES = 20


def hear(notice: Notice, *, source: str = "webhook", patient: bool = False) -> bool:
    """Ask about what a notice is of. Returns whether it is of anything of ours."""
    payment_id = _payment_of(notice)
    if payment_id is None:
        log.info("webhook of nothing of ours", extra={"kind": notice.kind, "invoice": notice.invoice})
        return False
    if notice.kind == "refund":
        for refund_id in db.session.scalars(sa.select(Refund.id).where(Refund.open_of == payment_id)).all():
            refunds.carry_on(refund_id)
    else:
        payments.confirm(payment_id, source=source, patient=patient)
    return True


def ask_due() -> int:
    """Ask about every open payment and refund that is due. Returns how many were asked about."""
    if not merchant.is_open():
        return 0
    waiting = sa.select(Payment.id).where(Payment.due_at <= clock.utcnow(), Payment.state.in_(UNDECIDED))
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        ids = list(connection.scalars(waiting.order_by(Payment.due_at).limit(AT_ONCE)))
    for payment_id in ids:
        payments.confirm(payment_id, source="sweep", patient=True)
    back = refunds.due(AT_ONCE)
    for refund_id in back:
        refunds.carry_on(refund_id)
    return len(ids) + len(back)


def read_missed() -> int:
    """Read the provider's own list of webhooks since the last time, and ask about what is still open.

    Returns how many notices were of something of ours. Raises PaymentsError, and reads the same time again later.
    """
    if not merchant.is_open() or merchant.is_resting():
        return 0
    now = clock.utcnow()
    row = db.session.get(Setting, READ_UNTIL)
    last = dt.datetime.fromisoformat(row.value) if row is not None else now - dt.timedelta(days=1)
    since, heard, seen = max(last - OVERLAP, now - LONGEST), 0, set[tuple[str, str]]()
    for page in range(1, PAGES + 1):
        db.session.rollback()  # nothing stays open while the provider is asked, for any of the pages
        try:
            notices, more = merchant.provider(patient=True).missed(since, now, page)
        except PaymentsError as fault:
            if fault.retry_after:
                merchant.rest(fault.retry_after)
            raise
        for notice in notices:
            about = (notice.kind, notice.invoice or notice.reference)
            if about not in seen and _is_open(notice):
                heard += hear(notice, source="sweep", patient=True)
            seen.add(about)
        if not more:
            break
    _remember(now)
    return heard


def _payment_of(notice: Notice) -> str | None:
    """Ours by the provider's invoice, or by our own reference where its answer to the opening was lost."""
    for known in (Payment.invoice == notice.invoice, Payment.id == notice.reference):
        if (found := db.session.scalar(sa.select(Payment.id).where(known))) is not None:
            return found
    return None


def _is_open(notice: Notice) -> bool:
    payment_id = _payment_of(notice)
    mine = sa.select(Payment.state).where(Payment.id == payment_id)
    if notice.kind == "refund":
        mine = sa.select(Refund.state).where(Refund.open_of == payment_id)
        return db.session.scalar(mine) is not None
    return db.session.scalar(mine) in UNDECIDED


def _remember(until: dt.datetime) -> None:
    db.session.rollback()
    row = db.session.get(Setting, READ_UNTIL)
    if row is None:
        db.session.add(Setting(name=READ_UNTIL, value=until.isoformat()))
    else:
        row.value = until.isoformat()
    db.session.commit()
