"""The ledger: integer milli-credits, append-only, never below zero.

`entries` books credit and adjustments inside the caller's transaction; `till` holds and settles requests in groups, for
the gateway; `check` proves the whole. Knows no customer, no plan and no request: money is at the bottom.
"""

from portal.services.ledger.check import Fault, check
from portal.services.ledger.entries import (
    AlreadyBooked,
    NotCovered,
    adjust,
    credit,
    lock,
    open_wallet,
    release,
    set_aside,
    statement,
    take_aside,
)

__all__ = [
    "AlreadyBooked", "Fault", "NotCovered", "adjust", "check", "credit", "lock", "open_wallet", "release", "set_aside",
    "statement", "take_aside",
]  # fmt: skip
