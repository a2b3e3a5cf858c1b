"""The graph as it is declared: every event has one, it is sound, and its steps really say what they have to say."""

import datetime as dt
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import clock
from portal.extensions import db
from portal.ids import new_id
from portal.models import Event, EventStep, Notification, Wallet
from portal.providers.payments import Attempt, Refunded, Status
from portal.services import (
    bans,
    budget,
    credit_alerts,
    events,
    ledger,
    payments,
    provider_health,
    refunds,
    runs,
    subscriptions,
    timetable,
    work,
)  # fmt: skip
from portal.services.notifications import delivery
from portal.services.notifications.kinds import KINDS
from portal.services.payments import checkout, concerns
from portal.tasks import chores, schedule
from portal.tasks.graph import GRAPH, drawing
from tests.runs.rows import MovingClock, Rows
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp

TOLD_AS = {events.CLOUD_ACCOUNT_REFUSED: events.PROVIDER_DOWN, events.DAY_ENDED: "daily_summary"}
"""Kinds of event that staff read under another name; the others are messages of their own name."""


@pytest.fixture
def portal(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases in turn."""
    return make_app(database_url, CLOUD_DAILY_LIMIT=10, MYFATOORAH_API_KEY="key of nobody there")


def test_every_kind_of_event_has_a_graph_and_every_graph_a_kind() -> None:
    """An event that nothing follows from would stay new for ever; one nobody records is dead code."""
    assert set(GRAPH) == events.KINDS


@pytest.mark.parametrize("kind", sorted(GRAPH))
def test_a_graph_is_sound(kind: str) -> None:
    """Names are once, as long as their column; who is needed is declared before: so there is no cycle."""
    steps = GRAPH[kind]
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) > 0
    assert len(kind) <= Event.__table__.c.kind.type.length  # type: ignore[attr-defined]
    for position, step in enumerate(steps):
        assert 0 < len(step.name) <= EventStep.__table__.c.name.type.length  # type: ignore[attr-defined]
        assert set(step.needs) <= set(names[:position]), f"{step.name} needs what is not before it"
        assert len(set(step.needs)) == len(step.needs)
        assert callable(step.does)


def test_the_drawing_is_of_that_declaration() -> None:
    """The graph: declared once, drawn from that declaration."""
    drawn: dict[str, list[tuple[str, list[str]]]] = {}
    kind = ""
    for line in drawing().splitlines():
        if line.startswith(" "):
            name, after = re.fullmatch(r" +→ (\w+)(?:  \(after ([\w, ]+)\))?", line).groups()  # type: ignore[union-attr]
            drawn[kind].append((name, after.split(", ") if after else []))
        else:
            kind = line
            drawn[kind] = []
    assert drawn == {kind: [(step.name, list(step.needs)) for step in steps] for kind, steps in GRAPH.items()}


def credit_low(account: str, time: MovingClock) -> None:
    """That the till writes it with these facts is the ledger's claim."""
    seq = spend(account)
    with db.engine.begin() as connection:
        events.record(
            connection,
            events.CREDIT_LOW,
            f"{account}:{seq}",
            account=account,
            credited=seq,
            balance=5_000,
            total=100_000,
        )


def credit_exhausted(account: str, time: MovingClock) -> None:
    spend(account)
    assert credit_alerts.refused(account)


def spend(account: str) -> int:
    db.session.execute(sa.update(Wallet).where(Wallet.account_id == account).values(balance=5_000, total=100_000))
    db.session.commit()
    seq = db.session.scalars(sa.select(Wallet.credited_seq).where(Wallet.account_id == account)).one()
    db.session.rollback()
    return seq


def cloud_budget_warning(account: str, time: MovingClock) -> None:
    for _ in range(8):
        assert budget.take(10)


def cloud_budget_exhausted(account: str, time: MovingClock) -> None:
    for _ in range(2):
        assert budget.take(10)


def cloud_account_refused(account: str, time: MovingClock) -> None:
    for status in sorted(provider_health.ACCOUNT_STATUSES):
        assert provider_health.account_refused("ollama-cloud", status)


def provider_down(account: str, time: MovingClock) -> None:
    provider_health.recovered("ollama-1")
    assert provider_health.rested("ollama-1", "failing", 60)


def provider_up(account: str, time: MovingClock) -> None:
    time.on(61)
    assert provider_health.recovered("ollama-1")


def enterprise_customer(account: str, time: MovingClock) -> None:
    subscriptions.activate(account, "enterprise", reference=new_id(), actor="console")


def address_banned(account: str, time: MovingClock) -> None:
    assert bans.ban("203.0.113.9", "llm-portal", 6, 600)


def job_stale(account: str, time: MovingClock) -> None:
    assert timetable.due(schedule.JOBS["probe providers"])
    time.on(3600)
    timetable.watch([schedule.JOBS["probe providers"]])


def day_ended(account: str, time: MovingClock) -> None:
    chores.sum_up_yesterday()


def paid_pack(account: str, fils: int) -> str:
    """A pack of 2.000 KWD for which the provider says that so much was paid. Returns the payment's id."""
    item = checkout.Item("pack", "pack-5000", "وحدات", "credits", 2_000, 5_000_000)
    ends = clock.utcnow() + dt.timedelta(days=1)
    payment = checkout.write(account, "user:x", item, "kn", expires_at=ends)
    payment.state, payment.invoice = "pending", new_id()
    db.session.commit()
    attempt = Attempt("0707", "paid", "KNET", "1", "", "", None, clock.utcnow())
    told = Status(payment.invoice, "paid", payment.id, account, fils, "KWD", ends, (attempt,))
    payments.settle(payment.id, told, source="sweep")
    return payment.id


def payment_held(account: str, time: MovingClock) -> None:
    assert payments.read(paid_pack(account, 1_990)).state == "held"


def payment_concern(account: str, time: MovingClock) -> None:
    assert concerns.note(paid_pack(account, 2_000), concerns.TWICE, source="sweep")
    db.session.commit()


def refund_failed(account: str, time: MovingClock) -> None:
    refund = refunds.request(paid_pack(account, 2_000), 500, reason="x", actor="console")  # nobody is there to hear it
    assert refunds._note(refund, Refunded("7", "canceled", 500, refund)) == "cancelled"


HAPPENS: dict[str, Callable[[str, MovingClock], None]] = {
    happens.__name__: happens
    for happens in (
        credit_low, credit_exhausted, cloud_budget_warning, cloud_budget_exhausted, cloud_account_refused,
        provider_down, provider_up, enterprise_customer, address_banned, job_stale, day_ended, payment_held,
        payment_concern, refund_failed,
    )
}  # fmt: skip
"""How each comes about in the product, in an order in which all of them can: none by facts of the test's own."""


def test_what_happens_in_the_product_is_told_once_whatever_is_done_twice(
    portal: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOTIF-03..10: facts and results are all that the message needs, its text can be written, and a step that was
    done and is done again, because its worker died before it said so, tells nobody twice."""
    assert set(HAPPENS) == events.KINDS
    rows, layla = Rows(portal), Cast(portal).layla
    time = MovingClock(monkeypatch, clock.utcnow())
    for kind, happens in HAPPENS.items():
        with portal.app_context():
            for model in (Notification, EventStep, Event):
                db.session.execute(sa.delete(model))
            db.session.commit()
            happens(layla.account_id, time)
            runs.unfold_new(GRAPH)
        for _ in range(2):
            until_quiet(rows, kind)
            told = [(name, facts) for name, facts in rows.told() if name == TOLD_AS.get(kind, kind)]
            assert len(told) == (len(provider_health.ACCOUNT_STATUSES) if kind == events.CLOUD_ACCOUNT_REFUSED else 1)
            for name, facts in told:
                assert set(facts) == set(KINDS[name].facts)
                with portal.app_context():
                    for language in ("ar", "en"):
                        assert len(delivery.text_of(facts, KINDS[name], language, "https://portal.example")) > 60
            with portal.app_context(), db.engine.begin() as connection:  # as if nobody had written that it was done
                connection.execute(sa.update(EventStep).values(state="waiting"))


def until_quiet(rows: Rows, kind: str) -> None:
    """All that is due, done; every run of the kind is then done, at the first try."""
    while due := rows.call(work.due, EventStep, 100):
        outcomes = {rows.call(runs.run_step, GRAPH, step_id) for step_id in due}
        assert outcomes == {"done"}, [rows.step(step_id).error for step_id in due]
    with rows.app.app_context():
        assert set(db.session.scalars(sa.select(Event.state).where(Event.kind == kind))) == {"done"}


def test_credit_that_came_meanwhile_is_not_warned_of(portal: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-03: the message would not be true any more. The run is done all the same."""
    rows, layla = Rows(portal), Cast(portal).layla
    with portal.app_context():
        credit_low(layla.account_id, MovingClock(monkeypatch, clock.utcnow()))
        ledger.credit(layla.account_id, 1_000_000, kind="topup", reference="in between")
        db.session.commit()
        runs.unfold_new(GRAPH)
    until_quiet(rows, events.CREDIT_LOW)
    assert [name for name, _ in rows.told() if name == events.CREDIT_LOW] == []
