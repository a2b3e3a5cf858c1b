"""A month of an account's ledger: what there was, every posting in order, what was left.

A wallet's entries are one chain, so a month is a piece of it: whatever lies between two of its links adds up, and a
statement costs the same few queries for ten requests and for a million. Who reads them is the door's business.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from portal import clock
from portal.errors import NotFound
from portal.extensions import db
from portal.models import Account, LedgerEntry, Paper, Payment, Usage
from portal.services.papers.months import Month

LATE = dt.timedelta(hours=1)
"""By which the oldest of two neighbours in the chain may have been booked after the younger one: an answer's end is
booked late while the database is away. What is later still counts to the month in which it was booked."""
CHUNK = 1000


class Total(NamedTuple):
    """What a kind of entry came to, in milli-credits, and how many there were."""

    kind: str
    amount: int
    entries: int


class Statement(NamedTuple):
    """A month's figures in milli-credits: opening + amount = closing. first, last: the pieces of the chain in it.

    until: the instant it was made at, for a month that is not over.
    """

    account_id: str
    month: Month
    opening: int
    closing: int
    first: int
    last: int
    until: dt.datetime | None

    @property
    def amount(self) -> int:
        return self.closing - self.opening

    @property
    def entries(self) -> int:
        """How many postings it has."""
        return self.last - self.first + 1


class Posting(NamedTuple):
    """One entry of the ledger. amount, balance (after it): milli-credits. reference: the request, the payment …

    model: of a request. names: what was bought, by language. paper: its number, and payment: whose it is. reason: of an
    adjustment.
    """

    seq: int
    at: dt.datetime
    kind: str
    amount: int
    balance: int
    reference: str
    model: str
    names: dict[str, str]
    paper: str
    payment: str
    reason: str


class UsageOfDay(NamedTuple):
    """Requests of a day with nothing else between them: how many, what they cost together, what was left after them."""

    day: dt.date
    requests: int
    amount: int
    balance: int


def month(account_id: str, year: int, month: int) -> Statement:
    """The statement of a calendar month in Kuwait, this month's as far as it has come.

    Raises NotFound for a month to come, one before the account was opened, and an account that does not exist.
    """
    wanted, now = Month(year, month), clock.utcnow()
    opened = db.session.scalar(sa.select(Account.created_at).where(Account.id == account_id))
    if opened is None or not Month.of(opened) <= wanted <= Month.of(now):
        raise NotFound
    # The end first: what is booked while this is read lies behind it, and is of no concern.
    newest = db.session.execute(_entries(account_id).order_by(LedgerEntry.seq.desc()).limit(1)).first()
    last, closing = (newest.seq, newest.balance_after) if newest else (0, 0)
    if wanted.ends <= now and (after := _first_since(account_id, wanted.ends)) and after.seq <= last:
        last, closing = after.seq - 1, after.balance_before
    begin = _first_since(account_id, wanted.begins)
    first, opening = (begin.seq, begin.balance_before) if begin and begin.seq <= last else (last + 1, closing)
    return Statement(account_id, wanted, opening, closing, first, last, now if wanted.ends > now else None)


def months(account_id: str) -> list[Month]:
    """The months with at least one posting, the latest first."""
    mine = LedgerEntry.account_id == account_id
    ends = sa.select(sa.func.min(LedgerEntry.created_at), sa.func.max(LedgerEntry.created_at)).where(mine)
    earliest, latest = db.session.execute(ends).one()
    if earliest is None:
        return []
    every, final = [Month.of(earliest)], Month.of(latest)
    while every[-1] < final:
        every.append(every[-1].following)
    asked: list[sa.Select[*tuple[Any, ...]]] = [
        sa.select(sa.literal_column(str(number)).label("number")).where(
            sa.exists().where(mine, LedgerEntry.created_at >= one.begins, LedgerEntry.created_at < one.ends)
        )
        for number, one in enumerate(every)
    ]
    found = {int(number) for number in db.session.scalars(sa.union_all(*asked))}
    return [every[number] for number in sorted(found, reverse=True)]


def lines(statement: Statement) -> list[Posting | UsageOfDay]:
    """All postings in order, with requests that follow each other on a day taken together."""
    others = db.session.execute(_postings(statement).where(LedgerEntry.kind != "usage")).all()
    postings = {row.seq: _posting(row) for row in others}
    days, before = _first_requests(statement)
    before |= {seq: posting.balance - posting.amount for seq, posting in postings.items()}
    before[statement.last + 1] = statement.closing
    found: list[Posting | UsageOfDay] = []
    day, at, balance = statement.month.first_day, statement.first, statement.opening
    for seq in sorted(before):
        if seq > at:  # what lies between two known links of the chain are requests
            found.append(UsageOfDay(day, seq - at, before[seq] - balance, before[seq]))
        day, at, balance = max(day, days.get(seq, day)), seq, before[seq]
        if seq in postings:
            found.append(postings[seq])
            at, balance = seq + 1, postings[seq].balance
    return found


def totals(found: Sequence[Posting | UsageOfDay]) -> list[Total]:
    """What each kind came to, in the order of their first appearance; their sum is the statement's amount."""
    sums: dict[str, tuple[int, int]] = {}
    for line in found:
        kind, entries = (line.kind, 1) if isinstance(line, Posting) else ("usage", line.requests)
        amount, so_far = sums.get(kind, (0, 0))
        sums[kind] = (amount + line.amount, so_far + entries)
    return [Total(kind, amount, entries) for kind, (amount, entries) in sums.items()]


def postings(engine: sa.Engine, statement: Statement) -> Iterator[Posting]:
    """Every posting in order, however many: read in pieces, with nothing held between them. engine: `db.engine`."""
    for at in range(statement.first, statement.last + 1, CHUNK):
        # By both its ends, not by a LIMIT: MariaDB then read the account's every entry anew for each piece.
        piece = _postings(statement._replace(first=at, last=min(at + CHUNK - 1, statement.last)))
        with engine.connect().execution_options(sqlite_read_only=True) as connection:
            rows = connection.execute(piece).all()
        yield from map(_posting, rows)


def _entries(account_id: str) -> sa.Select[*tuple[Any, ...]]:
    columns = (LedgerEntry.seq, LedgerEntry.balance_before, LedgerEntry.balance_after)
    return sa.select(*columns).where(LedgerEntry.account_id == account_id)


def _first_since(account_id: str, instant: dt.datetime) -> sa.Row[*tuple[Any, ...]] | None:
    """The link of the chain with which the time from `instant` on begins.

    The oldest entry since then, or one before it in the chain: of two that were booked at once, the first in the chain
    may carry the later time.
    """
    mine = LedgerEntry.account_id == account_id, LedgerEntry.created_at >= instant
    oldest = db.session.scalar(sa.select(LedgerEntry.created_at).where(*mine).order_by(LedgerEntry.created_at).limit(1))
    if oldest is None:
        return None
    near = _entries(account_id).where(*mine, LedgerEntry.created_at <= oldest + LATE)
    return db.session.execute(near.order_by(LedgerEntry.seq).limit(1)).one()


def _in(statement: Statement) -> sa.ColumnElement[bool]:
    mine = LedgerEntry.account_id == statement.account_id
    return sa.and_(mine, LedgerEntry.seq.between(statement.first, statement.last))


def _first_requests(statement: Statement) -> tuple[dict[int, dt.date], dict[int, int]]:
    """By the place of each day's first request in the chain: the day, and the balance before it."""
    days = statement.month.days
    until = [(LedgerEntry.created_at < begins, number) for number, (_, begins) in enumerate(days[1:])]
    day = sa.case(*until, else_=len(days) - 1).label("day")
    firsts = sa.select(day, sa.func.min(LedgerEntry.seq).label("seq")).where(
        _in(statement), LedgerEntry.kind == "usage"
    )
    first = firsts.group_by("day").subquery()
    query = sa.select(first.c.day, LedgerEntry.seq, LedgerEntry.balance_before).join(
        first, sa.and_(LedgerEntry.account_id == statement.account_id, LedgerEntry.seq == first.c.seq)
    )
    rows = db.session.execute(query).all()
    return {row.seq: days[row.day][0] for row in rows}, {row.seq: row.balance_before for row in rows}


def _postings(statement: Statement) -> sa.Select[*tuple[Any, ...]]:
    columns = (LedgerEntry.seq, LedgerEntry.created_at, LedgerEntry.kind, LedgerEntry.amount, LedgerEntry.balance_after)
    told = (LedgerEntry.reference, LedgerEntry.meta, Usage.model, Payment.name_ar, Payment.name_en)
    return (
        sa.select(*columns, *told, Paper.number, Paper.payment_id)
        .outerjoin(Usage, sa.and_(LedgerEntry.kind == "usage", Usage.id == LedgerEntry.reference))
        .outerjoin(Payment, sa.and_(LedgerEntry.kind != "usage", Payment.id == LedgerEntry.reference))
        .outerjoin(Paper, sa.and_(LedgerEntry.kind != "usage", Paper.about == LedgerEntry.reference))
        .where(_in(statement))
        .order_by(LedgerEntry.seq)
    )


def _posting(row: sa.Row[*tuple[Any, ...]]) -> Posting:
    names = {"ar": row.name_ar, "en": row.name_en} if row.name_en is not None else {}
    return Posting(
        row.seq, row.created_at, row.kind, row.amount, row.balance_after, row.reference, row.model or "", names,
        row.number or "", row.payment_id or "", str(row.meta.get("reason", "")),
    )  # fmt: skip
