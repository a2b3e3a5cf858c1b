"""A statement in the words of its reader, as plain text in rows: what the PDF is drawn from.

Every posting stands singly up to a bound; above it, requests are taken together by day, and the paper says so.
"""

import datetime as dt
from typing import Final, NamedTuple

from flask_babel import format_date, gettext as _, ngettext

from portal import clock, i18n, money
from portal.extensions import db
from portal.services.papers import content, entry_words, statements
from portal.services.papers.months import Month
from portal.services.papers.statements import Posting, Statement, UsageOfDay

SINGLY: Final = 2000
"""Postings. More would be a hundred pages that nobody turns, and seconds of work; the CSV has each one."""


class Row(NamedTuple):
    """A posting. note: the id to ask for it by. whole: it is no posting but what stood or stands."""

    time: str
    kind: str
    about: str
    note: str
    amount: str
    balance: str
    whole: bool = False


class StatementSheet(NamedTuple):
    """language: `ar` or `en`. facts, totals: a label and its text. totals have how many in the middle.

    made: the instant to which it goes. remark: what its reader must know of it; empty: nothing.
    """

    language: str
    made: dt.datetime
    seller: str
    title: str
    month: str
    facts: tuple[tuple[str, str], ...]
    totals_columns: tuple[str, str, str]
    totals: tuple[tuple[str, str, str], ...]
    columns: tuple[str, str, str, str, str]
    rows: tuple[Row, ...]
    remark: str


def of(statement: Statement) -> StatementSheet:
    """The statement's rows in the language of the moment."""
    language, words = i18n.language(), entry_words.words()
    ends = statement.until or statement.month.ends - dt.timedelta(microseconds=1)
    lines = statements.lines(statement)
    singly = statement.entries <= SINGLY
    shown = list(statements.postings(db.engine, statement)) if singly else lines
    buyer = content.buyer(statement.account_id)
    facts = (
        (_("Customer"), buyer["name"]),
        (_("E-mail"), buyer["email"]),
        (_("Account"), buyer["account"]),
        (_("From (Kuwait time)"), _minute(statement.month.begins)),
        (_("Until (Kuwait time)"), _minute(ends)),
    )
    opening, closing = _("Opening balance"), _("Closing balance")
    totals = [(words.kinds[t.kind], f"{t.entries:,}", money.credits(t.amount)) for t in statements.totals(lines)]
    stood = Row(_minute(statement.month.begins), opening, "", "", "", money.credits(statement.opening), whole=True)
    stands = Row(_minute(ends), closing, "", "", "", money.credits(statement.closing), whole=True)
    return StatementSheet(
        language,
        ends,
        content.seller()["name"][language],
        _("Statement of account"),
        month_name(statement.month),
        tuple(fact for fact in facts if fact[1]),
        (_("Kind"), _("Postings"), _("Credits")),
        ((opening, "", money.credits(statement.opening)), *totals, (closing, "", money.credits(statement.closing))),
        (_("Time"), _("Kind"), _("About"), _("Amount (credits)"), _("Balance (credits)")),
        (stood, *(_row(line, words) for line in shown), stands),
        "" if singly else _remark(statement),
    )


def month_name(month: Month) -> str:
    """`November 2026`."""
    return str(format_date(month.first_day, "MMMM yyyy"))


def day_name(day: dt.date) -> str:
    """`21 Nov 2026`."""
    return str(format_date(day, "d MMM yyyy"))


def _remark(statement: Statement) -> str:
    text = _("This month has %(count)s postings. Requests are taken together by day here; the CSV file has each one.")
    return str(text) % {"count": f"{statement.entries:,}"}


def _row(line: Posting | UsageOfDay, words: entry_words.Words) -> Row:
    amount, balance = money.credits(line.amount), money.credits(line.balance)
    if isinstance(line, UsageOfDay):
        return Row(str(line.day), words.kinds["usage"], requests(line.requests), "", amount, balance)
    about = " · ".join(filter(None, (words.about(line), line.paper)))
    return Row(_minute(line.at), words.kinds[line.kind], about, words.reference(line), amount, balance)


def requests(number: int) -> str:
    """`3 requests`."""
    return str(ngettext("%(count)s request", "%(count)s requests", number, count=f"{number:,}"))


def _minute(instant: dt.datetime) -> str:
    return f"{instant.astimezone(clock.KUWAIT):%Y-%m-%d %H:%M}"
