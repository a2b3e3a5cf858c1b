"""What the plans offer, for the pages: plans as their rows have them, models as the gateway's own gate has them.

Prices, limits and names live in rows that operators edit; no template and no translation repeats one.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from flask import current_app

from portal.extensions import db
from portal.models import Plan
from portal.services.catalog import CatalogModel, Reader
from portal.services.catalog_rows import read_catalog


def on_sale() -> Sequence[Plan]:
    """The plans one can have, the smallest first."""
    return db.session.scalars(sa.select(Plan).where(Plan.enabled).order_by(Plan.rank)).all()


def models(rank: int | None = None, *, local_only: bool = False) -> list[CatalogModel]:
    """The models one can use now: the smallest plan's first, our own before the cloud's, the lightest first.

    rank: only what the gate gives a plan of this rank. local_only: only what it gives an account that stays here.
    """
    reader = Reader(local_only=local_only) if rank is None else Reader(rank, local_only)
    return sorted(
        read_catalog(current_app.config["PORTAL"]).listing(reader),
        key=lambda m: (m.plan_rank, m.location != "local", m.context_tokens, m.name),
    )


def first_model(rank: int, *, local_only: bool = False) -> str | None:
    """The name of a model this plan can chat with, for ready-to-paste examples; None while no server is switched on."""
    return next((m.name for m in models(rank, local_only=local_only) if "completion" in m.capabilities), None)
