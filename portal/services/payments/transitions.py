"""What may follow what: the states of a payment as one table. Whoever writes a state goes through it.

Money that came is the strongest: it counts whatever was thought before, and nothing undoes it. `paid` and `returned`
are final; a later failure, however it is told, changes nothing.
"""

from typing import Final

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    "opening": frozenset({"pending", "failed", "expired", "cancelled", "held", "paid"}),
    "pending": frozenset({"failed", "expired", "cancelled", "held", "paid"}),
    "failed": frozenset({"pending", "expired", "cancelled", "held", "paid"}),
    "expired": frozenset({"held", "paid"}),
    "cancelled": frozenset({"held", "paid"}),
    "held": frozenset({"paid", "returned"}),
    "paid": frozenset(),
    "returned": frozenset(),
}
OPEN: Final = frozenset({"opening", "pending", "failed"})
"""The provider may still take money, and is asked on the schedule."""
UNDECIDED: Final = frozenset(state for state, after in TRANSITIONS.items() if "paid" in after and state != "held")
"""Asking the provider can still change something by itself."""


def before(state: str) -> tuple[str, ...]:
    """The states that this one may follow."""
    return tuple(sorted(one for one, after in TRANSITIONS.items() if state in after))
