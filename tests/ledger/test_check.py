"""`ledger.check` finds every planted fault by its name; what the rows' own constraints forbid, they refuse."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from flask.cli import FlaskGroup

from portal.clock import utcnow
from portal.extensions import db
from portal.models import LedgerEntry, PaperSeries, Payment, Refund
from portal.services import ledger
from portal.services.ledger.check import INVARIANTS
from portal.services.ledger.till import Till
from tests.ledger.books import Books, a_hold, its_end

INSERT_ENTRY = (
    "INSERT INTO ledger_entries (id, account_id, seq, kind, amount, balance_before, balance_after, reference, actor, "
    "meta, created_at) "
    "VALUES (:id, :account, :seq, :kind, :amount, :before, :after, :reference, 'x', '{}', '2026-01-01 00:00:00')"
)


class Story:
    """An account with history: 10,000 credited, 300 spent on one request, 500 on hold for another."""

    def __init__(self, books: Books, till: Till) -> None:
        self.books = books
        self.account = books.open_account(10_000)
        self.settled, self.open = a_hold(self.account, 400), a_hold(self.account, 500)
        for hold in (self.settled, self.open):
            till.hold(hold)
        till.settle(its_end(self.settled, 300))
        assert self.found() == set()

    def plant(self, statement: str, **values: object) -> None:
        self.books.execute(
            statement, **{"account": self.account, "settled": self.settled.id, "open": self.open.id, **values}
        )

    def found(self) -> set[str]:
        """The names of the invariants that are told as broken at this account."""
        return {
            fault.invariant for fault in self.books.faults() if fault.account_id in (self.account, self.account[-12:])
        }


@pytest.fixture
def story(books: Books, till: Till) -> Story:
    return Story(books, till)


Plant = Callable[[Story], None]


def pay(story: Story, state: str = "paid", **values: object) -> None:
    """A payment that the ledger knows nothing of."""
    with story.books.app.app_context():
        db.session.add(Payment(
            id=story.account, account_id=story.account, actor="x", kind="pack", item="pack-5000", name_ar="x",
            name_en="x", credits=5_000, amount_fils=2_000, method="kn", state=state, expires_at=utcnow(), **values,
        ))  # fmt: skip
        db.session.commit()


def give_back(story: Story, state: str, **values: object) -> None:
    """A payment that nothing came of, and a refund of it that left no other trace."""
    pay(story, "returned")
    with story.books.app.app_context():
        db.session.add(Refund(
            payment_id=story.account, account_id=story.account, amount_fils=1_000, credits=2_500, reason="x", actor="x",
            state=state, **values,
        ))  # fmt: skip
        db.session.commit()


def number_papers(story: Story) -> None:
    with story.books.app.app_context():
        db.session.add(PaperSeries(name=story.account[-12:], latest=1))
        db.session.commit()


PLANTED: list[tuple[str, Plant]] = [
    (
        "balance is the sum of the entries",
        lambda s: s.plant("UPDATE wallets SET balance = balance + 1 WHERE account_id = :account"),
    ),
    (
        "held is the sum of the open holds",
        lambda s: s.plant("UPDATE wallets SET held = held - 1 WHERE account_id = :account"),
    ),
    (
        "held is the sum of the open holds",
        lambda s: s.plant("UPDATE usage_records SET hold = hold + 1 WHERE id = :open"),
    ),
    (
        "entries are numbered without a gap",
        lambda s: s.plant("UPDATE ledger_entries SET seq = 3 WHERE account_id = :account AND seq = 2"),
    ),
    (
        "entries are numbered without a gap",
        lambda s: s.plant("UPDATE wallets SET seq = seq + 1 WHERE account_id = :account"),
    ),
    (
        "entries are numbered without a gap",
        lambda s: s.plant("DELETE FROM ledger_entries WHERE account_id = :account AND seq = 1"),
    ),
    (
        "each entry begins where the one before it ended",
        lambda s: s.plant(
            "UPDATE ledger_entries SET balance_before = balance_before + 5, balance_after = balance_after + 5 "
            "WHERE account_id = :account AND seq = 2"
        ),
    ),
    (
        "each charge is in the ledger once, for its cost",
        lambda s: s.plant("UPDATE usage_records SET cost = 299 WHERE id = :settled"),
    ),
    (
        "each charge is in the ledger once, for its cost",
        lambda s: s.plant("DELETE FROM ledger_entries WHERE kind = 'usage' AND account_id = :account"),
    ),
    (
        "each usage entry has its settled request",
        lambda s: s.plant(
            "UPDATE usage_records SET state = 'open', cost = 0 WHERE id = :settled",
        ),
    ),
    (
        "each usage entry has its settled request",
        lambda s: s.plant(
            INSERT_ENTRY, id="e" * 32, seq=3, kind="usage", amount=-5, before=9_700, after=9_695, reference="f" * 32
        ),
    ),
    ("each paid payment is in the ledger once, for its credit", pay),
    ("each refund that was made is in the ledger once, for its credit", lambda s: give_back(s, "done")),
    ("a payment has given back what its refunds say", lambda s: give_back(s, "done")),
    ("a payment has given back what its refunds say", lambda s: pay(s, "held", refunded_fils=10)),
    ("held is the sum of the open holds", lambda s: give_back(s, "filed", open_of=s.account)),
    ("papers are numbered without a gap", number_papers),
]
"""What is broken by hand → the invariant that must be named."""


def test_a_planted_fault_is_found_by_name_and_at_its_account_alone(books: Books, till: Till) -> None:
    """CRD-02, issue part 3: `flask ledger-check` names every broken invariant; planted faults are found."""
    bystander = Story(books, till)
    for number, (invariant, plant) in enumerate(PLANTED):
        story = Story(books, till)
        plant(story)
        assert invariant in story.found(), f"planted fault {number}"
    assert bystander.found() == set()


FORBIDDEN: list[tuple[str, str]] = [
    ("nothing is below zero", "UPDATE wallets SET balance = -1, held = 0 WHERE account_id = :account"),
    ("nothing is below zero", "UPDATE wallets SET held = -1 WHERE account_id = :account"),
    ("nothing is below zero", "UPDATE wallets SET held = balance + 1 WHERE account_id = :account"),
    (
        "each entry adds up",
        "UPDATE ledger_entries SET amount = amount - 1 WHERE account_id = :account AND kind = 'usage'",
    ),
    ("no charge is above its hold", "UPDATE usage_records SET cost = hold + 1 WHERE id = :settled"),
    ("no charge is above its hold", "UPDATE usage_records SET cost = -1 WHERE id = :settled"),
]
"""What the rows' CHECK constraints forbid, and the invariant that names it should a database let it through."""


def test_a_row_that_can_not_be_is_refused_by_the_database(story: Story) -> None:
    """CRD-01: the last line of defence holds on each database, whatever the code above it does."""
    for _, statement in FORBIDDEN:
        with pytest.raises((sa.exc.IntegrityError, sa.exc.OperationalError)):
            story.plant(statement)
    assert story.found() == set()


def test_a_forbidden_row_is_found_should_the_constraint_be_gone(books: Books, till: Till) -> None:
    """CRD-02: a restore without constraints, or an engine that skips them, does not blind the check."""
    stories = [(invariant, statement, Story(books, till)) for invariant, statement in FORBIDDEN]
    with books.app.app_context(), db.engine.connect() as connection:
        for switch in _constraints_off(db.engine.dialect.name):
            connection.exec_driver_sql(switch)
        for _, statement, story in stories:
            connection.execute(sa.text(statement.replace(":account", f"'{story.account}'")
                                       .replace(":settled", f"'{story.settled.id}'")))  # fmt: skip
        connection.commit()
        connection.invalidate()  # the switch belongs to this connection
    for invariant, statement, story in stories:
        assert invariant in story.found(), statement


def _constraints_off(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return ["PRAGMA ignore_check_constraints = ON"]
    if dialect in ("mysql", "mariadb"):
        return ["SET check_constraint_checks = OFF"]
    names = (("wallets", "balance"), ("wallets", "held"), ("ledger_entries", "sum"), ("usage_records", "cost"))
    return [f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}" for table, name in names]


def test_the_same_thing_booked_twice_is_refused_by_the_database(story: Story) -> None:
    """TOP-02: kind and reference are unique, so a second entry for one request or payment can't exist."""
    twice = {"id": "e" * 32, "seq": 3, "kind": "usage", "amount": -300, "before": 9_700, "after": 9_400}
    with pytest.raises(sa.exc.IntegrityError):
        story.plant(INSERT_ENTRY, reference=story.settled.id, **twice)


def test_every_invariant_has_a_planted_fault() -> None:
    """A check nobody has seen fail proves nothing."""
    assert {name for name, _ in INVARIANTS} == {name for name, _ in PLANTED} | {name for name, _ in FORBIDDEN}


def test_the_command_ends_with_0_for_right_books_and_1_for_wrong_ones(story: Story) -> None:
    """CRD-02: provable by one command, whose exit code a timetable can watch."""
    runner, flask = CliRunner(), FlaskGroup(create_app=lambda: story.books.app, load_dotenv=False)
    right = runner.invoke(flask, ["ledger-check"])
    assert (right.exit_code, right.output.strip()) == (0, "The books are right.")
    story.plant("UPDATE wallets SET balance = balance + 7 WHERE account_id = :account")
    wrong = runner.invoke(flask, ["ledger-check"])
    assert wrong.exit_code == 1
    assert f"balance is the sum of the entries: account {story.account} has 9707, should have 9700" in wrong.output


def test_the_check_keeps_nobody_waiting(story: Story) -> None:
    """OPS-04: the books are proved while requests run; one who writes meanwhile is neither blocked nor a fault."""
    with story.books.app.app_context():
        with db.engine.begin() as other:
            other.execute(sa.update(LedgerEntry).where(LedgerEntry.account_id == story.account).values(actor="other"))
            assert ledger.check() == []
