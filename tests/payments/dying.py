"""A process that dies at the n-th thing it tells the database: before each statement, before and after each commit.

The child is forked from the test and ends as a killed server does: nothing is rolled back, closed or told by itself.
"""

import os
import traceback
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db

DEAD, WRONG = 9, 7


def dies_at(app: Flask, moment: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child of this process that dies at that moment, counted from 1. False when it came to its end."""
    child = os.fork()
    if child == 0:
        _live(app, moment, act)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, DEAD), f"at moment {moment} the child ended with {code}"
    return code == DEAD


def _live(app: Flask, moment: int, act: Callable[[], object]) -> None:
    code = WRONG
    try:
        with app.app_context():
            for engine in db.engines.values():
                engine.dispose(close=False)  # the parent's connections are the parent's
            _count_down(db.engine, moment)
            act()
        code = 0
    except BaseException:  # noqa: BLE001  (nothing of the child may reach the test runner above it)
        traceback.print_exc()
    finally:
        os._exit(code)


def _count_down(engine: sa.Engine, moment: int) -> None:
    left = moment
    dialect: Any = type(engine.dialect)
    commit = dialect.do_commit

    def another(*_given: object, **_named: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(DEAD)

    def do_commit(self: Any, connection: Any) -> None:
        another()
        commit(self, connection)
        another()

    dialect.do_commit = do_commit
    sa.event.listen(sa.Engine, "before_cursor_execute", another)  # of every engine: one is made for the year's series
