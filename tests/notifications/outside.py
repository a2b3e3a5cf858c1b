"""What the tests of messages share: an account to tell, the rows as they stand, a clock, a database to search."""

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Delivery, Notification, User
from portal.services import ledger
from portal.services.ledger import open_wallet
from tests.ledger.books import Threads
from tests.services import database_clock

Line = sa.Row[*tuple[Any, ...]]
_numbers = itertools.count(1)
WHATSAPP = {"RESAYIL_API_KEY": "sandbox"}


def customer(language: str = "ar", credit: int = 0) -> Line:
    """A user with an account and a wallet, written as rows: id, account, phone, email. Nobody is told of them."""
    number = next(_numbers)
    phone = f"+9655{number:07}"
    user = User(email=f"c{number}@example.com", phone=phone, password_hash="-", language=language, name=f"c{number}")
    db.session.add(user)
    db.session.flush()
    account = Account(owner_id=user.id, plan_id="basic")
    db.session.add(account)
    db.session.flush()
    open_wallet(account.id)
    if credit:
        ledger.credit(account.id, credit, kind="topup", reference=new_id())
    db.session.commit()
    query = sa.select(User.id, Account.id.label("account"), User.phone, User.email)
    with reading() as connection:
        return connection.execute(query.join(Account, Account.owner_id == User.id).where(User.id == user.id)).one()


def reading() -> sa.Connection:
    """A connection that waits for no writer."""
    return db.engine.connect().execution_options(sqlite_read_only=True)


def notes(*conditions: Any) -> list[Line]:
    """The notifications, in the order they were made."""
    with reading() as connection:
        query = sa.select(Notification.__table__).where(*conditions).order_by(Notification.id)
        return list(connection.execute(query))


def deliveries(*conditions: Any) -> list[Line]:
    """The ways they go."""
    with reading() as connection:
        return list(connection.execute(sa.select(Delivery.__table__).where(*conditions).order_by(Delivery.id)))


def delivery(delivery_id: str) -> Line:
    [found] = deliveries(Delivery.id == delivery_id)
    return found


def at_once(app: Flask, count: int, call: Callable[..., object], *values: object) -> list[object]:
    """The call in so many threads, each with an app context of its own; the results, exceptions among them."""

    def alone() -> object:
        with app.app_context():
            return call(*values)

    return Threads(*[partial(alone)] * count).wait(60)


def everything() -> str:
    """All rows of all tables as text: what somebody has who has copied the database."""
    with reading() as connection:
        tables = sa.inspect(connection).get_table_names()
        rows = [connection.execute(sa.text(f"SELECT * FROM {table}")).all() for table in tables]
    return repr(rows)


class Clock:
    """The product's clock, and the database's for leases, which stand still until they are turned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: dt.datetime | None = None) -> None:
        self.now = now or dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)
        monkeypatch.setattr("portal.clock.utcnow", lambda: self.now)
        database_clock.follow(monkeypatch, lambda: self.now)

    def __call__(self) -> dt.datetime:
        return self.now

    def later(self, **span: float) -> dt.datetime:
        self.now += dt.timedelta(**span)
        return self.now


class Queued(list[tuple[str, tuple[str, ...]]]):
    """(name, ids) of what the queue would have been given."""

    @property
    def ids(self) -> list[str]:
        return [one for _, ids in self for one in ids]

    def note(self, name: str, batches: Sequence[Sequence[str]]) -> bool:
        """In place of `queue.enqueue_now`: it gets nothing."""
        self.extend((name, tuple(batch)) for batch in batches)
        return True
