"""Papers and statements as PDF files, made on demand: the content is kept, the file is not.

A file takes some tenths of a second of pure computing, which on the hub of a gevent worker would hold up every open
stream: it is made beside it. The libraries are loaded with the first one: a worker that makes none pays nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import current_app

from portal.models import Paper
from portal.services.papers import facts, statement_sheet
from portal.services.papers.statements import Statement

_pool: Any = None


def of_paper(paper: Paper) -> bytes:
    """A receipt's or a credit note's file: the same bytes whenever it is asked for."""
    sheet, at, built = facts.of(paper), paper.issued_at, _built()

    def draw() -> bytes:
        from portal.services.papers import fonts, pdf_paper

        return pdf_paper.draw(sheet, at, fonts.files(built))

    return _off_hub(draw)


def of_statement(statement: Statement) -> bytes:
    """A statement's file, in the language of the moment."""
    sheet, built = statement_sheet.of(statement), _built()

    def draw() -> bytes:
        from portal.services.papers import fonts, pdf_statement

        return pdf_statement.draw(sheet, fonts.files(built))

    return _off_hub(draw)


def _built() -> Path:
    return Path(str(current_app.static_folder)) / "fonts"


def _off_hub(draw: Callable[[], bytes]) -> bytes:
    global _pool
    import gevent.monkey

    if not gevent.monkey.is_module_patched("socket"):
        return draw()  # Passenger, a command, a test
    if _pool is None:
        from gevent.threadpool import ThreadPool

        _pool = ThreadPool(1)  # one after the other: several at once would only share the one core
    made: bytes = _pool.apply(draw)
    return made
