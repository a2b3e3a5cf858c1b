"""What a new portal starts with, and what seeding it again leaves alone."""

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import LanguageModel, Pack, Plan, Price, Provider, User
from portal.services import seeds, staff
from tests.services.portal_app import MakeApp


def test_a_new_portal_has_the_plans_packs_and_models_of_the_catalogue(make_app: MakeApp, migrated_url: str) -> None:
    """OPS-02, SUB-01, TOP-01, MODEL-01..04: shipped defaults, on every database."""
    app = make_app(migrated_url)
    with app.app_context():
        seeds.seed(app.config["PORTAL"])
        plans = {
            p.id: (p.price_fils, p.period_days, p.credits, p.requests_per_minute)
            for p in db.session.scalars(sa.select(Plan))
        }
        assert plans == {
            "basic": (5_000, 30, 15_000_000, 10),
            "pro": (15_000, 30, 60_000_000, 30),
            "enterprise": (45_000, 30, 250_000_000, 60),
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
        rates = {
            location: {(price.rate_in, price.rate_out) for price, found in rows if found == location}
            for rows in [db.session.execute(sa.select(Price, LanguageModel.location).join(LanguageModel)).all()]
            for location in ("local", "cloud")
        }
        assert rates == {"local": {(1000, 1000)}, "cloud": {(2000, 2000)}}


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
