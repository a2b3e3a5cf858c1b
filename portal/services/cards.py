"""Cards that the provider keeps for customers, known by its token: kept when one paid so, removed by their owner.

A removed card is charged no more from that moment; that the provider forgets it too is `renewals`' business.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.ids import new_id
from portal.models import SavedCard, Subscription
from portal.providers.payments import Card
from portal.services import subscriptions


class NoSuchCard(LookupError):
    """The account has no such card."""


def keep(account_id: str, card: Card) -> str | None:
    """Keep what the provider gave a token for, in the caller's transaction. Returns its id; None without a token."""
    if not card.token or len(card.token) > 190:
        return None
    mine = sa.select(SavedCard).where(SavedCard.account_id == account_id, SavedCard.token == card.token)
    kept = db.session.scalar(mine)
    if kept is None:
        kept = SavedCard(id=new_id(), account_id=account_id, token=card.token, number="")
        db.session.add(kept)
    kept.number, kept.brand = card.number[:30], card.brand[:30]
    kept.expiry_month, kept.expiry_year = card.expiry_month[:2], card.expiry_year[:4]
    kept.removed_at = kept.forgotten_at = None
    db.session.flush()
    return kept.id


def of_account(account_id: str) -> Sequence[SavedCard]:
    """The cards an account may be charged on, the latest first."""
    mine = sa.select(SavedCard).where(SavedCard.account_id == account_id, SavedCard.removed_at.is_(None))
    return db.session.scalars(mine.order_by(SavedCard.created_at.desc())).all()


def remove(account_id: str, card_id: str) -> None:
    """Charge it no more, and renew nothing with it. Commits. Raises NoSuchCard."""
    subscriptions.lock(account_id)  # as a purchase does, which has the subscription before the card
    mine = sa.update(SavedCard).where(
        SavedCard.id == card_id, SavedCard.account_id == account_id, SavedCard.removed_at.is_(None)
    )
    if db.session.execute(mine.values(removed_at=clock.utcnow())).rowcount != 1:  # type: ignore[attr-defined]
        db.session.rollback()
        raise NoSuchCard(card_id)
    db.session.execute(sa.update(Subscription).where(Subscription.card_id == card_id).values(card_id=None))
    db.session.commit()


def is_removed(account_id: str, card_id: str) -> bool:
    """Whether the account had this card and removed it."""
    card = db.session.get(SavedCard, card_id) if card_id else None
    return card is not None and card.account_id == account_id and card.removed_at is not None


def removed() -> Sequence[SavedCard]:
    """What the provider is still to forget."""
    gone = sa.select(SavedCard).where(SavedCard.removed_at.is_not(None), SavedCard.forgotten_at.is_(None))
    return db.session.scalars(gone.order_by(SavedCard.removed_at).limit(50)).all()
