"""An open request changes to the cloud twin's price and back: hold, row and wallet together, or nothing at all."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import Usage
from portal.services.ledger.rehold import rehold
from portal.services.ledger.statements import Hold, Settlement
from portal.services.ledger.till import NotHeld, Till, TillAway
from tests.ledger.books import Books, Held, Threads, a_hold, its_end
from tests.ledger.fragile import FragileBooks

RATES = (2_000_000, 1_500_000, 3_000_000)
CLOUD: dict[str, Any] = {"provider": "ollama-cloud", "location": "cloud", "failover": True, "rates": RATES}
HOME: dict[str, Any] = {"provider": "ollama-2", "location": "local", "failover": False, "rates": (10**6,) * 3}


def change(books: Books, hold: Hold, amount: int, *, old: int | None = None, **way: Any) -> bool:
    """The hold's request goes to the cloud, or another way, for so many milli-credits instead of what it held."""
    with books.app.app_context():
        return rehold(hold.id, hold.account_id, hold.amount if old is None else old, amount, **(way or CLOUD))


def end(hold: Hold, cost: int, amount: int) -> Settlement:
    """The end of that request, whose hold was changed to the amount."""
    return its_end(hold, cost)._replace(hold=amount)


def way_of(books: Books, hold: Hold) -> tuple[Any, ...]:
    """The request's row, as far as a change of way may touch it."""
    row = books.usage(hold.id)
    assert isinstance(row, Usage)
    return (
        row.state, row.hold, row.provider, row.location, row.failover, row.rate_in, row.rate_cached, row.rate_out,
    )  # fmt: skip


def test_the_hold_and_the_way_change_together(books: Books, till: Till) -> None:
    """CRD-01, QUEUE-02: the difference is set aside, and the row says where it goes and at which rates."""
    account = books.open_account(1_000)
    hold = a_hold(account, 300)
    till.hold(hold)
    assert change(books, hold, 650) is True
    assert way_of(books, hold) == ("open", 650, "ollama-cloud", "cloud", True, 2_000_000, 1_500_000, 3_000_000)
    assert books.wallet(account) == Held(1_000, 650, 1_000, 1)
    assert books.faults() == []
    assert till.settle(end(hold, 640, 650)) == 360
    assert books.wallet(account) == Held(360, 0, 1_000, 2)
    assert books.faults() == []


def test_a_smaller_hold_is_always_possible_and_gives_the_rest_back(books: Books, till: Till) -> None:
    """CRD-01: back to the local price with a wallet of which every milli-credit is on hold."""
    account = books.open_account(1_000)
    hold = a_hold(account, 900)
    till.hold(hold)
    till.hold(a_hold(account, 100))
    assert change(books, hold, 400, **HOME) is True
    assert books.wallet(account) == Held(1_000, 500, 1_000, 1)
    assert change(books, hold, 400, old=400, **CLOUD) is True, "as much as before, by another way"
    assert way_of(books, hold)[1:4] == (400, "ollama-cloud", "cloud")
    assert change(books, hold, 0, old=400, **HOME) is True
    assert books.wallet(account) == Held(1_000, 100, 1_000, 1)
    assert books.faults() == []


def test_what_the_wallet_does_not_cover_changes_nothing(books: Books, till: Till) -> None:
    """CRD-01: one milli-credit short, and the request stays what and where it was; the last one may be taken."""
    account = books.open_account(1_000)
    hold = a_hold(account, 300)
    till.hold(hold)
    till.hold(a_hold(account, 200))
    before = way_of(books, hold)
    assert change(books, hold, 801) is False
    assert way_of(books, hold) == before
    assert books.wallet(account) == Held(1_000, 500, 1_000, 1)
    assert change(books, hold, 800) is True
    assert books.wallet(account) == Held(1_000, 1_000, 1_000, 1)
    assert books.faults() == []


def test_only_the_open_request_that_is_meant_is_changed(books: Books, till: Till) -> None:
    """Never again (amount and state changed apart): settled, unknown, somebody else's or with another hold: refused."""
    account, other = books.open_account(1_000), books.open_account(1_000)
    settled, hold = a_hold(account, 300), a_hold(account, 200)
    for each in (settled, hold):
        till.hold(each)
    till.settle(its_end(settled, 50))
    before = (way_of(books, settled), way_of(books, hold), books.wallet(account), books.wallet(other))
    assert change(books, settled, 100) is False
    assert change(books, a_hold(account, 200), 100) is False
    assert change(books, hold._replace(account_id=other), 100) is False
    assert change(books, hold, 100, old=199) is False
    with pytest.raises(ValueError, match="below zero"):
        change(books, hold, -1)
    assert (way_of(books, settled), way_of(books, hold), books.wallet(account), books.wallet(other)) == before
    assert books.faults() == []


def test_a_settlement_that_knows_the_old_hold_only_settles_nothing(books: Books, till: Till) -> None:
    """CRD-01: the sweep of a request that was taken for dead had read the row before it changed; it gave back 300 of
    650, and the difference stayed on hold for ever. It finds the right amount when it looks again."""
    account = books.open_account(1_000)
    hold = a_hold(account, 300)
    till.hold(hold)
    assert change(books, hold, 650) is True
    assert till.settle(its_end(hold, 0, outcome="abandoned")) is None
    assert books.wallet(account) == Held(1_000, 650, 1_000, 1)
    assert books.faults() == []
    assert till.settle(end(hold, 0, 650)) == 1_000
    assert books.wallet(account) == Held(1_000, 0, 1_000, 1)


def test_of_a_change_and_a_settlement_at_once_one_is_done(books: Books, till: Till) -> None:
    """CRD-01: they meet at the row; whoever comes second finds it as it doesn't expect it, and changes nothing."""
    account = books.open_account(100_000)
    for number in range(40):
        hold = a_hold(account, 300)
        till.hold(hold)
        calls: list[Callable[[], object]] = [partial(change, books, hold, 650), partial(till.settle, its_end(hold, 10))]
        first, second = Threads(*(calls if number % 2 else calls[::-1])).wait()
        changed, balance = (first, second) if number % 2 else (second, first)
        assert changed in (True, False)
        assert (balance is None) == changed
        assert books.wallet(account).held == (650 if changed else 0)
        if changed:
            assert till.settle(end(hold, 10, 650)) is not None
    assert books.wallet(account) == Held(100_000 - 400, 0, 100_000, 41)
    assert books.faults() == []


def test_no_order_of_holds_changes_and_settlements_sells_a_credit_twice(books: Books) -> None:
    """CRD-01: 24 threads on three tills, two wallets that afford a few of them; every look at the books finds them
    right, and what was spent is what the wallets have less."""
    accounts = [books.open_account(2_500), books.open_account(2_500)]
    tills = [books.till() for _ in range(3)]
    faults: list[object] = []
    over = threading.Event()

    def look() -> int:
        looks = 0
        while not over.is_set():
            faults.extend(books.faults())
            looks += 1
            time.sleep(0.01)
        return looks

    def shop(number: int) -> tuple[int, int, int]:
        spent = changed = refused = 0
        for turn in range(8):
            till, amount = tills[number % 3], 100
            hold = a_hold(accounts[(number + turn) % 2], amount)
            try:
                till.hold(hold)
            except NotHeld:
                continue
            if change(books, hold, 700):
                amount, changed = 700, changed + 1
                if turn % 2 and change(books, hold, 100, old=700, **HOME):
                    amount = 100
            else:
                refused += 1
            cost = min(amount, (number * 7 + turn * 13) % 101)
            assert till.settle(end(hold, cost, amount)) is not None
            spent += cost
        return spent, changed, refused

    watching = Threads(look)
    results = Threads(*[partial(shop, number) for number in range(24)]).wait(60)
    over.set()
    (looks,) = watching.wait()
    assert not [r for r in results if not isinstance(r, tuple)], results
    spent, changed, refused = (sum(r[n] for r in results if isinstance(r, tuple)) for n in range(3))
    assert changed and refused, "nobody was refused, or everybody was: this proved nothing"
    assert isinstance(looks, int) and looks > 3
    assert faults == []
    wallets = [books.wallet(account) for account in accounts]
    assert spent == 5_000 - sum(wallet.balance for wallet in wallets)
    assert [wallet.held for wallet in wallets] == [0, 0]
    assert books.faults() == []
    for till in tills:
        till.close()


def test_a_circle_of_locks_is_tried_again(books: Books, till: Till) -> None:
    """CRD-01: a batch that has the wallet and wants the row, while the change has the row and wants the wallet: the
    database ends one of them, and the change comes true all the same."""
    account = books.open_account(1_000)
    hold = a_hold(account, 300)
    till.hold(hold)
    with books.app.app_context(), db.engine.connect() as batch:
        batch.execute(sa.text("UPDATE wallets SET seq = seq WHERE account_id = :id"), {"id": account})
        changing = Threads(partial(change, books, hold, 650))
        time.sleep(0.2)  # it has the row now, and waits
        try:
            batch.execute(sa.text("UPDATE usage_records SET hold = hold WHERE id = :id"), {"id": hold.id})
            batch.commit()
        except sa.exc.OperationalError:
            batch.rollback()
    assert changing.wait() == [True]
    assert books.wallet(account) == Held(1_000, 650, 1_000, 1)
    assert books.faults() == []


def test_a_change_whose_commit_was_never_answered_is_told_as_done(fragile: FragileBooks) -> None:
    """CRD-01: the server did it, the line broke before it could say so. Looked for on a new line, it is found; told as
    refused, the request would have settled with a hold that it no longer has."""
    if fragile.relay is None:
        return  # SQLite has no line between a commit and its answer
    account, till = fragile.open_account(1_000), fragile.till()
    hold = a_hold(account, 300)
    till.hold(hold)
    assert change(fragile, hold, 300, **HOME) is True  # opens the line: on MariaDB a new one begins with a COMMIT too
    fragile.relay.swallow = b"COMMIT"
    assert change(fragile, hold, 650) is True
    assert fragile.relay.swallowed.is_set()
    assert fragile.wallet(account) == Held(1_000, 650, 1_000, 1)
    assert way_of(fragile, hold)[:3] == ("open", 650, "ollama-cloud")
    assert fragile.faults() == []
    till.close()


def test_without_the_database_nothing_changes_and_it_is_said(
    fragile: FragileBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRD-01: the caller learns that it can't be known now, in the till's own words for it."""
    account, till = fragile.open_account(1_000), fragile.till()
    hold = a_hold(account, 300)
    till.hold(hold)
    with fragile.away(), pytest.raises(TillAway):
        change(fragile, hold, 650)
    assert fragile.wallet(account) == Held(1_000, 300, 1_000, 1)
    assert way_of(fragile, hold)[:3] == ("open", 300, "ollama-1")
    assert change(fragile, hold, 650) is True
    assert fragile.faults() == []
    till.close()
