"""A statement for a spreadsheet: every posting, however many, as CSV that Excel opens in Arabic and never runs.

RFC 4180 with a BOM; in pieces, so that a million rows take no more memory than a thousand. Amounts are plain numbers.
"""

import csv
import datetime as dt
import io
import itertools
from collections.abc import Iterator

import sqlalchemy as sa
from flask_babel import gettext as _

from portal import clock, money
from portal.services.papers import entry_words, statements
from portal.services.papers.statements import Statement

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A cell that begins with one of them is a formula to Excel or Calc, whoever wrote it: a reason, a plan's name."""
PIECE = 500
Row = tuple[str, ...]


def pieces(engine: sa.Engine, statement: Statement) -> Iterator[bytes]:
    """The file, piece by piece. engine: `db.engine`. Its words are found now, its rows are read as they are taken."""
    heading = (
        _("No."), _("Time"), _("Kind"), _("About"), _("Request or payment"), _("Paper"), _("Amount (credits)"),
        _("Balance (credits)"),
    )  # fmt: skip
    begins, ends = statement.month.begins, statement.until or statement.month.ends
    opening = ("", _instant(begins), _("Opening balance"), "", "", "", "", _number(statement.opening))
    closing = ("", _instant(ends), _("Closing balance"), "", "", "", "", _number(statement.closing))
    rows = _rows(engine, statement, entry_words.words())
    return _encoded(itertools.chain((heading, opening), rows, (closing,)))


def _rows(engine: sa.Engine, statement: Statement, words: entry_words.Words) -> Iterator[Row]:
    for posting in statements.postings(engine, statement):
        yield (
            str(posting.seq), _instant(posting.at), words.kinds[posting.kind], _text(words.about(posting)),
            _text(words.reference(posting)), _text(posting.paper), _number(posting.amount), _number(posting.balance),
        )  # fmt: skip


def _encoded(rows: Iterator[Row]) -> Iterator[bytes]:
    first = "\ufeff"
    while piece := list(itertools.islice(rows, PIECE)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(piece)
        yield (first + text.getvalue()).encode()
        first = ""


def _text(value: str) -> str:
    return "'" + value if value.startswith(DANGEROUS) else value


def _number(milli: int) -> str:
    """`-12.500`: a number to every spreadsheet."""
    return money.credits(milli).replace(",", "")


def _instant(instant: dt.datetime) -> str:
    return instant.astimezone(clock.KUWAIT).isoformat(timespec="seconds")
