"""What an operator does with providers: add, change, switch on and off, say which models each serves and by what name.

Every change is in force on every worker with its next request (`freshness`) and stays after a restart, for it is a row.
What is really there is `probing`'s to find out; prices are `pricing`'s. A key is never a row: only its variable's name.
"""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa

from portal.config import Settings, may_hold_a_provider_key
from portal.extensions import db
from portal.freshness import changing
from portal.models import LanguageModel, ModelOffer, Price, Provider
from portal.services.catalog import bare, spelling
from portal.services.catalog_rows import is_closed, provider_url

KINDS = ("ollama", "ollama-cloud", "openai-compatible")
LOCATIONS = ("local", "cloud")
SLOTS, WEIGHTS = (1, 1024), (1, 1000)
CLOUD_KEY = "OLLAMA_CLOUD_API_KEY"
_NAME = re.compile(r"[a-z0-9-]{1,60}")
_SEEDED = re.compile(r"ollama-[1-9][0-9]*")
"""Those alone may be without an address: they have one of OLLAMA_URL's."""
_UNPROBED = {"present": None, "capabilities": None, "context_tokens": None}


class UnknownProvider(LookupError):
    """No provider has this name; `str()` names those there are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no provider {name}; there are {', '.join(known) or 'none'}")


class BadProvider(ValueError):
    """`str()` says what is wrong with what was asked for. Nothing was changed."""


class OfferedModel(NamedTuple):
    """present: as the last probe found it, None before the first. priced: whether it has a price there at all."""

    model: str
    upstream_name: str
    present: bool | None
    priced: bool


class Listing(NamedTuple):
    """A provider as an operator sees it. key: `none` (it needs none), `set` or `missing`; never the key itself."""

    name: str
    kind: str
    location: str
    url: str
    slots: int
    weight: int
    enabled: bool
    state: str
    reason: str
    since: dt.datetime | None
    version: str
    probed_at: dt.datetime | None
    key: str
    key_variable: str
    models: tuple[OfferedModel, ...]


def listed(settings: Settings) -> list[Listing]:
    """Every provider, by name."""
    prices = {(row.model_id, row.provider) for row in db.session.execute(sa.select(Price.model_id, Price.provider))}
    offers: dict[str, list[OfferedModel]] = {}
    for offer, model, provider in db.session.execute(
        sa.select(ModelOffer, LanguageModel, Provider)
        .join(LanguageModel, LanguageModel.id == ModelOffer.model_id)
        .join(Provider, Provider.id == ModelOffer.provider_id)
        .order_by(LanguageModel.name)
    ):
        at_home = model.location == provider.location
        priced = (model.id, provider.name) in prices or (at_home and (model.id, "") in prices)
        found = OfferedModel(model.name, offer.upstream_name, offer.present, priced)
        offers.setdefault(offer.provider_id, []).append(found)
    return [
        Listing(
            p.name, p.kind, p.location, provider_url(p, settings), p.slots, p.weight, p.enabled,
            p.state, p.state_reason, p.state_since, p.version, p.probed_at,
            _key(settings, p.key_variable), p.key_variable, tuple(offers.get(p.id, ())),
        )
        for p in db.session.scalars(sa.select(Provider).order_by(Provider.name))
    ]  # fmt: skip


def enable(name: str) -> None:
    """Let requests go there again. Raises UnknownProvider; commits."""
    change(name, enabled=True)


def disable(name: str) -> None:
    """Let no further request go there; those that run are left to end. Raises UnknownProvider; commits."""
    change(name, enabled=False)


def add(
    name: str,
    *,
    kind: str,
    url: str = "",
    key_variable: str = "",
    slots: int = 1,
    weight: int = 1,
    location: str = "",
) -> None:
    """Add a provider, enabled and without models. location: by default the cloud for Ollama's cloud, here for Ollama.

    An OpenAI-compatible one may be anywhere, so that must be said: a stranger's taken for ours would be sent what
    customers keep on our servers.
    Raises BadProvider; commits.
    """
    if _NAME.fullmatch(name) is None:
        raise BadProvider("A provider's name is made of small letters, digits and hyphens, at most 60")
    if kind not in KINDS:
        raise BadProvider(f"The kind must be one of {', '.join(KINDS)}")
    if db.session.scalar(sa.select(Provider.id).where(Provider.name == name)) is not None:
        raise BadProvider(f"There is a provider {name} already")
    if kind == "openai-compatible" and not location:
        raise BadProvider("Say where it is: local (your own machines) or cloud (somebody else's)")
    location = location or ("cloud" if kind == "ollama-cloud" else "local")
    if kind == "ollama-cloud":
        key_variable = key_variable or CLOUD_KEY
    elif not url:
        raise BadProvider("It needs an address")
    values = {"url": url.rstrip("/"), "key_variable": key_variable, "slots": slots, "weight": weight}
    _check(kind, location=location, **values)
    with changing("catalog"):
        db.session.add(Provider(name=name, kind=kind, location=location, **values))
        db.session.commit()


def change(name: str, **values: object) -> None:
    """Change url, key_variable, slots, weight, location or enabled. Behind another address nothing is known any more:
    state, version and what was found of its models start anew.

    Raises UnknownProvider, BadProvider; commits.
    """
    provider = _provider(name)
    if isinstance(url := values.get("url"), str):
        values["url"] = url.rstrip("/")
    _check(provider.kind, **{"location": provider.location, **values})
    if values.get("url") == "" and provider.kind != "ollama-cloud" and _SEEDED.fullmatch(name) is None:
        raise BadProvider("It needs an address")
    moved = {"url", "key_variable"} & {field for field, value in values.items() if value != getattr(provider, field)}
    if moved:
        values |= {"state": "unknown", "state_reason": "", "state_since": None, "version": "", "probed_at": None}
    with changing("catalog"):
        db.session.execute(sa.update(Provider).where(Provider.id == provider.id).values(**values))
        if moved:
            db.session.execute(sa.update(ModelOffer).where(ModelOffer.provider_id == provider.id).values(**_UNPROBED))
        db.session.commit()


def offer(name: str, model_name: str, upstream_name: str = "") -> list[str]:
    """Say that a provider serves a model, by what name (the model's own unless said). Anew: by another name.

    Returns what an operator should know about it. Raises UnknownProvider, BadProvider; commits.
    """
    provider, model = _provider(name), _model(model_name)
    upstream_name = upstream_name.strip() or model.name
    if len(upstream_name) > 200 or not upstream_name.isprintable():
        raise BadProvider("The name at the provider must be 1 to 200 printable characters")
    closed = {
        bare(other, cloud=True)
        for other in db.session.scalars(sa.select(LanguageModel.name).where(LanguageModel.plan_id.is_(None)))
    }
    if model.plan_id is not None and is_closed(upstream_name, closed):
        raise BadProvider(f"{upstream_name} is a model that is open to no plan: it can't answer for {model.name}")
    with changing("catalog"):
        there = sa.and_(ModelOffer.provider_id == provider.id, ModelOffer.model_id == model.id)
        done = db.session.execute(sa.update(ModelOffer).where(there).values(upstream_name=upstream_name, **_UNPROBED))
        if done.rowcount == 0:  # type: ignore[attr-defined]
            db.session.add(ModelOffer(provider_id=provider.id, model_id=model.id, upstream_name=upstream_name))
        db.session.commit()
    return _remarks(provider, model)


def withdraw(name: str, model_name: str) -> None:
    """Say that a provider serves a model no more. Raises UnknownProvider, BadProvider; commits."""
    provider, model = _provider(name), _model(model_name)
    there = sa.and_(ModelOffer.provider_id == provider.id, ModelOffer.model_id == model.id)
    with changing("catalog"):
        done = db.session.execute(sa.delete(ModelOffer).where(there))
        db.session.commit()
    if done.rowcount == 0:  # type: ignore[attr-defined]
        raise BadProvider(f"{name} does not offer {model.name}")


def must_exist(name: str) -> None:
    """Raises UnknownProvider."""
    _provider(name)


def _remarks(provider: Provider, model: LanguageModel) -> list[str]:
    """What keeps an offer from being used, or makes it another than it seems."""
    remarks = []
    if model.plan_id is None:
        remarks.append(f"{model.name} is open to no plan: nobody may use it.")
    elif provider.location != model.location:
        own = sa.select(Price.id).where(Price.model_id == model.id, Price.provider == provider.name).limit(1)
        twin = "its cloud twin" if provider.location == "cloud" else "here what is at home in the cloud"
        remarks.append(f"This is {twin}, priced by itself.")
        if db.session.scalar(own) is None:
            remarks.append(f"It has no price there yet, so nobody gets it: flask prices set {model.name} --provider "
                           f"{provider.name} …")  # fmt: skip
    if not provider.enabled:
        remarks.append(f"{provider.name} is disabled.")
    return remarks


def _provider(name: str) -> Provider:
    found = db.session.scalar(sa.select(Provider).where(Provider.name == name))
    if found is None:
        raise UnknownProvider(name, db.session.scalars(sa.select(Provider.name).order_by(Provider.name)))
    return found


def _model(name: str) -> LanguageModel:
    models: Sequence[LanguageModel] = db.session.scalars(sa.select(LanguageModel).order_by(LanguageModel.name)).all()
    for model in models:
        if spelling(name) in {spelling(own) for own in (model.name, *model.aliases.split())}:
            return model
    raise BadProvider(f"There is no model {name}; there are {', '.join(model.name for model in models)}")


def _key(settings: Settings, variable: str) -> str:
    if not variable:
        return "none"
    return "set" if settings.provider_key(variable) else "missing"


def _check(kind: str, **values: object) -> None:
    """Raises BadProvider for the first value that can't be."""
    if values["location"] not in LOCATIONS:
        raise BadProvider("The location is local or cloud")
    if kind == "ollama-cloud" and values["location"] != "cloud":
        raise BadProvider("Ollama's cloud is in the cloud, whatever one calls it")
    for name, (low, high) in (("slots", SLOTS), ("weight", WEIGHTS)):
        value = values.get(name, low)
        if not isinstance(value, int) or not low <= value <= high:
            raise BadProvider(f"{name} must be a whole number from {low} to {high}")
    _check_url(str(values.get("url", "")))
    variable = str(values.get("key_variable", ""))
    if variable and not may_hold_a_provider_key(variable):
        raise BadProvider(
            "The key's variable must look like SOMETHING_API_KEY and belong to no other service: a row that could "
            "name any variable would send it to that address"
        )


def _check_url(url: str) -> None:
    if not url:
        return  # it follows the environment
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname) and len(url) <= 255 and url.isascii()
        ok = ok and url.isprintable() and " " not in url and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        ok = False
    if not ok:  # it is not repeated: it may hold a password
        raise BadProvider("The address must be of the kind http(s)://host[:port][/prefix]")
    if parts.username is not None or parts.password is not None:
        raise BadProvider("The address must hold no password: put the key into a variable and name it")
    if parts.path.rstrip("/").endswith(("/v1", "/api")):
        raise BadProvider("The address is where /v1 begins, without it")
