"""A month's statement as a PDF, in one language: what there was, what came and went, every posting, what is left."""

from collections.abc import Sequence
from contextlib import closing
from typing import TypeVar

from portal.services.papers.layout import FAINT, GOLD, LEFT, RIGHT, SOFT, Cell, Fonts, Layout, Side, runs_left
from portal.services.papers.statement_sheet import Row, StatementSheet

WIDTHS = (29.0, 30.0, 59.0, 27.0, 29.0)
FACTS = (46.0, 128.0)
TOTALS = (90.0, 34.0, 50.0)
WHOLE = RIGHT - LEFT


T = TypeVar("T")


class Direction:
    """Where a line begins in this language: columns are named in reading order and turned around for Arabic."""

    def __init__(self, *, rtl: bool) -> None:
        self.rtl = rtl
        self.start: Side = "right" if rtl else "left"
        self.end: Side = "left" if rtl else "right"

    def text(self, text: str, *, bold: bool = False) -> Cell:
        """Words of ours."""
        return Cell(text, self.start, self.rtl, bold)

    def written(self, text: str, *, note: str = "") -> Cell:
        """What somebody wrote: it runs as its own language does."""
        return Cell(text, self.start, runs_left(text), note=note)

    @staticmethod
    def figure(text: str, *, bold: bool = False) -> Cell:
        """On the right in either language: points stand under points."""
        return Cell(text, "right", bold=bold)

    def ordered(self, things: Sequence[T]) -> list[T]:
        return list(reversed(things)) if self.rtl else list(things)


def draw(sheet: StatementSheet, fonts: Fonts) -> bytes:
    """The file. Made for the same instant it is the same bytes."""
    way = Direction(rtl=sheet.language == "ar")
    footer = f"{sheet.title} · {sheet.month}"
    made = Layout(fonts, title=footer, language=sheet.language, at=sheet.made, footer_text=footer, rtl=way.rtl)
    with closing(made) as page:
        _head(page, sheet, way)
        for label, value in sheet.facts:
            page.row(way.ordered([way.text(label), way.written(value)]), way.ordered(FACTS), size=8.5)
        page.y += 6
        _totals(page, sheet, way)
        page.y += 6
        if sheet.remark:
            page.y += (
                page.put(LEFT, page.y, WHOLE, sheet.remark, side=way.start, rtl=way.rtl, size=8.5, colour=SOFT) + 3
            )
        _postings(page, sheet, way)
        return bytes(page.output())


def _head(page: Layout, sheet: StatementSheet, way: Direction) -> None:
    top = page.y
    page.put(LEFT, top, WHOLE, sheet.seller, side=way.start, rtl=way.rtl, size=11, bold=True, colour=SOFT)
    page.y = top + 9
    page.hairline(page.y, GOLD, 0.5)
    top = page.y + 6
    page.put(LEFT, top, WHOLE, sheet.title, side=way.start, rtl=way.rtl, size=20, bold=True)
    page.put(LEFT, top + 3, WHOLE, sheet.month, side=way.end, rtl=way.rtl, size=13, colour=FAINT)
    page.y = top + 15


def _totals(page: Layout, sheet: StatementSheet, way: Direction) -> None:
    kind, entries, amount = sheet.totals_columns
    widths = way.ordered(TOTALS)
    page.heading(way.ordered([way.text(kind), _side(way.text(entries)), _side(way.text(amount))]), widths)
    for number, (label, count, figure) in enumerate(sheet.totals):
        whole = number in (0, len(sheet.totals) - 1)
        cells = [way.text(label, bold=whole), way.figure(count), way.figure(figure, bold=whole)]
        page.row(way.ordered(cells), widths)


def _postings(page: Layout, sheet: StatementSheet, way: Direction) -> None:
    time, kind, about, amount, balance = sheet.columns
    widths = way.ordered(WIDTHS)
    cells = [way.text(time), way.text(kind), way.text(about), _side(way.text(amount)), _side(way.text(balance))]
    page.repeated = (way.ordered(cells), widths)
    page.heading(*page.repeated)
    for row in sheet.rows:
        page.row(way.ordered(_cells(row, way)), widths, size=8, pad=1.1)
    page.repeated = None


def _cells(row: Row, way: Direction) -> list[Cell]:
    bold = row.whole
    return [
        Cell(row.time, way.start), way.text(row.kind, bold=bold), way.written(row.about, note=row.note),
        way.figure(row.amount), way.figure(row.balance, bold=bold),
    ]  # fmt: skip


def _side(heading: Cell) -> Cell:
    """Over a column of figures."""
    return heading._replace(side="right")
