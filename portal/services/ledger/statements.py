"""The till's SQL: the same two moves in the words of each database.

hold    wallet.held += amount where balance − held covers it; open the usage row
settle  claim the open usage row, by its hold; balance −= cost, held −= hold; one ledger entry for a cost above zero;
        where it crossed a line (`levels`), the event that has its customer told

By its hold: a settlement that knows another one than `rehold` has set meanwhile would give back what was never held.

SQLite and MariaDB take a statement per row and wallet (cheap there, or unavoidable); PostgreSQL takes a whole batch in
one statement, which is what makes its cost per request small. A transaction locks all its wallets in one order: two
processes that took them the other way round each waited for the other, until the database ended one of them.
"""

from collections import defaultdict
from typing import Any, NamedTuple, Protocol

import msgspec

from portal.ids import new_id
from portal.services.ledger import levels


class Hold(NamedTuple):
    """What is written before the upstream is called. amount: milli-credits; created_at: UTC `YYYY-MM-DD HH:MM:SS.ffffff`."""

    id: str
    account_id: str
    api_key_id: str
    process_id: str
    model: str
    provider: str
    location: str
    failover: bool
    rate_in: int
    rate_out: int
    rate_cached: int
    streamed: bool
    amount: int
    created_at: str


class Settlement(NamedTuple):
    """What is written after the answer. cost and hold: milli-credits, 0 ≤ cost ≤ hold."""

    id: str
    account_id: str
    hold: int
    outcome: str
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    estimated: bool
    cost: int
    provider: str
    attempts: str
    waited_ms: int | None
    first_byte_ms: int | None
    duration_ms: int | None
    settled_at: str
    actor: str
    entry_id: str
    """The ledger entry's id, should there be a cost."""

    @classmethod
    def abandoned(cls, request: str, account_id: str, hold: int, provider: str, at: str) -> "Settlement":
        """The end of a request nobody runs any more, or that never began: nothing charged, the hold given back."""
        return cls(
            request, account_id, hold, "abandoned", 0, 0, 0, False, 0, provider, "", None, None, None, at, "system", new_id(),
        )  # fmt: skip


class Statements(Protocol):
    """Raw SQL on a driver's connection, inside a transaction that the till ends."""

    def begin(self, connection: Any) -> None:
        """Before `write`."""
        ...

    def end(self, connection: Any) -> None:
        """Before the connection goes back to where it came from."""
        ...

    def commits_at_once(self, settlements: int, holds: int) -> bool:
        """Whether `write` commits by itself: a line that breaks meanwhile leaves open whether it did."""
        ...

    def write(
        self, connection: Any, settlements: list[Settlement], holds: list[Hold]
    ) -> tuple[dict[str, int], set[str]]:
        """Settle, then hold. Returns the balance after each request settled here (what was settled before is left
        out), and the ids that are held (the others' wallets did not cover them)."""
        ...


def statements_for(dialect: str) -> Statements:
    """The statements for a SQLAlchemy dialect's name."""
    if dialect == "postgresql":
        from portal.services.ledger.statements_postgresql import PostgresqlStatements

        return PostgresqlStatements()
    return RowStatements("?" if dialect == "sqlite" else "%s", sqlite=dialect == "sqlite")


class RowStatements:
    """SQLite and MariaDB/MySQL: a statement per wallet and per usage row; inserts in bulk."""

    def __init__(self, mark: str, *, sqlite: bool) -> None:
        self._sqlite = sqlite
        self._take = f"UPDATE wallets SET held = held + {mark} WHERE account_id = {mark} AND balance - held >= {mark}"
        self._open = (
            "INSERT INTO usage_records (id, account_id, api_key_id, process_id, model, provider, location, failover, rate_in, rate_out, "
            "rate_cached, streamed, hold, created_at, state, outcome, prompt_tokens, cached_tokens, answer_tokens, estimated, cost, attempts) VALUES "
            f"({', '.join([mark] * 14)}, 'open', '', 0, 0, 0, 0, 0, '')"
        )
        self._claim = (
            f"UPDATE usage_records SET state = 'settled', outcome = {mark}, prompt_tokens = {mark}, cached_tokens = {mark}, answer_tokens = {mark}, "
            f"estimated = {mark}, cost = {mark}, provider = {mark}, attempts = {mark}, waited_ms = {mark}, first_byte_ms = {mark}, duration_ms = {mark}, settled_at = {mark} WHERE id = {mark} AND state = 'open' AND hold = {mark}"
        )
        self._pay = f"UPDATE wallets SET balance = balance - {mark}, held = held - {mark}, seq = seq + {mark} WHERE account_id = {mark}"
        self._read = f"SELECT balance, seq, total, credited_seq FROM wallets WHERE account_id = {mark}"
        self._book = (
            "INSERT INTO ledger_entries (id, account_id, seq, kind, amount, balance_before, balance_after, reference, actor, meta, created_at) "
            f"VALUES ({mark}, {mark}, {mark}, 'usage', {mark}, {mark}, {mark}, {mark}, {mark}, '{{}}', {mark})"
        )
        self._tell = (
            f"INSERT {'OR IGNORE' if sqlite else 'IGNORE'} INTO events (id, kind, occasion, facts, created_at, state) "
            f"VALUES ({mark}, {mark}, {mark}, {mark}, {mark}, 'new')"
        )

    def begin(self, connection: Any) -> None:
        if self._sqlite:
            from portal.database import begin_immediate

            begin_immediate(lambda: connection.driver_connection.execute("BEGIN IMMEDIATE"))

    def end(self, connection: Any) -> None:
        pass

    def commits_at_once(self, settlements: int, holds: int) -> bool:
        return False

    def write(
        self, connection: Any, settlements: list[Settlement], holds: list[Hold]
    ) -> tuple[dict[str, int], set[str]]:
        """See `Statements.write`. Usage rows are claimed first, then each wallet is locked once, in order."""
        cursor = connection.cursor()
        claimed = self._claimed(cursor, settlements)
        wanted: dict[str, list[Hold]] = defaultdict(list)
        for hold in holds:
            wanted[hold.account_id].append(hold)
        balances: dict[str, int] = {}
        entries: list[tuple[Any, ...]] = []
        events: list[tuple[Any, ...]] = []
        held: list[Hold] = []
        for account_id in sorted(claimed.keys() | wanted.keys()):
            if account_id in claimed:
                self._charge(cursor, account_id, claimed[account_id], balances, entries, events)
            if account_id in wanted:
                held += self._set_aside(cursor, account_id, wanted[account_id])
        if entries:
            cursor.executemany(self._book, entries)
        if events:
            cursor.executemany(self._tell, events)
        if held:
            cursor.executemany(self._open, held)
        cursor.close()
        return balances, {hold.id for hold in held}

    def _claimed(self, cursor: Any, settlements: list[Settlement]) -> dict[str, list[Settlement]]:
        """By account, those that nobody settled before."""
        claimed: dict[str, list[Settlement]] = defaultdict(list)
        for s in sorted(settlements):
            told = (s.outcome, s.prompt_tokens, s.cached_tokens, s.answer_tokens, s.estimated, s.cost, s.provider)
            timed = (s.attempts, s.waited_ms, s.first_byte_ms, s.duration_ms, s.settled_at)
            cursor.execute(self._claim, (*told, *timed, s.id, s.hold))
            if cursor.rowcount == 1:
                claimed[s.account_id].append(s)
        return claimed

    def _charge(
        self,
        cursor: Any,
        account_id: str,
        settlements: list[Settlement],
        balances: dict[str, int],
        entries: list[tuple[Any, ...]],
        events: list[tuple[Any, ...]],
    ) -> None:
        """Take the costs from the wallet, give the holds back, and add what is to be answered, booked and told of it."""
        charged = [s for s in settlements if s.cost]
        spent = sum(s.cost for s in charged)
        cursor.execute(self._pay, (spent, sum(s.hold for s in settlements), len(charged), account_id))
        cursor.execute(self._read, (account_id,))
        balance, seq, total, credited = cursor.fetchone()
        before, number = balance + spent, seq - len(charged)
        for s in settlements:
            if s.cost:
                number += 1
                after = before - s.cost
                entries.append((s.entry_id, account_id, number, -s.cost, before, after, s.id, s.actor, s.settled_at))
                if kind := levels.crossed(before, after, total):
                    facts = {"account": account_id, "credited": credited, "balance": after, "total": total}
                    what = levels.occasion(account_id, credited)
                    events.append((s.entry_id, kind, what, _encode(facts).decode(), s.settled_at))
                before = after
            balances[s.id] = before

    def _set_aside(self, cursor: Any, account_id: str, holds: list[Hold]) -> list[Hold]:
        """Those that the wallet covers: all of them, or else one by one."""
        total = sum(hold.amount for hold in holds)
        cursor.execute(self._take, (total, account_id, total))
        if cursor.rowcount == 1:
            return holds
        held: list[Hold] = []
        for hold in holds if len(holds) > 1 else []:
            cursor.execute(self._take, (hold.amount, account_id, hold.amount))
            if cursor.rowcount == 1:
                held.append(hold)
        return held


_encode = msgspec.json.Encoder().encode


def as_json(rows: list[Any]) -> str:
    """A batch as one JSON parameter."""
    return _encode([row._asdict() for row in rows]).decode()
