"""A pack that was paid for is credited once, and told once, by what was paid."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.ids import new_id
from portal.models import LedgerEntry, Notification, Wallet
from portal.services import adjustments, ledger, subscriptions, topups
from portal.services.ledger import AlreadyBooked
from tests.ledger.books import Threads
from tests.notifications.outside import at_once, customer, deliveries, notes, reading
from tests.services.portal_app import MakeApp

PACK, CREDITS = "pack-5000", 5_000_000


@pytest.fixture
def portal(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases."""
    return make_app(database_url)


def book(account: str, reference: str, pack: str = PACK) -> str:
    return topups.book(account, pack, reference=reference, actor="console").id


def wallet(account: str) -> tuple[int, int, int]:
    """Balance, total and the number of the latest credit."""
    with reading() as connection:
        query = sa.select(Wallet.balance, Wallet.total, Wallet.credited_seq).where(Wallet.account_id == account)
        row = connection.execute(query).one()
    return row.balance, row.total, row.credited_seq


def test_a_pack_is_credited_with_its_message(portal: Flask) -> None:
    """CRD-03, NOTIF-05: what was bought, and what there is now."""
    with portal.app_context():
        owner = customer(credit=1_500)
        entry = db.session.get_one(LedgerEntry, book(owner.account, "bank-1"))
        assert (entry.kind, entry.amount, entry.reference) == ("topup", CREDITS, "bank-1")
        assert (entry.actor, entry.meta) == ("console", {"pack": PACK})
        assert wallet(owner.account) == (CREDITS + 1_500, CREDITS + 1_500, 2)
        [note] = notes(Notification.account_id == owner.account)
        assert (note.kind, note.occasion) == ("topup_confirmed", entry.id)
        assert note.facts == {"credits": CREDITS, "balance": CREDITS + 1_500}
        assert len(deliveries()) == 1
        assert ledger.check() == []


def test_one_payment_is_one_credit_whoever_reports_it(portal: Flask) -> None:
    """CRD-03; never again, "20 deliveries at once: one credit or none": and one message, which tells the balance."""
    with portal.app_context():
        owner = customer()
    results = at_once(portal, 20, book, owner.account, "payment-7")
    assert sum(isinstance(result, str) for result in results) == 1, results
    assert sum(isinstance(result, AlreadyBooked) for result in results) == 19
    with portal.app_context():
        assert wallet(owner.account) == (CREDITS, CREDITS, 1)
        assert (len(notes()), len(deliveries())) == (1, 1)
        assert ledger.check() == []


def test_a_payment_is_nobody_elses_and_no_other_pack(portal: Flask) -> None:
    """CRD-03: the same reference for another account or another pack is the same payment."""
    with portal.app_context():
        owner, other = customer(), customer()
        book(owner.account, "payment-8")
        for account, pack in ((other.account, PACK), (owner.account, "pack-50000")):
            with pytest.raises(AlreadyBooked):
                book(account, "payment-8", pack)
            db.session.rollback()
        assert (wallet(owner.account)[0], wallet(other.account)[0], len(notes())) == (CREDITS, 0, 1)


def test_twenty_payments_at_once_are_twenty_credits(portal: Flask) -> None:
    """CRD-03: none is lost beside another, and each message tells a balance of its own."""
    with portal.app_context():
        owner = customer()
    references = iter(range(20))
    results = at_once(portal, 20, lambda: book(owner.account, f"payment-{next(references)}"))
    assert all(isinstance(result, str) for result in results), results
    with portal.app_context():
        assert wallet(owner.account)[0] == 20 * CREDITS
        assert sorted(note.facts["balance"] for note in notes()) == [CREDITS * n for n in range(1, 21)]
        assert ledger.check() == []


def test_no_credit_without_its_message(portal: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-05: one transaction."""

    def broken(*_: Any, **__: Any) -> bool:
        raise RuntimeError

    with portal.app_context():
        owner = customer()
        with monkeypatch.context() as patch:
            patch.setattr(topups, "notify", broken)
            with pytest.raises(RuntimeError):
                book(owner.account, "payment-9")
        db.session.rollback()
        assert wallet(owner.account) == (0, 0, 0)
        with pytest.raises(topups.NoSuchPack):
            book(owner.account, "payment-9", "pack-0")
        with pytest.raises(LookupError):
            book("0" * 32, "payment-9")
        db.session.rollback()
        assert book(owner.account, "payment-9")


def test_a_payment_and_a_plan_at_the_same_moment_do_not_break_each_other_off(portal: Flask) -> None:
    """CRD-03: both change the wallet and tell the account; locked in two orders, MariaDB ended one of them."""
    with portal.app_context():
        owner = customer()
    references = iter(range(100))

    def buy() -> None:
        for _ in range(5):
            book(owner.account, f"payment-{next(references)}")

    def subscribe() -> None:
        for _ in range(5):
            subscriptions.activate(owner.account, "pro", reference=new_id(), actor="console")

    def adjust() -> None:
        for _ in range(5):
            adjustments.adjust(owner.account, 1_000, actor="console", reason="r")

    def alone(call: Callable[[], None]) -> None:
        with portal.app_context():
            call()

    calls = [partial(alone, call) for call in (buy, subscribe, adjust) * 3]
    assert Threads(*calls).wait(60) == [None] * len(calls)
    with portal.app_context():
        assert wallet(owner.account)[0] == 15 * (CREDITS + 60_000_000 + 1_000)
        assert len(notes()) == 45
        assert ledger.check() == []
