"""The one gate: may this caller use this model? For listing, routing and docs alike.

A Catalog is a snapshot of the catalogue's rows, plain data, remembered by each worker under a freshness token. A model
that is disabled, unpriced, offered by no enabled provider or open to no plan does not exist here, under any spelling.
"""

import datetime as dt
import difflib
import time
import unicodedata
from dataclasses import dataclass, field

import sqlalchemy as sa
from flask_babel import LazyString

from portal import i18n
from portal.clock import utcnow
from portal.config import Settings
from portal.errors import ModelNotFound, ModelNotInPlan, SimilarModelFound
from portal.extensions import db
from portal.freshness import CACHE_SECONDS, UNSETTLED
from portal.models import LanguageModel, ModelOffer, Plan, Price, Provider
from portal.services.callers import Caller


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to a model: a provider's address and the name it knows the model by."""

    provider: str
    url: str
    key_variable: str
    location: str
    upstream_name: str


@dataclass(frozen=True, slots=True)
class CatalogModel:
    name: str
    aliases: tuple[str, ...]
    summary: dict[str, str]
    location: str
    plan_id: str
    plan_rank: int
    plan_name: dict[str, str]
    context_tokens: int
    answer_tokens: int
    capabilities: frozenset[str]
    created: int
    prices: tuple[tuple[dt.datetime, int, int], ...]
    """(valid from, rate in, rate out), newest first; rates in milli-credits for 1,000 tokens."""
    offers: tuple[Offer, ...]

    def price(self, now: dt.datetime) -> tuple[int, int] | None:
        """(rate in, rate out) in force at an instant; None when it has no price yet."""
        for valid_from, rate_in, rate_out in self.prices:
            if valid_from <= now:
                return rate_in, rate_out
        return None


def spelling(name: str) -> str:
    """A model's name stripped of the ways to write it: width, case, blanks, invisible characters, the tag `latest`."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    plain = "".join(c for c in folded if unicodedata.category(c)[0] not in "CZ")
    return plain.removesuffix(":latest")


@dataclass(frozen=True, slots=True)
class Catalog:
    models: tuple[CatalogModel, ...]
    upgrade_url: str = ""
    """Where a higher plan is bought."""
    _by_spelling: dict[str, CatalogModel] = field(default_factory=dict)
    _by_name: dict[str, CatalogModel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for model in self.models:
            for name in (model.name, *model.aliases):
                self._by_spelling[spelling(name)] = model
                self._by_name[name] = model

    def listing(self, caller: Caller) -> list[CatalogModel]:
        """What the caller's plan may use now, in order of name."""
        now = utcnow()
        return [m for m in self.models if m.plan_rank <= caller.plan_rank and m.price(now) is not None]

    def permit(self, caller: Caller, name: str) -> CatalogModel:
        """The model, if it exists and the caller may use it.

        Raises ModelNotFound (with the nearest name the caller has), ModelNotInPlan (with the plan that has it).
        """
        model = self._by_name.get(name) or self._by_spelling.get(spelling(name))
        if model is None or model.price(utcnow()) is None:
            near = difflib.get_close_matches(
                spelling(name), [spelling(m.name) for m in self.listing(caller)], n=1, cutoff=0.6
            )
            if near:
                raise SimilarModelFound(param="model", model=name, nearest=self._by_spelling[near[0]].name)
            raise ModelNotFound(param="model", model=name)
        if model.plan_rank > caller.plan_rank:
            plan = LazyString(lambda: model.plan_name[i18n.language()])
            raise ModelNotInPlan(param="model", model=name, plan=plan, extra={"upgrade_url": self.upgrade_url})
        return model


def read_catalog(settings: Settings) -> Catalog:
    """Read the snapshot: five small queries."""
    plans = {p.id: p for p in db.session.scalars(sa.select(Plan))}
    providers = {p.id: p for p in db.session.scalars(sa.select(Provider).where(Provider.enabled))}
    offers: dict[str, list[Offer]] = {}
    for row in db.session.scalars(sa.select(ModelOffer).order_by(ModelOffer.id)):
        provider = providers.get(row.provider_id)
        url = provider_url(provider, settings) if provider else ""
        if provider and url:
            location = "cloud" if provider.kind == "ollama-cloud" else "local"
            offers.setdefault(row.model_id, []).append(
                Offer(provider.name, url, provider.key_variable, location, row.upstream_name)
            )
    prices: dict[str, list[tuple[dt.datetime, int, int]]] = {}
    for price in db.session.scalars(sa.select(Price).order_by(Price.valid_from.desc())):
        prices.setdefault(price.model_id, []).append((price.valid_from, price.rate_in, price.rate_out))
    rows = db.session.scalars(
        sa.select(LanguageModel)
        .where(LanguageModel.enabled, LanguageModel.plan_id.is_not(None))
        .order_by(LanguageModel.name)
    )
    return Catalog(
        tuple(
            _model(row, plans[row.plan_id], prices[row.id], offers[row.id])
            for row in rows
            if row.plan_id is not None and row.id in prices and row.id in offers
        ),
        upgrade_url=settings.base_url + "/billing",
    )


def provider_url(provider: Provider, settings: Settings) -> str:
    """Its own address, or the environment's: `ollama-2` without one is the second of OLLAMA_URL. Empty: nowhere."""
    if provider.url:
        return provider.url
    if provider.kind == "ollama-cloud":
        return settings.ollama_cloud_url
    number = provider.name.rpartition("-")[2]
    index = int(number) - 1 if number.isdigit() else -1
    return settings.ollama_url[index] if 0 <= index < len(settings.ollama_url) else ""


def _model(
    row: LanguageModel, plan: Plan, prices: list[tuple[dt.datetime, int, int]], offers: list[Offer]
) -> CatalogModel:
    return CatalogModel(
        name=row.name,
        aliases=tuple(row.aliases.split()),
        summary={"ar": row.summary_ar, "en": row.summary_en},
        location=row.location,
        plan_id=plan.id,
        plan_rank=plan.rank,
        plan_name={"ar": plan.name_ar, "en": plan.name_en},
        context_tokens=row.context_tokens,
        answer_tokens=row.answer_tokens,
        capabilities=frozenset(row.capabilities.split()),
        created=int(row.created_at.timestamp()),
        prices=tuple(prices),
        offers=tuple(offers),
    )


class CatalogMemory:
    """What one worker remembers of the catalogue, and under which token."""

    def __init__(self) -> None:
        self._catalog: Catalog | None = None
        self._token = b""
        self._until = 0.0

    def get(self, token: bytes | None = None) -> Catalog | None:
        """The remembered snapshot; None when it is too old or was read under another token."""
        if self._catalog is None or self._until < time.monotonic() or (token is not None and token != self._token):
            return None
        return self._catalog

    def clear(self) -> None:
        self._catalog = None

    def put(self, catalog: Catalog, token: bytes) -> None:
        if not token.startswith(UNSETTLED.encode()):
            self._catalog, self._token, self._until = catalog, token, time.monotonic() + CACHE_SECONDS
