"""When a wallet has become low or empty: the lines that a settlement may cross, and what makes the crossing one occasion.

Plain numbers, asked for every settlement; nothing is read or written for it.
"""

LOW_PERCENT = 20
LEAST = 1000
"""Milli-credits: with less than one credit, the unit that is sold, a wallet counts as exhausted."""
LOW, EXHAUSTED = "credit_low", "credit_exhausted"
"""The kinds of event, as `services/events` has them."""


def is_low(balance: int, total: int) -> bool:
    """At most 20 % of the total (the balance right after the latest credit) is left. Both in milli-credits."""
    return balance * 100 <= total * LOW_PERCENT


def crossed(before: int, after: int, total: int) -> str | None:
    """The kind of event that a charge from `before` to `after` milli-credits causes; None for almost every charge."""
    if after < LEAST <= before:
        return EXHAUSTED
    # Of fewer than five credits a fifth is less than one: "running low" came after "used up".
    if after >= LEAST and is_low(after, total) and not is_low(before, total):
        return LOW
    return None


def occasion(account_id: str, credited_seq: int) -> str:
    """What makes it be told once until the next credit."""
    return f"{account_id}:{credited_seq}"
