"""The till's SQL on PostgreSQL: a whole batch is one parameter of one statement.

Two things make it right under READ COMMITTED: the wallets are locked in order before they are changed (two batches never
wait for each other in a circle), and every new value is computed from the row as it is after the wait, not as the
statement first saw it. Where the sum of an account's holds isn't covered, they are tried one by one.
"""

from typing import Any

from portal.services.ledger import levels
from portal.services.ledger.statements import Hold, Settlement, as_json

LOCK = "SELECT account_id FROM wallets WHERE account_id = ANY(%s) ORDER BY account_id FOR UPDATE"

HOLD = """
WITH r AS (SELECT * FROM json_to_recordset(%s::json) AS x(id text, account_id text, api_key_id text, process_id text, model text, provider text,
     location text, failover bool, rate_in int, rate_out int, rate_cached int, streamed bool, amount bigint, created_at text)),
 sums AS (SELECT account_id, sum(amount) AS amount FROM r GROUP BY account_id),
 locked AS (SELECT account_id FROM wallets WHERE account_id IN (SELECT account_id FROM sums) ORDER BY account_id FOR UPDATE),
 taken AS (UPDATE wallets w SET held = w.held + s.amount FROM sums s JOIN locked l ON l.account_id = s.account_id
     WHERE w.account_id = s.account_id AND w.balance - w.held >= s.amount RETURNING w.account_id),
 opened AS (INSERT INTO usage_records (id, account_id, api_key_id, process_id, model, provider, location, failover, rate_in, rate_out,
     rate_cached, streamed, hold, created_at, state, outcome, prompt_tokens, cached_tokens, answer_tokens, estimated, cost, attempts)
     SELECT r.id, r.account_id, r.api_key_id, r.process_id, r.model, r.provider, r.location, r.failover, r.rate_in, r.rate_out, r.rate_cached, r.streamed,
     r.amount, (r.created_at || '+00')::timestamptz, 'open', '', 0, 0, 0, false, 0, '' FROM r JOIN taken USING (account_id))
SELECT account_id FROM taken"""

SETTLE = """
WITH r AS (SELECT * FROM json_to_recordset(%s::json) AS x(id text, account_id text, hold bigint, outcome text, prompt_tokens int, cached_tokens int,
     answer_tokens int, estimated bool, cost bigint, provider text, attempts text, waited_ms int, first_byte_ms int, duration_ms int, settled_at text, actor text, entry_id text)),
 claimed AS (UPDATE usage_records u SET state = 'settled', outcome = r.outcome, prompt_tokens = r.prompt_tokens, cached_tokens = r.cached_tokens,
     answer_tokens = r.answer_tokens, estimated = r.estimated, cost = r.cost, provider = r.provider, attempts = r.attempts, waited_ms = r.waited_ms, first_byte_ms = r.first_byte_ms, duration_ms = r.duration_ms,
     settled_at = (r.settled_at || '+00')::timestamptz FROM r WHERE u.id = r.id AND u.state = 'open' AND u.hold = r.hold
     RETURNING r.id, r.account_id, r.hold, r.cost, r.actor, r.entry_id, u.settled_at),
 sums AS (SELECT account_id, sum(cost) AS cost, sum(hold) AS hold, count(*) FILTER (WHERE cost > 0) AS entries FROM claimed GROUP BY account_id),
 locked AS (SELECT account_id FROM wallets WHERE account_id IN (SELECT account_id FROM sums) ORDER BY account_id FOR UPDATE),
 paid AS (UPDATE wallets w SET balance = w.balance - s.cost, held = w.held - s.hold, seq = w.seq + s.entries
     FROM sums s JOIN locked l ON l.account_id = s.account_id WHERE w.account_id = s.account_id
     RETURNING w.account_id, w.balance, w.seq, w.total, w.credited_seq, s.cost AS spent, s.entries),
 ranked AS (SELECT c.*, p.total, p.credited_seq, p.balance + p.spent - sum(c.cost) OVER mine AS after, p.seq - p.entries + count(*) FILTER (WHERE c.cost > 0) OVER mine AS seq
     FROM claimed c JOIN paid p USING (account_id) WINDOW mine AS (PARTITION BY c.account_id ORDER BY c.id ROWS UNBOUNDED PRECEDING)),
 booked AS (INSERT INTO ledger_entries (id, account_id, seq, kind, amount, balance_before, balance_after, reference, actor, meta, created_at)
     SELECT entry_id, account_id, seq, 'usage', -cost, after + cost, after, id, actor, '{}', settled_at FROM ranked WHERE cost > 0),
 crossed AS (SELECT *, CASE WHEN after < {least} AND after + cost >= {least} THEN '{exhausted}'
     WHEN after >= {least} AND after * 100 <= total * {percent} AND (after + cost) * 100 > total * {percent} THEN '{low}' END AS kind FROM ranked WHERE cost > 0),
 told AS (INSERT INTO events (id, kind, occasion, facts, created_at, state)
     SELECT entry_id, kind, account_id || ':' || credited_seq,
     json_build_object('account', account_id, 'credited', credited_seq, 'balance', after::bigint, 'total', total), settled_at, 'new'
     FROM crossed WHERE kind IS NOT NULL ON CONFLICT DO NOTHING)
SELECT id, after FROM ranked"""
for _name, _value in (
    ("least", levels.LEAST), ("percent", levels.LOW_PERCENT), ("exhausted", levels.EXHAUSTED), ("low", levels.LOW),
):  # fmt: skip
    SETTLE = SETTLE.replace("{" + _name + "}", str(_value))


class PostgresqlStatements:
    def begin(self, connection: Any) -> None:
        line = connection.driver_connection
        # A line that the server closed while it was idle is noticed here, before anything is sent that might be done.
        line.pgconn.consume_input()
        if not line.autocommit:
            line.autocommit = True  # psycopg's own BEGIN and COMMIT are two more trips than one statement needs

    def end(self, connection: Any) -> None:
        connection.driver_connection.autocommit = False

    def commits_at_once(self, settlements: int, holds: int) -> bool:
        # A settlement may be sent again, as it claims its row. Holds may not: two of them need one transaction.
        return not holds or (holds == 1 and not settlements)

    def write(
        self, connection: Any, settlements: list[Settlement], holds: list[Hold]
    ) -> tuple[dict[str, int], set[str]]:
        """See `Statements.write`."""
        if not self.commits_at_once(len(settlements), len(holds)):
            connection.cursor().execute("BEGIN")
        if settlements and holds:
            accounts = {s.account_id for s in settlements} | {h.account_id for h in holds}
            if len(accounts) > 1:  # each statement locks in order, but both together would not
                connection.cursor().execute(LOCK, (list(accounts),))
        balances = self._settle(connection, settlements) if settlements else {}
        held = self._hold(connection, holds) if holds else set()
        for hold in holds:
            if hold.id not in held and len(holds) > 1:
                held |= self._hold(connection, [hold])
        return balances, held

    def _hold(self, connection: Any, holds: list[Hold]) -> set[str]:
        cursor = connection.cursor()
        cursor.execute(HOLD, (as_json(holds),))
        covered = {row[0] for row in cursor.fetchall()}
        cursor.close()
        return {hold.id for hold in holds if hold.account_id in covered}

    def _settle(self, connection: Any, settlements: list[Settlement]) -> dict[str, int]:
        cursor = connection.cursor()
        cursor.execute(SETTLE, (as_json(settlements),))
        balances = {row[0]: int(row[1]) for row in cursor.fetchall()}
        cursor.close()
        return balances
