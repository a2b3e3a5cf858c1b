"""A pack of credit that somebody paid for: booked once by what was paid, and told to the customer.

The payment provider's money comes here as well as a bank transfer that staff enter by hand; whether it was paid is
their business.
"""

import sqlalchemy as sa

from portal.extensions import db
from portal.models import LedgerEntry, Pack
from portal.services import ledger
from portal.services.notifications import notify


class NoSuchPack(LookupError):
    """There is no such pack."""


def book(account_id: str, pack_id: str, *, reference: str, actor: str) -> LedgerEntry:
    """Credit a pack, with the message of it. Commits.

    reference: what was paid, such as the number of a bank transfer: the same one is never credited twice.
    Raises NoSuchPack, ledger.AlreadyBooked, LookupError for an unknown account.
    """
    credits = db.session.scalar(sa.select(Pack.credits).where(Pack.id == pack_id))
    if credits is None:
        raise NoSuchPack(pack_id)
    entry = give(account_id, pack_id, credits, reference=reference, actor=actor)
    db.session.commit()
    return entry


def give(account_id: str, pack_id: str, credits: int, *, reference: str, actor: str) -> LedgerEntry:
    """A pack's credit (milli-credits) and its message, in the caller's transaction. Raises as `book`."""
    entry = ledger.credit(account_id, credits, kind="topup", reference=reference, actor=actor, meta={"pack": pack_id})
    notify(account_id, "topup_confirmed", entry.id, credits=credits, balance=entry.balance_after)
    return entry
