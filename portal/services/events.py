"""What happened that somebody will want to know of, written with what happened, once an occasion.

An event is a row in the same transaction: rolled back together, never told of something that didn't last. It carries
plain facts and no words; who is told, how and in which language is decided by who reads the rows. Facts never hold an
upstream's text, an address of a person or a key.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from portal import clock
from portal.ids import new_id
from portal.models import Event
from portal.services.insertion import insert_missing

CLOUD_BUDGET_WARNING: Final = "cloud_budget_warning"
"""80 % of the day's cloud requests are taken. Occasion: the day. Facts: day, used, limit."""
CLOUD_BUDGET_EXHAUSTED: Final = "cloud_budget_exhausted"
"""All of them are: no more cloud until midnight in Kuwait. Occasion: the day. Facts: day, used, limit."""
CLOUD_ACCOUNT_REFUSED: Final = "cloud_account_refused"
"""A provider refused our account: its key (401), its money (402), its plan (403), its quota (429). Occasion: provider,
status and day. Facts: provider, status."""
PROVIDER_DOWN: Final = "provider_down"
"""A provider is no longer asked. Occasion: provider and instant. Facts: provider, reason, seconds (its first rest)."""
PROVIDER_UP: Final = "provider_up"
"""It answers again. Occasion: provider and instant. Facts: provider, seconds (how long it was away)."""

KINDS: Final = frozenset(
    {CLOUD_BUDGET_WARNING, CLOUD_BUDGET_EXHAUSTED, CLOUD_ACCOUNT_REFUSED, PROVIDER_DOWN, PROVIDER_UP}
)
LONGEST: Final = 120
"""Characters of an occasion, as many as the column has."""


def record(target: sa.Connection | Session | scoped_session[Any], kind: str, occasion: str, **facts: str | int) -> bool:
    """Write an event in the caller's transaction. Returns False, and writes nothing, when this occasion is recorded.

    kind: one of KINDS. occasion: what makes it happen once, at most LONGEST characters. facts: plain values for whoever
    will tell of it. Raises ValueError for an unknown kind and for an occasion that is none.
    """
    if kind not in KINDS:
        raise ValueError(f"no event is called {kind}")
    if not 0 < len(occasion) <= LONGEST:
        raise ValueError(f"an occasion has 1 to {LONGEST} characters")
    connection = target if isinstance(target, sa.Connection) else target.connection()
    row = {"id": new_id(), "kind": kind, "occasion": occasion, "facts": facts, "created_at": clock.utcnow()}
    return insert_missing(connection, Event, row)
