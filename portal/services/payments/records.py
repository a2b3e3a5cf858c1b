"""Payments as staff look them up: everybody's, by any id that a customer, a bank or the provider names, with all that
happened to one. Reads only; the customers' own view is `history`.
"""

from typing import Final, NamedTuple

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, Paper, Payment, PaymentEvent, Refund, User
from portal.services import papers
from portal.services.payments.confirming import NoSuchPayment

MOST: Final = 500


class Line(NamedTuple):
    """A payment and the address of its account's owner."""

    payment: Payment
    owner: str


class Page(NamedTuple):
    """The newest first. before: what the next page is asked for with; None at the end."""

    lines: tuple[Line, ...]
    before: str | None


class Record(NamedTuple):
    """All that is known of one. The trail, refunds and papers: the oldest first."""

    payment: Payment
    owner: str
    trail: tuple[PaymentEvent, ...]
    refunds: tuple[Refund, ...]
    papers: tuple[Paper, ...]


def page(
    *, state: str | None = None, account_id: str | None = None, before: str | None = None, limit: int = 20
) -> Page:
    """Payments by any of these. before: the `before` of the page above. limit: 1 to MOST."""
    limit = max(1, min(limit, MOST))
    query = _with_owner().order_by(Payment.id.desc()).limit(limit + 1)  # an id tells when it was made
    if state is not None:
        query = query.where(Payment.state == state)
    if account_id is not None:
        query = query.where(Payment.account_id == account_id)
    if before is not None:
        query = query.where(Payment.id < before)
    rows = db.session.execute(query).all()
    lines = tuple(Line(payment, owner) for payment, owner in rows[:limit])
    return Page(lines, lines[-1].payment.id if len(rows) > limit else None)


def find(named: str) -> Record:
    """named: our id, the provider's invoice, or its id of the attempt that paid. Raises NoSuchPayment."""
    text = named.strip()
    for known in (Payment.id == text, Payment.invoice == text, Payment.provider_payment == text):
        row = db.session.execute(_with_owner().where(known).order_by(Payment.id.desc()).limit(1)).first()
        if row is not None and text:
            break
    else:
        raise NoSuchPayment(named)
    payment, owner = row
    trail = sa.select(PaymentEvent).where(PaymentEvent.payment_id == payment.id)
    refunds = sa.select(Refund).where(Refund.payment_id == payment.id)
    return Record(
        payment,
        owner,
        tuple(db.session.scalars(trail.order_by(PaymentEvent.created_at, PaymentEvent.id))),
        tuple(db.session.scalars(refunds.order_by(Refund.created_at, Refund.id))),
        tuple(papers.of_payments([payment.id]).get(payment.id, ())),
    )


def _with_owner() -> sa.Select[Payment, str]:
    joined = sa.select(Payment, User.email).join(Account, Account.id == Payment.account_id)
    return joined.join(User, User.id == Account.owner_id)
