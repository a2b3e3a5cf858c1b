"""The one gate: may this caller use this model? For listing, routing and docs alike.

A Catalog is a snapshot of the catalogue's rows (`catalog_rows`), plain data, remembered by each worker under a
freshness token. A model that is disabled, unpriced, offered by no enabled provider or open to no plan does not exist
here, under any spelling.
"""

import datetime as dt
import difflib
import time
import unicodedata
from dataclasses import dataclass, field
from typing import Protocol

from flask_babel import LazyString

from portal import i18n
from portal.clock import utcnow
from portal.errors import CloudNotAllowed, ModelNotFound, ModelNotInPlan, PortalError, SimilarModelFound
from portal.freshness import CACHE_SECONDS, UNSETTLED
from portal.services.pricing import Rates, dearest


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to a model: a provider, the name it knows the model by, what it can do there and what it costs there."""

    provider: str
    url: str
    key: str = field(repr=False)
    location: str
    slots: int
    weight: int
    upstream_name: str
    capabilities: frozenset[str]
    context_tokens: int
    prices: tuple[tuple[dt.datetime, Rates], ...]
    """(valid from, rates), newest first; never empty."""

    def rates(self, now: dt.datetime) -> Rates | None:
        """What is in force at an instant; None when no price is yet."""
        for valid_from, rates in self.prices:
            if valid_from <= now:
                return rates
        return None


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model that can be had now. Offers at its own location come first; those elsewhere are its cloud twin."""

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
    offers: tuple[Offer, ...]

    @property
    def home(self) -> tuple[Offer, ...]:
        return tuple(offer for offer in self.offers if offer.location == self.location)

    @property
    def twin(self) -> tuple[Offer, ...]:
        """Where a local model may be had in the cloud."""
        return tuple(offer for offer in self.offers if offer.location != self.location)

    def rates(self, now: dt.datetime) -> Rates | None:
        """What it costs at home: the dearest of its offers there; None when it has no price yet."""
        return dearest(rates for offer in self.home or self.twin if (rates := offer.rates(now)))


def spelling(name: str) -> str:
    """A model's name stripped of the ways to write it: width, case, blanks, invisible characters, the tag `latest`."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    plain = "".join(c for c in folded if unicodedata.category(c)[0] not in "CZ")
    return plain.removesuffix(":latest")


def bare(name: str, *, cloud: bool = False) -> str:
    """A name as servers have it, for comparing: without the registry, and at Ollama's cloud without its mark."""
    plain = spelling(name).removeprefix("registry.ollama.ai/").removeprefix("library/")
    if cloud:
        base, _, tag = plain.rpartition(":")
        if base and tag == "cloud":
            return base
        if base:
            plain = base + ":" + tag.removesuffix("-cloud")
    return plain.removesuffix(":latest")


class Asker(Protocol):
    """Whoever asks, as far as this gate goes."""

    @property
    def plan_rank(self) -> int: ...
    @property
    def local_only(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a page: no key, but the same gate. Without a rank, what there is for the largest plan."""

    plan_rank: int = 2**31
    local_only: bool = False


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

    def listing(self, caller: Asker) -> list[CatalogModel]:
        """What the caller may use now, in order of name."""
        now = utcnow()
        return [m for m in self.models if m.rates(now) is not None and _refusal(caller, m) is None]

    def permit(self, caller: Asker, name: str) -> CatalogModel:
        """The model, if it exists and the caller may use it.

        Raises ModelNotFound (with the nearest name the caller has), ModelNotInPlan (with the plan that has it),
        CloudNotAllowed (their own switch).
        """
        model = self._by_name.get(name) or self._by_spelling.get(spelling(name))
        if model is None or model.rates(utcnow()) is None:
            near = difflib.get_close_matches(
                spelling(name), [spelling(m.name) for m in self.listing(caller)], n=1, cutoff=0.6
            )
            if near:
                raise SimilarModelFound(param="model", model=name, nearest=self._by_spelling[near[0]].name)
            raise ModelNotFound(param="model", model=name)
        refusal = _refusal(caller, model)
        if refusal is ModelNotInPlan:
            plan = LazyString(lambda: model.plan_name[i18n.language()])
            raise ModelNotInPlan(param="model", model=name, plan=plan, extra={"upgrade_url": self.upgrade_url})
        if refusal is not None:
            raise refusal(param="model", model=name)
        return model


def _refusal(caller: Asker, model: CatalogModel) -> type[PortalError] | None:
    """Why this caller may not use this model; None when they may. Nobody else decides it."""
    if model.plan_rank > caller.plan_rank:
        return ModelNotInPlan
    if caller.local_only and (model.location == "cloud" or not model.home):
        return CloudNotAllowed
    return None


class Mover(Asker, Protocol):
    """Whose requests might move."""

    @property
    def failover(self) -> bool: ...


def may_move(caller: Mover, model: CatalogModel) -> bool:
    """Whether this caller's requests may go to the model's cloud twin while our own servers are busy. Nobody else
    decides it; a single request may ask for less."""
    if not caller.failover or caller.local_only or model.location != "local":
        return False
    now = utcnow()
    return any(offer.rates(now) is not None for offer in model.twin)


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

    @property
    def token(self) -> bytes:
        """What the snapshot was read under."""
        return self._token

    def clear(self) -> None:
        self._catalog = None

    def put(self, catalog: Catalog, token: bytes) -> None:
        if not token.startswith(UNSETTLED.encode()):
            self._catalog, self._token, self._until = catalog, token, time.monotonic() + CACHE_SECONDS
