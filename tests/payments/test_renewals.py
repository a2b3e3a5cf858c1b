"""A plan that renews itself by a kept card: once, at the price that was agreed to, and never in silence."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, Payment, Plan, SavedCard, Subscription
from portal.providers.payments import Order
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.services import cards, refunds, subscriptions, tunables
from portal.tasks import payments as jobs
from sandbox.process import SandboxProcess
from tests.notifications.outside import Line, at_once, customer
from tests.payments.deaths import Killed, dying_at
from tests.payments.world import SERVER, SETTINGS, World
from tests.services.portal_app import MakeApp

MONTH, DAY, HOUR = dt.timedelta(days=30), dt.timedelta(days=1), dt.timedelta(hours=1)
PRO = 60_000_000
"""Milli-credits of a period."""


@pytest.fixture
def world(make_app: MakeApp, database_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """On each of the three databases."""
    app = make_app(database_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS)
    return World(app, sandbox, monkeypatch)


@pytest.fixture
def one(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """Where the database is all one."""
    return World(make_app(sqlite_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS), sandbox, monkeypatch)


def subscriber(world: World, plan: str = "pro") -> str:
    """Bought with a card that is kept. Returns the account's id."""
    tunables.put("automatic_renewal", "1")
    account = str(customer().account)
    world.buy(account, plan, "vm", keep_card=True)
    assert runs(world, account).card_id is not None
    return account


def runs(world: World, account_id: str) -> Line:
    found = world.subscription(account_id)
    assert found is not None
    return found


def before_the_end(world: World, account_id: str, before: dt.timedelta = DAY) -> None:
    world.at(runs(world, account_id).ends_at - before)


def renewals(world: World, account_id: str) -> list[Line]:
    return world.rows(Payment, Payment.account_id == account_id, Payment.actor == "renewal")


# --- who and when ----------------------------------------------------------------------------------------------------


def test_a_plan_is_renewed_a_day_before_its_end_by_one_of_all_workers(world: World) -> None:
    """SUB-04, NOTIF-02: eight workers at the same moment make one payment, one charge, one period with its receipt and
    its messages; the month after again. No reminder: nothing ends."""
    with world.app.app_context():
        account = subscriber(world)
        ends = runs(world, account).ends_at
        for number in (1, 2):
            before_the_end(world, account, DAY + dt.timedelta(seconds=1))
            assert (subscriptions.remind(), jobs.renew()) == (0, 0)
            world.on(seconds=1)
            db.session.rollback()
            assert sum(int(str(begun)) for begun in at_once(world.app, 8, jobs.renew)) == 1
            for _ in range(24):
                world.on(hours=1)
                assert (jobs.renew(), subscriptions.end_due()) == (0, 0)
            row = runs(world, account)
            assert (row.state, row.ends_at) == ("active", ends + number * MONTH)
            assert world.asked("DirectPayment") == len(renewals(world, account)) == number
        assert {row.state for row in renewals(world, account)} == {"paid"}
        assert world.wallet(account).balance == 3 * PRO
        assert world.papers("receipt") == ["R-2026-000001", "R-2026-000002", "R-2027-000001"]
        assert [len(world.told(kind)) for kind in ("subscription_confirmed", "invoice_ready")] == [3, 3]
        assert (world.told("subscription_expiring"), world.told("payment_failed")) == ([], [])
        world.books_are_right()


@pytest.mark.parametrize(
    ("method", "asked", "ticked", "opened"),
    [("kn", True, True, 1), ("vm", False, True, 1), ("vm", True, False, 1), ("vm", True, True, 0)],
    ids=["KNET", "not asked for", "not ticked at the provider", "not opened by the operator"],
)
def test_no_card_is_kept_that_was_not_asked_for(
    one: World, method: str, asked: bool, ticked: bool, opened: int
) -> None:
    """SUB-04: then nothing is charged, and the reminder comes."""
    with one.app.app_context():
        tunables.put("automatic_renewal", str(opened))
        account = customer().account
        payment = one.begin(account, "pro", method, keep_card=asked)
        one.sandbox.pay(payment.invoice or "", keep_card=ticked)
        one.sweep(minutes=2)
        assert (runs(one, account).card_id, one.rows(SavedCard)) == (None, [])
        tunables.put("automatic_renewal", "1")
        before_the_end(one, account)
        assert (jobs.renew(), subscriptions.remind()) == (0, 1)
        assert one.asked("DirectPayment") == 0


def test_the_operator_can_close_it_at_any_time(one: World) -> None:
    """SUB-04: behind a setting; who counted on it is reminded."""
    with one.app.app_context():
        account = subscriber(one)
        tunables.put("automatic_renewal", "0")
        before_the_end(one, account)
        assert (jobs.renew(), subscriptions.remind()) == (0, 1)
        assert renewals(one, account) == []


# --- a card that fails -----------------------------------------------------------------------------------------------


def test_a_card_that_fails_is_tried_three_times_and_then_the_plan_ends_in_good_order(one: World) -> None:
    """SUB-04, NOTIF-05: seven hours apart, told each time with the reason; then reminded, and at the end told so. The
    credit stays, and nothing was taken."""
    with one.app.app_context():
        account = subscriber(one)
        one.sandbox.control(server=SERVER, token_outcome="failed", token_error="MF004")
        before_the_end(one, account, DAY + HOUR)
        ends, begun = runs(one, account).ends_at, []
        while one.now < ends:
            one.on(minutes=30)
            if jobs.renew():
                begun.append((ends - one.now) / HOUR)
            one.sweep(minutes=0)
        assert begun == [24, 17, 10]
        assert [row.state for row in renewals(one, account)] == ["expired"] * 3
        failures = one.told("payment_failed")
        assert len(failures) == 3
        assert failures[0].facts["reason"]["en"] == "there is not enough money on the card"
        assert len(one.told("subscription_expiring")) == 1
        assert subscriptions.end_due() == 1
        one.on(days=2)
        assert (jobs.renew(), subscriptions.end_due()) == (0, 0)
        assert len(one.told("subscription_ended")) == 1
        assert (one.subscription(account), one.wallet(account).balance) == (None, PRO)
        assert [one_["status"] for one_ in one.sandbox.invoices()] == ["Paid", *["Pending"] * 3]
        one.books_are_right()


def test_the_second_try_may_succeed(one: World) -> None:
    """SUB-04: the salary came in between."""
    with one.app.app_context():
        account = subscriber(one)
        ends = runs(one, account).ends_at
        one.sandbox.control(server=SERVER, token_outcome="failed")
        before_the_end(one, account)
        jobs.renew()
        one.sandbox.control(server=SERVER, token_outcome="paid")
        one.on(hours=7)
        assert jobs.renew() == 1
        assert runs(one, account).ends_at == ends + MONTH
        assert len(one.told("payment_failed")) == 1
        assert one.told("subscription_expiring") == []
        one.books_are_right()


# --- answers that are lost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["stall_after", "502_after", "reset_after", "empty_after"])
def test_a_charge_whose_answer_was_lost_is_found_and_never_made_twice(one: World, fault: str) -> None:
    """SUB-04, PAY-03: nobody is told anything until the provider says that it came."""
    with one.app.app_context():
        account = subscriber(one)
        ends = runs(one, account).ends_at
        before_the_end(one, account)
        one.fault("DirectPayment", fault, times=1)
        one.fault("GetPaymentStatus", "502_html")
        for _ in range(2):
            jobs.renew()
            one.sweep(hours=7, minutes=1)
        [row] = renewals(one, account)
        assert (row.state, runs(one, account).ends_at) == ("pending", ends)
        assert [len(one.told(kind)) for kind in ("subscription_confirmed", "invoice_ready", "payment_failed")] == [
            1, 1, 0
        ]  # fmt: skip
        one.fault("GetPaymentStatus", None)
        one.on(hours=1)
        assert jobs.renew() == 0
        one.sweep(hours=6)
        assert (renewals(one, account)[0].state, one.asked("DirectPayment")) == ("paid", 1)
        assert (runs(one, account).ends_at, one.wallet(account).balance) == (ends + MONTH, 2 * PRO)
        assert len(one.told("subscription_confirmed")) == 2
        one.books_are_right()


@pytest.mark.parametrize("fault", ["stall_after", "reset_before"])
def test_an_invoice_whose_answer_was_lost_is_not_charged_and_tried_anew(one: World, fault: str) -> None:
    """SUB-04: it is certain that it was not paid before another is made."""
    with one.app.app_context():
        account = subscriber(one)
        ends = runs(one, account).ends_at
        before_the_end(one, account)
        one.fault("ExecutePayment", fault, times=1)
        jobs.renew()
        assert (renewals(one, account)[0].state, one.asked("DirectPayment")) in (("opening", 0), ("pending", 0))
        for _ in range(14):
            one.sweep(minutes=30)
            jobs.renew()
        assert [row.state for row in renewals(one, account)] == ["expired", "paid"]
        assert (one.asked("DirectPayment"), runs(one, account).ends_at) == (1, ends + MONTH)
        one.books_are_right()


def test_a_process_that_dies_at_any_statement_of_a_renewal_charges_once(one: World) -> None:
    """SUB-04, CRD-01: whatever was written by then, the sweep or the next try brings it to its end."""
    with one.app.app_context():
        for statement in range(200):
            account = subscriber(one)
            charged = one.asked("DirectPayment")
            before_the_end(one, account)
            try:
                with dying_at(statement):
                    jobs.renew()
            except Killed:
                db.session.remove()
            else:
                break
            for minutes in (10, 110, 300):
                one.sweep(minutes=minutes)
                jobs.renew()
            assert [row.state for row in renewals(one, account)][-1] == "paid", statement
            assert one.asked("DirectPayment") == charged + 1, statement
            assert one.wallet(account).balance == 2 * PRO, statement
            subscriptions.cancel(account)
        assert statement > 20
        one.books_are_right()


# --- a card that is removed ------------------------------------------------------------------------------------------


def test_a_removed_card_is_charged_no_more_and_forgotten_there_too(one: World) -> None:
    """SUB-04: at once here; the provider is told until it has heard. The plan runs on, and its end is told."""
    with one.app.app_context():
        account = subscriber(one)
        [card] = cards.of_account(account)
        token, card_id = card.token, card.id
        db.session.rollback()
        with pytest.raises(cards.NoSuchCard):
            cards.remove(customer().account, card_id)
        cards.remove(account, card_id)
        assert (runs(one, account).card_id, cards.of_account(account)) == (None, [])
        db.session.rollback()
        one.fault("CancelToken", "502_html", times=1)
        assert (jobs.renew(), jobs.renew(), jobs.renew()) == (0, 1, 0)
        asked = one.sandbox.requests(path="/v2/CancelToken", server=SERVER)
        assert [entry["notes"]["query"] for entry in asked] == [{"token": token}] * 2
        before_the_end(one, account)
        assert (jobs.renew(), subscriptions.remind(), one.asked("DirectPayment")) == (0, 1, 0)
        with pytest.raises(cards.NoSuchCard):
            cards.remove(account, card_id)


def cancelled(account: str) -> None:
    subscriptions.cancel(account)


def card_removed(account: str) -> None:
    [card] = cards.of_account(account)
    cards.remove(account, card.id)


def paid_by_hand(account: str) -> None:
    subscriptions.activate(account, "pro", reference="by hand", actor="console")


@pytest.mark.parametrize("deed", [cancelled, card_removed, paid_by_hand])
def test_who_thinks_better_of_it_while_the_invoice_is_made_is_not_charged(
    one: World, monkeypatch: pytest.MonkeyPatch, deed: Callable[[str], None]
) -> None:
    """SUB-04: the last look is right before the charge."""
    with one.app.app_context():
        account = subscriber(one)
        before_the_end(one, account)
        honest = MyFatoorah.open

        def slow(self: MyFatoorah, order: Order) -> Any:
            opened = honest(self, order)
            deed(account)
            return opened

        monkeypatch.setattr(MyFatoorah, "open", slow)
        jobs.renew()
        for _ in range(6):
            one.sweep(minutes=30)
        assert ([row.state for row in renewals(one, account)], one.asked("DirectPayment")) == (["expired"], 0)


# --- what was agreed to ----------------------------------------------------------------------------------------------


def changed(**values: Any) -> Callable[[World, str], None]:
    """The operator edits the plan."""

    def edit(_world: World, _account: str) -> None:
        db.session.execute(sa.update(Plan).where(Plan.id == "pro").values(**values))
        db.session.commit()

    return edit


def printed(month: str, year: str) -> Callable[[World, str], None]:
    """The card is valid until then."""

    def edit(_world: World, account: str) -> None:
        mine = sa.update(SavedCard).where(SavedCard.account_id == account)
        db.session.execute(mine.values(expiry_month=month, expiry_year=year))
        db.session.commit()

    return edit


def suspended(world: World, account: str) -> None:
    db.session.execute(sa.update(Account).where(Account.id == account).values(suspended_at=world.now))
    db.session.commit()


def given_back(world: World, account: str) -> None:
    [payment] = world.rows(Payment, Payment.account_id == account)
    refund = refunds.request(payment.id, payment.amount_fils, reason="x", actor="console", ends_period=False)
    world.sandbox.settle_refund(refund)
    world.sweep(minutes=1)


def not_offered(world: World, _account: str) -> None:
    world.sandbox.control(server=SERVER, offered=["kn", "vm"])
    world.app.extensions.pop("payment methods")


@pytest.mark.parametrize(
    "happens",
    [
        changed(price_fils=15_010), changed(credits=PRO - 1), changed(period_days=29), changed(enabled=False),
        printed("11", "2026"), printed("11", "26"), suspended, given_back, not_offered,
    ],
    ids=[
        "dearer", "less credit", "shorter", "withdrawn", "card over", "card over, short", "suspended", "given back",
        "not offered",
    ],
)  # fmt: skip
def test_what_was_not_agreed_to_is_not_charged_and_its_owner_is_told_in_time(
    one: World, happens: Callable[[World, str], None]
) -> None:
    """SUB-04: a card was kept for what was paid then. Whoever can't be renewed is reminded, once, as those without."""
    with one.app.app_context():
        account = subscriber(one)
        happens(one, account)
        before_the_end(one, account, 3 * DAY)
        early = subscriptions.remind()
        assert early == (0 if happens is not_offered else 1)  # that one shows only when it is tried
        before_the_end(one, account)
        for _ in range(24):
            assert jobs.renew() == 0
            one.on(hours=1)
        assert (one.asked("DirectPayment"), renewals(one, account)) == (0, [])
        [note] = one.told("subscription_expiring")
        assert note.account_id == account
        assert subscriptions.end_due() == 1
        assert len(one.told("subscription_ended")) == 1


@pytest.mark.parametrize(
    ("happens", "fils"),
    [(changed(price_fils=12_000), 12_000), (printed("12", "2026"), 15_000), (printed("", "?"), 15_000)],
    ids=["cheaper", "card just valid", "a card nobody can read"],
)
def test_what_is_no_worse_is_renewed(one: World, happens: Callable[[World, str], None], fils: int) -> None:
    """SUB-04: at the price of the day, when that is no higher."""
    with one.app.app_context():
        account = subscriber(one)
        happens(one, account)
        before_the_end(one, account)
        assert (subscriptions.remind(), jobs.renew()) == (0, 1)
        assert [(row.state, row.amount_fils) for row in renewals(one, account)] == [("paid", fils)]


def test_who_cancelled_is_neither_charged_nor_reminded_and_may_come_back(one: World) -> None:
    """SUB-04."""
    with one.app.app_context():
        account, other = subscriber(one), subscriber(one)
        subscriptions.cancel(account)
        subscriptions.cancel(other)
        subscriptions.reactivate(other)
        before_the_end(one, other)
        assert (subscriptions.remind(), jobs.renew()) == (0, 1)
        assert (renewals(one, account), len(renewals(one, other))) == ([], 1)
        assert one.told("subscription_expiring") == []


def test_a_higher_plan_is_renewed_as_the_smaller_one_was(one: World) -> None:
    """SUB-03, SUB-04: whoever upgraded by themselves agreed to its price by paying it; where staff moved them up, no
    card is charged for what nobody agreed to."""
    with one.app.app_context():
        account, moved = subscriber(one, "basic"), subscriber(one, "basic")
        one.on(hours=1)
        one.buy(account, "pro", "vm")
        subscriptions.activate(moved, "pro", reference="by hand", actor="console")
        before_the_end(one, account)
        assert runs(one, moved).card_id is not None
        assert (jobs.renew(), subscriptions.remind(), subscriptions.remind()) == (1, 1, 0)
        assert [(row.item, row.state) for row in renewals(one, account)] == [("pro", "paid")]
        assert renewals(one, moved) == []
        assert [note.account_id for note in one.told("subscription_expiring")] == [moved]
        assert len(one.rows(Subscription)) == 4
