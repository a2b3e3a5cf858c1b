"""Credit that runs out is an event of the settlement that caused it: once a line, and anew after any credit.

The till's SQL differs on each database, so every claim is made on all three.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from portal.extensions import db
from portal.ids import new_id
from portal.models import Event, EventStep, LedgerEntry, Notification
from portal.services import credit_alerts, ledger
from portal.services.ledger.statements import Settlement, statements_for
from portal.services.ledger.till import Till
from portal.tasks import events as tasks
from tests.gateway.wire import CHAT, Plain, chat
from tests.ledger.books import Books, Threads, a_hold, its_end
from tests.services.cast import Cast

LOW, EXHAUSTED = "credit_low", "credit_exhausted"


def spend(till: Till, account: str, cost: int) -> None:
    """One request from hold to settlement."""
    hold = a_hold(account, cost)
    till.hold(hold)
    assert till.settle(its_end(hold, cost)) is not None


def events_of(books: Books, account: str) -> list[Event]:
    with books.app.app_context():
        query = sa.select(Event).where(Event.occasion.startswith(account)).order_by(Event.created_at, Event.kind)
        return list(db.session.scalars(query))


def told(books: Books, account: str) -> list[str]:
    """The kinds of the account's events, sorted."""
    return sorted(event.kind for event in events_of(books, account))


def credit(books: Books, account: str, amount: int, kind: str = "topup") -> None:
    with books.app.app_context():
        if kind == "adjustment":
            ledger.adjust(account, amount, reference=new_id(), actor="a", reason="r")
        else:
            ledger.credit(account, amount, kind=kind, reference=new_id())
        db.session.commit()


# --- the two lines ---------------------------------------------------------------------------------------------------


def test_each_line_is_one_event_of_the_settlement_that_crossed_it(books: Books, till: Till) -> None:
    """NOTIF-03, NOTIF-04: 20 % of the total, and less than one credit; to the milli-credit."""
    account = books.open_account(100_000)
    spend(till, account, 79_999)
    assert told(books, account) == []
    spend(till, account, 1)
    assert told(books, account) == [LOW]
    spend(till, account, 19_000)  # 1,000 left: a credit is still a credit
    assert told(books, account) == [LOW]
    spend(till, account, 1)
    spend(till, account, 999)
    assert told(books, account) == [EXHAUSTED, LOW]

    low, exhausted = events_of(books, account)
    assert low.facts == {"account": account, "credited": 1, "balance": 20_000, "total": 100_000}
    assert exhausted.facts == {"account": account, "credited": 1, "balance": 999, "total": 100_000}
    with books.app.app_context():
        for event in (low, exhausted):
            entry = db.session.get_one(LedgerEntry, event.id)  # the same id: from one transaction, see below
            assert (entry.balance_after, entry.created_at) == (event.facts["balance"], event.created_at)
            assert (event.state, event.occasion) == ("new", f"{account}:1")
    assert books.faults() == []


def test_who_falls_through_both_lines_at_once_is_told_of_the_lower(books: Books, till: Till) -> None:
    """NOTIF-04: not "a fifth is left" and "nothing is left" for one request."""
    account = books.open_account(100_000)
    spend(till, account, 100_000)
    assert told(books, account) == [EXHAUSTED]


def test_an_empty_wallet_is_not_called_low_afterwards(books: Books, till: Till) -> None:
    """NOTIF-03: of three credits a fifth is less than one: "running low" came after "used up"."""
    account = books.open_account(3_000)
    spend(till, account, 2_100)
    assert told(books, account) == [EXHAUSTED]
    spend(till, account, 400)
    assert told(books, account) == [EXHAUSTED]


@pytest.mark.parametrize("kind", ["topup", "subscription", "refund", "grant", "adjustment"])
def test_any_credit_has_it_told_again(books: Books, till: Till, kind: str) -> None:
    """Never again, "Low-credit warning each hour, for ever": told once, and again after a credit of any kind."""
    account = books.open_account(10_000)
    for cost in (8_000, 1_500, 400, 100):
        spend(till, account, cost)
    assert told(books, account) == [EXHAUSTED, LOW]
    credit(books, account, 10_000, kind)
    for cost in (8_000, 1_500, 400, 100):
        spend(till, account, cost)
    assert told(books, account) == [EXHAUSTED, EXHAUSTED, LOW, LOW]
    assert len({event.occasion for event in events_of(books, account)}) == 2


def test_what_is_taken_by_hand_tells_nothing_anew(books: Books, till: Till) -> None:
    """NOTIF-03: a negative adjustment is no credit; nothing between two charges makes the same line cross twice."""
    account = books.open_account(10_000)
    spend(till, account, 8_500)
    credit(books, account, -200, "adjustment")
    spend(till, account, 100)
    assert told(books, account) == [LOW]
    credit(books, account, -1_000, "adjustment")
    spend(till, account, 100)
    assert told(books, account) == [LOW]


# --- batches, threads, rollback --------------------------------------------------------------------------------------


class Driver:
    """A driver's connection that notes what is sent; everything else is the real one's."""

    def __init__(self, books: Books) -> None:
        with books.app.app_context():
            self.sql, self._real = statements_for(db.engine.dialect.name), db.engine.raw_connection()
        self.sent: list[str] = []

    def write(self, settlements: list[Settlement]) -> dict[str, int]:
        self.sent.clear()
        self.sql.begin(self._real)
        return self.sql.write(self, settlements, [])[0]

    def commit(self) -> None:
        self._real.commit()

    def close(self, *, undo: bool = False) -> None:
        if undo:
            self._real.rollback()
        self.sql.end(self._real)
        self._real.close()

    def cursor(self) -> Any:
        return _Cursor(self._real.cursor(), self.sent)


class _Cursor:
    def __init__(self, real: Any, sent: list[str]) -> None:
        self._real, self._sent = real, sent

    def execute(self, statement: str, *values: Any) -> Any:
        self._sent.append(" ".join(statement.split()[:3]))
        return self._real.execute(statement, *values)

    def executemany(self, statement: str, *values: Any) -> Any:
        self._sent.append(" ".join(statement.split()[:3]))
        return self._real.executemany(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def held(till: Till, account: str, *costs: int) -> list[Settlement]:
    """Requests that are open, and how each is going to end; settled in this order."""
    holds = sorted(a_hold(account, cost) for cost in costs)
    for hold in holds:
        till.hold(hold)
    return [its_end(hold, hold.amount) for hold in holds]


def test_a_batch_of_many_settlements_crosses_each_line_once(books: Books, till: Till) -> None:
    """NOTIF-03: twenty settlements of one account and ten of another in one transaction."""
    rich, poor = books.open_account(100_000), books.open_account(1_000_000)
    batch = held(till, rich, *[4_980] * 20) + held(till, poor, *[79_000] * 10)
    driver = Driver(books)
    balances = driver.write(batch)
    driver.commit()
    driver.close()
    assert (min(balances.values()), len(balances)) == (400, 30)
    assert [(event.kind, event.facts["balance"]) for event in sorted(events_of(books, rich), key=lambda e: e.kind)] == [
        (EXHAUSTED, 400), (LOW, 100_000 - 17 * 4_980),
    ]  # fmt: skip
    assert told(books, poor) == []
    spend(till, poor, 10_000)
    assert told(books, poor) == [LOW]
    assert books.faults() == []


def test_a_batch_that_is_rolled_back_leaves_no_event(books: Books, till: Till) -> None:
    """NOTIF-03: the event stands in the settlement's own transaction: with it or not at all."""
    account = books.open_account(100_000)
    batch = held(till, account, 85_000)
    driver = Driver(books)
    if books.app.config["PORTAL"].database_url.startswith("postgresql"):
        # There one settlement commits by itself; two statements don't.
        driver.sql.commits_at_once = lambda *_: False  # type: ignore[method-assign]
    assert driver.write(batch) == {batch[0].id: 15_000}
    driver.close(undo=True)
    assert told(books, account) == []
    assert books.wallet(account).balance == 100_000
    assert till.settle(batch[0]) == 15_000
    assert told(books, account) == [LOW]


def test_sixty_four_threads_across_the_line_are_one_event(books: Books) -> None:
    """NOTIF-03, NOTIF-04: four tills, 64 threads that spend 64 credits: one event a line."""
    account, tills = books.open_account(64_000), [books.till() for _ in range(4)]

    def shop(number: int) -> None:
        for _ in range(4):
            spend(tills[number % 4], account, 250)

    assert Threads(*[partial(shop, number) for number in range(64)]).wait(60) == [None] * 64
    assert books.wallet(account).balance == 0
    assert told(books, account) == [EXHAUSTED, LOW]
    low, exhausted = sorted(events_of(books, account), key=lambda event: event.kind, reverse=True)
    assert (low.facts["balance"], exhausted.facts["balance"]) == (12_750, 750)
    assert books.faults() == []
    for till in tills:
        till.close()


def test_a_settlement_that_crosses_nothing_sends_nothing_more(books: Books, till: Till) -> None:
    """Issue 4, triggers: counted at the driver. The event is one statement; on PostgreSQL not even that."""
    account = books.open_account(100_000)
    driver, postgresql = Driver(books), books.app.config["PORTAL"].database_url.startswith("postgresql")
    usual = ["UPDATE usage_records SET", "UPDATE wallets SET", "SELECT balance, seq,", "INSERT INTO ledger_entries"]
    for cost, more in ((10_000, 0), (75_000, 1), (1_000, 0), (13_500, 1), (100, 0)):
        driver.write(held(till, account, cost))
        driver.commit()
        if postgresql:
            assert len(driver.sent) == 1
        else:
            assert driver.sent[:4] == usual
            assert len(driver.sent) == 4 + more, driver.sent
    driver.close()
    assert told(books, account) == [EXHAUSTED, LOW]


# --- any order -------------------------------------------------------------------------------------------------------


class Wallet(RuleBasedStateMachine):
    """One wallet beside a model of it in plain words. `books` and `till` are set by the test."""

    books: Books
    till: Till

    def __init__(self) -> None:
        super().__init__()
        self.account = self.books.open_account()
        self.balance = self.total = self.seq = self.credited = 0
        self.told: set[tuple[str, str]] = set()

    @rule(amount=st.integers(1, 30_000), kind=st.sampled_from(["topup", "grant", "adjustment"]))
    def credit(self, amount: int, kind: str) -> None:
        credit(self.books, self.account, amount, kind)
        self.balance += amount
        self.total, self.seq, self.credited = self.balance, self.seq + 1, self.seq + 1

    @rule(share=st.integers(1, 100))
    def take(self, share: int) -> None:
        if amount := self.balance * share // 100:
            credit(self.books, self.account, -amount, "adjustment")
            self.balance, self.seq = self.balance - amount, self.seq + 1

    @rule(shares=st.lists(st.integers(0, 100), min_size=1, max_size=4))
    def settle_a_batch(self, shares: list[int]) -> None:
        left, costs = self.balance, []
        for share in shares:
            costs.append(left * share // 100)
            left -= costs[-1]
        holds = sorted(a_hold(self.account, cost) for cost in costs)
        for hold in holds:
            self.till.hold(hold)
        driver = Driver(self.books)
        driver.write([its_end(hold, hold.amount) for hold in holds])
        driver.commit()
        driver.close()
        for hold in holds:
            self._charge(hold.amount)

    def _charge(self, cost: int) -> None:
        before, self.balance = self.balance, self.balance - cost
        self.seq += bool(cost)
        occasion = f"{self.account}:{self.credited}"
        if before >= 1_000 > self.balance:
            self.told.add((EXHAUSTED, occasion))
        elif self.balance >= 1_000 and before * 5 > self.total >= self.balance * 5:
            self.told.add((LOW, occasion))

    @invariant()
    def what_is_told_is_what_happened(self) -> None:
        found = events_of(self.books, self.account)
        assert {(event.kind, event.occasion) for event in found} == self.told
        assert len(found) == len(self.told)
        wallet = self.books.wallet(self.account)
        assert (wallet.balance, wallet.total, wallet.seq) == (self.balance, self.total, self.seq)

    def teardown(self) -> None:
        assert self.books.faults() == []


def test_any_sequence_tells_what_a_plain_model_tells(books: Books, till: Till) -> None:
    """NOTIF-03, NOTIF-04: random credits, adjustments and batches against ten lines of Python; the books stay right."""
    machine = type("OneWallet", (Wallet,), {"books": books, "till": till})
    settings = hypothesis.settings(max_examples=20, stateful_step_count=15, deadline=None)
    run_state_machine_as_test(machine, settings=settings)


# --- what follows, and who is refused --------------------------------------------------------------------------------


def test_a_refusal_for_want_of_credit_is_told_once(books: Books, till: Till) -> None:
    """NOTIF-04: nothing is bought any more with what is left. Twenty refusals at once are one event."""
    account, app = books.open_account(100_000), books.app

    def refused() -> bool:
        with app.app_context():
            return credit_alerts.refused(account)

    assert refused() is False  # a request that was too large for a full wallet: nothing to tell
    spend(till, account, 95_000)
    assert sorted(map(str, Threads(*[refused] * 20).wait())) == ["False"] * 19 + ["True"]
    assert told(books, account) == [EXHAUSTED, LOW]
    spend(till, account, 4_500)  # falls below one credit as well: told already
    assert told(books, account) == [EXHAUSTED, LOW]
    credit(books, account, 100)
    assert refused() is False  # 600 of 600: "20 % is left" is not what the customer sees
    assert books.faults() == []


def test_the_message_is_written_once_and_not_after_a_credit(books: Books, till: Till) -> None:
    """NOTIF-03: whoever tops up before the worker comes is not told of a lack they don't have any more."""
    account, late = books.open_account(10_000), books.open_account(10_000)
    for owner in (account, late):
        spend(till, owner, 8_500)
    spend(till, late, 1_000)
    credit(books, late, 5_000)
    with books.app.app_context():
        assert credit_alerts.tell(LOW, account, 1) is True
        assert credit_alerts.tell(LOW, account, 1) is False
        assert credit_alerts.tell(LOW, late, 1) is False
        assert credit_alerts.tell(EXHAUSTED, late, 1) is False
        [note] = db.session.scalars(sa.select(Notification).where(Notification.account_id.in_([account, late])))
    assert (note.account_id, note.kind, note.facts) == (account, LOW, {"balance": 1_500, "total": 10_000})


def ids(model: type[Event] | type[EventStep]) -> list[str]:
    with db.engine.connect() as connection:
        return list(connection.scalars(sa.select(model.id)))


def until(check: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_spending_through_the_gateway_leads_to_the_messages(app: Flask) -> None:
    """NOTIF-03, NOTIF-04: over HTTP: a question crosses the line, a later one is refused; the owner is told of both."""
    layla, books = Cast(app).layla, Books(app)
    ask = itertools.repeat(chat(max_tokens=30))

    def asked() -> int:
        answer = Plain(app).ask("POST", CHAT, key=layla.api_key, body=next(ask))
        answer.read()
        return answer.status

    total = books.wallet(layla.account_id).total
    credit(books, layla.account_id, total // 5 + 10 - books.wallet(layla.account_id).balance, "adjustment")
    assert asked() == 200
    until(lambda: told(books, layla.account_id) == [LOW])
    carried_out(app)
    credit(books, layla.account_id, 1_001 - books.wallet(layla.account_id).balance, "adjustment")
    assert asked() == 200
    until(lambda: told(books, layla.account_id) == [EXHAUSTED, LOW])
    carried_out(app)
    with app.app_context():
        kinds = db.session.scalars(sa.select(Notification.kind).where(Notification.account_id == layla.account_id))
        assert [kind for kind in sorted(kinds) if kind.startswith("credit")] == [EXHAUSTED, LOW]


def carried_out(app: Flask) -> None:
    """As the workers would do it."""
    with app.app_context():
        tasks.unfold(*ids(Event))
        tasks.run_steps(*ids(EventStep))


def test_a_request_refused_over_http_leads_to_the_event(app: Flask) -> None:
    """NOTIF-04: 402, and the event follows without anybody having been charged."""
    layla, books = Cast(app).layla, Books(app)
    credit(books, layla.account_id, 1 - books.wallet(layla.account_id).balance, "adjustment")
    assert told(books, layla.account_id) == []
    for _ in range(2):
        answer = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(max_tokens=10))
        assert answer.status == 402, answer.read()
        answer.read()
    until(lambda: told(books, layla.account_id) == [EXHAUSTED])
    assert books.faults() == []
