"""Telling a customer that their credit is running out: once at 20 % of the total, once when it is gone, until a credit.

The crossing is seen by the till, in the settlement that caused it, which writes the event into its own transaction:
the hot path pays nothing for it while there is nothing to tell. Here is what follows, and the other way to be out of
credit: a request that is refused because not even the shortest answer is covered.
"""

from typing import Any

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Event, LedgerEntry, Wallet
from portal.services import events
from portal.services.ledger.levels import LEAST, crossed, is_low, occasion
from portal.services.notifications import notify


def refused(account_id: str) -> bool:
    """A request was refused for want of credit: the wallet is exhausted if it is low as well. Commits.

    Returns whether this is news. Costs a read when it is not.
    """
    query = sa.select(Wallet.balance, Wallet.total, Wallet.credited_seq).where(Wallet.account_id == account_id)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        wallet = connection.execute(query).one()
        what = occasion(account_id, wallet.credited_seq)
        told = sa.select(Event.id).where(Event.kind == events.CREDIT_EXHAUSTED, Event.occasion == what)
        if not is_low(wallet.balance, wallet.total) or connection.execute(told).first() is not None:
            return False
    facts = {"credited": wallet.credited_seq, "balance": wallet.balance, "total": wallet.total}
    new = events.record(db.session, events.CREDIT_EXHAUSTED, what, account=account_id, **facts)
    db.session.commit()
    return new


def taken(entry: LedgerEntry) -> bool:
    """Credit was taken by hand or refunded: that may cross a line as a settlement does. In the caller's transaction.

    Returns whether there is something to tell.
    """
    wallet = db.session.get_one(Wallet, entry.account_id, populate_existing=True)
    kind = crossed(entry.balance_before, entry.balance_after, wallet.total) if entry.amount < 0 else None
    if kind is None:
        return False
    facts = {"credited": wallet.credited_seq, "balance": entry.balance_after, "total": wallet.total}
    what = occasion(entry.account_id, wallet.credited_seq)
    return events.record(db.session, kind, what, account=entry.account_id, **facts)


def tell(kind: str, account_id: str, credited: int) -> bool:
    """Write the message of an event, unless credit came meanwhile: then it is not true any more. Commits.

    kind: `credit_low` or `credit_exhausted`. Returns whether it was written.
    """
    wallet = db.session.get_one(Wallet, account_id)
    if wallet.credited_seq != credited:
        return False
    if kind == events.CREDIT_LOW and wallet.balance < LEAST:
        return False  # it fell on meanwhile, and the other message is on its way
    facts: dict[str, Any] = {"balance": wallet.balance} | ({"total": wallet.total} if kind == events.CREDIT_LOW else {})
    new = notify(account_id, kind, str(credited), **facts)
    db.session.commit()
    return new
