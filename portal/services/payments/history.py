"""Payments as their customer looks them up: one of theirs, and all of them page by page, with what was given back and
the papers. Reads only; whose account it is was decided at the door.
"""

import datetime as dt
import re
from collections import defaultdict
from typing import Final, NamedTuple

import sqlalchemy as sa

from portal import clock
from portal.errors import InvalidRequest, NotFound
from portal.extensions import db
from portal.models import Paper, Payment, Refund
from portal.services import papers

A_PAGE: Final = 20
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "paid": ("paid",), "open": ("opening", "pending"), "failed": ("failed",), "over": ("expired", "cancelled"),
    "held": ("held",), "returned": ("returned",),
}  # fmt: skip
"""States as customers tell them apart."""
KINDS: Final = ("plan", "pack")
TOLD: Final = ("waiting", "filed", "done")
"""Refunds that a customer is told of: what the provider did not carry out is staff's to sort out."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_PLACE = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})", re.ASCII)


class Line(NamedTuple):
    """A payment with its refunds, the oldest first, and its papers, the receipt first."""

    payment: Payment
    refunds: tuple[Refund, ...]
    papers: tuple[Paper, ...]


class Page(NamedTuple):
    """The newest first. before: what the next page is asked for with, None at the end."""

    lines: tuple[Line, ...]
    before: str | None


class Wanted(NamedTuple):
    """Which payments: a group of GROUPS, one of KINDS, days in Kuwait, the last one included. Empty: any."""

    state: str = ""
    kind: str = ""
    since: dt.date | None = None
    until: dt.date | None = None

    @classmethod
    def parse(cls, state: str, kind: str, since: str, until: str) -> "Wanted":
        """From an address's words. Raises InvalidRequest naming the wrong one."""
        if state and state not in GROUPS:
            raise InvalidRequest(param="state", reason="state")
        if kind and kind not in KINDS:
            raise InvalidRequest(param="kind", reason="kind")
        return cls(state, kind, _day(since, "from"), _day(until, "to"))

    def address(self) -> dict[str, str]:
        """As an address has it, without what is not asked for."""
        days = {"from": self.since, "to": self.until}
        words = {"state": self.state, "kind": self.kind} | {name: day and day.isoformat() for name, day in days.items()}
        return {name: word for name, word in words.items() if word}


def find(account_id: str, payment_id: str) -> Payment:
    """A payment of this account as it stands. Raises NotFound, for another's as for none."""
    mine = sa.select(Payment).where(Payment.id == payment_id, Payment.account_id == account_id)
    payment = db.session.scalar(mine.execution_options(populate_existing=True))
    if payment is None:
        raise NotFound
    return payment


def page(account_id: str, wanted: Wanted | None = None, before: str | None = None, size: int = A_PAGE) -> Page:
    """The payments of an account, in three queries. before: of the page before. Raises NotFound for a wrong one."""
    wanted = wanted or Wanted()
    query = sa.select(Payment).where(Payment.account_id == account_id)
    if wanted.state:
        query = query.where(Payment.state.in_(GROUPS[wanted.state]))
    if wanted.kind:
        query = query.where(Payment.kind == wanted.kind)
    if wanted.since:
        query = query.where(Payment.created_at >= _midnight(wanted.since))
    if wanted.until:
        query = query.where(Payment.created_at < _midnight(wanted.until + dt.timedelta(days=1)))
    if before is not None:
        query = query.where(_older(before))
    rows = db.session.scalars(query.order_by(Payment.created_at.desc(), Payment.id.desc()).limit(size + 1)).all()
    shown = rows[:size]
    refunds, issued = _refunds([row.id for row in shown]), papers.of_payments(row.id for row in shown)
    lines = tuple(Line(row, tuple(refunds[row.id]), tuple(issued.get(row.id, ()))) for row in shown)
    return Page(lines, _place(shown[-1]) if len(rows) > size else None)


def _refunds(ids: list[str]) -> dict[str, list[Refund]]:
    found: dict[str, list[Refund]] = defaultdict(list)
    query = sa.select(Refund).where(Refund.payment_id.in_(ids), Refund.state.in_(TOLD))
    for refund in db.session.scalars(query.order_by(Refund.created_at, Refund.id)):
        found[refund.payment_id].append(refund)
    return found


def _place(payment: Payment) -> str:
    return f"{(payment.created_at - _EPOCH) // dt.timedelta(microseconds=1)}-{payment.id}"


def _older(place: str) -> sa.ColumnElement[bool]:
    found = _PLACE.fullmatch(place)
    if found is None:
        raise NotFound
    at = _EPOCH + dt.timedelta(microseconds=int(found[1]))
    return sa.or_(Payment.created_at < at, sa.and_(Payment.created_at == at, Payment.id < found[2]))


def _day(text: str, name: str) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(text) if text else None
    except ValueError:
        day = dt.date.min
    if day is not None and not 2000 <= day.year < 2200:
        raise InvalidRequest(param=name, reason=f"{name}: 2026-11-21")
    return day


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), clock.KUWAIT).astimezone(dt.UTC)
