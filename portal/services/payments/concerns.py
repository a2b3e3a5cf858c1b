"""What people must know of a payment whose own state is right: money that came twice, went back elsewhere, is disputed.

A concern stands on the payment until somebody says that it was looked at (`flask payments looked`), and staff are told
once. It changes neither credit nor state: what follows from it is for people to decide.
"""

from typing import Final

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Payment, PaymentEvent
from portal.models.base import beside_id
from portal.services import events

TWICE: Final = "twice"
"""The provider captured more than one payment for one invoice."""
DISPUTED: Final = "disputed"
"""The payer's bank wants the money back."""
REFUNDED: Final = "refunded"
"""Money went back that was not asked for here."""
OTHER_AMOUNT: Final = "other_amount"
"""Another amount went back than was asked for."""
BOOKED: Final = "booked"
"""Its reference was in the ledger before: it was booked by hand."""
STUCK: Final = "stuck"
"""What follows from it failed with an error of ours."""


def note(payment_id: str, what: str, *, source: str, key: str = "", **facts: str | int) -> bool:
    """Put it on the staff's list and tell them, in the caller's transaction. Returns whether it is news.

    key: what tells one from another of the same kind, such as the provider's id.
    """
    occasion = ":".join(part for part in (payment_id, what, key) if part)[: events.LONGEST]
    if not events.record(db.session, events.PAYMENT_CONCERN, occasion, payment=payment_id, concern=what):
        return False
    db.session.execute(sa.update(Payment).where(Payment.id == payment_id).values(concern=what))
    db.session.add(PaymentEvent(payment_id=payment_id, what="concern", source=source, facts={"concern": what} | facts))
    return True


def looked_at(payment_id: str, *, actor: str, remark: str) -> bool:
    """Somebody has seen to it. Returns whether there was a concern. Commits."""
    seen = sa.update(Payment).where(Payment.id == payment_id, beside_id(Payment.concern) != "").values(concern="")
    if db.session.execute(seen, execution_options={"synchronize_session": False}).rowcount != 1:  # type: ignore[attr-defined]
        db.session.rollback()
        return False
    db.session.add(PaymentEvent(payment_id=payment_id, what="looked at", source=actor, facts={"remark": remark[:300]}))
    db.session.commit()
    return True
