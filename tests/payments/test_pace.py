"""How often the provider is asked: no faster than it likes, by all processes together, and everybody gets an answer."""

import datetime as dt
import time
from collections import Counter

import pytest

from portal import clock
from portal.extensions import db
from portal.providers.payments import Status
from portal.services import reconciliation, tunables
from portal.services.payments import checkout, merchant
from tests.ledger.books import Threads
from tests.payments.shop import Shop

LIMIT = 60


class Hours:
    """What `merchant` takes for the time, and the rules for the instant; both stand still until they are moved."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at = time.time() // 60 * 60 + 60  # the beginning of a minute that no other test has asked in
        patch.setattr("portal.clock.utcnow", lambda: dt.datetime.fromtimestamp(self.at, dt.UTC))
        patch.setattr("portal.services.payments.merchant.time.time", lambda: self.at)


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    return Hours(monkeypatch)


@pytest.fixture
def slow_shop(small_shop: Shop) -> Shop:
    with small_shop.app.app_context():
        tunables.put("status_calls_a_minute", str(LIMIT))
    return small_shop


def _may_ask(shop: Shop) -> bool:
    with shop.app.app_context():
        try:
            return merchant.may_ask()
        finally:
            db.session.rollback()


def test_threads_and_processes_share_a_minute(slow_shop: Shop, hours: Hours) -> None:
    """PAY-03, the provider's limit: two processes and a dozen threads; together they have the minute's questions."""
    for _ in range(LIMIT // 2):
        assert _may_ask(slow_shop)
    assert not slow_shop.mortals.dies_at(10**6, "ask", 12, hours.at)  # a dozen, in a process of its own
    told = Threads(*[lambda: sum(_may_ask(slow_shop) for _ in range(4))] * 12).wait()
    assert sum(int(str(one)) for one in told) == LIMIT - LIMIT // 2 - 12
    assert not _may_ask(slow_shop)
    hours.at += 60
    assert _may_ask(slow_shop)


def test_while_the_store_is_away_each_process_counts_for_itself(slow_shop: Shop, hours: Hours) -> None:
    """PAY-03: never without a limit, and never without an answer; who was told to wait waits all the same."""
    slow_shop.store.stop()
    told = Threads(*[lambda: sum(_may_ask(slow_shop) for _ in range(10))] * 12).wait()
    assert sum(int(str(one)) for one in told) == LIMIT
    hours.at += 60
    assert _may_ask(slow_shop)
    with slow_shop.app.app_context():
        merchant.rest(1)
    hours.at += 60
    assert not _may_ask(slow_shop)
    slow_shop.store.start()


class Teller:
    """A provider of hundreds of invoices that nobody has paid yet; how often it was asked in each minute."""

    def __init__(self, hours: Hours) -> None:
        self._hours, self.asked, self.about = hours, Counter[float](), Counter[str]()

    def status(self, *, invoice: str = "", reference: str = "") -> Status:
        self.asked[self._hours.at // 60] += 1
        self.about[invoice] += 1
        return Status(invoice, "pending", invoice[1:], "", 2000, "KWD", None, ())


def test_five_hundred_who_wait_are_asked_about_a_minutes_worth_at_a_time(small_shop: Shop, hours: Hours) -> None:
    """PAY-03: the morning after an outage. The sweep keeps to the limit, and within minutes nobody is left out."""
    shop, who, crowd, limit = small_shop, small_shop.customer(), 500, 120
    item = checkout.Item("pack", "pack-5000", "5,000 وحدة", "5,000 credits", 2000, 5_000_000)
    with shop.app.app_context():
        tunables.put("status_calls_a_minute", str(limit))
        begun = clock.utcnow()
        for _ in range(crowd):
            one = checkout.write(who.account, "user:x", item, "kn", expires_at=begun + dt.timedelta(days=1))
            one.state, one.invoice = "pending", f"i{one.id}"
        db.session.commit()
    shop.app.extensions["payments patient"] = teller = Teller(hours)
    hours.at += 3600
    for _ in range(4 * (crowd // limit + 1)):  # a sweep each fifteen seconds
        with shop.app.app_context():
            reconciliation.ask_due()
        hours.at += 15
    assert max(teller.asked.values()) <= limit
    assert (len(teller.about), set(teller.about.values())) == (crowd, {1})
