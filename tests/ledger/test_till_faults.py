"""What goes wrong under the till: the database away, an answer lost, a bad row, a broken line, a circle of locks."""

import logging
import time
from functools import partial

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.services.ledger.till import Till, TillAway
from tests.ledger.books import Books, Held, Threads, a_hold, its_end
from tests.ledger.fragile import FragileBooks
from tests.ledger.test_till import in_one_batch

Told = list[logging.LogRecord]


def test_a_hold_while_the_database_is_away_is_refused_and_nothing_is_held(fragile: FragileBooks, told: Told) -> None:
    """Never again, Money: check, then act. No hold, no upstream: the caller hears TillAway, at once and loudly."""
    account, till = fragile.open_account(1_000), fragile.till()
    till.hold(a_hold(account, 10))
    with fragile.away(), pytest.raises(TillAway):
        till.hold(a_hold(account, 100))
    assert [r.levelname for r in told if r.getMessage() == "hold not written"] == ["ERROR"]
    assert fragile.wallet(account).held == 10
    till.hold(a_hold(account, 100))  # and it is all as before once the database is back
    assert fragile.wallet(account).held == 110
    assert fragile.faults() == []
    till.close()


def test_a_settlement_is_kept_while_the_database_is_away_and_written_later(fragile: FragileBooks, told: Told) -> None:
    """Never again, Money: a settle that can't be written is loud, the hold stays, it is settled later at its cost."""
    account, till = fragile.open_account(1_000), fragile.till()
    hold = a_hold(account, 400)
    till.hold(hold)
    with fragile.away():
        with pytest.raises(TillAway):
            till.settle(its_end(hold, 123))
        assert till.retry_settlements() == 1, "still away: it keeps waiting"
    assert [r.levelname for r in told if "not written, kept for later" in r.getMessage()] == ["ERROR"] * 2
    assert fragile.wallet(account) == Held(1_000, 400, 1_000, 1)
    assert till.retry_settlements() == 0
    assert fragile.wallet(account) == Held(877, 0, 1_000, 2)
    assert fragile.faults() == []
    till.close()


def test_many_settlements_kept_while_the_database_is_away_are_all_written(fragile: FragileBooks) -> None:
    """CRD-01: thirty answers end during an outage; afterwards each of them is charged once."""
    account, till = fragile.open_account(10_000), fragile.till()
    holds = [a_hold(account, 100) for _ in range(30)]
    for hold in holds:
        till.hold(hold)
    with fragile.away():
        results = Threads(*[partial(till.settle, its_end(hold, 7)) for hold in holds]).wait()
    assert all(isinstance(result, TillAway) for result in results)
    assert till.retry_settlements() == 0
    assert fragile.wallet(account) == Held(10_000 - 210, 0, 10_000, 31)
    assert fragile.faults() == []
    till.close()


def test_a_hold_whose_commit_was_never_answered_is_given_back(fragile: FragileBooks, told: Told) -> None:
    """Design: a crash loses nothing. The server committed, the line broke before it could say so: the caller is
    refused, the hold is voided, nothing is charged. Trying it again could have held twice."""
    if fragile.relay is None:
        return  # SQLite has no line between a commit and its answer
    account, till = fragile.open_account(1_000), fragile.till()
    till.hold(a_hold(account, 1))
    hold = a_hold(account, 300)
    fragile.relay.swallow = fragile.commit_message
    with pytest.raises(TillAway):
        till.hold(hold)
    assert fragile.relay.swallowed.is_set()
    assert fragile.wallet(account).held == 301, "the server did commit it"
    assert till.retry_settlements() == 0
    usage = fragile.usage(hold.id)
    assert usage is not None and (usage.state, usage.outcome, usage.cost) == ("settled", "abandoned", 0)
    assert fragile.wallet(account) == Held(1_000, 1, 1_000, 1)
    assert fragile.faults() == []
    till.close()


def test_a_settlement_whose_commit_was_never_answered_is_charged_once(fragile: FragileBooks) -> None:
    """CRD-01: tried again on a new line, it finds itself done."""
    if fragile.relay is None:
        return  # as above
    account, till = fragile.open_account(1_000), fragile.till()
    hold = a_hold(account, 300)
    till.hold(hold)
    fragile.relay.swallow = fragile.commit_message
    assert till.settle(its_end(hold, 200)) is None
    assert fragile.relay.swallowed.is_set()
    assert fragile.wallet(account) == Held(800, 0, 1_000, 2)
    assert fragile.faults() == []
    till.close()


def test_a_line_that_breaks_before_the_commit_is_opened_anew(fragile: FragileBooks) -> None:
    """OPS-01: a restarted database costs a new connection, not a request: nothing was committed, so it is repeated."""
    account, till = fragile.open_account(1_000), fragile.till()
    hold = a_hold(account, 300)
    till.hold(hold)
    if fragile.relay is not None:
        fragile.relay.hiccup()
    assert till.settle(its_end(hold, 200)) == 800
    assert fragile.faults() == []
    till.close()


def test_a_bad_row_does_not_take_the_others_with_it(books: Books, till: Till, told: Told) -> None:
    """Speed: a failed batch is split, never dropped. One impossible charge among twelve: eleven are settled."""
    account = books.open_account(10_000)
    holds = [a_hold(account, 100) for _ in range(12)]
    for hold in holds:
        till.hold(hold)
    ends = [its_end(hold, 101 if n == 5 else 10) for n, hold in enumerate(holds)]  # above the hold: the row refuses
    newcomer = a_hold(account, 50)
    results = in_one_batch(books, till, *[partial(till.settle, end) for end in ends], partial(till.hold, newcomer))
    assert [isinstance(result, TillAway) for result in results] == [n == 5 for n in range(13)]
    assert books.wallet(account) == Held(10_000 - 110, 100 + 50, 10_000, 12)
    assert {r.request for r in told if r.levelname == "ERROR"} == {holds[5].id}  # type: ignore[attr-defined]
    assert books.faults() == []


def test_a_hold_that_exists_already_is_refused_alone(books: Books, till: Till) -> None:
    """Never again, Money: two usage rows per call. The second is refused; those beside it are let in."""
    account = books.open_account(10_000)
    first = a_hold(account, 100)
    till.hold(first)
    others = [a_hold(account, 10) for _ in range(4)]
    results = in_one_batch(books, till, *[partial(till.hold, hold) for hold in (first, *others)])
    assert [isinstance(result, TillAway) for result in results] == [True] + [False] * 4
    assert books.wallet(account).held == 140
    assert till.retry_settlements() == 0
    usage = books.usage(first.id)
    assert usage is not None and usage.state == "open"
    assert books.faults() == []


def test_a_circle_of_locks_is_tried_again(books: Books, till: Till) -> None:
    """CRD-01: the database ends one of two that wait for each other; if it is the till, nobody who waits notices."""
    first, second = sorted((books.open_account(1_000), books.open_account(1_000)))

    def other() -> None:
        with books.app.app_context(), db.engine.begin() as connection:
            take = sa.text("UPDATE wallets SET seq = seq WHERE account_id = :id")
            connection.execute(take, {"id": second})
            started.append(Threads(*[partial(till.hold, a_hold(a, 10)) for a in (first, second, first, second)]))
            time.sleep(0.3)
            try:
                connection.execute(take, {"id": first})
            except sa.exc.OperationalError:
                pass  # then it was this one that the database ended

    started: list[Threads] = []
    assert Threads(other).wait() == [None]
    assert started[0].wait() == [None] * 4
    assert books.wallet(first).held + books.wallet(second).held == 40
    assert books.faults() == []


def test_the_till_waits_for_a_lock_that_somebody_holds_for_a_while(books: Books, till: Till) -> None:
    """OPS-05: another process that writes is waited for, not failed at."""
    account = books.open_account(1_000)
    with books.wallet_locked(account):
        waiting = Threads(partial(till.hold, a_hold(account, 10)))
        time.sleep(0.3)
    assert waiting.wait() == [None]
    assert books.wallet(account).held == 10


def test_a_till_whose_line_broke_while_it_was_idle_closes_without_a_word(fragile: FragileBooks) -> None:
    """OPS-01: a worker that stops while the database is away says farewell to the rest, and ends in good order."""
    account, till = fragile.open_account(1_000), fragile.till()
    hold = a_hold(account, 300)
    till.hold(hold)
    with fragile.away():
        till.close()
    assert fragile.wallet(account).held == 300
    assert till.settle(its_end(hold, 10)) == 990, "closed is not the end of it: the next one opens a line"
    till.close()
