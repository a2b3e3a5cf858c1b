"""What happened that has consequences, written with what happened, once an occasion.

An event is a row in the same transaction: rolled back together, never told of something that didn't last. It carries
plain facts and no words; what follows from it is declared in `tasks/graph.py` and carried out by `services/runs.py`.
Facts never hold an upstream's text or a key.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from portal import clock, queue
from portal.extensions import db
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

CREDIT_LOW: Final = "credit_low"
"""20 % of a wallet's total is left. Occasion: account and credit. Facts: account, credited, balance, total. Written by
the till with the settlement that crossed the line."""
CREDIT_EXHAUSTED: Final = "credit_exhausted"
"""Less than a credit is left, or too little for a request that was refused. Occasion and facts: as above."""
ENTERPRISE_CUSTOMER: Final = "enterprise_customer"
"""An account has come to the highest plan. Occasion: the subscription. Facts: account, plan."""
ADDRESS_BANNED: Final = "address_banned"
"""fail2ban shut an address out. Occasion: the ban. Facts: address, jail, failures."""
JOB_STALE: Final = "job_stale"
"""A scheduled job has not run, or keeps failing. Occasion: job and since when. Facts: job, since, reason."""
DAY_ENDED: Final = "day_ended"
"""A day in Kuwait is over and can be summed up. Occasion: the day. Facts: day."""

PAYMENT_HELD: Final = "payment_held"
"""Money came that does not count before people looked. Occasion: the payment. Facts: payment, reason."""
PAYMENT_CONCERN: Final = "payment_concern"
"""People must look at a payment whose state is right. Occasion: the payment, what, which. Facts: payment, concern."""
REFUND_FAILED: Final = "refund_failed"
"""The provider did not give the money back. Occasion: the refund. Facts: refund."""

KINDS: Final = frozenset(
    {
        CLOUD_BUDGET_WARNING, CLOUD_BUDGET_EXHAUSTED, CLOUD_ACCOUNT_REFUSED, PROVIDER_DOWN, PROVIDER_UP,
        CREDIT_LOW, CREDIT_EXHAUSTED, ENTERPRISE_CUSTOMER, ADDRESS_BANNED, JOB_STALE, DAY_ENDED,
        PAYMENT_CONCERN, PAYMENT_HELD, REFUND_FAILED,
    }
)  # fmt: skip
LONGEST: Final = 120
"""Characters of an occasion, as many as the column has."""


def record(target: sa.Connection | Session | scoped_session[Any], kind: str, occasion: str, **facts: str | int) -> bool:
    """Write an event in the caller's transaction. Returns False, and writes nothing, when this occasion is recorded.

    kind: one of KINDS. occasion: what makes it happen once, at most LONGEST characters. facts: plain values for its
    steps. On the app's session, the workers are woken by its commit; what is written elsewhere is found by the sweep,
    seconds later. Raises ValueError for an unknown kind and for an occasion that is none.
    """
    if kind not in KINDS:
        raise ValueError(f"no event is called {kind}")
    if not 0 < len(occasion) <= LONGEST:
        raise ValueError(f"an occasion has 1 to {LONGEST} characters")
    connection = target if isinstance(target, sa.Connection) else target.connection()
    row = {
        "id": new_id(), "kind": kind, "occasion": occasion, "facts": facts, "state": "new",
        "created_at": clock.utcnow(),
    }  # fmt: skip
    if not insert_missing(connection, Event, row):
        return False
    if target is db.session or target is db.session():  # another session's commit wakes nobody: the sweep finds it
        queue.enqueue("unfold", str(row["id"]))
    return True
