"""Booking by hand and by payment: the chain of entries, the total, and everything that is refused."""

from functools import partial

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, LedgerEntry
from portal.services import ledger
from portal.services.ledger.till import Till
from tests.ledger.books import Books, Held, Threads, a_hold


def test_a_new_wallet_is_empty_and_the_books_are_right(books: Books) -> None:
    """CRD-02: an account begins with nothing, not with an entry of nothing."""
    account = books.open_account()
    with books.app.app_context():
        assert ledger.statement(account) == []
    assert books.wallet(account) == Held(0, 0, 0, 0)
    assert books.faults() == []


def test_each_entry_begins_where_the_one_before_it_ended(books: Books) -> None:
    """CRD-02: type, amount, balance before and after, reference, actor, metadata; numbered without a gap."""
    account = books.open_account()
    with books.app.app_context():
        ledger.credit(account, 5_000, kind="grant", reference="signup:x", actor="user:u")
        ledger.adjust(account, -1_500, reference="manual:1", actor="user:noor", reason=" wrong top-up ")
        ledger.credit(account, 700, kind="topup", reference="pay:1", meta={"payment": "1"})
        db.session.commit()
        entries = [*reversed(ledger.statement(account))]
        told = [(e.seq, e.kind, e.amount, e.balance_before, e.balance_after) for e in entries]
    assert told == [
        (1, "grant", 5_000, 0, 5_000),
        (2, "adjustment", -1_500, 5_000, 3_500),
        (3, "topup", 700, 3_500, 4_200),
    ]
    assert [e.actor for e in entries] == ["user:u", "user:noor", "system"]
    assert [e.meta for e in entries] == [{}, {"reason": "wrong top-up"}, {"payment": "1"}]
    assert books.faults() == []


def test_an_adjustment_adds_and_never_sets(books: Books) -> None:
    """Never again, Money: "Add 500" set the balance to 500."""
    account = books.open_account(20_000)
    with books.app.app_context():
        entry = ledger.adjust(account, 500, reference="manual:1", actor="user:noor", reason="a gift")
        db.session.commit()
    assert (entry.balance_before, entry.balance_after) == (20_000, 20_500)
    assert books.wallet(account).balance == 20_500


def test_the_total_is_the_balance_right_after_the_latest_credit(books: Books) -> None:
    """Words: "20 % left" is measured against the total; taking credit leaves it, giving credit sets it."""
    account = books.open_account(10_000)
    with books.app.app_context():
        ledger.adjust(account, -4_000, reference="manual:1", actor="a", reason="r")
        db.session.commit()
    assert books.wallet(account) == Held(6_000, 0, 10_000, 2)
    with books.app.app_context():
        ledger.credit(account, 1_000, kind="topup", reference="pay:2")
        db.session.commit()
    assert books.wallet(account) == Held(7_000, 0, 7_000, 3)


def test_the_same_thing_is_booked_once_and_the_transaction_lives_on(books: Books) -> None:
    """TOP-02, CRD-01: AlreadyBooked changes nothing and leaves the caller's other rows to be committed."""
    account = books.open_account(1_000)
    with books.app.app_context():
        ledger.credit(account, 5_000, kind="topup", reference="pay:1")
        db.session.commit()
        db.session.execute(sa.update(Account).where(Account.id == account).values(name="before"))
        with pytest.raises(ledger.AlreadyBooked):
            ledger.credit(account, 5_000, kind="topup", reference="pay:1")
        ledger.credit(account, 70, kind="topup", reference="pay:2")
        db.session.commit()
        assert db.session.scalar(sa.select(Account.name).where(Account.id == account)) == "before"
    assert books.wallet(account) == Held(6_070, 0, 6_070, 3)
    assert books.faults() == []


def test_one_reference_may_serve_two_kinds(books: Books) -> None:
    """PAY-04: a refund carries its payment's reference beside the payment's own entry."""
    account = books.open_account()
    with books.app.app_context():
        ledger.credit(account, 500, kind="topup", reference="pay:1")
        ledger.credit(account, 100, kind="refund", reference="pay:1")
        db.session.commit()
    assert books.wallet(account).balance == 600


def test_a_mistaken_kind_is_an_error_and_never_taken_for_booked(books: Books) -> None:
    """Never again, Money: top-ups never credited, "already processed". Only an entry that exists is AlreadyBooked."""
    account = books.open_account()
    with books.app.app_context():
        with pytest.raises(sa.exc.SQLAlchemyError):
            ledger.credit(account, 500, kind="gift", reference="pay:1")
        db.session.rollback()
    assert books.wallet(account) == Held(0, 0, 0, 0)


def test_credit_for_a_wallet_that_does_not_exist_is_an_error(books: Books) -> None:
    """CRD-01: a payment for nobody is told as that, not as a lack of credit."""
    with books.app.app_context(), pytest.raises(LookupError):
        ledger.credit("f" * 32, 500, kind="topup", reference="pay:1")


@pytest.mark.parametrize("amount", [0, -1])
def test_a_credit_of_nothing_or_less_is_refused(books: Books, amount: int) -> None:
    """CRD-02: what takes credit is an adjustment or a usage, and says so."""
    account = books.open_account()
    with books.app.app_context(), pytest.raises(ValueError, match="more than nothing"):
        ledger.credit(account, amount, kind="topup", reference="pay:1")


def test_an_adjustment_needs_an_amount_and_a_reason(books: Books) -> None:
    """ADMIN-03: who and why are part of the entry."""
    account = books.open_account(100)
    with books.app.app_context():
        for amount, reason in ((0, "why"), (5, ""), (5, "  ")):
            with pytest.raises(ValueError, match="amount and a reason"):
                ledger.adjust(account, amount, reference="m", actor="a", reason=reason)


def test_an_adjustment_never_takes_what_is_on_hold(books: Books, till: Till) -> None:
    """CRD-01: balance − held ≥ 0 at every instant; NotCovered changes nothing and leaves the transaction usable."""
    account = books.open_account(1_000)
    till.hold(a_hold(account, 600))
    with books.app.app_context():
        with pytest.raises(ledger.NotCovered):
            ledger.adjust(account, -401, reference="manual:1", actor="a", reason="too much")
        ledger.adjust(account, -400, reference="manual:1", actor="a", reason="all that is free")
        db.session.commit()
    assert books.wallet(account) == Held(600, 600, 1_000, 2)
    assert books.faults() == []


def test_what_is_rolled_back_was_never_booked(books: Books) -> None:
    """CRD-02: nothing in the ledger commits by itself; the verb that called it owns the commit."""
    account = books.open_account(1_000)
    with books.app.app_context():
        ledger.credit(account, 5_000, kind="topup", reference="pay:1")
        db.session.rollback()
    assert books.wallet(account) == Held(1_000, 0, 1_000, 1)
    assert books.faults() == []


def test_many_who_book_one_payment_at_once_book_it_once(books: Books) -> None:
    """Never again, Money: one payment won by many. Sixteen threads, one winner, the others are told AlreadyBooked."""
    account = books.open_account()

    def book() -> str:
        with books.app.app_context():
            try:
                ledger.credit(account, 5_000, kind="topup", reference="pay:1")
            except ledger.AlreadyBooked:
                return "already"
            finally:
                db.session.commit()
            return "booked"

    results = Threads(*[book] * 16).wait()
    assert sorted(map(str, results)) == ["already"] * 15 + ["booked"]
    assert books.wallet(account) == Held(5_000, 0, 5_000, 1)
    assert books.faults() == []


def test_many_entries_at_once_form_one_chain(books: Books) -> None:
    """CRD-02: balance = Σ entries under concurrency: sixteen threads add and take, none is lost, no number twice."""
    account = books.open_account(1_000)

    def move(amount: int) -> None:
        with books.app.app_context():
            ledger.adjust(account, amount, reference=new_id(), actor="a", reason="r")
            db.session.commit()

    assert Threads(*[partial(move, 10 if n % 2 else -7) for n in range(16)]).wait() == [None] * 16
    assert books.wallet(account).balance == 1_000 + 8 * 10 - 8 * 7
    with books.app.app_context():
        query = sa.select(LedgerEntry.seq).where(LedgerEntry.account_id == account).order_by(LedgerEntry.seq)
        assert db.session.scalars(query).all() == [*range(1, 18)]
    assert books.faults() == []


def test_a_statement_is_read_page_by_page(books: Books) -> None:
    """PAY-05: newest first, and `before_seq` goes on where the page before it ended."""
    account, other = books.open_account(), books.open_account(99)
    with books.app.app_context():
        for number in range(1, 8):
            ledger.credit(account, number, kind="topup", reference=f"pay:{number}")
        db.session.commit()
        first = ledger.statement(account, limit=3)
        second = ledger.statement(account, before_seq=first[-1].seq, limit=3)
        assert [e.amount for e in first] == [7, 6, 5]
        assert [e.amount for e in second] == [4, 3, 2]
        assert [e.amount for e in ledger.statement(other)] == [99]
