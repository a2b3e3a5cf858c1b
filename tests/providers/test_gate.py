"""The one gate over HTTP: what a plan may use is listed, shown and answered; everything else is none of the three."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.freshness import changing
from portal.models import Account, LanguageModel, ModelOffer, Provider
from portal.services import plans, providers
from portal.services.catalog import Reader
from portal.services.catalog_rows import read_catalog
from portal.services.seeds import MODELS
from sandbox.process import SandboxProcess
from tests.gateway.test_catalog import BASIC, CLOUD, PRO, RESTRICTED, written
from tests.gateway.wire import Plain, chat
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp

LOOKALIKES = str.maketrans({"a": "а", "e": "е", "o": "о", "c": "с", "p": "р", "x": "х", "m": "м", "-": "‑", "3": "З"})
"""Cyrillic letters and a hyphen that look like ours."""


@pytest.fixture
def shop(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess) -> Flask:
    cloud = {"OLLAMA_CLOUD_URL": sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": "sandbox"}
    app = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, **cloud)
    with app.app_context():
        db.session.execute(sa.text("UPDATE plans SET requests_per_minute = 1000000"))
        db.session.commit()
    return app


@pytest.fixture
def customer(shop: Flask) -> Callable[..., Person]:
    """Layla, on a plan, with her account's switch as one likes."""
    layla = Cast(shop).layla

    def on(plan: str, *, local_only: bool = False) -> Person:
        with shop.app_context(), changing(f"account:{layla.account_id}"):
            values = {"plan_id": plan, "local_only": local_only}
            db.session.execute(sa.update(Account).where(Account.id == layla.account_id).values(**values))
            db.session.commit()
        return layla

    return on


def listed(shop: Flask, person: Person) -> set[str]:
    return {model["id"] for model in Plain(shop).ask("GET", "/v1/models", key=person.api_key).json()["data"]}


def refusals(shop: Flask, person: Person, name: str) -> dict[str, tuple[int, str, str]]:
    """(status, code, message) of asking for a model and of asking it."""
    door = Plain(shop)
    answers = {
        "shown": door.ask("GET", "/v1/models/" + quote(name, safe=""), key=person.api_key),
        "asked": door.ask("POST", "/v1/chat/completions", key=person.api_key, body=chat(model=name, max_tokens=3)),
    }
    found = {}
    for what, answer in answers.items():
        assert answer.status != 200, (name, what)
        error = answer.error()
        found[what] = (answer.status, error["code"], error["message"])
    return found


@pytest.mark.parametrize(("plan", "has"), [("basic", BASIC), ("pro", BASIC | PRO), ("enterprise", BASIC | PRO)])
def test_a_plan_lists_shows_and_answers_its_models_and_no_other(
    shop: Flask, customer: Callable[..., Person], plan: str, has: set[str]
) -> None:
    """MODEL-01, MODEL-02, MODEL-03: exactly these."""
    person = customer(plan)
    assert listed(shop, person) == has
    door = Plain(shop)
    for name in sorted(has):
        assert door.ask("GET", f"/v1/models/{name}", key=person.api_key).json()["id"] == name
        body = chat(model=name, max_tokens=3)
        assert door.ask("POST", "/v1/chat/completions", key=person.api_key, body=body).status == 200, name
    for name in sorted((BASIC | PRO) - has):
        for status, code, message in refusals(shop, person, name).values():
            assert (status, code) == (403, "model_not_in_plan")
            assert "The plan Pro has it" in message


@pytest.mark.parametrize("name", RESTRICTED)
def test_what_is_open_to_nobody_is_not_there_under_any_spelling(
    shop: Flask, customer: Callable[..., Person], sandbox: SandboxProcess, name: str
) -> None:
    """MODEL-04: the server has it, an operator gave it aliases, and every door says that there is no such model."""
    with shop.app_context(), changing("catalog"):
        db.session.execute(sa.update(LanguageModel).where(LanguageModel.name == name).values(aliases="secret s:1"))
        provider = db.session.scalars(sa.select(Provider.id).where(Provider.name == "ollama-1")).one()
        model = db.session.scalars(sa.select(LanguageModel.id).where(LanguageModel.name == name)).one()
        db.session.add(ModelOffer(provider_id=provider, model_id=model, upstream_name=name, present=True))
        db.session.commit()
    person = customer("enterprise")
    assert listed(shop, person) == BASIC | PRO
    digest = f"{name}@sha256:{'0' * 64}"
    ways = {
        *written(name), *written("secret"), "s:1", name.translate(LOOKALIKES), f"hf.co/x/{name}", digest,
        quote(name, safe="").replace("-", "%2D"), f"registry.ollama.ai/library/{name}:latest", f"library/{name}:LATEST",
        f"REGISTRY.OLLAMA.AI/LIBRARY/{name.upper()}", f"https://registry.ollama.ai/library/{name}", f"{name}:q4_K_M",
    }  # fmt: skip
    for way in sorted(ways):
        for what, (status, code, message) in refusals(shop, person, way).items():
            # No address has a line's end in it: that is no page of ours before it is no model.
            nowhere = "not_found" if what == "shown" and "\n" in way else "model_not_found"
            assert (status, code) == (404, nowhere), way
            assert not [other for other in RESTRICTED if f"mean {other}" in message], way
    assert sandbox.requests() == [], "no server was asked"


def test_no_offer_reaches_a_closed_model_by_its_name_at_the_server(
    shop: Flask, customer: Callable[..., Person], sandbox: SandboxProcess
) -> None:
    """MODEL-04: a row that says so, however it came to be, is passed by. The rest of the model's offers stay."""
    person = customer("basic")
    with shop.app_context():
        for number, name in enumerate(("bge-m3:567m", "registry.ollama.ai/library/GLM-4.7-flash", "nomic-embed-text")):
            providers.add(f"gpu-{number}", kind="ollama", url=sandbox.ollama_url)
            providers.offer(f"gpu-{number}", "llama3.2:3b")
            offer = sa.update(ModelOffer).where(ModelOffer.provider_id.in_(
                sa.select(Provider.id).where(Provider.name == f"gpu-{number}")
            ))  # fmt: skip
            db.session.execute(offer.values(upstream_name=name))
            db.session.commit()
        (found,) = (m for m in read_catalog(shop.config["PORTAL"]).models if m.name == "llama3.2:3b")
        assert [offer.provider for offer in found.offers] == ["ollama-1"]
    assert "llama3.2:3b" in listed(shop, person)


def test_who_stays_here_is_shown_and_answered_nothing_of_the_cloud(
    shop: Flask, customer: Callable[..., Person], sandbox: SandboxProcess
) -> None:
    """CLOUD-02, the customer's own switch: cloud models are not listed and answer 403, as do our own models while only
    their twin is left."""
    person = customer("enterprise", local_only=True)
    assert listed(shop, person) == (BASIC | PRO) - CLOUD
    for name in sorted(CLOUD):
        for status, code, message in refusals(shop, person, name).values():
            assert (status, code) == (403, "cloud_not_allowed")
            assert name in message
    with shop.app_context():
        providers.disable("ollama-1")
    assert listed(shop, person) == set()
    for status, code, _ in refusals(shop, person, "gpt-oss:20b").values():
        assert (status, code) == (403, "cloud_not_allowed")
    assert listed(shop, customer("enterprise")) == {"gpt-oss:20b"} | CLOUD
    assert sandbox.requests(server="ollama-cloud") == []


@pytest.mark.parametrize(("rank", "plan"), [(1, "basic"), (2, "pro"), (3, "enterprise")])
def test_pages_show_what_the_gate_lets_through(
    shop: Flask, customer: Callable[..., Person], rank: int, plan: str
) -> None:
    """MODEL-01..04: one function for listing, routing and pages."""
    with shop.app_context():
        shown = {model.name for model in plans.models(rank)}
        here = {model.name for model in plans.models(rank, local_only=True)}
        assert {model.name for model in plans.models()} == BASIC | PRO
        assert plans.first_model(rank) == "smollm2:135m"
    assert shown == listed(shop, customer(plan))
    assert here == listed(shop, customer(plan, local_only=True))


def test_the_catalogue_is_read_with_a_handful_of_queries(shop: Flask) -> None:
    """GW-01: as many for a hundred models at ten providers as for one."""
    asked: list[str] = []

    def count(_c: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    with shop.app_context():
        for number in range(10):
            providers.add(f"gpu-{number}", kind="ollama", url="http://127.0.0.1:9")
            for model in MODELS:
                providers.offer(f"gpu-{number}", str(model["name"]))
        db.session.remove()
        sa.event.listen(db.engine, "before_cursor_execute", count)
        try:
            found = read_catalog(shop.config["PORTAL"])
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", count)
        assert len([model for model in found.listing(Reader()) if len(model.offers) > 10]) == 7
    assert len([statement for statement in asked if statement.lstrip().upper().startswith("SELECT")]) <= 6, asked
