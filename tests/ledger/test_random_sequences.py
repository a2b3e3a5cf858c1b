"""Any order of credit, adjustment, hold and settlement keeps the books right and equal to a model of ten lines."""

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from portal.extensions import db
from portal.ids import new_id
from portal.services import ledger
from portal.services.ledger.statements import Hold, statements_for
from portal.services.ledger.till import NotHeld, Till
from tests.ledger.books import Books, Held, a_hold, its_end

AMOUNTS = st.integers(1, 1_000)


class Wallet(RuleBasedStateMachine):
    """One account's life beside the model of it. `books` and `till` are set by the test."""

    books: Books
    till: Till
    open_holds: Bundle[Hold] = Bundle("open_holds")
    ended: Bundle[Hold] = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.account = self.books.open_account()
        self.balance = self.held = self.total = self.seq = 0

    # -- what may happen -----------------------------------------------------------------------------------------------

    @rule(amount=AMOUNTS, twice=st.booleans())
    def credit(self, amount: int, twice: bool) -> None:
        reference = new_id()
        with self.books.app.app_context():
            ledger.credit(self.account, amount, kind="topup", reference=reference)
            if twice:
                with pytest.raises(ledger.AlreadyBooked):
                    ledger.credit(self.account, amount, kind="topup", reference=reference)
            db.session.commit()
        self.balance += amount
        self.total = self.balance
        self.seq += 1

    @rule(amount=st.integers(-1_000, 1_000).filter(bool))
    def adjust(self, amount: int) -> None:
        covered = self.balance - self.held + amount >= 0
        with self.books.app.app_context():
            if covered:
                ledger.adjust(self.account, amount, reference=new_id(), actor="a", reason="r")
            else:
                with pytest.raises(ledger.NotCovered):
                    ledger.adjust(self.account, amount, reference=new_id(), actor="a", reason="r")
            db.session.commit()
        if covered:
            self.balance += amount
            self.total = self.balance if amount > 0 else self.total
            self.seq += 1

    @rule(amount=AMOUNTS, target=open_holds)
    def hold(self, amount: int) -> Any:
        hold = a_hold(self.account, amount)
        if amount <= self.balance - self.held:
            self.till.hold(hold)
            self.held += amount
            return hold
        with pytest.raises(NotHeld):
            self.till.hold(hold)
        return hypothesis.stateful.multiple()

    @rule(amounts=st.lists(AMOUNTS, min_size=2, max_size=5), target=open_holds)
    def hold_in_one_batch(self, amounts: list[int]) -> Any:
        """Where the sum isn't covered they are tried one by one, in the order they came."""
        holds = [a_hold(self.account, amount) for amount in amounts]
        expected, free = [], self.balance - self.held
        for hold in holds:
            if hold.amount <= free:
                free -= hold.amount
                expected.append(hold)
        assert self._in_one_transaction(holds) == {hold.id for hold in expected}
        self.held += sum(hold.amount for hold in expected)
        return hypothesis.stateful.multiple(*expected)

    @rule(hold=consumes(open_holds), share=st.integers(0, 100), target=ended)
    def settle(self, hold: Hold, share: int) -> Hold:
        cost = hold.amount * share // 100
        assert self.till.settle(its_end(hold, cost)) == self.balance - cost
        self.balance -= cost
        self.held -= hold.amount
        self.seq += bool(cost)
        return hold

    @rule(hold=ended)
    def settle_again(self, hold: Hold) -> None:
        assert self.till.settle(its_end(hold, hold.amount)) is None

    # -- what must hold at every instant -------------------------------------------------------------------------------

    @invariant()
    def the_wallet_is_as_the_model_says(self) -> None:
        assert self.books.wallet(self.account) == Held(self.balance, self.held, self.total, self.seq)

    @invariant()
    def the_books_are_right(self) -> None:
        assert self.books.faults() == []

    def _in_one_transaction(self, holds: list[Hold]) -> set[str]:
        with self.books.app.app_context():
            sql, connection = statements_for(db.engine.dialect.name), db.engine.raw_connection()
        sql.begin(connection)
        _, held = sql.write(connection, [], holds)
        connection.commit()
        connection.close()
        return held


def test_any_sequence_keeps_the_books_right(books: Books, till: Till) -> None:
    """CRD-01, CRD-02: balance = Σ entries, held = Σ open holds, nothing below zero, after every single step."""

    machine = type("OneWallet", (Wallet,), {"books": books, "till": till})
    run_state_machine_as_test(
        machine, settings=hypothesis.settings(max_examples=20, stateful_step_count=20, deadline=None)
    )
