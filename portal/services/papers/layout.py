"""A white A4 sheet with gold accents that can write Arabic: fonts, colours, lines of text, rows of a table.

Every piece of text stands at a place of its own, with a direction of its own: a number or an id never joins the Arabic
beside it. Knows nothing of money; loaded only when a PDF is made, since its libraries cost a process thirty megabytes.
"""

import datetime as dt
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from fpdf import FPDF
from fpdf.line_break import Fragment

INK, SOFT, FAINT = (23, 26, 32), (70, 77, 90), (92, 100, 114)
GOLD, DARK_GOLD, LINE, GROUND = (212, 175, 55), (122, 92, 12), (222, 218, 206), (248, 247, 243)
LEFT, RIGHT, TOP, BOTTOM = 18.0, 192.0, 18.0, 277.0
"""Of an A4 page, in mm."""
MM: Final = 25.4 / 72
Fonts = Mapping[tuple[str, str], Path]
"""By family and style, as `fonts.files` has them."""
Side = Literal["left", "right", "centre"]


def runs_left(text: str) -> bool:
    """Whether a sentence runs to the left, by its first letter: of what people wrote, in whichever language."""
    return next((unicodedata.bidirectional(c) != "L" for c in text if c.isalpha()), False)


class Cell(NamedTuple):
    """A piece of text in a column. note: a smaller line under it. rtl: its sentence runs to the left."""

    text: str
    side: Side = "left"
    rtl: bool = False
    bold: bool = False
    note: str = ""


class Layout(FPDF):
    """footer_text: beside the page's number. y runs down from the top, in mm."""

    def __init__(
        self, fonts: Fonts, *, title: str, language: str, at: dt.datetime, footer_text: str, rtl: bool = False
    ) -> None:
        super().__init__()
        self.footer_text, self.rtl = footer_text, rtl
        self.repeated: tuple[Sequence[Cell], Sequence[float]] | None = None
        self.set_auto_page_break(False)
        self.set_title(title)
        self.set_lang(language)
        self.set_creation_date(at)  # and with it the file's own id: the same paper is the same bytes
        for (family, style), path in fonts.items():
            self.add_font(family, style, path)
        self.set_fallback_fonts(["latin", "more"])
        self._ascii = {bold: self._ascii_widths(bold) for bold in (False, True)}
        self._broken: dict[tuple[str, float, float, bool, bool], list[str]] = {}
        self._known = {code for font in self.fonts.values() for code in font.cmap}  # type: ignore[union-attr]
        self.add_page()

    def close(self) -> None:
        """fpdf2 leaves the files of its fonts open, six a paper, until somebody collects them."""
        for font in self.fonts.values():
            font.ttfont.close()  # type: ignore[union-attr]

    # -- pages -----------------------------------------------------------------------------------------------------

    def header(self) -> None:
        self.set_fill_color(*GOLD)
        self.rect(0, 0, self.w, 2.5, style="F")
        self.y = TOP

    def footer(self) -> None:
        self.hairline(BOTTOM + 4)
        side: Side = "right" if self.rtl else "left"
        self.put(LEFT, BOTTOM + 6, RIGHT - LEFT, self.footer_text, side=side, rtl=self.rtl, size=7.5, colour=FAINT)
        self.set_font("latin", size=7.5)
        self.set_text_shaping(False)
        self.set_xy(LEFT if self.rtl else RIGHT - 20, BOTTOM + 6)
        self.cell(20, 4, f"{self.page_no()} / {{nb}}", align="L" if self.rtl else "R")

    def room(self, height: float) -> None:
        """Begin a new page, with the table's heading again, where less than so many mm are left."""
        if self.y + height > BOTTOM:
            self.add_page()
            if self.repeated is not None:
                self.heading(*self.repeated)

    def hairline(self, y: float, colour: tuple[int, int, int] = LINE, width: float = 0.2) -> None:
        self.set_draw_color(*colour)
        self.set_line_width(width)
        self.line(LEFT, y, RIGHT, y)

    # -- text ------------------------------------------------------------------------------------------------------

    def put(
        self, x: float, y: float, width: float, text: str, *, side: Side = "left", rtl: bool = False, size: float = 9,
        bold: bool = False, colour: tuple[int, int, int] = INK,
    ) -> float:  # fmt: skip
        """Write text into a column, in as many lines as it takes. Returns their height."""
        high = size * MM * 1.5
        lines = self.lines(text, width, size=size, bold=bold, rtl=rtl)
        self.set_text_color(*colour)
        for number, line in enumerate(lines):
            self.font_family = ""  # or fpdf2 holds the font for taken, where a letter of another one came last
            self._take(line, size, bold, rtl)
            top = y + number * high
            if line.isascii():
                free = width - self.width_of(line, size=size, bold=bold)
                across = {"left": 0.0, "right": free, "centre": free / 2}[side]
                self.text(x + self.c_margin + across, top + high / 2 + 0.3 * size * MM, line)
            else:
                self.set_xy(x, top)
                self.cell(width, high, line, align={"left": "L", "right": "R", "centre": "C"}[side])
        return high * len(lines)

    def width_of(self, text: str, *, size: float = 9, bold: bool = False, rtl: bool = False) -> float:
        """In mm, with the margin that a column leaves on both sides."""
        if text.isascii():
            widths = self._ascii[bold]
            return sum(widths[ord(c)] for c in text) * size + 2 * self.c_margin
        self._take(text, size, bold, rtl)
        return self.get_string_width(text) + 2 * self.c_margin

    def lines(self, text: str, width: float, *, size: float = 9, bold: bool = False, rtl: bool = False) -> list[str]:
        """The text, broken at its blanks; a word that is too long for the column is cut.

        Not fpdf2's own: it turns a sentence of two languages around before it breaks it, so that its end came first.
        """
        key = (text, width, size, bold, rtl)
        if key not in self._broken:
            self._broken[key] = self._break(
                self._readable(text), lambda line: self.width_of(line, size=size, bold=bold, rtl=rtl) <= width
            )
        return self._broken[key]

    @staticmethod
    def _break(text: str, fits: Callable[[str], bool]) -> list[str]:
        if fits(text):
            return [text]
        found, words = [""], text.split(" ")
        while words:
            word = words.pop(0)
            longer = f"{found[-1]} {word}" if found[-1] else word
            if fits(longer):
                found[-1] = longer
            elif found[-1]:
                found.append("")
                words.insert(0, word)
            else:
                cut = next((n for n in range(len(word) - 1, 1, -1) if fits(word[:n])), 1)
                found[-1] = word[:cut]
                words[:0] = [word[cut:]] if word[cut:] else []
        return found

    def _readable(self, text: str) -> str:
        """Without marks that nobody sees, which could turn a line around; what no font of ours has becomes `?`."""
        if text.isascii() and text.isprintable():
            return text
        seen = (c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c) not in ("Cc", "Cf"))
        return "".join(c if ord(c) in self._known else "?" for c in seen)

    def _take(self, text: str, size: float, bold: bool, rtl: bool) -> None:
        style = "B" if bold else ""
        if text.isascii():  # without shaping: twenty times as fast, and most of a long statement
            self.set_font("latin", style, size)
            self.set_text_shaping(False)
        else:
            self.set_font("arabic", style, size)
            self.set_text_shaping(True, direction="rtl" if rtl else "ltr")

    def _parse_chars(self, text: str, markdown: bool, **values: Any) -> Iterator[Fragment]:
        """Pieces of one font in one piece.

        fpdf2 begins a new one after each vowel mark, since those belong to no script; shaped each for itself, the
        letters on both sides of a mark were not joined.
        """
        whole: Fragment | None = None
        for piece in super()._parse_chars(text, markdown, **values):
            if whole is not None and type(whole) is type(piece) is Fragment and whole.font is piece.font:
                whole.characters = [*whole.characters, *piece.characters]
                continue
            if whole is not None:
                yield whole
            whole = piece
        if whole is not None:
            yield whole

    def _ascii_widths(self, bold: bool) -> dict[int, float]:
        """Of every letter, in mm, at a size of one point."""
        self.set_font("latin", "B" if bold else "", 100)
        self.set_text_shaping(False)
        return {code: self.get_string_width(chr(code)) / 100 for code in range(32, 127)}

    # -- tables ----------------------------------------------------------------------------------------------------

    def heading(self, cells: Sequence[Cell], widths: Sequence[float]) -> None:
        """A table's heading, on a tinted ground."""
        height = self._height(cells, widths, 7.5) + 3
        self.room(height + 8)
        self.set_fill_color(*GROUND)
        top = self.y
        self.rect(LEFT, top, RIGHT - LEFT, height, style="F")
        self._cells(cells, widths, 7.5, SOFT, top + 1.5)
        self.y = top + height
        self.hairline(self.y, GOLD, 0.3)

    def row(self, cells: Sequence[Cell], widths: Sequence[float], *, size: float = 8.5, pad: float = 1.6) -> None:
        """A row of a table, whole on one page, with a line under it."""
        height = self._height(cells, widths, size) + 2 * pad
        self.room(height)
        top = self.y
        self._cells(cells, widths, size, INK, top + pad)
        self.y = top + height
        self.hairline(self.y)

    def _height(self, cells: Sequence[Cell], widths: Sequence[float], size: float) -> float:
        return max(
            len(self.lines(cell.text, width, size=size, bold=cell.bold, rtl=cell.rtl)) * size * MM * 1.5
            + (size * MM * 1.3 if cell.note else 0)
            for cell, width in zip(cells, widths, strict=True)
        )

    def _cells(
        self, cells: Sequence[Cell], widths: Sequence[float], size: float, colour: tuple[int, int, int], y: float
    ) -> None:
        x = LEFT
        for cell, width in zip(cells, widths, strict=True):
            down = 0.0
            if cell.text:
                down = self.put(
                    x, y, width, cell.text, side=cell.side, rtl=cell.rtl, size=size, bold=cell.bold, colour=colour
                )
            if cell.note:
                self.put(x, y + down, width, cell.note, side=cell.side, size=size * 0.78, colour=FAINT)
            x += width
