"""The settings of an account: for now where its requests may run, and what the other place would cost.

A change marks the account changed, before and after the commit, so that it holds for the very next request on every
worker. What the switch means for a request is decided by the gate (`catalog`) and by the routing, never here.
"""

from fractions import Fraction
from typing import NamedTuple

import sqlalchemy as sa
from flask import current_app

from portal.clock import utcnow
from portal.errors import AccessDenied
from portal.extensions import db
from portal.freshness import changing
from portal.models import Account, Membership
from portal.services.catalog import CatalogModel, Reader
from portal.services.catalog_rows import read_catalog
from portal.services.pricing import Rates, dearest

MAY_CHANGE = ("owner", "admin")


class Twin(NamedTuple):
    """A local model that can also be had in the cloud. The rates are those in force now, the dearest of each place."""

    name: str
    here: Rates
    cloud: Rates

    @property
    def factors(self) -> tuple[Fraction, Fraction] | None:
        """The cloud's price as a multiple of ours, for prompts and for answers; None where ours is nothing."""
        if not self.here.prompt or not self.here.answer:
            return None
        return Fraction(self.cloud.prompt, self.here.prompt), Fraction(self.cloud.answer, self.here.answer)


class Whereabouts(NamedTuple):
    """Where an account's requests may run, as the rows have it now."""

    local_only: bool
    may_change: bool
    """Whether this person may turn the switch."""
    moves: bool
    """Whether the plan lets requests move to the cloud while our own servers are busy."""
    twins: tuple[Twin, ...]
    """The plan's models that could move."""
    cloud: tuple[str, ...]
    """The plan's models that can be had in the cloud alone: what the switch hides."""

    @property
    def factors(self) -> tuple[Fraction, Fraction] | None:
        """The least and the greatest multiple of our price among the twins; None where there is none to tell."""
        found = [factor for twin in self.twins for factor in twin.factors or ()]
        return (min(found), max(found)) if found else None


def whereabouts(account: Account, user_id: str) -> Whereabouts:
    """What the settings page tells this person of this account."""
    catalog = read_catalog(current_app.config["PORTAL"])
    usable = catalog.listing(Reader(account.plan.rank))
    staying = {model.name for model in catalog.listing(Reader(account.plan.rank, local_only=True))}
    return Whereabouts(
        local_only=account.local_only,
        may_change=_may_change(account.id, user_id),
        moves=account.plan.failover,
        twins=tuple(twin for model in usable if (twin := _twin(model)) is not None),
        cloud=tuple(model.name for model in usable if model.name not in staying),
    )


def set_local_only(account_id: str, user_id: str, local_only: bool) -> None:
    """Turn the account's switch: whether everything of it stays on our own servers.

    Raises AccessDenied for whoever is neither the account's owner nor its admin.
    """
    if not _may_change(account_id, user_id):
        raise AccessDenied
    with changing(f"account:{account_id}"):
        db.session.execute(
            sa.update(Account)
            .where(Account.id == account_id)
            .values(local_only=local_only)
            .execution_options(synchronize_session=False)
        )
        db.session.commit()


def _may_change(account_id: str, user_id: str) -> bool:
    role = sa.select(Membership.role).where(Membership.account_id == account_id, Membership.user_id == user_id)
    return db.session.scalar(role) in MAY_CHANGE


def _twin(model: CatalogModel) -> Twin | None:
    """None for a model that has no price or no twin now."""
    now = utcnow()
    if model.location != "local":
        return None
    here = dearest(rates for offer in model.home if (rates := offer.rates(now)))
    cloud = dearest(rates for offer in model.twin if (rates := offer.rates(now)))
    return Twin(model.name, here, cloud) if here is not None and cloud is not None else None
