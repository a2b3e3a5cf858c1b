"""Migrations build the same schema on every database, both ways."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from flask_migrate import check, downgrade, upgrade

from portal.extensions import db
from portal.models import Account, ApiKey, Base, ModelOffer, Plan, Price, Provider, Usage
from portal.models.base import UtcDateTime
from tests.services.portal_app import MakeApp

EARLY, LATER = dt.datetime(2026, 8, 1, 9, 30, 0, 123456, dt.UTC), dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def test_migrations_build_what_the_models_say_on_every_database(make_app: MakeApp, empty_url: str) -> None:
    """OPS-02: migrations build an empty database on all three engines and equal the models."""
    app = make_app(empty_url)
    with app.app_context():
        upgrade()
        assert set(sa.inspect(db.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
        check()  # exits where autogenerate would still find an operation


def test_a_migration_can_be_taken_back_and_made_again(make_app: MakeApp, empty_url: str) -> None:
    """OPS-02: down to nothing and up again, on all three engines."""
    app = make_app(empty_url)
    with app.app_context():
        upgrade()
        downgrade(revision="base")
        db.engine.dispose()
        assert sa.inspect(db.engine).get_table_names() == ["alembic_version"]
        upgrade()
        check()


def test_every_constraint_has_a_name_of_ours(make_app: MakeApp) -> None:
    """OPS-02: a migration can speak of any constraint on any engine."""
    for table in Base.metadata.tables.values():
        for constraint in table.constraints:
            assert constraint.name, f"{table.name}: {constraint}"


OLD: dict[str, list[dict[str, Any]]] = {
    "plans": [
        dict(id=plan, name_ar=plan, name_en=plan, rank=rank, price_fils=5000, period_days=30, credits=15_000_000,
             requests_per_minute=10 * rank, enabled=True)
        for rank, plan in enumerate(("basic", "pro", "enterprise", "own"), 1)
    ],
    "providers": [
        dict(id="p1", name="ollama-1", kind="ollama", url="", key_variable="", slots=2, enabled=True, created_at=EARLY),
        dict(id="p2", name="ollama-cloud", kind="ollama-cloud", url="", key_variable="OLLAMA_CLOUD_API_KEY", slots=1,
             enabled=False, created_at=EARLY),
    ],
    "models": [
        dict(id=key, name=name, aliases="", summary_ar="نموذج", summary_en="A model", location=location,
             plan_id="basic", context_tokens=8192, answer_tokens=2048, capabilities="completion",
             enabled=True, created_at=EARLY)
        for key, name, location in (("m1", "llama3.2:3b", "local"), ("m2", "qwen3.5:cloud", "cloud"))
    ],
    "model_offers": [
        dict(id="o1", provider_id="p1", model_id="m1", upstream_name="llama3.2:3b"),
        dict(id="o2", provider_id="p2", model_id="m2", upstream_name="qwen3.5"),
    ],
    "prices": [
        dict(id="c1", model_id="m1", valid_from=EARLY, rate_in=1000, rate_out=1000),
        dict(id="c2", model_id="m1", valid_from=LATER, rate_in=1500, rate_out=1),
        dict(id="c3", model_id="m2", valid_from=EARLY, rate_in=2000, rate_out=0),
    ],
    "users": [
        dict(id="u1", email="layla@example.com", phone="+96550000101", name="ليلى", password_hash="x", language="ar",
             role="customer", created_at=EARLY),
    ],
    "accounts": [dict(id="a1", owner_id="u1", plan_id="own", name="", created_at=EARLY)],
    "api_keys": [
        dict(id="k1", account_id="a1", user_id="u1", label="mine", prefix="rsk_00000000", hash="h" * 64,
             scopes="read write", created_at=EARLY),
    ],
    "wallets": [dict(account_id="a1", balance=9000, held=700, total=9000, seq=0)],
    "usage_records": [
        dict(id=key, account_id="a1", api_key_id="k1", process_id="g1", model="llama3.2:3b", provider="ollama-1",
             location="local", rate_in=rate_in, rate_out=rate_out, streamed=True, state=state, hold=700, outcome="ok",
             prompt_tokens=5, answer_tokens=7, estimated=False, cost=cost, created_at=EARLY)
        for key, rate_in, rate_out, state, cost in (("r1", 1000, 3, "settled", 12), ("r2", 2000, 1, "open", 0))
    ],
}  # fmt: skip
"""A portal of the release before: an edited plan, dated prices, a settled request and one that was open."""


def test_the_rows_of_the_release_before_survive_there_and_back(make_app: MakeApp, empty_url: str) -> None:
    """OPS-02: rates are for a million tokens from 0002 on and were for a thousand; nothing else changes, and of what
    only the newer release knows, only that is lost on the way back. On all three engines."""
    app = make_app(empty_url)
    with app.app_context():
        upgrade(revision="0001")
        with db.engine.begin() as connection:
            for name, rows in OLD.items():
                connection.execute(sa.insert(_table(connection, name)), rows)
        before = _rows()
        assert {name: len(rows) for name, rows in before.items()} == {name: len(rows) for name, rows in OLD.items()}
        for _ in range(2):
            db.engine.dispose()
            upgrade(revision="0002")
            _as_the_new_release_has_it()
            _what_only_it_knows()
            db.engine.dispose()
            downgrade(revision="0001")
            assert _rows() == before
        db.engine.dispose()
        upgrade()
        check()
        _as_the_new_release_has_it()


def _as_the_new_release_has_it() -> None:
    plans = {plan.id: (plan.priority, plan.failover, plan.credits) for plan in db.session.scalars(sa.select(Plan))}
    assert plans == {
        "basic": (0, False, 15_000_000), "pro": (1, True, 15_000_000), "enterprise": (2, True, 15_000_000),
        "own": (0, True, 15_000_000),
    }  # fmt: skip
    providers = db.session.scalars(sa.select(Provider).order_by(Provider.id)).all()
    assert [(p.name, p.location, p.slots, p.weight, p.enabled, p.state, p.created_at) for p in providers] == [
        ("ollama-1", "local", 2, 1, True, "unknown", EARLY), ("ollama-cloud", "cloud", 1, 1, False, "unknown", EARLY),
    ]  # fmt: skip
    offers = db.session.scalars(sa.select(ModelOffer).order_by(ModelOffer.id)).all()
    assert [(o.provider_id, o.model_id, o.upstream_name, o.present, o.capabilities) for o in offers] == [
        ("p1", "m1", "llama3.2:3b", None, None), ("p2", "m2", "qwen3.5", None, None),
    ]  # fmt: skip
    prices = db.session.scalars(sa.select(Price).order_by(Price.id)).all()
    assert [(p.id, p.provider, p.kind, p.valid_from, p.rate_in, p.rate_out, p.rate_cached) for p in prices] == [
        ("c1", "", "rate", EARLY, 1_000_000, 1_000_000, None), ("c2", "", "rate", LATER, 1_500_000, 1_000, None),
        ("c3", "", "rate", EARLY, 2_000_000, 0, None),
    ]  # fmt: skip
    usages = db.session.scalars(sa.select(Usage).order_by(Usage.id)).all()
    assert [(u.rate_in, u.rate_cached, u.rate_out, u.hold, u.cost, u.failover, u.attempts) for u in usages] == [
        (1_000_000, 1_000_000, 3_000, 700, 12, False, ""), (2_000_000, 2_000_000, 1_000, 700, 0, False, ""),
    ]  # fmt: skip
    key, account = db.session.get_one(ApiKey, "k1"), db.session.get_one(Account, "a1")
    assert (key.failover, account.local_only, account.plan_id) == (True, False, "own")
    db.session.remove()


def _what_only_it_knows() -> None:
    dear = dict(kind="cost-plus", usd_in=100_000, usd_out=400_000)
    db.session.add(Price(model_id="m2", provider="", valid_from=LATER, **dear))
    db.session.add(Price(model_id="m1", provider="ollama-cloud", rate_in=2_000_000, rate_out=2_000_000))
    db.session.commit()
    db.session.remove()


def _table(connection: sa.Connection, name: str) -> sa.Table:
    """As it is in the database now; instants as ours."""
    table = sa.Table(name, sa.MetaData(), autoload_with=connection, resolve_fks=False)
    for column in table.c:
        if column.name.endswith("_at") or column.name == "valid_from":
            column.type = UtcDateTime()
        elif column.name in ("enabled", "streamed", "estimated"):
            column.type = sa.Boolean()
    return table


def _rows() -> dict[str, list[dict[str, Any]]]:
    """Every row of those tables, as they are now."""
    found: dict[str, list[dict[str, Any]]] = {}
    with db.engine.connect() as connection:
        for name in OLD:
            table = _table(connection, name)
            rows = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings()
            found[name] = [{str(column): value for column, value in row.items()} for row in rows]
    return found
