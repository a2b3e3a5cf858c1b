"""What the plans offer, for the pages that show it: plans and models as their rows have them, nothing else.

Prices, limits and names live in rows that operators edit; no template and no translation repeats one.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from portal.clock import utcnow
from portal.extensions import db
from portal.models import LanguageModel, ModelOffer, Plan, Price, Provider


def on_sale() -> Sequence[Plan]:
    """The plans one can have, the smallest first."""
    return db.session.scalars(sa.select(Plan).where(Plan.enabled).order_by(Plan.rank)).all()


def models(rank: int | None = None) -> Sequence[LanguageModel]:
    """The models one can use: opened, priced and served by somebody; the smallest plan's first, local before cloud.

    rank: only those of plans up to this one.
    """
    priced = sa.exists().where(Price.model_id == LanguageModel.id, Price.valid_from <= utcnow())
    served = sa.exists().where(
        ModelOffer.model_id == LanguageModel.id, ModelOffer.provider_id == Provider.id, Provider.enabled
    )
    query = (
        sa.select(LanguageModel)
        .join(Plan, Plan.id == LanguageModel.plan_id)
        .where(LanguageModel.enabled, priced, served)
        .order_by(Plan.rank, LanguageModel.location.desc(), LanguageModel.created_at, LanguageModel.id)
        .options(joinedload(LanguageModel.plan))
    )
    if rank is not None:
        query = query.where(Plan.rank <= rank)
    return db.session.scalars(query).unique().all()


def first_model(rank: int) -> str | None:
    """The name of a model this plan can chat with, for ready-to-paste examples; None while no server is switched on."""
    names = (model.name for model in models(rank) if "completion" in model.capabilities.split())
    return next(names, None)
