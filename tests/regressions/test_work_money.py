"""Subscriptions and warnings of credit where two things happen one upon the other."""

import contextlib

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Event, LedgerEntry
from portal.services import adjustments, ledger, subscriptions
from portal.services.ledger.till import Till
from tests.ledger.books import a_hold, its_end
from tests.notifications.outside import customer, reading
from tests.services.portal_app import MakeApp


def test_one_payment_told_three_times_is_one_period(make_app: MakeApp, sqlite_url: str) -> None:
    """TOP-02, decision 37 ("it is what a payment will call"): return page, webhook and reconciliation at once."""
    app = make_app(sqlite_url)
    with app.app_context():
        user = customer()
    for _ in range(2):
        with app.app_context():
            with contextlib.suppress(ledger.AlreadyBooked):
                subscriptions.activate(user.account, "pro", reference="payment:1", actor="payment:1")
    with app.app_context(), reading() as connection:
        kinds = sa.select(sa.func.count()).where(LedgerEntry.kind == "subscription")
        assert connection.scalar(kinds) == 1


def test_what_staff_take_down_to_a_tenth_is_told_as_low(make_app: MakeApp, sqlite_url: str) -> None:
    """NOTIF-03: from 50 to 15 of 100 credits by hand; the customer's requests then go on to the last credit."""
    app = make_app(sqlite_url)
    with app.app_context():
        user = customer(credit=100_000)
        till = Till(db.engine)
        spend(till, user.account, 50_000)
        adjustments.adjust(user.account, -35_000, actor="console", reason="a mistake of ours")
        db.session.remove()
        spend(till, user.account, 5_000)
        till.close()
        with reading() as connection:
            kinds = list(connection.scalars(sa.select(Event.kind)))
    assert kinds == ["credit_low"]


def spend(till: Till, account: str, cost: int) -> None:
    hold = a_hold(account, cost)
    till.hold(hold)
    assert till.settle(its_end(hold, cost)) is not None
