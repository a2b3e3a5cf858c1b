"""The catalogue's rows read into a snapshot: what is offered now, where, with which abilities and at what price.

Six small queries, off the hot path. What a probe found at a provider goes before what a model's own row says.
"""

from collections.abc import Sequence, Set

import sqlalchemy as sa

from portal.config import Settings
from portal.extensions import db
from portal.models import LanguageModel, ModelOffer, Plan, Price, Provider
from portal.services import tunables
from portal.services.catalog import Catalog, CatalogModel, Offer, bare
from portal.services.pricing import rates


def read_catalog(settings: Settings) -> Catalog:
    """Read the snapshot."""
    plans = {plan.id: plan for plan in db.session.scalars(sa.select(Plan))}
    providers = {p.id: p for p in db.session.scalars(sa.select(Provider).where(Provider.enabled))}
    percent = tunables.get("markup_percent")
    offers: dict[str, list[tuple[ModelOffer, Provider]]] = {}
    for row in db.session.scalars(sa.select(ModelOffer).order_by(ModelOffer.id)):
        provider = providers.get(row.provider_id)
        if provider is not None and row.present is not False:
            offers.setdefault(row.model_id, []).append((row, provider))
    prices: dict[str, list[Price]] = {}
    for price in db.session.scalars(sa.select(Price).order_by(Price.valid_from.desc())):
        prices.setdefault(price.model_id, []).append(price)
    rows = db.session.scalars(sa.select(LanguageModel).order_by(LanguageModel.name)).all()
    closed = {bare(row.name, cloud=True) for row in rows if row.plan_id is None}
    models = []
    for model in rows:
        if not model.enabled or model.plan_id is None:
            continue
        found = [
            offer
            for row, provider in offers.get(model.id, [])
            if not is_closed(row.upstream_name, closed)
            and (offer := _offer(settings, model, row, provider, prices.get(model.id, []), percent)) is not None
        ]
        if found:
            models.append(_model(model, plans[model.plan_id], found))
    return Catalog(tuple(models), upgrade_url=settings.base_url + "/billing")


def is_closed(upstream_name: str, closed: Set[str]) -> bool:
    """Whether a server would answer this name from a model that is open to no plan (MODEL-04), by whatever tag.

    closed: the names of those, bare.
    """
    name = bare(upstream_name, cloud=True)
    return name in closed or name.partition(":")[0] in closed


def provider_url(provider: Provider, settings: Settings) -> str:
    """Its own address, or the environment's: `ollama-2` without one is the second of OLLAMA_URL. Empty: nowhere."""
    if provider.url:
        return provider.url
    if provider.kind == "ollama-cloud":
        return settings.ollama_cloud_url
    number = provider.name.rpartition("-")[2]
    index = int(number) - 1 if number.isdigit() else -1
    return settings.ollama_url[index] if 0 <= index < len(settings.ollama_url) else ""


def _offer(
    settings: Settings,
    model: LanguageModel,
    row: ModelOffer,
    provider: Provider,
    prices: Sequence[Price],
    markup_percent: int,
) -> Offer | None:
    """None where it has no price there, or the provider no address or no key."""
    url, key = provider_url(provider, settings), settings.provider_key(provider.key_variable)
    # A price of the provider's own goes before the general one from its first day on, not before.
    priced = [price for price in prices if price.provider == provider.name]
    priced += [price for price in prices if not price.provider and provider.location == model.location]
    if not url or not priced or (provider.key_variable and not key):
        return None
    context = model.context_tokens if row.context_tokens is None else min(model.context_tokens, row.context_tokens)
    return Offer(
        provider=provider.name,
        url=url,
        key=key,
        location=provider.location,
        slots=provider.slots,
        weight=provider.weight,
        upstream_name=row.upstream_name,
        capabilities=frozenset((model.capabilities if row.capabilities is None else row.capabilities).split()),
        context_tokens=context,
        prices=tuple((price.valid_from, rates(price, markup_percent)) for price in priced),
    )


def _model(row: LanguageModel, plan: Plan, offers: list[Offer]) -> CatalogModel:
    there = [offer for offer in offers if offer.location == row.location] or offers
    return CatalogModel(
        name=row.name,
        aliases=tuple(row.aliases.split()),
        summary={"ar": row.summary_ar, "en": row.summary_en},
        location=row.location,
        plan_id=plan.id,
        plan_rank=plan.rank,
        plan_name={"ar": plan.name_ar, "en": plan.name_en},
        context_tokens=max(offer.context_tokens for offer in there),
        answer_tokens=row.answer_tokens,
        capabilities=frozenset().union(*(offer.capabilities for offer in there)),
        created=int(row.created_at.timestamp()),
        offers=tuple(offers),
    )
