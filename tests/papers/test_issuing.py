"""Numbers without gaps under a crowd; what was issued stays as it was."""

import datetime as dt
import random
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.models import Account, Paper, PaperSeries, User
from portal.services import papers, tunables
from tests.ledger.books import Books, Threads
from tests.papers.past import SELLER, buy, done, give_back, name_the_seller, paid

CROWD, ROUNDS = 16, 5


def at(monkeypatch: pytest.MonkeyPatch, instant: dt.datetime) -> None:
    monkeypatch.setattr(clock, "utcnow", lambda: instant)


def numbers(books: Books) -> list[str]:
    with books.app.app_context():
        return list(db.session.scalars(sa.select(Paper.number).order_by(Paper.series, Paper.place)))


def test_a_crowd_that_half_fails_leaves_no_gap(books: Books) -> None:
    """PAY-05, SUB-20: sixteen at once open the year and number on; a payment that is rolled back takes no number."""
    accounts = [books.open_account() for _ in range(CROWD)]
    together = threading.Barrier(CROWD)

    def confirm(number: int) -> list[str]:
        dice, issued = random.Random(number), []
        together.wait()
        for turn in range(ROUNDS):
            with books.app.app_context():
                paper = papers.receipt(paid(accounts[number]))
                if dice.random() < 0.4 or (turn == 0 and number % 2):  # the very first of the year fail as well
                    db.session.rollback()
                    continue
                db.session.commit()
                issued.append(paper.number)
        return issued

    told: list[Any] = Threads(*(lambda n=n: confirm(n) for n in range(CROWD))).wait(90)
    assert [e for e in told if isinstance(e, BaseException)] == []
    year = clock.kuwait_day().year
    count = sum(map(len, told))
    assert 20 < count < CROWD * ROUNDS
    assert numbers(books) == [f"R-{year}-{place:06}" for place in range(1, count + 1)]
    assert sorted(number for issued in told for number in issued) == numbers(books)
    with books.app.app_context():
        assert db.session.scalars(sa.select(PaperSeries.latest)).all() == [count]
        issued = db.session.scalars(sa.select(Paper.issued_at).order_by(Paper.place)).all()
        assert issued == sorted(issued), "a later number is never older"


def test_twenty_who_wait_for_one_payment_leave_a_line_to_open_the_year(books: Books) -> None:
    """PAY-05: whoever confirms holds a connection; the first paper of a year must not need one more of the pool's."""
    account = books.open_account()
    with books.app.app_context():
        pool: Any = db.engine.pool
        most = 1 if db.engine.dialect.name == "sqlite" else pool.size() + pool._max_overflow
        held = [db.engine.connect() for _ in range(most - 1)]
        papers.receipt(paid(account))
        db.session.commit()
        for connection in held:
            connection.close()
    assert len(numbers(books)) == 1


def test_the_same_payment_has_one_receipt(books: Books) -> None:
    """PAY-05: whoever asks again is given the one there is."""
    account = books.open_account()
    with books.app.app_context():
        payment = paid(account)
        first = papers.receipt(payment)
        assert papers.receipt(payment).id == first.id
        refund = done(payment, 5_000, 0)
        note = papers.credit_note(refund, payment, 0)
        assert note is not None
        again = papers.credit_note(refund, payment, 0)
        assert again is not None
        assert again.id == note.id
        db.session.commit()
    assert len(numbers(books)) == 2


def test_a_payment_that_never_counted_has_nothing_to_correct(sqlite_books: Books) -> None:
    """PAY-05: money that was held and given back was no sale: there is no receipt to correct."""
    account = sqlite_books.open_account()
    with sqlite_books.app.app_context():
        payment = paid(account, state="returned")
        assert papers.credit_note(done(payment, 15_000, 0), payment, 0) is None


@pytest.mark.parametrize(("minute", "year"), [("2026-12-31T20:59", 2026), ("2026-12-31T21:00", 2027)])
def test_a_year_begins_at_midnight_in_kuwait(
    sqlite_books: Books, monkeypatch: pytest.MonkeyPatch, minute: str, year: int
) -> None:
    """SUB-20: numbers begin with 1 in each year, and the year is Kuwait's."""
    account = sqlite_books.open_account()
    at(monkeypatch, dt.datetime(2026, 6, 1, tzinfo=dt.UTC))
    buy(sqlite_books.app, account)
    at(monkeypatch, dt.datetime.fromisoformat(minute + "+00:00"))
    place = 2 if year == 2026 else 1
    receipt = buy(sqlite_books.app, account)
    assert (receipt.number, receipt.series) == (f"R-{year}-{place:06}", f"R-{year}")
    note = give_back(sqlite_books.app, receipt, 5_000, 1_000)
    assert note.number == f"C-{year}-000001"


def test_who_waited_over_midnight_has_the_year_of_the_number(
    sqlite_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SUB-20: no paper of 2026 is dated 2027."""
    account = sqlite_books.open_account()
    before, after = (dt.datetime(2026, 12, 31, hour, tzinfo=dt.UTC) for hour in (20, 21))
    told = iter([after])
    monkeypatch.setattr(clock, "kuwait_day", lambda _now=None: before.date())
    monkeypatch.setattr(clock, "utcnow", lambda: next(told, after))
    paper = buy(sqlite_books.app, account)
    assert paper.series == "R-2026"
    assert paper.issued_at == dt.datetime(2026, 12, 31, 20, 59, 59, 999_999, tzinfo=dt.UTC)


def test_a_receipt_is_all_that_was_true_on_its_day(books: Books) -> None:
    """SUB-20, PAY-05: seller, buyer and plan change afterwards; the receipt does not."""
    account = books.open_account()
    name_the_seller(books.app)
    paper = buy(books.app, account)
    with books.app.app_context():
        tunables.put("seller_name_en", "Another Company")
        tunables.put("vat_percent", "15")
        user = db.session.execute(sa.select(User).join(Account).where(Account.id == account)).scalar_one()
        email, user.email = user.email, "moved@example.com"
        db.session.commit()
    with books.app.app_context():
        told = papers.find_receipt(paper.payment_id, account).content
    assert told["seller"]["name"] == {"ar": SELLER["seller_name_ar"], "en": SELLER["seller_name_en"]}
    assert told["seller"]["registration"] == SELLER["seller_registration"]
    assert told["buyer"] == {"account": account, "name": "", "email": email}
    assert told["tax"] is None
    (line,) = told["lines"]
    assert (line["name"], line["credits"], line["days"], line["amount_fils"]) == (
        {"ar": "احترافي", "en": "Pro"}, 60_000_000, 30, 15_000,
    )  # fmt: skip
    assert told["payment"]["id"] == paper.payment_id
    assert told["payment"]["provider_payment"] == "07076543210123456789", "with its leading zero"
    assert dt.datetime.fromisoformat(told["issued_at"]) == paper.issued_at


def test_without_a_seller_the_portal_signs(sqlite_books: Books) -> None:
    """SUB-20: nothing set, nothing invented."""
    told = buy(sqlite_books.app, sqlite_books.open_account()).content
    assert told["seller"]["name"] == {"ar": "LLM Portal", "en": "LLM Portal"}
    assert told["seller"]["vat_number"] == told["seller"]["registration"] == told["seller"]["phone"] == ""


@pytest.mark.parametrize(
    ("amount", "percent", "fils"),
    [(15_000, 5, 714), (15_000, 15, 1957), (10, 5, 0), (2_000, 10, 182), (45_000, 0, None)],
)
def test_vat_is_part_of_the_price(sqlite_books: Books, amount: int, percent: int, fils: int | None) -> None:
    """SUB-20: what was paid stays what was paid; net and tax add up to it, to the fils."""
    account = sqlite_books.open_account()
    with sqlite_books.app.app_context():
        tunables.put("vat_percent", str(percent))
    told = buy(sqlite_books.app, account, amount_fils=amount).content
    assert told["amount_fils"] == amount
    if fils is None:
        assert told["tax"] is None
    else:
        assert told["tax"] == {"percent": percent, "fils": fils, "net_fils": amount - fils}


def test_a_credit_note_corrects_its_receipt_with_its_receipts_tax(sqlite_books: Books) -> None:
    """SUB-20: the number that it corrects, what was given back and taken, and the tax of that day."""
    account = sqlite_books.open_account()
    with sqlite_books.app.app_context():
        tunables.put("vat_percent", "5")
    receipt = buy(sqlite_books.app, account)
    with sqlite_books.app.app_context():
        tunables.put("vat_percent", "15")
    note = give_back(sqlite_books.app, receipt, 5_000, 20_000_000)
    told = note.content
    assert note.amount_fils == told["amount_fils"] == 5_000
    assert told["corrects"]["number"] == receipt.number
    assert told["tax"] == {"percent": 5, "fils": 238, "net_fils": 4_762}
    assert told["refund"]["credits_taken"] == 20_000_000
    assert told["refund"]["reason"] == "طلب العميل"


@pytest.mark.parametrize("text", ["two\nlines", "x" * 121, "turned \u202e around", "\x00"])
def test_a_sellers_name_is_one_line_that_can_be_read(sqlite_books: Books, text: str) -> None:
    """SUB-20: what would break or turn a receipt is not taken."""
    with sqlite_books.app.app_context():
        with pytest.raises(tunables.BadValue):
            tunables.put("seller_name_en", text)
        assert tunables.texts()["seller_name_en"] == ""
        tunables.put("seller_name_en", "  Nakhla  ")
        assert tunables.shown("seller_name_en") == "Nakhla"
        tunables.put("seller_name_en", "")
        assert tunables.shown("seller_name_en") == ""
