"""A portal's books for the tests of the ledger: accounts with wallets, and the plain data that the till takes.

Accounts are written as rows here: how a person registers is another suite's claim.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Usage, User, Wallet
from portal.services import ledger
from portal.services.gateway.holding import stamp
from portal.services.ledger.statements import Hold, Settlement
from portal.services.ledger.till import Till

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Held:
    """A wallet as it stands, in milli-credits."""

    balance: int
    held: int
    total: int
    seq: int


class Books:
    """The wallets of one portal. Every method opens and ends a transaction of its own."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def open_account(self, credit: int = 0) -> str:
        """A new account with an empty wallet, or one with so many milli-credits. Returns its id."""
        number = next(_numbers)
        with self.app.app_context():
            user = User(email=f"u{number}-{new_id()}@example.com", phone=f"+9655{number:07}", password_hash="-")
            db.session.add(user)
            db.session.flush()
            account = Account(owner_id=user.id, plan_id="basic")
            db.session.add(account)
            db.session.flush()
            ledger.open_wallet(account.id)
            if credit:
                ledger.credit(account.id, credit, kind="topup", reference=new_id())
            db.session.commit()
            return account.id

    def wallet(self, account_id: str) -> Held:
        with self.app.app_context():
            row = db.session.execute(sa.select(Wallet).where(Wallet.account_id == account_id)).scalar_one()
            return Held(row.balance, row.held, row.total, row.seq)

    def usage(self, request_id: str) -> Usage | None:
        with self.app.app_context():
            return db.session.get(Usage, request_id)

    def open_requests(self) -> set[str]:
        """The ids of all requests that hold credit."""
        with self.app.app_context():
            return set(db.session.scalars(sa.select(Usage.id).where(Usage.state == "open")))

    def faults(self) -> list[ledger.Fault]:
        with self.app.app_context():
            return ledger.check()

    def till(self) -> Till:
        """A till as a gateway process has one. The caller closes it."""
        with self.app.app_context():
            return Till(db.engine)

    def execute(self, statement: str, **values: object) -> None:
        """Raw SQL, committed."""
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    @contextmanager
    def wallet_locked(self, account_id: str) -> Iterator[None]:
        """Somebody else keeps this wallet's row (on SQLite: the whole file) to themselves meanwhile."""
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.text("UPDATE wallets SET seq = seq WHERE account_id = :id"), {"id": account_id})
            yield


def a_hold(account_id: str, amount: int, *, request_id: str = "", process_id: str = "p" * 32) -> Hold:
    """A request about to be admitted, with so many milli-credits to set aside."""
    return Hold(
        request_id or new_id(), account_id, "k" * 32, process_id, "llama3.2:3b", "ollama-1", "local", False,
        10**6, 10**6, 10**6, False, amount, stamp(),
    )  # fmt: skip


def its_end(hold: Hold, cost: int, *, outcome: str = "ok") -> Settlement:
    """The end of that request, at so many milli-credits."""
    return Settlement(
        hold.id, hold.account_id, hold.amount, outcome, cost, 0, 0, False, cost, "ollama-1", "", None, 5, 10, stamp(),
        "key:" + hold.api_key_id, new_id(),
    )  # fmt: skip


class Threads:
    """Calls that run beside each other; `results` has what each returned or raised, in the order they were given."""

    def __init__(self, *calls: Callable[[], object]) -> None:
        self.results: list[object] = [None] * len(calls)
        self._threads = [
            threading.Thread(target=self._run, args=(number, call), daemon=True) for number, call in enumerate(calls)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float = 30) -> list[object]:
        """The results, once all have ended; who has not ended after the seconds waits for ever."""
        for thread in self._threads:
            thread.join(seconds)
        waiting = sum(thread.is_alive() for thread in self._threads)
        assert not waiting, f"{waiting} of {len(self._threads)} calls never came back"
        return self.results

    def _run(self, number: int, call: Callable[[], object]) -> None:
        try:
            self.results[number] = call()
        except BaseException as error:  # noqa: BLE001  (the result is the test's to judge)
            self.results[number] = error
