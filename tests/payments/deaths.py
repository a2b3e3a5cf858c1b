"""A process that dies at a statement to the database, and the lives after it."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from portal.extensions import db


class Killed(BaseException):
    """The process is gone: no handler of errors, no rollback of its own."""


@contextmanager
def dying_at(statement: int) -> Iterator[list[str]]:
    """The process ends before its so-many-th statement to the database; the list has those that were sent.

    On SQLite, where each transaction begins with a statement of its own. Reads are not counted: what is there before
    one is what is there after it.
    """
    sent: list[str] = []

    def execute(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if text.startswith("SELECT"):
            return
        if len(sent) == statement:
            raise Killed
        sent.append(text)

    sa.event.listen(db.engine, "before_cursor_execute", execute)
    try:
        yield sent
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", execute)


def every_death(deed: Callable[[], object]) -> Iterator[int]:
    """Do it again and again, each time dying one statement later, until it comes to its end; what the caller does
    between is the life after."""
    for statement in itertools.count():
        with dying_at(statement):
            try:
                deed()
            except Killed:
                db.session.remove()
            else:
                return
        yield statement
