"""The one gate: a model that is not open does not exist, however its name is written (MODEL-04)."""

import datetime as dt
import unicodedata

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import example, given, strategies as st

from portal.config import load_settings
from portal.errors import ModelNotFound, ModelNotInPlan
from portal.extensions import db
from portal.models import LanguageModel, ModelOffer, Price, Provider
from portal.services.callers import Caller
from portal.services.catalog import Catalog, CatalogModel, Offer, spelling
from portal.services.catalog_rows import provider_url, read_catalog
from portal.services.pricing import Rates
from portal.services.seeds import MODELS
from tests.services.portal_app import MakeApp

RESTRICTED = [model["name"] for model in MODELS if model["plan_id"] is None]
OPEN = [model["name"] for model in MODELS if model["plan_id"] is not None]
BASIC = {"smollm2:135m", "llama3.2:3b", "qwen2.5-coder:14b", "mistral-small3.2:24b"}
PRO = {"qwen3-30b-40k", "Qwen3-VL-32B", "qwen3.5:cloud", "deepseek-v3.2:cloud", "gpt-oss:20b"}
CLOUD = {"qwen3.5:cloud", "deepseek-v3.2:cloud"}
ONCE, TWICE = (1_000_000,) * 3, (2_000_000,) * 3
"""Milli-credits for a million tokens: 1× and 2× (API-02)."""


def caller(rank: int) -> Caller:
    return Caller("key", "account", "plan", rank, 60, frozenset({"read", "write"}), None, 0, True, False, None)


def written(name: str) -> list[str]:
    """Ways to write a name."""
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in name)
    hidden = "\u200b".join(name)
    directed = "\u202e" + name + "\u202c"
    return [
        name, name.upper(), name.title(), name.swapcase(), f" {name} ", f"\t{name}\n", name + ":latest",
        name + ":LATEST", wide, wide + "：ｌａｔｅｓｔ", hidden, directed, "\ufeff" + name,
        name.replace("-", "\u00ad-"), name.replace("m", "\u2133"), name.replace("k", "\u212a"),
        name.replace("s", "\u017f"), name + "\x00", name + "\u00a0",
        f"registry.ollama.ai/library/{name}", f"library/{name}", f"./{name}", f"{name}@sha256:0", name + ":7b",
        name + "-cloud", name + ":cloud", f"{name}:latest:latest", f"%67{name[1:]}",
    ]  # fmt: skip


@pytest.fixture
def shop(sqlite_url: str, make_app: MakeApp) -> Flask:
    """The seeded catalogue, with the cloud's provider open."""
    return make_app(sqlite_url, OLLAMA_CLOUD_API_KEY="the-operators-own")


def catalog(shop: Flask) -> Catalog:
    with shop.app_context():
        return read_catalog(shop.config["PORTAL"])


@pytest.mark.parametrize("name", RESTRICTED)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_restricted_model_does_not_exist_under_any_spelling(shop: Flask, name: str, rank: int) -> None:
    """MODEL-04, never-again, "Restricted models reachable as `name:latest` or by another case"."""
    shelf = catalog(shop)
    for way in written(name):
        with pytest.raises(ModelNotFound) as caught:
            shelf.permit(caller(rank), way)
        assert name not in str(caught.value.values.get("nearest", "")), way
    assert name not in {model.name for model in shelf.listing(caller(rank))}
    assert not {name, spelling(name)} & {o.upstream_name for m in shelf.models for o in m.offers}


@pytest.mark.parametrize(("rank", "open_to"), [(1, BASIC - CLOUD), (2, BASIC | PRO), (3, BASIC | PRO)])
def test_each_plan_lists_its_models_and_those_of_the_plans_below(shop: Flask, rank: int, open_to: set[str]) -> None:
    """MODEL-01, MODEL-02, MODEL-03, API-05."""
    listed = [model.name for model in catalog(shop).listing(caller(rank))]
    assert set(listed) == open_to
    assert listed == sorted(listed)


@pytest.mark.parametrize("name", sorted(PRO))
def test_a_model_of_a_higher_plan_is_refused_under_every_spelling_that_finds_it(shop: Flask, name: str) -> None:
    """MODEL-02: 403 names the plan that has it; listing and routing use this one gate."""
    shelf = catalog(shop)
    refused = 0
    for way in written(name):
        with pytest.raises((ModelNotInPlan, ModelNotFound)) as caught:
            shelf.permit(caller(1), way)
        refused += isinstance(caught.value, ModelNotInPlan)
        assert caught.value.param == "model"
    assert refused > 10


@pytest.mark.parametrize("name", sorted(BASIC | PRO))
def test_an_open_model_is_found_by_the_usual_ways_to_write_it(shop: Flask, name: str) -> None:
    """API-01: Ollama's own clients write case and `:latest` as they like."""
    shelf = catalog(shop)
    for way in (name, name.upper(), name.lower(), f" {name}", name + ":latest"):
        assert shelf.permit(caller(3), way).name == name


@given(st.text(max_size=20))
@example("Ⅻ:Latest")
def test_a_spelling_is_plain_and_stays_so(name: str) -> None:
    """MODEL-04: nothing invisible is left, no case, no tag; a name without them is its own."""
    plain = spelling(name)
    assert plain == spelling(f"\u200b{name}\u00ad ")
    assert all(unicodedata.category(c)[0] not in "CZ" for c in plain)
    assert spelling(name.upper()) == spelling(name.upper().lower())


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("llama3.2:3", "llama3.2:3b"), ("Qwen2.5-Coder", "qwen2.5-coder:14b"), ("smollm2", "smollm2:135m")],
)
def test_a_near_miss_is_told_the_name_that_was_meant(shop: Flask, wrong: str, nearest: str) -> None:
    """API-05: contract, 404 `model_not_found` has the nearest name in its message."""
    with pytest.raises(ModelNotFound) as caught:
        catalog(shop).permit(caller(1), wrong)
    assert caught.value.values["nearest"] == nearest


def test_a_near_miss_is_never_told_a_model_of_another_plan(shop: Flask) -> None:
    """MODEL-02."""
    with pytest.raises(ModelNotFound) as caught:
        catalog(shop).permit(caller(1), "gpt-oss:21b")
    assert "nearest" not in caught.value.values


@pytest.mark.parametrize("missing", ["price", "offer", "enabled", "provider", "plan", "price to come"])
def test_a_model_without_all_it_takes_does_not_exist(shop: Flask, missing: str) -> None:
    """never-again, "A model with no price cost nothing and voided every limit"."""
    with shop.app_context():
        model = db.session.scalars(sa.select(LanguageModel).where(LanguageModel.name == "llama3.2:3b")).one()
        tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        change: dict[str, sa.Executable] = {
            "price": sa.delete(Price).where(Price.model_id == model.id),
            "price to come": sa.update(Price).where(Price.model_id == model.id).values(valid_from=tomorrow),
            "offer": sa.delete(ModelOffer).where(ModelOffer.model_id == model.id),
            "enabled": sa.update(LanguageModel).where(LanguageModel.id == model.id).values(enabled=False),
            "plan": sa.update(LanguageModel).where(LanguageModel.id == model.id).values(plan_id=None),
            "provider": sa.update(Provider).where(Provider.name == "ollama-1").values(enabled=False),
        }
        db.session.execute(change[missing])
        db.session.commit()
    shelf = catalog(shop)
    with pytest.raises(ModelNotFound):
        shelf.permit(caller(3), "llama3.2:3b")
    assert "llama3.2:3b" not in {m.name for m in shelf.listing(caller(3))}


def test_an_alias_is_the_model_and_an_alias_of_a_restricted_one_is_nothing(shop: Flask) -> None:
    """MODEL-04: operators name aliases; those of a closed model close with it."""
    with shop.app_context():
        for name, aliases in (("llama3.2:3b", "llama small/one"), ("bge-m3", "embedder")):
            db.session.execute(sa.update(LanguageModel).where(LanguageModel.name == name).values(aliases=aliases))
        db.session.commit()
    shelf = catalog(shop)
    assert shelf.permit(caller(1), "LLAMA").name == shelf.permit(caller(1), "small/one:latest").name == "llama3.2:3b"
    for way in written("embedder"):
        with pytest.raises(ModelNotFound):
            shelf.permit(caller(3), way)


def test_each_models_price_is_its_own_row_by_its_instant(shop: Flask) -> None:
    """never-again, "Models with a dot in their id fell back to the default rate": 1× local, 2× cloud (API-02)."""
    now = dt.datetime.now(dt.UTC)
    for model in catalog(shop).models:
        assert model.rates(now) == (Rates(*TWICE) if model.name in CLOUD else Rates(*ONCE)), model.name
    before, long_ago = now - dt.timedelta(days=1), now - dt.timedelta(days=2)
    prices = ((now, Rates(*TWICE)), (before, Rates(*ONCE)))
    dated = Offer("p", "http://p", "", "local", 1, 1, "m", frozenset(), 1, prices)
    model = CatalogModel("m", (), {}, "local", "basic", 1, {}, 1, 1, frozenset(), 0, (dated,))
    assert model.rates(now) == TWICE
    assert model.rates(now - dt.timedelta(seconds=1)) == ONCE
    assert model.rates(long_ago) is None


def test_a_provider_without_an_address_follows_the_environment(shop: Flask) -> None:
    """OPS-01: `ollama-2` is the second of OLLAMA_URL; an address of its own wins; no such entry is nowhere."""
    environ = {"OLLAMA_URL": "http://one:1,http://two:2", "OLLAMA_CLOUD_URL": "http://cloud"}
    settings = load_settings(environ)
    assert provider_url(Provider(name="ollama-2", kind="ollama", url=""), settings) == "http://two:2"
    assert provider_url(Provider(name="ollama-3", kind="ollama", url=""), settings) == ""
    assert provider_url(Provider(name="ollama-0", kind="ollama", url=""), settings) == ""
    assert provider_url(Provider(name="mine", kind="ollama", url="http://own"), settings) == "http://own"
    assert provider_url(Provider(name="x", kind="ollama-cloud", url=""), settings) == "http://cloud"
