"""A year of one customer, carried by the timetable's own jobs; then every book is laid beside every other.

Only time is moved. The provider is the sandbox, requests are held and settled by the till, messages go out over the
sandbox's WhatsApp. What the year must come to is written here as a story, and added up without asking the product.
"""

import datetime as dt
import random
from collections import Counter
from decimal import Decimal

import pytest
import sqlalchemy as sa

from portal.clock import KUWAIT
from portal.extensions import db
from portal.models import Account, Delivery, LedgerEntry, Paper, Payment, Refund, ScheduledJob, Subscription
from portal.services import accounts, payments, refunds, timetable, tunables, work
from portal.services.ledger.till import Till
from portal.services.notifications import delivery
from portal.services.papers import months, statements
from portal.tasks import schedule
from sandbox.process import SandboxProcess
from tests.ledger.books import a_hold, its_end
from tests.notifications.outside import Line, notes, reading
from tests.payments.world import SERVER, SETTINGS, World
from tests.services.portal_app import MakeApp

K = 1_000
GIFT, BASIC, PRO, ENTERPRISE, SMALL, MIDDLE = 100 * K, 15_000 * K, 60_000 * K, 250_000 * K, 5_000 * K, 15_000 * K
"""Milli-credits."""
JOBS = (
    "ask about payments", "renew subscriptions", "end subscriptions", "read missed webhooks", "remind of expiry"
)  # fmt: skip
STAFF_PHONE = "+96555000001"
MONTH = dt.timedelta(days=30)


def kuwait(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=KUWAIT).astimezone(dt.UTC)


class Year(World):
    """Days that pass with everything that runs by itself, and one customer who is in them."""

    account: str
    till: Till
    spent = 0
    """Milli-credits, as the customer would count."""

    def register(self) -> None:
        new = accounts.NewUser(
            email="layla@example.com", phone="50001234", password="three-unrelated-words", name="ليلى"
        )
        owner = accounts.register(new, "127.0.0.1")
        self.account = db.session.scalars(sa.select(Account.id).where(Account.owner_id == owner)).one()
        db.session.rollback()
        self.till = Till(db.engine)
        self.dice = random.Random(2026)

    def until(self, text: str) -> None:
        """Live on: in the mornings, at 09:01 in Kuwait, everything that is due, and requests while there is credit."""
        goal = kuwait(text)
        while (morning := self._morning()) < goal:
            self.at(morning)
            self.work()
            for _ in range(2):
                self.use(self.dice.randrange(900) * K + self.dice.randrange(K))
        self.at(goal)
        self.work()

    def _morning(self) -> dt.datetime:
        """Tomorrow's, while a plan is about to end; else one later in the week, since nothing would happen sooner."""
        runs = self.subscription(self.account)
        days = 1 if runs is not None and runs.ends_at < self.now + dt.timedelta(days=7) else 6
        day = self.now.astimezone(KUWAIT).date() + dt.timedelta(days=days)
        return dt.datetime.combine(day, dt.time(9, 1), KUWAIT).astimezone(dt.UTC)

    def work(self) -> None:
        """The timetable, what follows from events, and the messages that are due."""
        for job in (schedule.JOBS[name] for name in JOBS):
            if timetable.due(job):
                assert timetable.run(job)
        self.follow_up()
        for delivery_id in work.due(Delivery, 100):
            delivery.deliver_one(delivery_id)

    def use(self, cost: int) -> None:
        """A request of the gateway's: its worst case is held, what it cost is taken."""
        wallet = self.wallet(self.account)
        if wallet.balance - wallet.held < 2 * cost or not cost:
            return
        hold = a_hold(self.account, 2 * cost)
        self.till.hold(hold)
        self.till.settle(its_end(hold, cost))
        self.spent += cost

    def pays(self, item: str, method: str = "kn", *, keep_card: bool = False) -> Payment:
        """Nobody comes back: the sweep finds it."""
        payment = self.begin(self.account, item, method, keep_card=keep_card)
        self.sandbox.pay(payment.invoice or "", keep_card=keep_card)
        self.on(minutes=2)
        self.work()
        found = payments.read(payment.id)
        assert found.state == "paid", found.state
        return found

    def gives_back(self, payment: Payment, fils: int, outcome: str = "refunded") -> None:
        """Staff ask; the provider's people come to it the next day."""
        refund = refunds.request(payment.id, fils, reason="طلب العميل", actor="console")
        self.on(days=1)
        self.sandbox.settle_refund(refund, outcome)
        self.work()
        assert self.refund(refund).open_of is None

    def plan(self) -> str:
        row = self.subscription(self.account)
        return "" if row is None else f"{row.plan_id} {row.state}"


@pytest.fixture
def year(make_app: MakeApp, database_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> Year:
    """On each of the three databases, from a morning in March."""
    app = make_app(
        database_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, RESAYIL_API_URL=sandbox.whatsapp_url,
        RESAYIL_API_KEY="sandbox", ADMIN_PHONES=STAFF_PHONE, **SETTINGS,
    )  # fmt: skip
    return Year(app, sandbox, monkeypatch, kuwait("2026-03-15T10:00:00"))


def live(year: Year) -> None:
    """The story."""
    year.register()
    first = year.begin(year.account, "basic")
    year.sandbox.pay(first.invoice or "", "failed", error_code="MF004")
    year.on(minutes=1)
    year.work()
    assert payments.read(first.id).state == "failed"
    year.pays("basic")  # until 14 April
    year.until("2026-04-05T20:00:00")
    year.pays("basic")  # until 14 May
    year.until("2026-04-25T12:00:00")
    year.pays("pro")  # at once, with a third of the 19 days that are left
    row = year.subscription(year.account)
    assert row is not None
    assert dt.timedelta(days=6) < row.ends_at - row.starts_at - MONTH < dt.timedelta(days=7)
    year.until("2026-05-10T18:00:00")
    pack = year.pays("pack-5000")
    year.gives_back(pack, 700)
    year.gives_back(pack, 1_300, "canceled")  # the vendor's people did not do it
    year.gives_back(pack, 1_300)
    year.until("2026-06-20T09:00:00")
    assert year.plan() == ""
    year.begin(year.account, "pack-50000")  # and never paid
    year.until("2026-07-01T21:30:00")
    year.pays("pack-15000")
    year.until("2026-08-20T10:00:00")
    second = year.pays("pro", "vm")
    year.gives_back(second, 15_000)
    assert year.plan() == ""
    year.until("2026-09-10T10:00:00")
    year.pays("enterprise")  # until 10 October
    year.until("2026-11-15T10:00:00")
    assert year.plan() == ""
    tunables.put("automatic_renewal", "1")
    year.pays("basic", "vm", keep_card=True)  # renewed on 14 December, then the card fails on 13 January
    year.until("2026-12-20T10:00:00")
    assert year.plan() == "basic active"
    year.sandbox.control(server=SERVER, token_outcome="failed", token_error="MF002")
    year.until("2026-12-31T23:57:59")
    year.pays("pack-5000")  # counted at 23:59:59
    assert year.now == kuwait("2026-12-31T23:59:59")
    pack = year.begin(year.account, "pack-5000", "vm")
    year.on(seconds=1)
    year.sandbox.pay(pack.invoice or "")
    year.on(minutes=1)
    year.work()
    year.until("2027-01-12T10:00:00")
    for _ in range(72):  # hour by hour over the tries of the card
        year.on(hours=1)
        year.work()
    assert year.plan() == ""
    year.until("2027-03-20T09:00:00")


def test_a_year_of_a_customer_agrees_to_the_fils(year: Year) -> None:
    """SUB-01..04, SUB-20/21, TOP-01/02, PAY-01..05, CRD-01/02, NOTIF-01, 02, 05, 06, 10."""
    with year.app.app_context():
        live(year)
        year.till.close()
        ended_well(year)
        the_ledger_agrees(year)
        statements_are_one_chain(year)
        papers_agree_with_payments(year)
        the_provider_agrees(year)
        everybody_was_told_once(year)


def ended_well(year: Year) -> None:
    """No job failed on any day, nothing is under way."""
    assert [(row.name, row.error) for row in jobs()] == []
    assert {row.state for row in year.rows(Payment)} == {"paid", "expired"}
    assert [row.state for row in year.rows(Refund)] == ["done", "cancelled", "done", "done"]
    assert {row.state for row in year.rows(Subscription)} == {"ended"}
    assert [row.plan_id for row in year.rows(Subscription)] == ["basic", "pro", "pro", "enterprise", "basic"]
    year.books_are_right()


def the_ledger_agrees(year: Year) -> None:
    """With the story, added up by hand."""
    bought = 4 * BASIC + 2 * PRO + ENTERPRISE + 3 * SMALL + MIDDLE
    back = SMALL + PRO
    wallet = year.wallet(year.account)
    assert (wallet.balance, wallet.held) == (GIFT + bought - back - year.spent, 0)
    assert year.spent > 0
    kinds = Counter(entry.kind for entry in year.entries(year.account))
    assert kinds.pop("usage") > 100
    assert kinds == {"grant": 1, "subscription": 7, "topup": 4, "refund": 3}
    counted = sum(
        year.payment(entry.reference).credits for entry in year.entries(year.account, "subscription", "topup")
    )
    assert counted == bought


def statements_are_one_chain(year: Year) -> None:
    """Thirteen months: each opens where the one before it closed, its lines add up, and what lies in it is what was
    booked in that month in Kuwait."""
    entries = year.entries(year.account)
    entries.sort(key=lambda entry: entry.seq)
    month, opening, seen = months.Month(2026, 3), 0, 0
    while month <= months.Month(2027, 3):
        found = statements.month(year.account, *month)
        mine = [entry for entry in entries if months.Month.of(entry.created_at) == month]
        assert (found.opening, found.closing) == (opening, opening + sum(entry.amount for entry in mine)), month
        lines = statements.lines(found)
        assert sum(total.amount for total in statements.totals(lines)) == found.amount
        assert sum(line.amount for line in lines) == found.amount
        listed = list(statements.postings(db.engine, found))
        assert [(one.seq, one.amount, one.reference) for one in listed] == [
            (entry.seq, entry.amount, entry.reference) for entry in mine
        ]
        opening, seen = found.closing, seen + len(mine)
        month = month.following
    assert (opening, seen) == (year.wallet(year.account).balance, len(entries))
    db.session.rollback()


def papers_agree_with_payments(year: Year) -> None:
    """Receipts less credit notes are what was paid less what was given back; numbered by Kuwait's year without gaps."""
    papers = year.rows(Paper)
    receipts = {paper.about: paper for paper in papers if paper.kind == "receipt"}
    notes_ = {paper.about: paper for paper in papers if paper.kind == "credit_note"}
    paid = [row for row in year.rows(Payment) if row.state == "paid"]
    done = [row for row in year.rows(Refund) if row.state == "done"]
    assert receipts.keys() == {row.id for row in paid}
    assert notes_.keys() == {row.id for row in done}
    for row in paid:
        assert receipts[row.id].amount_fils == row.amount_fils
        assert receipts[row.id].number[2:6] == str(row.paid_at.astimezone(KUWAIT).year)
    for row in done:
        assert notes_[row.id].amount_fils == row.amount_fils
    assert sum(p.amount_fils for p in receipts.values()) == 4 * 5_000 + 2 * 15_000 + 45_000 + 3 * 2_000 + 5_000
    assert sum(p.amount_fils for p in notes_.values()) == 2_000 + 15_000
    assert sum(row.refunded_fils for row in paid) == 17_000
    of_2026 = len(paid) - 1
    assert sorted(p.number for p in receipts.values()) == [
        *(f"R-2026-{n:06}" for n in range(1, of_2026 + 1)), "R-2027-000001"
    ]  # fmt: skip
    assert sorted(p.number for p in notes_.values()) == [f"C-2026-{n:06}" for n in range(1, 4)]
    [eve] = [row for row in paid if row.paid_at == kuwait("2026-12-31T23:59:59")]
    assert receipts[eve.id].number == f"R-2026-{of_2026:06}"


def the_provider_agrees(year: Year) -> None:
    """Invoice by invoice, in its own dinars."""
    theirs = {one["reference"]: fils(one["value"]) for one in year.sandbox.invoices() if one["status"] == "Paid"}
    assert theirs == {row.id: row.amount_fils for row in year.rows(Payment) if row.state == "paid"}
    back = {one["reference"]: fils(one["amount"]) for one in year.sandbox.refunds() if one["status"] == "Refunded"}
    assert back == {row.id: row.amount_fils for row in year.rows(Refund) if row.state == "done"}


def everybody_was_told_once(year: Year) -> None:
    """Each kind as often as it happened, each message to the customer accepted by the carrier, and none twice."""
    spending = ("credit_low", "credit_exhausted")  # as often as the dice had it
    told = Counter(note.kind for note in notes() if note.kind not in spending)
    assert told == {
        "welcome": 1,
        "subscription_confirmed": 7,
        "topup_confirmed": 4,
        "invoice_ready": 11,
        "payment_failed": 1 + 3,
        "refund_made": 3,
        "subscription_expiring": 3,  # Pro in May, Enterprise in October, and Basic when its card had failed thrice
        "subscription_ended": 4,  # those, and the Pro that was given back
        "enterprise_customer": 1,
        "refund_failed": 1,
    }
    accepted = Counter(one["reference"] for one in year.sandbox.messages())
    assert set(accepted.values()) == {1}
    of_layla = {row.id for row in year.rows(Delivery) if row.channel == "whatsapp" and row.address != STAFF_PHONE}
    assert of_layla <= set(accepted)
    for note in notes():
        if note.kind == "topup_confirmed":
            entry = year.rows(LedgerEntry, LedgerEntry.id == note.occasion)[0]
            assert note.facts == {"credits": entry.amount, "balance": entry.balance_after}


def jobs() -> list[Line]:
    """Those of which the latest run failed."""
    with reading() as connection:
        return list(connection.execute(sa.select(ScheduledJob.__table__).where(ScheduledJob.error != "")))


def fils(dinars: str) -> int:
    return int(Decimal(dinars.replace(",", "")) * 1000)
