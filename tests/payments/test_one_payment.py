"""One payment in a stormy year: any order of what the payer, the provider, its faults, staff and the clock may do.

The model knows one thing: whether the provider has ever said, to whoever asked, that money came, and whether all of it
agreed then. Everything else must follow, at every moment, and at the end nothing that was paid may be unknown.
"""

import datetime as dt
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from portal import clock
from portal.errors import PaymentServiceAway
from portal.models import Account
from portal.providers.payments import Attempt, Method, Notice, Opened, Order, PaymentsError, Status
from portal.services import payments, reconciliation
from portal.services.payments import confirming, held, merchant
from portal.services.payments.transitions import OPEN, TRANSITIONS
from tests.payments.shop import Shop

NOON = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)
LIES: dict[str, dict[str, Any]] = {
    "amount": {"value_fils": 1}, "currency": {"currency": "SAR"}, "reference": {"reference": "0" * 32},
    "account": {"user_field": "0" * 32},
}  # fmt: skip
SPANS: list[dict[str, int]] = [{"seconds": 1}, {"seconds": 3}, {"minutes": 4}, {"hours": 5}, {"hours": 30}]
WAYS = ("return", "console", "sweep", "sweep", "invoice", "reference", "nothing of ours")
DEEDS = ("", "", "", "is tried", "fails MF004", "fails MF020", "is cancelled", "is paid", "is paid", "fails late")
FAULTS = {
    "away": PaymentsError("away", in_doubt=True), "nothing by this key": PaymentsError("unknown", unknown=True),
    "our key": PaymentsError("key"), "slower": PaymentsError("slower", retry_after=60),
}  # fmt: skip


class Teller:
    """A provider of one invoice, in this process. `said`: every status it gave, with the payment's state before."""

    def __init__(self, now: dt.datetime) -> None:
        self.now, self.fault, self.lie = now, "", ""
        self.order: Order | None = None
        self.state: Any = "pending"
        self.attempts = list[Attempt]()
        self.asked_at: list[dt.datetime] = []
        self.last: Status | None = None

    def methods(self) -> tuple[Method, ...]:
        return (Method(1, "kn", "كي نت", "KNET", False, 0),)

    def open(self, order: Order) -> Opened:
        self.order = order
        if self.fault:
            raise PaymentsError("the answer was lost", in_doubt=True)
        return Opened(self.invoice, "https://pay.example.com/1")

    @property
    def invoice(self) -> str:
        assert self.order is not None
        return f"i{self.order.reference[-30:]}"

    def status(self, *, invoice: str = "", reference: str = "") -> Status:
        assert self.order is not None
        assert (invoice or reference) == (self.invoice if invoice else self.order.reference)
        self.asked_at.append(clock.utcnow())
        if self.fault:
            raise FAULTS[self.fault]
        truth = Status(
            self.invoice, self.state, self.order.reference, self.order.user_field, self.order.amount_fils, "KWD",
            self.order.expires_at, tuple(self.attempts),
        )  # fmt: skip
        self.last = truth._replace(**LIES[self.lie]) if self.lie else truth
        return self.last


def machine(shop: Shop, patch: pytest.MonkeyPatch, lie: str) -> type[RuleBasedStateMachine]:
    """The storm over this shop, whose provider may lie about this."""

    class OnePayment(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.now = NOON
            patch.setattr("portal.clock.utcnow", lambda: self.now)
            shop.fresh()
            self.who = shop.customer()
            self.teller = Teller(self.now)
            shop.app.extensions["payments"] = shop.app.extensions["payments patient"] = self.teller
            self.suspended, self.resting, self.money = False, False, ""
            """money: what must have become of it: nothing, `held` or `paid`."""
            self.why = ""

        def teardown(self) -> None:
            if self.payment:  # not where the beginning itself failed
                self._calm_down()

        payment = ""

        # -- the payer and the provider --

        @initialize(lost=st.booleans())
        def begin(self, lost: bool) -> None:
            self.teller.fault = "away" if lost else ""
            try:
                self.payment = shop.begin(self.who)
            except PaymentServiceAway:
                assert lost
                ((self.payment,),) = shop.rows(
                    sa.text(f"SELECT id FROM payments WHERE account_id = '{self.who.account}'")
                )
            self.teller.fault = ""

        @rule(
            deed=st.sampled_from(DEEDS), lies=st.booleans(), fault=st.sampled_from(["", "", *FAULTS]),
            span=st.sampled_from(SPANS), way=st.sampled_from(WAYS), tried=st.sampled_from(["", "p1", "x"]),
        )  # fmt: skip
        def something_happens_there_and_somebody_comes(  # in one rule: in two, most storms asked nobody anything
            self, deed: str, lies: bool, fault: str, span: dict[str, int], way: str, tried: str
        ) -> None:
            self._happens(deed)
            self.teller.lie, self.teller.fault = lie if lies else "", fault
            self.now += dt.timedelta(**span)
            if self.resting and span != {"seconds": 1}:
                shop.store.client.delete(merchant.REST)
                self.resting = False
            if way == "sweep":
                self._ask(reconciliation.ask_due)
            elif way in ("return", "console"):
                self._ask(lambda: payments.confirm(self.payment, source=way, tried=tried))
            else:
                self._hear(way)

        def _happens(self, deed: str) -> None:
            if deed == "is paid":
                self.teller.state = "paid"
                self._attempt("paid", "")
            elif deed == "fails late" or (deed and self.teller.state != "pending"):
                self._attempt("failed", "MF002")
            elif deed == "is cancelled":
                self.teller.state = "canceled"
            elif deed:
                self._attempt("waiting" if deed == "is tried" else "failed", deed[6:])

        def _attempt(self, state: Any, code: str) -> None:
            number = len(self.teller.attempts) + 1
            at = self.now + dt.timedelta(microseconds=number)
            self.teller.attempts.append(Attempt(f"p{number}", state, "KNET", "r", code, "", None, at))

        # -- time and staff --

        @rule()
        def suspension_begins_or_ends(self) -> None:
            self.suspended = not self.suspended
            at = self.now if self.suspended else None
            shop.change(sa.update(Account).where(Account.id == self.who.account).values(suspended_at=at))

        @precondition(lambda self: self.money == "held")
        @rule()
        def staff_release_it(self) -> None:
            asked = list(self.teller.asked_at)
            with shop.app.app_context():
                try:
                    assert held.release(self.payment, actor="console") == "paid"
                except (held.NotHeld, PaymentsError):
                    assert self.why in ("reference", "account") or self.teller.fault
                    return
                finally:
                    self.teller.asked_at = asked  # people may ask at any time
            assert self.why not in ("reference", "account")
            self.money = "paid"

        # -- whoever asks --

        def _hear(self, names: str) -> None:
            """A webhook, which names the invoice, our reference, or nothing of ours; and says whatever it says."""
            invoice = self.teller.invoice if names == "invoice" else "7"
            reference = self.payment if names == "reference" else ""
            self._ask(lambda: reconciliation.hear(Notice("payment", "k", invoice, reference, "FAILED")))

        def _ask(self, ask: Any) -> None:
            asked, self.teller.last = len(self.teller.asked_at), None
            with shop.app.app_context():
                ask()
            again = self.teller.asked_at[asked:]
            assert len(again) <= 1
            assert not (again and self.resting), "asked while it wants to be left alone"
            assert not (again and self.money), "asked about what is decided"
            self.resting = self.resting or bool(again and self.teller.fault == "slower")
            told = self.teller.last
            if told is not None and told.state == "paid" and not self.money:
                self.why = self.teller.lie or ("suspended" if self.suspended else "")
                self.money = "held" if self.why else "paid"

        # -- what holds at every moment --

        @invariant()
        def it_is_as_the_provider_has_said(self) -> None:
            row = shop.payment(self.payment)
            if self.money:
                assert (row.state, row.reason if self.money == "held" else "") == (
                    self.money, self.why if self.money == "held" else "",
                )  # fmt: skip
                assert row.due_at is None
            else:
                assert row.state in {*OPEN, "expired", "cancelled"}
            if self.money == "paid":
                shop.counted(self.who, self.payment, books=False)
            else:
                shop.not_counted(self.who, self.payment, row.state, books=False)
            assert (row.due_at is not None) or row.state not in OPEN or row.reason == "refused", "nobody will ask"
            assert len(shop.staff_events(self.payment)) == ("held" in shop.trail(self.payment))
            trail = [what for what in shop.trail(self.payment) if what in TRANSITIONS]
            assert all(
                after in TRANSITIONS[first] or first == after == "failed"
                for first, after in zip(trail, trail[1:], strict=False)
            ), trail  # fmt: skip
            gaps = zip(self.teller.asked_at, self.teller.asked_at[1:], strict=False)
            assert all(later - earlier >= confirming.PAUSE for earlier, later in gaps)

        # -- the end --

        def _calm_down(self) -> None:
            """Everybody is well again and tells the truth, time goes on, the provider repeats its webhook."""
            self.teller.fault = self.teller.lie = ""
            shop.store.client.delete(merchant.REST)
            self.resting = False
            for _ in range(40):
                due = shop.payment(self.payment).due_at
                if due is None:
                    break
                self.now = max(self.now, due) + dt.timedelta(seconds=1)
                self._ask(reconciliation.ask_due)
            assert shop.state(self.payment) not in OPEN, "the sweep comes to no end"
            self.now += dt.timedelta(seconds=3)
            self._hear("reference")
            self.it_is_as_the_provider_has_said()
            if self.teller.state == "paid":
                assert shop.state(self.payment) in ("paid", "held"), "money came, and nobody knows"
            shop.books_are_right()

    return OnePayment


@pytest.mark.parametrize("lie", LIES)
def test_whatever_happens_money_counts_once_and_is_never_forgotten(
    small_shop: Shop, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """PAY-01, PAY-03, TOP-02, CRD-01: credited if and only if the provider ever said captured with all that agrees."""
    storm = hypothesis.settings(max_examples=20, stateful_step_count=22, deadline=None)
    run_state_machine_as_test(machine(small_shop, monkeypatch, lie), settings=storm)
