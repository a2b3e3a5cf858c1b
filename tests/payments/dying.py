"""A process that dies at the n-th thing it tells the database: before each statement, before and after each commit.

It ends as a killed server does: nothing is rolled back, closed or told by itself. The children are forked by a process
of their own that has one thread and no connection: a child of the test's own process inherited the locks of threads
that it did not have, and hung for ever.

    python -m tests.payments.dying     reads settings, then one order a line, and answers each with an exit code
"""

import json
import os
import subprocess
import sys
import time
import traceback
from typing import Any

import sqlalchemy as sa
from flask import Flask

from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from portal.models import Account, User
from portal.services import payments
from portal.services.payments import merchant
from tests.services.environment import ROOT

DEAD, WRONG = 9, 7


class Mortals:
    """Processes of the portal with these settings, each for one deed."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.payments.dying"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._tell(environ)

    def dies_at(self, moment: int, deed: str, *values: Any) -> bool:
        """Have one of DEEDS done by a process that dies at that moment, counted from 1. False: it came to its end."""
        self._tell({"moment": moment, "deed": deed, "values": values})
        assert self._parent.stdout is not None
        code = int(self._parent.stdout.readline())
        assert code in (0, DEAD), f"at moment {moment} the child ended with {code}"
        return code == DEAD

    def close(self) -> None:
        for pipe in (self._parent.stdin, self._parent.stdout):
            assert pipe is not None
            pipe.close()
        self._parent.wait(10)

    def _tell(self, what: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(what) + "\n")
        self._parent.stdin.flush()


def confirm(payment_id: str, source: str) -> None:
    payments.confirm(payment_id, source=source)


def begin(account_id: str, user_id: str, item: str) -> None:
    account, user = db.session.get_one(Account, account_id), db.session.get_one(User, user_id)
    payments.begin(account, user, item, "kn", language="ar")


def ask(times: int, at: float) -> None:
    """Take so many of a minute's questions, each of which must be free. at: what the time is."""
    setattr(time, "time", lambda: at)  # noqa: B010  (a process of its own)
    assert all(merchant.may_ask() for _ in range(times))


DEEDS = {deed.__name__: deed for deed in (confirm, begin, ask)}


def _serve() -> None:
    app = create_app(load_settings(json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _live(app, order["moment"], order["deed"], order["values"])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _live(app: Flask, moment: int, deed: str, values: list[Any]) -> None:
    code = WRONG
    try:
        with app.app_context():
            _count_down(db.engine, moment)
            DEEDS[deed](*values)
        code = 0
    except BaseException:  # noqa: BLE001  (nothing of the child may go on with the orders of its parent)
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


if __name__ == "__main__":
    _serve()
