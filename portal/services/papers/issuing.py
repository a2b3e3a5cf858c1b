"""Issuing a receipt or a credit note: the next number of the year's series, and the paper as it stays for ever.

The last statements of the transaction that confirms a payment or a refund: the number's row is locked until its commit,
and a rollback gives the number back, so that none is ever missing. Nothing here commits.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa

from portal import clock
from portal.database import engine_options
from portal.extensions import db
from portal.models import Paper, PaperSeries, Payment, Refund
from portal.services.insertion import insert_missing
from portal.services.papers import content


def receipt(payment: Payment) -> Paper:
    """Issue the receipt of a payment that is paid; the one there is, if it was issued before. The caller commits.

    The payment's row is read anew: what the caller's own UPDATE set is on the paper.
    """
    present = _about(payment.id)
    if present is not None:
        return present
    _read_anew(payment)
    number, place, at = _next("R")
    told = content.of_receipt(payment, at)
    return _write(Paper(kind="receipt", about=payment.id, **_of(payment, told)), number, place, at)


def credit_note(refund: Refund, payment: Payment, taken: int) -> Paper | None:
    """Issue the credit note of a refund that is done; the one there is, if it was issued before. The caller commits.

    taken: milli-credits that were taken back. None for a payment that never counted: it has no receipt to correct.
    """
    present = _about(refund.id)
    if present is not None:
        return present
    corrects = _about(payment.id)
    if corrects is None:
        return None
    _read_anew(payment)
    _read_anew(refund)
    number, place, at = _next("C")
    told = content.of_credit_note(refund, payment, corrects, taken, at)
    return _write(Paper(kind="credit_note", about=refund.id, **_of(payment, told)), number, place, at)


def _about(what: str) -> Paper | None:
    return db.session.scalar(sa.select(Paper).where(Paper.about == what))


def _read_anew(row: Payment | Refund) -> None:
    db.session.flush()
    db.session.refresh(row)


def _of(payment: Payment, told: content.Content) -> dict[str, Any]:
    amount = told["amount_fils"]
    return {"account_id": payment.account_id, "payment_id": payment.id, "amount_fils": amount, "content": told}


def _write(paper: Paper, number: str, place: int, at: dt.datetime) -> Paper:
    paper.number, paper.series, paper.place, paper.issued_at = number, number.rpartition("-")[0], place, at
    db.session.add(paper)
    db.session.flush()
    return paper


def _next(letter: str) -> tuple[str, int, dt.datetime]:
    """The number of the year's next paper, its place, and the instant of its issue: later papers are never older."""
    year = clock.kuwait_day().year
    series = f"{letter}-{year}"
    if db.session.scalar(sa.select(PaperSeries.name).where(PaperSeries.name == series)) is None:
        _open(series)
    one_more = sa.update(PaperSeries).where(PaperSeries.name == series).values(latest=PaperSeries.latest + 1)
    db.session.execute(one_more, execution_options={"synchronize_session": False})
    place = db.session.scalars(sa.select(PaperSeries.latest).where(PaperSeries.name == series)).one()
    # Whoever waited for the line over New Year's midnight has a number of the old year, and so its last instant.
    over = dt.datetime(year + 1, 1, 1, tzinfo=clock.KUWAIT) - dt.timedelta(microseconds=1)
    return f"{series}-{place:06}", place, min(clock.utcnow(), over.astimezone(dt.UTC))


def _open(series: str) -> None:
    """Make the year's row.

    On MariaDB in a transaction of its own: beside the UPDATE, several that open the year together would each wait for
    what the other has locked. And on a line of its own: twenty that confirm at once hold all of the pool's, and the one
    that opens the year waited for a twenty-first until it gave up.
    """
    row = {"name": series, "latest": 0}
    if db.session.connection().dialect.name not in ("mysql", "mariadb"):
        insert_missing(db.session.connection(), PaperSeries, row)
        return
    options = {k: v for k, v in engine_options("mysql").items() if not k.startswith(("pool_", "max_"))}
    alone = sa.create_engine(db.engine.url, poolclass=sa.pool.NullPool, **options)
    with alone.begin() as connection:
        insert_missing(connection, PaperSeries, row)
