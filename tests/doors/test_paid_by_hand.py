"""What operators book at the terminal: plans, packs, credit. The customer is told each time, once."""

import threading

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, LedgerEntry, Notification, Pack, Subscription
from portal.services import adjustments, ledger
from tests.doors.typing_at import refused, said, typed
from tests.ledger.books import Books
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp


def told(cast: Cast, person: Person, kind: str) -> list[dict[str, object]]:
    """The facts of their messages of this kind."""
    query = sa.select(Notification.facts).where(
        Notification.account_id == person.account_id, Notification.kind == kind
    )  # fmt: skip
    with cast.app.app_context():
        return list(db.session.scalars(query.order_by(Notification.id)))


def test_a_plan_is_started_and_extended_at_the_terminal(cast: Cast) -> None:
    """NOTIF-02: by address or id; its credit and its message each time; another plan by the rule of those bought."""
    layla = cast.layla
    assert "pro runs until" in said(cast.app, "subscribe", layla.email, "pro", "--days", "10", "--reference", "T-1")
    assert "pro runs until" in said(cast.app, "subscribe", layla.account_id, "pro", "--reference", "T-2")
    assert "T-2 gave a period before" in refused(cast.app, "subscribe", layla.email, "pro", "--reference", "T-2")
    with cast.app.app_context():
        running = db.session.scalars(sa.select(Subscription)).one()
        assert (running.ends_at - running.starts_at).days == 40
        assert running.actor == "console"
        assert db.session.get_one(Account, layla.account_id).plan_id == "pro"
    assert len(told(cast, layla, "subscription_confirmed")) == 2
    assert "no plan" in refused(cast.app, "subscribe", layla.email, "imaginary", "--reference", "T-4")
    assert "no account" in refused(cast.app, "subscribe", "nobody@example.com", "pro", "--reference", "T-5")
    assert "--days" in refused(cast.app, "subscribe", layla.email, "pro", "--days", "0", "--reference", "T-6")
    assert len(told(cast, layla, "subscription_confirmed")) == 2
    assert "enterprise runs until" in said(cast.app, "subscribe", layla.email, "enterprise", "--reference", "T-7")
    assert "The books are right." in said(cast.app, "ledger-check")


def test_a_pack_is_credited_once_by_what_was_paid(cast: Cast) -> None:
    """NOTIF-05: the same transfer entered twice is credited and told once."""
    layla, books = cast.layla, Books(cast.app)
    with cast.app.app_context():
        pack = db.session.scalars(sa.select(Pack).order_by(Pack.price_fils)).all()[0]
    before = books.wallet(layla.account_id).balance
    assert "Balance:" in said(cast.app, "topup", layla.email, pack.id, "--reference", "KIB-4711")
    assert "credited before" in refused(cast.app, "topup", layla.email, pack.id, "--reference", "KIB-4711")
    assert books.wallet(layla.account_id).balance == before + pack.credits
    assert told(cast, layla, "topup_confirmed") == [{"credits": pack.credits, "balance": before + pack.credits}]
    assert "no pack" in refused(cast.app, "topup", layla.email, "imaginary", "--reference", "x")
    assert "--reference" in refused(cast.app, "topup", layla.email, pack.id)
    for reference in ("", "x" * 81):
        assert "1 to 80" in refused(cast.app, "topup", layla.email, pack.id, "--reference", reference)


def test_credit_by_hand_is_told_to_the_customer(cast: Cast) -> None:
    """NOTIF-11, never-again "Add 500 set the balance to 500": booked with actor and reason, told with both amounts;
    what is refused is told to nobody."""
    layla, books = cast.layla, Books(cast.app)
    before = books.wallet(layla.account_id).balance
    given = said(cast.app, "credit", layla.email, "12.5", "--reason", " a gift ")
    taken = said(cast.app, "credit", layla.account_id, "-2", "--reason", "an error of ours")
    assert (given.count("Balance:"), taken.count("Balance:")) == (1, 1)
    assert told(cast, layla, "credit_adjusted") == [
        {"credits": 12_500, "balance": before + 12_500, "reason": "a gift"},
        {"credits": -2_000, "balance": before + 10_500, "reason": "an error of ours"},
    ]
    with cast.app.app_context():
        booked = db.session.scalars(sa.select(LedgerEntry).where(LedgerEntry.actor == "console")).all()
        assert [entry.meta for entry in booked] == [{"reason": "a gift"}, {"reason": "an error of ours"}]
    for words in (
        ("-99999999", "--reason", "x"),
        ("1", "--reason", "  "),
        ("0", "--reason", "x"),
        ("x", "--reason", "x"),
    ):
        assert typed(cast.app, "credit", layla.email, *words).exit_code == 1
    assert len(told(cast, layla, "credit_adjusted")) == 2
    assert books.wallet(layla.account_id).balance == before + 10_500


def test_what_two_take_at_once_is_taken_and_told_as_far_as_it_is_there(make_app: MakeApp, database_url: str) -> None:
    """CRD-02, on every database: eight colleagues take 300 credits of an account that has little over 1,000."""
    cast = Cast(make_app(database_url))
    layla, books = cast.layla, Books(cast.app)
    balance = books.wallet(layla.account_id).balance
    ready, taken = threading.Barrier(8), []

    def take() -> None:
        with cast.app.app_context():
            ready.wait(20)
            try:
                adjustments.adjust(layla.account_id, -300_000, actor="user:noor", reason="x")
            except ledger.NotCovered:
                return
            taken.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == balance // 300_000 == len(told(cast, layla, "credit_adjusted"))
    assert books.wallet(layla.account_id).balance == balance % 300_000


@pytest.mark.parametrize("amount", [0, -(10**12)])
def test_an_adjustment_that_is_refused_leaves_no_trace(cast: Cast, amount: int) -> None:
    """CRD-02: no entry and no message, whatever the caller's session does next."""
    with cast.app.app_context():
        with pytest.raises((ValueError, ledger.NotCovered)):
            adjustments.adjust(cast.layla.account_id, amount, actor="console", reason="x")
        db.session.commit()
    assert told(cast, cast.layla, "credit_adjusted") == []
