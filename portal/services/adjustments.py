"""Credit given or taken by staff: booked with who and why, and the customer hears of it in the same breath.

A gift nobody tells of is taken for an error, and what is taken in silence for theft. The bookkeeping is the ledger's.
"""

from portal.extensions import db
from portal.ids import new_id
from portal.models import LedgerEntry
from portal.services import credit_alerts, ledger
from portal.services.notifications import notify


def adjust(account_id: str, amount: int, *, actor: str, reason: str) -> LedgerEntry:
    """Add or take credit by hand, with the message of it (`credit_adjusted`). Commits.

    amount: milli-credits; below zero takes, never more than is available. actor: `console` or `user:<id>`. reason: for
    the books, and for the customer to read. Raises ledger.NotCovered; ValueError without an amount or a reason.
    """
    reason = reason.strip()
    entry = ledger.adjust(account_id, amount, reference="manual:" + new_id(), actor=actor, reason=reason)
    credit_alerts.taken(entry)
    notify(account_id, "credit_adjusted", entry.id, credits=amount, balance=entry.balance_after, reason=reason)
    db.session.commit()
    return entry
