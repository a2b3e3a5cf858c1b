"""Papers as their readers ask for them: by the payment, and by the number on them."""

from collections import defaultdict
from collections.abc import Iterable

import sqlalchemy as sa
from flask_babel import lazy_gettext as _l

from portal.errors import NotFound
from portal.extensions import db
from portal.models import Paper, Payment


class NoReceiptYet(NotFound):
    sentence = _l("This payment is not paid yet, so there is no receipt for it. It stands here as soon as it is paid.")


def find_receipt(payment_id: str, account_id: str | None) -> Paper:
    """The receipt of a payment. account_id: whose it must be; None: anybody's.

    Raises NoReceiptYet for a payment of theirs without one, NotFound for any other.
    """
    paper = db.session.scalar(_papers("receipt", payment_id, account_id))
    if paper is None:
        payment = sa.select(Payment.id).where(Payment.id == payment_id, *_whose(Payment.account_id, account_id))
        raise NotFound if db.session.scalar(payment) is None else NoReceiptYet
    return paper


def find_credit_note(payment_id: str, number: str, account_id: str | None) -> Paper:
    """A credit note by its number. account_id: whose it must be; None: anybody's. Raises NotFound."""
    paper = db.session.scalar(_papers("credit_note", payment_id, account_id).where(Paper.number == number))
    if paper is None:
        raise NotFound
    return paper


def of_payments(payment_ids: Iterable[str]) -> dict[str, list[Paper]]:
    """The papers of each payment, the receipt first; nothing for those without. One query."""
    found: dict[str, list[Paper]] = defaultdict(list)
    papers = sa.select(Paper).where(Paper.payment_id.in_(list(payment_ids)))
    for paper in db.session.scalars(papers.order_by(Paper.issued_at, Paper.place)):
        found[paper.payment_id].append(paper)
    return dict(found)


def _papers(kind: str, payment_id: str, account_id: str | None) -> sa.Select[Paper]:
    query = sa.select(Paper).where(Paper.payment_id == payment_id, Paper.kind == kind)
    return query.where(*_whose(Paper.account_id, account_id))


def _whose(column: sa.orm.InstrumentedAttribute[str], account_id: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if account_id is None else [column == account_id]
