"""A receipt or a credit note as a PDF: English on the left, Arabic on the right, what both share in the middle."""

import datetime as dt
from contextlib import closing

from portal.services.papers.facts import Both, Fact, Section, Sheet
from portal.services.papers.layout import (
    DARK_GOLD,
    FAINT,
    GOLD,
    LEFT,
    MM,
    RIGHT,
    SOFT,
    Cell,
    Fonts,
    Layout,
    Side,
    runs_left,
)

WHOLE = RIGHT - LEFT
HALF = WHOLE / 2
LABEL, VALUE = 50.0, HALF - 50.0
GAP = 10.0
LEFT_SIDE: Side = "left"
RIGHT_SIDE: Side = "right"
COLUMNS = (42.0, 30.0, 24.0, 36.0, 42.0)


def draw(sheet: Sheet, at: dt.datetime, fonts: Fonts) -> bytes:
    """The file. at: of the paper's issue."""
    title = f"{sheet.title.en} {sheet.number}"
    with closing(Layout(fonts, title=title, language="ar", at=at, footer_text=sheet.number)) as page:
        _letterhead(page, sheet)
        _title(page, sheet)
        for section in sheet.sections:
            _section(page, section)
        _lines(page, sheet)
        for number, total in enumerate(sheet.totals, 1):
            _fact(page, total, sum_of_all=number == len(sheet.totals))
        page.y += 5
        for section in sheet.ends:
            _section(page, section)
        return bytes(page.output())


def _letterhead(page: Layout, sheet: Sheet) -> None:
    name, address = sheet.seller
    top, bottom, width = page.y, page.y, HALF - 4
    for rtl in (False, True):
        x, side = (RIGHT - width, RIGHT_SIDE) if rtl else (LEFT, LEFT_SIDE)
        y = top + page.put(x, top, width, _in(name, rtl), side=side, rtl=rtl, size=13, bold=True)
        if _in(address, rtl):
            y += page.put(x, y, width, _in(address, rtl), side=side, rtl=rtl, size=8.5, colour=SOFT)
        for fact in sheet.seller_facts:
            y += _pair(page, x, y, width, fact, rtl=rtl)
        bottom = max(bottom, y)
    page.y = bottom + 5
    page.hairline(page.y, GOLD, 0.5)
    page.y += 6


def _pair(page: Layout, x: float, y: float, width: float, fact: Fact, *, rtl: bool) -> float:
    """`Telephone +965 …` in one line: label and value each for itself, so that the number is not turned around."""
    label, value, size = _in(fact.label, rtl), fact.value.en, 7.5
    taken = page.width_of(label, size=size, rtl=rtl)
    if rtl:
        page.put(x, y, width, label, side="right", rtl=True, size=size, colour=FAINT)
        page.put(x, y, width - taken, value, side="right", size=size, colour=SOFT)
    else:
        page.put(x, y, width, label, size=size, colour=FAINT)
        page.put(x + taken, y, width - taken, value, size=size, colour=SOFT)
    return size * MM * 1.55


def _title(page: Layout, sheet: Sheet) -> None:
    top = page.y
    page.put(LEFT, top, HALF, sheet.title.en, size=20, bold=True)
    high = page.put(LEFT + HALF, top, HALF, sheet.title.ar, side=RIGHT_SIDE, rtl=True, size=20, bold=True)
    page.y = top + high + 4


def _section(page: Layout, section: Section) -> None:
    if not section.facts:
        return
    page.room(16)
    y = page.y
    page.put(LEFT, y, HALF, section.title.en, size=9.5, bold=True, colour=DARK_GOLD)
    page.put(LEFT + HALF, y, HALF, section.title.ar, side="right", rtl=True, size=9.5, bold=True, colour=DARK_GOLD)
    page.y = y + 6
    page.hairline(page.y, GOLD, 0.3)
    for fact in section.facts:
        _fact(page, fact)
    page.y += 5


def _fact(page: Layout, fact: Fact, *, sum_of_all: bool = False) -> None:
    """A label on either side, and its value: once in the middle, or in each language."""
    size = 11.0 if sum_of_all else 8.5
    labels = (Cell(fact.label.en, bold=sum_of_all), Cell(fact.label.ar, "right", rtl=True, bold=sum_of_all))
    if fact.value.is_one:
        middle = [Cell(fact.value.en, "centre", rtl=runs_left(fact.value.en))]
        widths = [LABEL, WHOLE - 2 * LABEL, LABEL]
    else:
        middle = [
            Cell(fact.value.en, "right", bold=sum_of_all),
            Cell(""),
            Cell(fact.value.ar, "left", rtl=True, bold=sum_of_all),
        ]
        widths = [LABEL, VALUE - GAP / 2, GAP, VALUE - GAP / 2, LABEL]
    page.row([labels[0], *middle, labels[1]], widths, size=size)


def _lines(page: Layout, sheet: Sheet) -> None:
    item, *figures = sheet.columns
    heading = [Cell(item.en), *(_stacked(column) for column in figures), Cell(item.ar, "right", rtl=True)]
    page.heading(heading, COLUMNS)
    for line in sheet.lines:
        figures_of = [Cell(text, "centre") for text in (line.credits, line.days, line.amount)]
        page.row(
            [Cell(line.name.en, bold=True), *figures_of, Cell(line.name.ar, "right", rtl=True, bold=True)],
            COLUMNS,
            pad=2.2,
        )


def _stacked(column: Both) -> Cell:
    return Cell(f"{column.en} · {column.ar}", "centre")


def _in(both: Both, arabic: bool) -> str:
    """In one language, or in the other where it was only said in that."""
    return (both.ar or both.en) if arabic else (both.en or both.ar)
