"""A refund is asked for once, whatever is lost on the way: crowds, answers that never come, processes that die."""

from functools import partial
from typing import Any

import pytest

from portal.extensions import db
from portal.models import Refund, Usage
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.services import events, reconciliation, refunds
from portal.services.ledger.till import NotHeld
from portal.services.refunds import NotRefundable
from sandbox.process import SandboxProcess
from tests.ledger.books import Books, Threads, a_hold
from tests.notifications.outside import at_once, customer
from tests.payments.deaths import Killed, every_death
from tests.payments.world import SERVER, SETTINGS, World
from tests.services.portal_app import MakeApp

PACK, PAID, CROWD = 5_000_000, 2_000, 20
LOST = ("stall_after", "502_after", "500_after", "reset_after", "cut_after", "empty_after")
NEVER_ARRIVED = ("stall_before", "reset_before", "502_html", "html")


@pytest.fixture
def world(make_app: MakeApp, database_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """On each of the three databases."""
    app = make_app(database_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS)
    return World(app, sandbox, monkeypatch)


@pytest.fixture
def one(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """Where the database is all one."""
    return World(make_app(sqlite_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS), sandbox, monkeypatch)


def ask(payment_id: str, fils: int = PAID) -> str:
    return refunds.request(payment_id, fils, reason="طلب العميل", actor="console")


def is_booked_once(world: World, account_id: str, refund_id: str) -> None:
    """One request there; here one entry, one paper, one message."""
    assert world.refund(refund_id).state == "done"
    assert [one["reference"] for one in world.sandbox.refunds()] == [refund_id]
    assert [entry.reference for entry in world.entries(account_id, "refund")] == [refund_id]
    assert (len(world.papers("credit_note")), len(world.told("refund_made"))) == (1, 1)
    assert (world.wallet(account_id).balance, world.wallet(account_id).held) == (0, 0)
    world.books_are_right()


# --- crowds ----------------------------------------------------------------------------------------------------------


def test_of_twenty_who_ask_at_once_one_does(world: World) -> None:
    """PAY-04: the provider can't tell a second request from a repeated one, so there is one at a time."""
    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pack-5000")
        db.session.rollback()
        world.sandbox.control(server=SERVER, endpoint="MakeRefund", answer_delay_ms=150)
        results = at_once(world.app, CROWD, ask, payment.id, 500)
        made = [result for result in results if isinstance(result, str)]
        assert len(made) == 1
        assert {type(result) for result in results} == {str, NotRefundable}
        assert (world.asked("MakeRefund"), len(world.sandbox.refunds())) == (1, 1)
        assert (world.wallet(layla.account).held, world.payment(payment.id).refunded_fils) == (PACK // 4, 500)
        world.books_are_right()


def test_of_twenty_who_carry_on_at_once_one_asks_and_one_books(world: World) -> None:
    """PAY-04: sweep, webhook and staff at the same moment: MakeRefund once, and the money is booked once."""
    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pack-5000")
        world.fault("MakeRefund", "401_token", times=1)
        refund = ask(payment.id)
        assert (world.refund(refund).state, world.refund(refund).in_doubt) == ("waiting", False)
        db.session.rollback()
        world.fault("MakeRefund", None, answer_delay_ms=200)
        results = at_once(world.app, CROWD, refunds.carry_on, refund)
        assert set(results) <= {"waiting", "filed"}
        assert (world.asked("MakeRefund"), len(world.sandbox.refunds())) == (2, 1)

        world.sandbox.settle_refund(refund)
        world.sandbox.control(server=SERVER, endpoint="GetRefundStatus", answer_delay_ms=100)
        assert set(at_once(world.app, CROWD, refunds.carry_on, refund)) <= {"filed", "done"}
        is_booked_once(world, layla.account, refund)


def test_credit_that_goes_back_is_spent_by_nobody(world: World) -> None:
    """CRD-01: requests of the gateway hold credit while staff ask for it back: nothing is promised twice."""
    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pack-5000")
        db.session.rollback()
        books = Books(world.app)
        till = books.till()

        def hold() -> str:
            try:
                till.hold(a_hold(layla.account, PACK // 5))
            except NotHeld:
                return "not held"
            return "held"

        def back() -> str:
            with world.app.app_context():
                try:
                    return "back" if ask(payment.id, 600) else ""
                except NotRefundable:
                    return "not back"

        results = Threads(*[hold, back] * 8).wait(60)
        till.close()
        held, made = results.count("held"), results.count("back")
        assert set(results) <= {"held", "not held", "back", "not back"}
        # Three requests and the part, or five requests and no part: whichever came first.
        assert (held, made) in ((3, 1), (4, 0), (5, 0)), results
        wallet = world.wallet(layla.account)
        assert wallet.held == held * PACK // 5 + made * 1_500_000 <= wallet.balance == PACK
        assert len(world.rows(Usage, Usage.state == "open")) == held
        world.books_are_right()


def test_credit_notes_of_a_crowd_are_numbered_without_a_gap(world: World) -> None:
    """SUB-20, PAY-04: ten refunds that are confirmed at the same moment; each is booked, none is broken off."""
    with world.app.app_context():
        asked = []
        for _ in range(10):
            payment = world.buy(customer().account, "pack-5000")
            asked.append(ask(payment.id, 1_000))
            world.sandbox.settle_refund(asked[-1])
        db.session.rollback()

        def carry_on(refund_id: str) -> str:
            with world.app.app_context():
                return refunds.carry_on(refund_id)

        assert Threads(*[partial(carry_on, one) for one in asked * 2]).wait(60).count("done") >= 10
        assert world.papers("credit_note") == [f"C-2026-{n:06}" for n in range(1, 11)]
        world.books_are_right()


# --- answers that are lost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LOST)
def test_an_answer_that_was_lost_is_looked_for_before_anything_is_asked_again(one: World, fault: str) -> None:
    """PAY-04: the provider has no idempotency: a second MakeRefund is a second payout."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pack-5000")
        one.fault("MakeRefund", fault, times=1)
        refund = ask(payment.id)
        assert (one.refund(refund).state, one.refund(refund).in_doubt) == ("waiting", True)
        assert len(one.sandbox.refunds()) == 1
        one.fault("GetRefundStatus", "502_html", times=1)
        assert one.sweep(minutes=1) == 1
        assert one.refund(refund).state == "waiting"  # not known yet, so nothing is asked for
        assert one.sweep(minutes=5) == 1
        assert one.refund(refund).state == "filed"
        one.sandbox.settle_refund(refund)
        assert one.sweep(minutes=30) == 1
        assert one.asked("MakeRefund") == 1
        is_booked_once(one, layla.account, refund)


@pytest.mark.parametrize("fault", NEVER_ARRIVED)
def test_what_never_arrived_is_asked_for_again_once_that_is_certain(one: World, fault: str) -> None:
    """PAY-04."""
    with one.app.app_context():
        payment = one.buy(customer().account, "pack-5000")
        one.fault("MakeRefund", fault, times=1)
        refund = ask(payment.id)
        assert one.refund(refund).in_doubt
        one.sandbox.control(server=SERVER, no_refunds_400=True)  # "nothing by this key" is an answer too
        assert one.sweep(minutes=1) == 1
        assert one.refund(refund).state == "filed"
        assert [entry["path"].rpartition("/")[2] for entry in one.sandbox.requests(server=SERVER)][-3:] == [
            "MakeRefund", "GetRefundStatus", "MakeRefund"
        ]  # fmt: skip
        assert len(one.sandbox.refunds()) == 1


def test_a_provider_that_forgets_our_reference_is_not_asked_twice(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """PAY-04: without `ExternalIdentifier` it is the one of this amount that is nobody else's: not the one that was
    made last week, nor the one that was cancelled."""
    honest = MyFatoorah.refunds
    monkeypatch.setattr(
        MyFatoorah, "refunds", lambda self, invoice: tuple(r._replace(reference="") for r in honest(self, invoice))
    )
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pack-5000")
        for outcome in ("refunded", "canceled"):
            earlier = ask(payment.id, 500)
            one.sandbox.settle_refund(earlier, outcome)
            assert one.sweep(minutes=1) == 1
        one.fault("MakeRefund", "stall_after", times=1)
        last = ask(payment.id, 500)
        assert one.sweep(minutes=1) == 1
        assert one.refund(last).provider_refund == str(one.sandbox.refunds()[-1]["id"])
        one.fault("MakeRefund", None)
        assert (one.refund(last).state, one.asked("MakeRefund")) == ("filed", 3)
        assert [row.state for row in one.rows(Refund)] == ["done", "cancelled", "filed"]


def test_a_provider_that_lost_a_filed_refund_is_asked_on_and_nothing_is_filed_anew(one: World) -> None:
    """PAY-04: staff see it on their list; a machine does not decide to pay a second time."""
    with one.app.app_context():
        payment = one.buy(customer().account, "pack-5000")
        refund = ask(payment.id)
        one.sandbox.reset(server=SERVER)
        one.at(one.now)
        for _ in range(4):
            assert one.sweep(hours=7) == 1
        assert (one.refund(refund).state, one.asked("MakeRefund")) == ("filed", 0)


# --- processes that die ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_died_between_claim_and_answer_is_taken_up_after_its_lease(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """PAY-04: whether its request arrived is looked up first."""
    honest = MyFatoorah.refund

    def dying(self: MyFatoorah, *what: Any) -> Any:
        if moment == "after":
            honest(self, *what)
        raise Killed

    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pack-5000")
        with monkeypatch.context() as patch:
            patch.setattr(MyFatoorah, "refund", dying)
            with pytest.raises(Killed):
                ask(payment.id)
        db.session.remove()
        [row] = world.rows(Refund)
        assert (row.state, row.in_doubt) == ("waiting", True)
        assert world.wallet(layla.account).held == PACK
        world.sweep(seconds=89)
        assert (world.asked("GetRefundStatus"), world.asked("MakeRefund")) == (0, int(moment == "after"))
        world.sweep(seconds=2)
        assert (world.refund(row.id).state, world.asked("MakeRefund")) == ("filed", 1)
        assert world.asked("GetRefundStatus") == 1
        world.sandbox.settle_refund(row.id)
        world.sweep(minutes=5)
        is_booked_once(world, layla.account, row.id)


@pytest.mark.parametrize(("outcome", "state"), [("refunded", "done"), ("canceled", "cancelled")])
def test_a_process_that_dies_at_any_statement_of_the_end_leaves_all_or_nothing(
    one: World, outcome: str, state: str
) -> None:
    """PAY-04, CRD-01: after each death the books are right, and the one that comes after it ends it once."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pack-5000")
        refund = ask(payment.id)
        one.sandbox.settle_refund(refund, outcome)
        deaths = 0
        for _ in every_death(lambda: refunds.carry_on(refund)):
            deaths += 1
            one.books_are_right()
            assert one.refund(refund).state in ("filed", state)
            one.on(minutes=2)
        assert deaths > 8
        assert refunds.carry_on(refund) == state
        if state == "done":
            is_booked_once(one, layla.account, refund)
        else:
            assert len(one.news(events.REFUND_FAILED)) == 1
            assert (one.wallet(layla.account).held, one.payment(payment.id).refunded_fils) == (0, 0)
            one.books_are_right()


def test_a_process_that_dies_at_any_statement_of_the_request_files_it_once_or_not_at_all(one: World) -> None:
    """PAY-04, CRD-01: what was written is filed by the sweep, and never twice."""
    with one.app.app_context():
        layla = customer()
        payment = one.buy(layla.account, "pack-50000")
        whole = []
        for statement in every_death(lambda: whole.append(ask(payment.id, 100))):
            one.books_are_right()
            one.on(minutes=2)
            reconciliation.ask_due()
            open_ones = one.rows(Refund, Refund.open_of.is_not(None))
            assert len(open_ones) <= 1, statement
            for row in open_ones:
                one.sandbox.settle_refund(row.id)
                one.sweep(minutes=10)
            one.books_are_right()
        assert len(whole) == 1
        one.sandbox.settle_refund(whole[0])
        one.sweep(minutes=10)
        ours, theirs = one.rows(Refund), one.sandbox.refunds()
        assert {row.state for row in ours} == {"done"}
        assert [row.id for row in ours] == [there["reference"] for there in theirs]
        assert one.payment(payment.id).refunded_fils == 100 * len(ours)


def test_two_who_end_one_refund_at_the_same_statement_do_it_once(world: World) -> None:
    """PAY-04: a worker whose lease ended while it was slow comes back beside the one that took over."""
    with world.app.app_context():
        layla = customer()
        payment = world.buy(layla.account, "pack-5000")
        refund = ask(payment.id)
        world.sandbox.settle_refund(refund)
        [found] = MyFatoorah(world.sandbox.myfatoorah_url, "sandbox").refunds(payment.invoice or "")
        db.session.rollback()
        results = at_once(world.app, 8, refunds._note, refund, found)
        assert results == ["done"] * 8
        is_booked_once(world, layla.account, refund)
