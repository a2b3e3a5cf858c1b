"""Statements: opening + every posting = closing, whatever was booked, in whatever order its clocks said."""

import datetime as dt
from itertools import pairwise

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from portal import clock
from portal.errors import NotFound
from portal.extensions import db
from portal.models import Account
from portal.services.ledger import entries
from portal.services.papers import statements
from portal.services.papers.months import Month
from portal.services.papers.statements import Posting, UsageOfDay
from tests.ledger.books import Books
from tests.papers.past import Story, buy, give_back, write

NOVEMBER = Month(2026, 11)
BEGIN = dt.datetime(2026, 9, 30, 21, tzinfo=dt.UTC)
"""October's first instant in Kuwait."""
NOW = dt.datetime(2026, 12, 24, 9, tzinfo=dt.UTC)


def kuwait(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=clock.KUWAIT)


@pytest.fixture(autouse=True)
def christmas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "utcnow", lambda: NOW)
    monkeypatch.setattr(entries, "utcnow", lambda: NOW)


def an_account(books: Books) -> str:
    account = books.open_account()
    with books.app.app_context():
        db.session.execute(sa.update(Account).where(Account.id == account).values(created_at=BEGIN))
        db.session.commit()
    return account


STORY: Story = [
    (kuwait("2026-10-31T23:59:59"), "grant", 100_000),
    (kuwait("2026-11-01T00:00:00.000002"), "topup", 15_000_000),  # its time was taken before its place in the chain
    (kuwait("2026-11-01T00:00:00.000001"), "usage", -57),
    (kuwait("2026-11-01T09:00"), "usage", -43),
    (kuwait("2026-11-01T10:00"), "adjustment", -900),
    (kuwait("2026-11-01T11:00"), "usage", -1_000),
    (kuwait("2026-11-03T00:00"), "usage", -2_000),
    (kuwait("2026-11-30T23:59:59.999999"), "usage", -3),
    (kuwait("2026-12-01T00:00"), "usage", -7),
]


def test_a_month_is_opening_postings_closing(books: Books) -> None:
    """SUB-21: to the milli-credit, Kuwait's months, on each database."""
    account, other = an_account(books), an_account(books)
    write(books.app, account, STORY)
    write(books.app, other, [(kuwait("2026-11-05T12:00"), "topup", 5)])
    with books.app.app_context():
        november = statements.month(account, 2026, 11)
        assert (november.opening, november.closing, november.entries) == (100_000, 15_095_997, 7)
        assert november.until is None
        found = list(statements.postings(db.engine, november))
        lines = statements.lines(november)
        assert statements.months(account) == [Month(2026, 12), NOVEMBER, Month(2026, 10)]
        assert statements.months(other) == [NOVEMBER]
        december = statements.month(account, 2026, 12)
        assert (december.opening, december.closing, december.until) == (15_095_997, 15_095_990, NOW)
    assert [(p.kind, p.amount, p.at) for p in found] == [(kind, amount, at) for at, kind, amount in STORY[1:8]]
    assert found[-1].balance == november.closing
    assert {p.model for p in found} == {"", "qwen2.5-coder:14b"}
    assert found[3].reason == "عدلته الإدارة"
    told = [(line.day.day, line.requests) if isinstance(line, UsageOfDay) else line.kind for line in lines]
    assert told == ["topup", (1, 2), "adjustment", (1, 1), (3, 1), (30, 1)]
    assert statements.totals(lines) == [("topup", 15_000_000, 1), ("usage", -3_103, 5), ("adjustment", -900, 1)]


def test_each_posting_says_what_it_was_for(books: Books) -> None:
    """SUB-21: with its request or its payment, and the number of its paper."""
    account = an_account(books)
    receipt = buy(books.app, account, created_at=NOW)
    note = give_back(books.app, receipt, 5_000, 20_000_000)
    with books.app.app_context():
        bought, returned = statements.postings(db.engine, statements.month(account, 2026, 12))
    assert (bought.kind, bought.reference, bought.paper) == ("subscription", receipt.payment_id, receipt.number)
    assert bought.names == {"ar": "احترافي", "en": "Pro"}
    assert (returned.kind, returned.amount, returned.paper) == ("refund", -20_000_000, note.number)
    assert returned.reference == note.about


def test_what_is_booked_late_stays_in_its_place(sqlite_books: Books) -> None:
    """SUB-21: what November's statement said on the first of December it says ever after."""
    account = an_account(sqlite_books)
    write(sqlite_books.app, account, STORY)
    with sqlite_books.app.app_context():
        before = statements.month(account, 2026, 11)
    late = [(kuwait("2026-12-02T10:00"), "usage", -1), (kuwait("2026-11-30T23:00"), "usage", -11)]
    write(sqlite_books.app, account, late)  # the database was away: the end of an answer came two days late
    with sqlite_books.app.app_context():
        assert statements.month(account, 2026, 11) == before
        december = statements.month(account, 2026, 12)
        assert december.opening == before.closing
        assert sum(line.amount for line in statements.lines(december)) == december.amount == -19


@pytest.mark.parametrize(("year", "month"), [(2026, 9), (2027, 1), (1999, 12)])
def test_there_is_no_statement_of_a_month_that_was_not(sqlite_books: Books, year: int, month: int) -> None:
    """SUB-21: before the account, and to come."""
    account = an_account(sqlite_books)
    with sqlite_books.app.app_context(), pytest.raises(NotFound):
        statements.month(account, year, month)


def test_a_month_without_a_posting_ends_as_it_began(sqlite_books: Books) -> None:
    """SUB-21: nothing happened, and that is what it says; nobody else's account is one's own."""
    account = an_account(sqlite_books)
    with sqlite_books.app.app_context():
        empty = statements.month(account, 2026, 11)
        assert (empty.opening, empty.closing, empty.entries) == (0, 0, 0)
        assert statements.lines(empty) == list(statements.postings(db.engine, empty)) == []
        assert statements.months(account) == []
    write(sqlite_books.app, account, STORY[:1])
    with sqlite_books.app.app_context():
        quiet = statements.month(account, 2026, 11)
        assert (quiet.opening, quiet.closing, quiet.entries, statements.lines(quiet)) == (100_000, 100_000, 0, [])
        with pytest.raises(NotFound):
            statements.month("0" * 32, 2026, 11)


KINDS = st.sampled_from(("usage", "usage", "usage", "topup", "adjustment", "refund"))
STEPS = st.lists(
    st.tuples(st.integers(0, 90 * 3600), KINDS, st.integers(1, 9_999), st.integers(-5, 5)), min_size=1, max_size=40
)
"""Seconds until the next entry, kind, amount, and by how much its clock is wrong."""


def test_any_ledger_adds_up_month_by_month(sqlite_books: Books) -> None:
    """SUB-21: opening + Σ = closing; a month begins where the one before it ended; every posting is in exactly one."""

    @hypothesis.given(steps=STEPS)
    @hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
    def adds_up(steps: list[tuple[int, str, int, int]]) -> None:
        account, at, story = an_account(sqlite_books), BEGIN, [(BEGIN, "topup", 1_000_000)]
        for seconds, kind, amount, wrong in steps:
            at = min(at + dt.timedelta(seconds=seconds), NOW - dt.timedelta(minutes=1))
            sign = 1 if kind == "topup" else -1
            story.append((max(BEGIN, at + dt.timedelta(seconds=wrong)), kind, sign * amount))
        write(sqlite_books.app, account, story)
        with sqlite_books.app.app_context():
            every = [statements.month(account, 2026, number) for number in (10, 11, 12)]
            assert every[0].opening == 0
            assert every[-1].closing == sum(amount for _, _, amount in story)
            for one, following in pairwise(every):
                assert (following.opening, following.first) == (one.closing, one.last + 1)
            found = [posting for one in every for posting in statements.postings(db.engine, one)]
            assert [(p.kind, p.amount) for p in found] == [(kind, amount) for _, kind, amount in story]
            for one in every:
                _check(one, [p for p in found if one.first <= p.seq <= one.last])

    adds_up()


def _check(statement: statements.Statement, postings: list[Posting]) -> None:
    lines, balance = statements.lines(statement), statement.opening
    for line in lines:
        balance += line.amount
        assert line.balance == balance
    assert balance == statement.closing
    assert sum(total.amount for total in statements.totals(lines)) == statement.amount
    assert sum(total.entries for total in statements.totals(lines)) == statement.entries == len(postings)
    assert [line for line in lines if isinstance(line, Posting)] == [p for p in postings if p.kind != "usage"]
    days = [line.day if isinstance(line, UsageOfDay) else None for line in lines]
    assert sorted(d for d in days if d) == [d for d in days if d]
