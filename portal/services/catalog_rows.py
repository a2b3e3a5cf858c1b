"""The catalogue's rows read into a snapshot: what is offered now, where, with which abilities and at what price.

Five small queries, off the hot path. What a probe found at a provider goes before what a model's own row says.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from portal.config import Settings
from portal.extensions import db
from portal.models import LanguageModel, ModelOffer, Plan, Price, Provider, Setting
from portal.services.catalog import Catalog, CatalogModel, Offer
from portal.services.pricing import rates

MARKUP = "markup_percent"
MARKUP_PERCENT = 15
"""Where no setting says otherwise (GW-02)."""


def read_catalog(settings: Settings) -> Catalog:
    """Read the snapshot."""
    plans = {plan.id: plan for plan in db.session.scalars(sa.select(Plan))}
    providers = {p.id: p for p in db.session.scalars(sa.select(Provider).where(Provider.enabled))}
    markup = db.session.get(Setting, MARKUP)
    percent = MARKUP_PERCENT if markup is None else int(markup.value)
    offers: dict[str, list[tuple[ModelOffer, Provider]]] = {}
    for row in db.session.scalars(sa.select(ModelOffer).order_by(ModelOffer.id)):
        provider = providers.get(row.provider_id)
        if provider is not None and row.present is not False:
            offers.setdefault(row.model_id, []).append((row, provider))
    prices: dict[str, list[Price]] = {}
    for price in db.session.scalars(sa.select(Price).order_by(Price.valid_from.desc())):
        prices.setdefault(price.model_id, []).append(price)
    models = []
    for model in db.session.scalars(
        sa.select(LanguageModel)
        .where(LanguageModel.enabled, LanguageModel.plan_id.is_not(None))
        .order_by(LanguageModel.name)
    ):
        found = [
            offer
            for row, provider in offers.get(model.id, [])
            if (offer := _offer(settings, model, row, provider, prices.get(model.id, []), percent)) is not None
        ]
        if found and model.plan_id is not None:
            models.append(_model(model, plans[model.plan_id], found))
    return Catalog(tuple(models), upgrade_url=settings.base_url + "/billing")


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
    own = [price for price in prices if price.provider == provider.name]
    priced = own or [price for price in prices if not price.provider and provider.location == model.location]
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
