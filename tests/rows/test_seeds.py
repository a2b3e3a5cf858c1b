"""What a new portal starts with, and what seeding it again leaves alone."""

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import LanguageModel, ModelOffer, Pack, Plan, Price, Provider, Setting, User
from portal.services import seeds, staff
from tests.services.portal_app import MakeApp


def test_a_new_portal_has_the_plans_packs_and_models_of_the_catalogue(make_app: MakeApp, migrated_url: str) -> None:
    """OPS-02, SUB-01, TOP-01, MODEL-01..04: shipped defaults, on every database."""
    app = make_app(migrated_url)
    with app.app_context():
        seeds.seed(app.config["PORTAL"])
        plans = {
            p.id: (p.price_fils, p.period_days, p.credits, p.requests_per_minute, p.priority, p.failover)
            for p in db.session.scalars(sa.select(Plan))
        }
        assert plans == {
            "basic": (5_000, 30, 15_000_000, 10, 0, False),
            "pro": (15_000, 30, 60_000_000, 30, 1, True),
            "enterprise": (45_000, 30, 250_000_000, 60, 2, True),
        }
        packs = {(p.credits, p.price_fils) for p in db.session.scalars(sa.select(Pack))}
        assert packs == {(5_000_000, 2_000), (15_000_000, 5_000), (50_000_000, 15_000)}
        models = {m.name: m.plan_id for m in db.session.scalars(sa.select(LanguageModel))}
        assert {n for n, plan in models.items() if plan == "basic"} == {
            "llama3.2:3b", "smollm2:135m", "qwen2.5-coder:14b", "mistral-small3.2:24b",
        }  # fmt: skip
        assert {n for n, plan in models.items() if plan == "pro"} == {
            "qwen3-30b-40k", "Qwen3-VL-32B", "qwen3.5:cloud", "deepseek-v3.2:cloud", "gpt-oss:20b",
        }  # fmt: skip
        assert {n for n, plan in models.items() if plan is None} == {"glm-4.7-flash", "bge-m3", "nomic-embed-text"}


def test_seeding_again_changes_nothing(app: Flask) -> None:
    """OPS-02: idempotent."""
    with app.app_context():
        assert seeds.seed(app.config["PORTAL"]) == []


def test_seeding_again_neither_overwrites_nor_revives(app: Flask) -> None:
    """OPS-02: what an operator edited stays edited, and what one deleted stays deleted."""
    with app.app_context():
        db.session.get_one(Plan, "basic").price_fils = 7_500
        tiny = db.session.scalars(sa.select(LanguageModel).where(LanguageModel.name == "llama3.2:3b")).one()
        db.session.execute(sa.delete(LanguageModel).where(LanguageModel.id == tiny.id))
        db.session.commit()
        seeds.seed(app.config["PORTAL"])
        assert db.session.get_one(Plan, "basic").price_fils == 7_500
        assert db.session.scalar(sa.select(LanguageModel).where(LanguageModel.name == "llama3.2:3b")) is None


def test_a_cloud_model_costs_twice_a_local_one(app: Flask) -> None:
    """API-02: 1× local, 2× cloud."""
    with app.app_context():
        rows = db.session.execute(sa.select(Price, LanguageModel.location).join(LanguageModel)).all()
        rates: dict[str, set[tuple[int | None, int | None]]] = {"local": set(), "cloud": set()}
        for price, location in rows:
            rates["cloud" if price.provider == "ollama-cloud" else location].add((price.rate_in, price.rate_out))
        assert rates == {"local": {(1_000_000, 1_000_000)}, "cloud": {(2_000_000, 2_000_000)}}


def test_the_cloud_is_there_as_soon_as_its_key_is(make_app: MakeApp, migrated_url: str) -> None:
    """CLOUD-01, GW-01: one row, in the cloud, its key in the environment alone; with a twin of one of our own models,
    by the name the cloud has for it, at twice the price."""
    app = make_app(migrated_url)
    with app.app_context():
        seeds.seed(app.config["PORTAL"])
        cloud = db.session.scalars(sa.select(Provider).where(Provider.kind == "ollama-cloud")).one()
        assert (cloud.name, cloud.url, cloud.location) == ("ollama-cloud", "", "cloud")
        assert (cloud.enabled, cloud.slots, cloud.key_variable) == (True, 3, "OLLAMA_CLOUD_API_KEY")
        twins = db.session.execute(
            sa.select(LanguageModel.name, ModelOffer.upstream_name, Price.rate_in, Price.rate_out)
            .join(ModelOffer, ModelOffer.model_id == LanguageModel.id)
            .join(Price, sa.and_(Price.model_id == LanguageModel.id, Price.provider == cloud.name))
            .where(ModelOffer.provider_id == cloud.id, LanguageModel.location == "local")
        ).all()
        assert [tuple(twin) for twin in twins] == [("gpt-oss:20b", "gpt-oss:20b", 2_000_000, 2_000_000)]


def test_a_portal_of_the_release_before_gets_what_is_new_and_nothing_else(app: Flask) -> None:
    """OPS-02: the twin and its price come; the cloud that was seeded switched off stays so until an operator says."""
    with app.app_context():
        cloud = db.session.scalars(sa.select(Provider).where(Provider.kind == "ollama-cloud")).one()
        cloud.enabled, cloud.slots = False, 1
        model = db.session.scalars(sa.select(LanguageModel).where(LanguageModel.name == "gpt-oss:20b")).one()
        _forget(f"twin {model.name}")
        db.session.execute(sa.delete(Price).where(Price.provider == cloud.name))
        there = sa.and_(ModelOffer.provider_id == cloud.id, ModelOffer.model_id == model.id)
        db.session.execute(sa.delete(ModelOffer).where(there))
        db.session.commit()
        assert seeds.seed(app.config["PORTAL"]) == ["twin gpt-oss:20b"]
        assert db.session.scalars(sa.select(ModelOffer.upstream_name).where(there)).all() == ["gpt-oss:20b"]
        price = db.session.scalars(sa.select(Price).where(Price.provider == cloud.name)).one()
        assert (price.model_id, price.rate_in, price.rate_out) == (model.id, 2_000_000, 2_000_000)
        db.session.refresh(cloud)
        assert (cloud.enabled, cloud.slots) == (False, 1)


def test_what_an_operator_set_up_before_the_release_did_stays(app: Flask) -> None:
    """OPS-02: a twin by another name and at another price is the operator's word."""
    with app.app_context():
        _forget("twin gpt-oss:20b")
        db.session.execute(sa.update(Price).where(Price.provider == "ollama-cloud").values(rate_in=7, rate_out=9))
        cloud = sa.select(Provider.id).where(Provider.name == "ollama-cloud").scalar_subquery()
        model = sa.select(LanguageModel.id).where(LanguageModel.name == "gpt-oss:20b").scalar_subquery()
        there = sa.and_(ModelOffer.provider_id == cloud, ModelOffer.model_id == model)
        db.session.execute(sa.update(ModelOffer).where(there).values(upstream_name="gpt-oss:20b-mine"))
        db.session.commit()
        seeds.seed(app.config["PORTAL"])
        assert db.session.scalars(sa.select(ModelOffer.upstream_name).where(there)).all() == ["gpt-oss:20b-mine"]
        prices = db.session.scalars(sa.select(Price).where(Price.provider == "ollama-cloud")).all()
        assert [(price.rate_in, price.rate_out) for price in prices] == [(7, 9)]


def test_a_server_that_an_operator_added_is_given_no_models(app: Flask) -> None:
    """GW-01: what it serves is the operator's to say; the next release used to offer everything on it."""
    with app.app_context():
        db.session.add(Provider(name="gpu-7", kind="ollama", url="http://127.0.0.1:1"))
        db.session.commit()
        assert seeds.seed(app.config["PORTAL"]) == []


def _forget(name: str) -> None:
    """As if this had never been seeded."""
    record = db.session.get_one(Setting, "seeded")
    record.value = [seeded for seeded in record.value if seeded != name]
    db.session.commit()


def test_each_server_of_the_environment_is_a_provider(make_app: MakeApp, migrated_url: str) -> None:
    """OPS-02: OLLAMA_URL with two addresses makes two providers, each following the environment."""
    app = make_app(migrated_url, OLLAMA_URL="http://127.0.0.1:1,http://127.0.0.1:2")
    with app.app_context():
        seeds.seed(app.config["PORTAL"])
        local = db.session.scalars(sa.select(Provider).where(Provider.kind == "ollama").order_by(Provider.name)).all()
        assert [(p.name, p.url) for p in local] == [("ollama-1", ""), ("ollama-2", "")]


def test_the_administrator_comes_from_the_environment_once(make_app: MakeApp, sqlite_url: str) -> None:
    """OPS-02: one admin from the environment; a second run keeps the password that was changed meanwhile."""
    settings = {
        "ADMIN_EMAIL": "noor@example.com",
        "ADMIN_PASSWORD": "a-long-password-of-hers",
        "ADMIN_PHONES": "+96550009999",
    }
    app = make_app(sqlite_url, **settings)
    with app.app_context():
        noor = db.session.get_one(User, staff.ensure_admin(app.config["PORTAL"]))
        assert noor.is_staff
        assert noor.phone == "+96550009999"
        noor.password_hash = "changed"
        db.session.commit()
        assert staff.ensure_admin(app.config["PORTAL"]) == noor.id
        assert db.session.get_one(User, noor.id).password_hash == "changed"
