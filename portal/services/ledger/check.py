"""Proof that the books are right: every invariant of the ledger, each as one query whose rows are faults.

Run by `flask ledger-check` and by the tests after everything they do to the wallet.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from portal.extensions import db

INVARIANTS: tuple[tuple[str, str], ...] = (
    (
        "balance is the sum of the entries",
        "SELECT w.account_id, w.balance AS found, COALESCE(SUM(e.amount), 0) AS expected FROM wallets w "
        "LEFT JOIN ledger_entries e ON e.account_id = w.account_id GROUP BY w.account_id, w.balance "
        "HAVING w.balance <> COALESCE(SUM(e.amount), 0)",
    ),
    (
        "held is the sum of the open holds",
        "SELECT w.account_id, w.held AS found, COALESCE(SUM(h.hold), 0) AS expected FROM wallets w LEFT JOIN ("
        "SELECT account_id, hold FROM usage_records WHERE state = 'open' "
        "UNION ALL SELECT account_id, credits FROM refunds WHERE open_of IS NOT NULL"
        ") h ON h.account_id = w.account_id GROUP BY w.account_id, w.held HAVING w.held <> COALESCE(SUM(h.hold), 0)",
    ),
    (
        "nothing is below zero",
        "SELECT account_id, balance - held AS found, 0 AS expected FROM wallets WHERE balance < 0 OR held < 0 OR held > balance",
    ),
    (
        "entries are numbered without a gap",
        "SELECT w.account_id, w.seq AS found, COUNT(e.id) AS expected FROM wallets w LEFT JOIN ledger_entries e ON e.account_id = w.account_id "
        "GROUP BY w.account_id, w.seq HAVING w.seq <> COUNT(e.id) OR w.seq <> COALESCE(MAX(e.seq), 0)",
    ),
    (
        "each entry begins where the one before it ended",
        "SELECT e.account_id, e.balance_before AS found, COALESCE(p.balance_after, 0) AS expected FROM ledger_entries e "
        "LEFT JOIN ledger_entries p ON p.account_id = e.account_id AND p.seq = e.seq - 1 WHERE e.balance_before <> COALESCE(p.balance_after, 0)",
    ),
    (
        "each entry adds up",
        "SELECT account_id, balance_after AS found, balance_before + amount AS expected FROM ledger_entries WHERE balance_after <> balance_before + amount",
    ),
    (
        "each charge is in the ledger once, for its cost",
        "SELECT u.account_id, COALESCE(SUM(e.amount), 0) AS found, -u.cost AS expected FROM usage_records u "
        "LEFT JOIN ledger_entries e ON e.kind = 'usage' AND e.reference = u.id WHERE u.state = 'settled' "
        "GROUP BY u.id, u.account_id, u.cost HAVING COALESCE(SUM(e.amount), 0) <> -u.cost",
    ),
    (
        "each usage entry has its settled request",
        "SELECT e.account_id, e.amount AS found, 0 AS expected FROM ledger_entries e "
        "LEFT JOIN usage_records u ON u.id = e.reference AND u.state = 'settled' AND u.account_id = e.account_id WHERE e.kind = 'usage' AND u.id IS NULL",
    ),
    (
        "no charge is above its hold",
        "SELECT account_id, cost AS found, hold AS expected FROM usage_records WHERE cost > hold OR cost < 0",
    ),
    (
        "each paid payment is in the ledger once, for its credit",
        "SELECT p.account_id, COALESCE(SUM(e.amount), 0) AS found, CASE WHEN p.state = 'paid' THEN p.credits ELSE 0 END AS expected "
        "FROM payments p LEFT JOIN ledger_entries e ON e.reference = p.id AND e.account_id = p.account_id "
        "AND e.kind IN ('topup', 'subscription') GROUP BY p.id, p.account_id, p.state, p.credits "
        "HAVING COALESCE(SUM(e.amount), 0) <> CASE WHEN p.state = 'paid' THEN p.credits ELSE 0 END",
    ),
    (
        "each refund that was made is in the ledger once, for its credit",
        "SELECT r.account_id, COALESCE(SUM(e.amount), 0) AS found, CASE WHEN r.state = 'done' THEN -r.credits ELSE 0 END AS expected "
        "FROM refunds r LEFT JOIN ledger_entries e ON e.reference = r.id AND e.account_id = r.account_id AND e.kind = 'refund' "
        "GROUP BY r.id, r.account_id, r.state, r.credits "
        "HAVING COALESCE(SUM(e.amount), 0) <> CASE WHEN r.state = 'done' THEN -r.credits ELSE 0 END",
    ),
    (
        "a payment has given back what its refunds say",
        "SELECT p.account_id, p.refunded_fils AS found, COALESCE(SUM(r.amount_fils), 0) AS expected FROM payments p "
        "LEFT JOIN refunds r ON r.payment_id = p.id AND r.state IN ('waiting', 'filed', 'done') "
        "GROUP BY p.id, p.account_id, p.refunded_fils HAVING p.refunded_fils <> COALESCE(SUM(r.amount_fils), 0)",
    ),
    (
        "papers are numbered without a gap",
        "SELECT s.name AS account_id, s.latest AS found, COUNT(p.id) AS expected FROM paper_series s "
        "LEFT JOIN papers p ON p.series = s.name GROUP BY s.name, s.latest "
        "HAVING s.latest <> COUNT(p.id) OR s.latest <> COALESCE(MAX(p.place), 0)",
    ),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken invariant at one account (or series of papers), in milli-credits, fils or numbers of entries."""

    invariant: str
    account_id: str
    found: int
    expected: int

    def __str__(self) -> str:
        return f"{self.invariant}: account {self.account_id} has {self.found}, should have {self.expected}"


def check() -> list[Fault]:
    """Every broken invariant; an empty list means the books are right.

    All queries see one instant, so that requests which settle meanwhile are no faults; and they take no lock, so that
    none of those waits.
    """
    sqlite = db.engine.dialect.name == "sqlite"  # there every read transaction is a snapshot
    options: dict[str, Any] = {"sqlite_read_only": True} if sqlite else {"isolation_level": "REPEATABLE READ"}
    with db.engine.connect().execution_options(**options) as connection, connection.begin():
        return [
            Fault(name, row.account_id, int(row.found), int(row.expected))
            for name, query in INVARIANTS
            for row in connection.execute(sa.text(query))
        ]
