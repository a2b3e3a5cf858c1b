"""Run by `test_killed_greenlets` in a process of its own, as a gevent worker is: gevent patches the whole interpreter.

`python -m tests.ledger.killed_greenlets <database address> <folder>`; an assertion that fails is its exit code.
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from portal import create_app  # noqa: E402
from portal.config import load_settings  # noqa: E402
from portal.services.ledger.statements import Hold  # noqa: E402
from portal.services.ledger.till import TillAway  # noqa: E402
from tests.ledger.books import Books, a_hold, its_end  # noqa: E402
from tests.services.environment import portal_environment  # noqa: E402

PATIENCE = 15


class Street:
    """A till and the greenlets that use it."""

    def __init__(self, books: Books) -> None:
        self.books, self.till = books, books.till()

    def stuck(self, account: str) -> tuple[gevent.Greenlet, Hold]:
        """A leader in the middle of its transaction, on a wallet that somebody else has locked."""
        hold = a_hold(account, 1)
        leader = gevent.spawn(self.till.hold, hold)
        gevent.sleep(0.1)
        assert self.till.waiting == 0
        return leader, hold

    def queued(self, work: object, *arguments: object) -> gevent.Greenlet:
        """One who waits for the next batch."""
        before = self.till.waiting
        greenlet = gevent.spawn(work, *arguments)
        gevent.sleep(0.02)
        assert self.till.waiting == before + 1
        return greenlet

    def kill(self, greenlet: gevent.Greenlet) -> None:
        greenlet.kill(timeout=PATIENCE)
        assert greenlet.ready()

    def come_back(self, *greenlets: gevent.Greenlet) -> list[object]:
        """What each returned or raised; nobody may wait for ever."""
        gevent.joinall(greenlets, timeout=PATIENCE)
        waiting = [g for g in greenlets if not g.ready()]
        assert not waiting, f"{len(waiting)} of {len(greenlets)} wait for ever"
        return [g.value if g.successful() else g.exception for g in greenlets]

    def only_these_hold_credit(self, *holds: Hold) -> None:
        """What nobody owns any more is given back with the next signs of life, and the books are right."""
        expected, deadline = {hold.id for hold in holds}, time.monotonic() + PATIENCE
        while self.till.retry_settlements() or self.books.open_requests() != expected:
            assert time.monotonic() < deadline, self.books.open_requests() ^ expected
            gevent.sleep(0.05)
        assert self.books.faults() == []
        for hold in holds:
            assert self.till.settle(its_end(hold, 0)) is not None


def a_killed_leader_leaves_nobody_waiting(street: Street) -> None:
    blocker, account = street.books.open_account(1_000), street.books.open_account(1_000)
    holds = [a_hold(account, 10) for _ in range(5)]
    with street.books.wallet_locked(blocker):
        leader, _ = street.stuck(blocker)
        followers = [street.queued(street.till.hold, hold) for hold in holds]
        street.kill(leader)
        gevent.sleep(0.05)
    assert street.come_back(*followers) == [None] * 5
    street.only_these_hold_credit(*holds)


def a_killed_waiter_passes_the_lead_on(street: Street) -> None:
    blocker, account = street.books.open_account(1_000), street.books.open_account(1_000)
    kept = a_hold(account, 20)
    with street.books.wallet_locked(blocker):
        leader, first = street.stuck(blocker)
        waiter = street.queued(street.till.hold, a_hold(account, 10))
        follower = street.queued(street.till.hold, kept)
        street.kill(waiter)
    assert street.come_back(leader, follower) == [None, None]
    street.only_these_hold_credit(first, kept)


def a_killed_settlement_is_still_written(street: Street) -> None:
    blocker, account = street.books.open_account(1_000), street.books.open_account(1_000)
    hold = a_hold(account, 100)
    street.till.hold(hold)
    with street.books.wallet_locked(blocker):
        leader, first = street.stuck(blocker)
        waiter = street.queued(street.till.settle, its_end(hold, 40))
        street.kill(waiter)
    assert street.come_back(leader) == [None]
    street.only_these_hold_credit(first)
    assert street.books.wallet(account).balance == 960


def what_a_killed_leader_had_half_done_is_undone(street: Street) -> None:
    early, blocker, late = (street.books.open_account(1_000) for _ in range(3))
    charged, other = a_hold(early, 100), a_hold(early, 10)
    street.till.hold(charged)
    with street.books.wallet_locked(late):
        with street.books.wallet_locked(blocker):
            leader, first = street.stuck(blocker)
            killed = street.queued(street.till.settle, its_end(charged, 60))
            mate = street.queued(street.till.hold, a_hold(late, 10))
        assert street.come_back(leader) == [None]
        gevent.sleep(0.1)  # the settlement is done, the hold waits for its lock, nothing is committed
        assert street.till.waiting == 0
        street.kill(killed)
        assert isinstance(street.come_back(mate)[0], TillAway)
    assert street.come_back(gevent.spawn(street.till.hold, other)) == [None]
    street.only_these_hold_credit(first, other)
    usage = street.books.usage(charged.id)
    assert usage is not None and (usage.state, usage.cost) == ("settled", 60)


def one_killed_while_being_served_keeps_no_hold(street: Street) -> None:
    account, blocker, late = (street.books.open_account(1_000) for _ in range(3))
    served = a_hold(late, 5)
    with street.books.wallet_locked(late):
        with street.books.wallet_locked(blocker):
            leader, first = street.stuck(blocker)
            next_leader = street.queued(street.till.hold, served)
            mate = street.queued(street.till.hold, a_hold(account, 10))
        assert street.come_back(leader) == [None]
        gevent.sleep(0.1)
        assert street.till.waiting == 0
        street.kill(mate)
    assert street.come_back(next_leader) == [None]
    street.only_these_hold_credit(first, served)
    assert street.books.wallet(account).held == 0


def a_hold_that_comes_true_after_it_was_given_back_is_given_back_again(street: Street) -> None:
    """The killed one's statement still waits in the server, which does it once the lock is free, client or not."""
    blocker = street.books.open_account(1_000)
    with street.books.wallet_locked(blocker):
        leader, _ = street.stuck(blocker)
        street.kill(leader)
        assert street.till.retry_settlements() == 0, "there is nothing to give back yet"
    gevent.sleep(0.3)
    street.only_these_hold_credit()
    assert street.books.wallet(blocker).held == 0


ANYWHERE = (
    a_killed_leader_leaves_nobody_waiting,
    a_killed_waiter_passes_the_lead_on,
    a_killed_settlement_is_still_written,
)
WITH_ROW_LOCKS = (
    what_a_killed_leader_had_half_done_is_undone,
    one_killed_while_being_served_keeps_no_hold,
    a_hold_that_comes_true_after_it_was_given_back_is_given_back_again,
)
"""On SQLite nobody waits in the middle of a transaction."""


def main(url: str, folder: str) -> None:
    app = create_app(load_settings(portal_environment(Path(folder), DATABASE_URL=url)))
    street = Street(Books(app))  # one till for all: what a story left in doubt is given back in the next
    for story in ANYWHERE + (() if url.startswith("sqlite") else WITH_ROW_LOCKS):
        story(street)
        print("ok", story.__name__, flush=True)
    street.till.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
