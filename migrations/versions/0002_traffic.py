"""traffic: providers with weight and state, offers as probed, prices by provider, the cloud's days, events

Revision ID: 0002
Revises: 0001

Providers, offers and prices are built anew with their rows (dozens at most): SQLite can't alter a constraint. The large
tables only gain columns, with defaults that stay in the schema.
Rates are for a million tokens from here on; they were for a thousand. So this one is refused while web processes run.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from alembic import op

from portal.models.base import MYSQL, UtcDateTime, database_now, exact

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

def _gained() -> tuple[tuple[str, sa.Column[Any]], ...]:
    return (
        ("plans", sa.Column("priority", sa.Integer(), nullable=False, server_default="0")),
        ("plans", sa.Column("failover", sa.Boolean(), nullable=False, server_default=sa.true())),
        ("accounts", sa.Column("local_only", sa.Boolean(), nullable=False, server_default=sa.false())),
        ("api_keys", sa.Column("failover", sa.Boolean(), nullable=False, server_default=sa.true())),
        ("usage_records", sa.Column("failover", sa.Boolean(), nullable=False, server_default=sa.false())),
        ("usage_records", sa.Column("rate_cached", sa.Integer(), nullable=False, server_default="0")),
        ("usage_records", sa.Column("cached_tokens", sa.Integer(), nullable=False, server_default="0")),
        ("usage_records", sa.Column("attempts", sa.String(1000), nullable=False, server_default="")),
        ("usage_records", sa.Column("waited_ms", sa.Integer(), nullable=True)),
    )


def _refuse_beside_the_release_before() -> None:
    """Its workers would take a price for a million tokens for one of a thousand, and charge a thousand times too much."""
    processes = sa.table("gateway_processes", sa.column("seen_at", UtcDateTime()))
    # By the clock that wrote the signs of life: to a host an hour ahead everybody else would be dead.
    now: dt.datetime = op.get_bind().execute(sa.select(database_now())).scalar_one()
    alive = sa.select(sa.func.count()).where(processes.c.seen_at > now - dt.timedelta(seconds=30))
    if op.get_bind().execute(alive).scalar_one():
        raise RuntimeError(
            "web processes of the release before are still running (or ended less than 30 seconds ago without a "
            "farewell): stop them first, since prices change their unit. Nothing was changed."
        )


def upgrade() -> None:
    _refuse_beside_the_release_before()
    for table, column in _gained():
        op.add_column(table, column)
    op.execute("UPDATE plans SET priority = 1 WHERE id = 'pro'")
    op.execute("UPDATE plans SET priority = 2 WHERE id = 'enterprise'")
    op.execute(sa.text("UPDATE plans SET failover = :no WHERE id = 'basic'").bindparams(no=False))
    op.execute("UPDATE usage_records SET rate_in = rate_in * 1000, rate_out = rate_out * 1000")
    op.execute("UPDATE usage_records SET rate_cached = rate_in")
    op.create_table(
        "cloud_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("warned", sa.Boolean(), nullable=False),
        sa.Column("exhausted", sa.Boolean(), nullable=False),
        sa.CheckConstraint("used >= 0", name=op.f("ck_cloud_days_used")),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_cloud_days")),
        **MYSQL,
    )
    op.create_table(
        "events",
        sa.Column("id", exact(32), nullable=False),
        sa.Column("kind", exact(40), nullable=False),
        sa.Column("occasion", exact(120), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("kind", "occasion", name=op.f("uq_events_kind_occasion")),
        **MYSQL,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_created_at"), ["created_at"], unique=False)
    providers, offers, prices = _take("providers"), _take("model_offers"), _take("prices")
    for row in providers:
        row |= {"location": "cloud" if row["kind"] == "ollama-cloud" else "local", "weight": 1, "state": "unknown"}
        row |= {"state_reason": "", "version": ""}
    for row in prices:
        row |= {"provider": "", "kind": "rate", "rate_in": row["rate_in"] * 1000, "rate_out": row["rate_out"] * 1000}
    _catalogue_after(providers, offers, prices)


def downgrade() -> None:
    providers, offers, prices = _take("providers"), _take("model_offers"), _take("prices")
    prices = [row for row in prices if row["kind"] == "rate" and not row["provider"]]
    for row in prices:
        row |= {"rate_in": row["rate_in"] // 1000, "rate_out": row["rate_out"] // 1000}
    _catalogue_before(providers, offers, prices)
    op.drop_table("events")
    op.drop_table("cloud_days")
    op.execute("UPDATE usage_records SET rate_in = rate_in / 1000, rate_out = rate_out / 1000")
    for table, column in reversed(_gained()):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column.name}")


def _take(table: str) -> list[dict[str, Any]]:
    """The rows of a table that is about to be built anew."""
    reflected = sa.Table(table, sa.MetaData(), autoload_with=op.get_bind(), resolve_fks=False)
    plain = {name: UtcDateTime() for name in ("created_at", "valid_from") if name in reflected.c}
    columns = [sa.type_coerce(c, plain[c.name]).label(c.name) if c.name in plain else c for c in reflected.c]
    return [dict(row) for row in op.get_bind().execute(sa.select(*columns)).mappings()]


def _fill(table: sa.Table, rows: list[dict[str, Any]]) -> None:
    op.bulk_insert(table, [{c.name: row.get(c.name) for c in table.c} for row in rows])


def _drop() -> None:
    op.drop_table("prices")
    op.drop_table("model_offers")
    op.drop_table("providers")


KINDS = "kind in ('ollama', 'ollama-cloud', 'openai-compatible')"


def _catalogue_after(providers: list[Any], offers: list[Any], prices: list[Any]) -> None:
    _drop()
    table = op.create_table(
        "providers",
        sa.Column("id", exact(32), nullable=False),
        sa.Column("name", exact(60), nullable=False),
        sa.Column("kind", exact(20), nullable=False),
        sa.Column("location", exact(8), nullable=False),
        sa.Column("url", exact(255), nullable=False),
        sa.Column("key_variable", exact(60), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("state", exact(8), nullable=False),
        sa.Column("state_reason", exact(120), nullable=False),
        sa.Column("state_since", UtcDateTime(), nullable=True),
        sa.Column("version", exact(40), nullable=False),
        sa.Column("probed_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(KINDS, name=op.f("ck_providers_kind")),
        sa.CheckConstraint("location in ('local', 'cloud')", name=op.f("ck_providers_location")),
        sa.CheckConstraint("state in ('unknown', 'up', 'resting', 'down')", name=op.f("ck_providers_state")),
        sa.CheckConstraint("slots > 0", name=op.f("ck_providers_slots")),
        sa.CheckConstraint("weight > 0", name=op.f("ck_providers_weight")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_providers")),
        sa.UniqueConstraint("name", name=op.f("uq_providers_name")),
        **MYSQL,
    )
    _fill(table, providers)
    found = (
        sa.Column("present", sa.Boolean(), nullable=True),
        sa.Column("capabilities", exact(120), nullable=True),
        sa.Column("context_tokens", sa.Integer(), nullable=True),
    )
    _fill(_offers(*found), offers)
    table = op.create_table(
        "prices",
        sa.Column("id", exact(32), nullable=False),
        sa.Column("model_id", exact(32), nullable=False),
        sa.Column("provider", exact(60), nullable=False),
        sa.Column("valid_from", UtcDateTime(), nullable=False),
        sa.Column("kind", exact(10), nullable=False),
        sa.Column("rate_in", sa.Integer(), nullable=True),
        sa.Column("rate_out", sa.Integer(), nullable=True),
        sa.Column("rate_cached", sa.Integer(), nullable=True),
        sa.Column("usd_in", sa.BigInteger(), nullable=True),
        sa.Column("usd_out", sa.BigInteger(), nullable=True),
        sa.Column("usd_cached", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'rate' and rate_in >= 0 and rate_out >= 0 and (rate_cached is null or rate_cached >= 0)) or "
            "(kind = 'cost-plus' and usd_in >= 0 and usd_out >= 0 and (usd_cached is null or usd_cached >= 0))",
            name=op.f("ck_prices_rates"),
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_prices_model_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
        sa.UniqueConstraint(
            "model_id", "provider", "valid_from", name=op.f("uq_prices_model_id_provider_valid_from")
        ),
        **MYSQL,
    )
    _fill(table, prices)


def _catalogue_before(providers: list[Any], offers: list[Any], prices: list[Any]) -> None:
    _drop()
    table = op.create_table(
        "providers",
        sa.Column("id", exact(32), nullable=False),
        sa.Column("name", exact(60), nullable=False),
        sa.Column("kind", exact(20), nullable=False),
        sa.Column("url", exact(255), nullable=False),
        sa.Column("key_variable", exact(60), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(KINDS, name=op.f("ck_providers_kind")),
        sa.CheckConstraint("slots > 0", name=op.f("ck_providers_slots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_providers")),
        sa.UniqueConstraint("name", name=op.f("uq_providers_name")),
        **MYSQL,
    )
    _fill(table, providers)
    _fill(_offers(), offers)
    table = op.create_table(
        "prices",
        sa.Column("id", exact(32), nullable=False),
        sa.Column("model_id", exact(32), nullable=False),
        sa.Column("valid_from", UtcDateTime(), nullable=False),
        sa.Column("rate_in", sa.Integer(), nullable=False),
        sa.Column("rate_out", sa.Integer(), nullable=False),
        sa.CheckConstraint("rate_in >= 0 and rate_out >= 0", name=op.f("ck_prices_rates")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_prices_model_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
        sa.UniqueConstraint("model_id", "valid_from", name=op.f("uq_prices_model_id_valid_from")),
        **MYSQL,
    )
    _fill(table, prices)


def _offers(*more: sa.Column[Any]) -> sa.Table:
    table = op.create_table(
        "model_offers",
        sa.Column("id", exact(32), nullable=False),
        sa.Column("provider_id", exact(32), nullable=False),
        sa.Column("model_id", exact(32), nullable=False),
        sa.Column("upstream_name", exact(200), nullable=False),
        *more,
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_model_offers_model_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["providers.id"], name=op.f("fk_model_offers_provider_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_offers")),
        sa.UniqueConstraint("provider_id", "model_id", name=op.f("uq_model_offers_provider_id_model_id")),
        **MYSQL,
    )
    with op.batch_alter_table("model_offers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_model_offers_model_id"), ["model_id"], unique=False)
    return table
