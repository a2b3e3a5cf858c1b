"""payments: payments with their trail, refunds, papers and their numbers, kept cards; a card and a grace for subscriptions

Revision ID: 0004
Revises: 0003

Only adds; web processes of the release before may go on.
"""

import sqlalchemy as sa
from alembic import op

from portal.models.base import MYSQL, UtcDateTime, exact

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("paper_series",
    sa.Column("name", exact(12), nullable=False),
    sa.Column("latest", sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint("name", name=op.f("pk_paper_series")),
    **MYSQL,
    )
    op.create_table("saved_cards",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("account_id", exact(32), nullable=False),
    sa.Column("token", exact(190), nullable=False),
    sa.Column("number", exact(30), nullable=False),
    sa.Column("brand", exact(30), nullable=False),
    sa.Column("expiry_month", exact(2), nullable=False),
    sa.Column("expiry_year", exact(4), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.Column("removed_at", UtcDateTime(), nullable=True),
    sa.Column("forgotten_at", UtcDateTime(), nullable=True),
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_saved_cards_account_id")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_cards")),
    sa.UniqueConstraint("account_id", "token", name=op.f("uq_saved_cards_account_id_token")),
    **MYSQL,
    )
    op.create_table("payments",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("account_id", exact(32), nullable=False),
    sa.Column("actor", exact(64), nullable=False),
    sa.Column("kind", exact(8), nullable=False),
    sa.Column("item", exact(32), nullable=False),
    sa.Column("name_ar", sa.String(length=120), nullable=False),
    sa.Column("name_en", sa.String(length=120), nullable=False),
    sa.Column("credits", sa.BigInteger(), nullable=False),
    sa.Column("period_days", sa.Integer(), nullable=False),
    sa.Column("amount_fils", sa.Integer(), nullable=False),
    sa.Column("came_fils", sa.Integer(), nullable=True),
    sa.Column("currency", exact(3), nullable=False),
    sa.Column("method", exact(12), nullable=False),
    sa.Column("state", exact(10), nullable=False),
    sa.Column("reason", exact(40), nullable=False),
    sa.Column("invoice", exact(40), nullable=True),
    sa.Column("url", sa.Text(), nullable=False),
    sa.Column("keeps_card", sa.Boolean(), nullable=False),
    sa.Column("occasion", exact(120), nullable=True),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.Column("expires_at", UtcDateTime(), nullable=False),
    sa.Column("due_at", UtcDateTime(), nullable=True),
    sa.Column("asked_at", UtcDateTime(), nullable=True),
    sa.Column("asks", sa.Integer(), nullable=False),
    sa.Column("paid_at", UtcDateTime(), nullable=True),
    sa.Column("closed_at", UtcDateTime(), nullable=True),
    sa.Column("provider_payment", exact(64), nullable=False),
    sa.Column("gateway", exact(40), nullable=False),
    sa.Column("card_number", exact(30), nullable=False),
    sa.Column("subscription_id", exact(32), nullable=True),
    sa.Column("seconds_given", sa.BigInteger(), nullable=False),
    sa.Column("refunded_fils", sa.Integer(), nullable=False),
    sa.Column("concern", exact(20), nullable=False),
    sa.CheckConstraint("kind in ('plan', 'pack')", name=op.f("ck_payments_kind")),
    sa.CheckConstraint("state in ('opening', 'pending', 'failed', 'expired', 'cancelled', 'held', 'paid', 'returned')", name=op.f("ck_payments_state")),
    sa.CheckConstraint("amount_fils > 0 and amount_fils % 10 = 0", name=op.f("ck_payments_amount")),
    sa.CheckConstraint("credits >= 0", name=op.f("ck_payments_credits")),
    sa.CheckConstraint("refunded_fils >= 0 and refunded_fils <= coalesce(came_fils, amount_fils)", name=op.f("ck_payments_refunded")),
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_payments_account_id")),
    sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name=op.f("fk_payments_subscription_id")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
    sa.UniqueConstraint("invoice", name=op.f("uq_payments_invoice")),
    sa.UniqueConstraint("occasion", name=op.f("uq_payments_occasion")),
    **MYSQL,
    )
    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.create_index("ix_payments_account_id_created_at", ["account_id", "created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_payments_concern"), ["concern"], unique=False)
        batch_op.create_index(batch_op.f("ix_payments_due_at"), ["due_at"], unique=False)
        batch_op.create_index("ix_payments_state_created_at", ["state", "created_at"], unique=False)

    op.create_table("papers",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("kind", exact(12), nullable=False),
    sa.Column("account_id", exact(32), nullable=False),
    sa.Column("payment_id", exact(32), nullable=False),
    sa.Column("about", exact(32), nullable=False),
    sa.Column("number", exact(24), nullable=False),
    sa.Column("series", exact(12), nullable=False),
    sa.Column("place", sa.Integer(), nullable=False),
    sa.Column("amount_fils", sa.Integer(), nullable=False),
    sa.Column("content", sa.JSON(), nullable=False),
    sa.Column("issued_at", UtcDateTime(), nullable=False),
    sa.CheckConstraint("kind in ('receipt', 'credit_note')", name=op.f("ck_papers_kind")),
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_papers_account_id")),
    sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_papers_payment_id")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_papers")),
    sa.UniqueConstraint("about", name=op.f("uq_papers_about")),
    sa.UniqueConstraint("number", name=op.f("uq_papers_number")),
    sa.UniqueConstraint("series", "place", name=op.f("uq_papers_series_place")),
    **MYSQL,
    )
    with op.batch_alter_table("papers", schema=None) as batch_op:
        batch_op.create_index("ix_papers_account_id_issued_at", ["account_id", "issued_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_papers_payment_id"), ["payment_id"], unique=False)

    op.create_table("payment_events",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("payment_id", exact(32), nullable=False),
    sa.Column("what", exact(20), nullable=False),
    sa.Column("source", exact(64), nullable=False),
    sa.Column("facts", sa.JSON(), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_payment_events_payment_id")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_events")),
    **MYSQL,
    )
    with op.batch_alter_table("payment_events", schema=None) as batch_op:
        batch_op.create_index("ix_payment_events_payment_id_created_at", ["payment_id", "created_at"], unique=False)

    op.create_table("refunds",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("payment_id", exact(32), nullable=False),
    sa.Column("account_id", exact(32), nullable=False),
    sa.Column("open_of", exact(32), nullable=True),
    sa.Column("amount_fils", sa.Integer(), nullable=False),
    sa.Column("credits", sa.BigInteger(), nullable=False),
    sa.Column("ends_period", sa.Boolean(), nullable=False),
    sa.Column("reason", sa.String(length=300), nullable=False),
    sa.Column("actor", exact(64), nullable=False),
    sa.Column("state", exact(10), nullable=False),
    sa.Column("provider_refund", exact(40), nullable=True),
    sa.Column("in_doubt", sa.Boolean(), nullable=False),
    sa.Column("error", exact(300), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.Column("due_at", UtcDateTime(), nullable=True),
    sa.Column("lease_until", UtcDateTime(), nullable=True),
    sa.Column("asks", sa.Integer(), nullable=False),
    sa.Column("ended_at", UtcDateTime(), nullable=True),
    sa.CheckConstraint("state in ('waiting', 'filed', 'done', 'cancelled', 'refused')", name=op.f("ck_refunds_state")),
    sa.CheckConstraint("amount_fils > 0 and amount_fils % 10 = 0", name=op.f("ck_refunds_amount")),
    sa.CheckConstraint("credits >= 0", name=op.f("ck_refunds_credits")),
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_refunds_account_id")),
    sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
    sa.UniqueConstraint("open_of", name=op.f("uq_refunds_open_of")),
    sa.UniqueConstraint("provider_refund", name=op.f("uq_refunds_provider_refund")),
    **MYSQL,
    )
    with op.batch_alter_table("refunds", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_refunds_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_refunds_due_at"), ["due_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_refunds_payment_id"), ["payment_id"], unique=False)

    with op.batch_alter_table("subscriptions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("card_id", exact(32), nullable=True))
        batch_op.add_column(sa.Column("price_fils", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("period_days", sa.Integer(), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_subscriptions_card_id"), "saved_cards", ["card_id"], ["id"])
        batch_op.drop_constraint(op.f("ck_subscriptions_state"), type_="check")
        batch_op.create_check_constraint(
            op.f("ck_subscriptions_state"), "state in ('active', 'cancelled', 'grace', 'ended')"
        )
    for name in ("price_fils", "period_days"):  # what nobody wrote down is what it costs today
        op.execute(f"UPDATE subscriptions SET {name} = (SELECT {name} FROM plans WHERE plans.id = subscriptions.plan_id)")
    with op.batch_alter_table("subscriptions", schema=None) as batch_op:
        for name in ("price_fils", "period_days"):
            batch_op.alter_column(name, existing_type=sa.Integer(), nullable=False)



def downgrade() -> None:
    op.execute("UPDATE subscriptions SET state = 'cancelled' WHERE state = 'grace'")
    # What open refunds hold would be held for ever.
    op.execute(
        "UPDATE wallets SET held = held - (SELECT COALESCE(SUM(credits), 0) FROM refunds "
        "WHERE refunds.account_id = wallets.account_id AND refunds.open_of IS NOT NULL)"
    )
    with op.batch_alter_table("subscriptions", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_subscriptions_state"), type_="check")
        batch_op.create_check_constraint(op.f("ck_subscriptions_state"), "state in ('active', 'cancelled', 'ended')")
        batch_op.drop_constraint(batch_op.f("fk_subscriptions_card_id"), type_="foreignkey")
        for name in ("card_id", "price_fils", "period_days"):
            batch_op.drop_column(name)

    op.drop_table("refunds")
    op.drop_table("payment_events")
    op.drop_table("papers")
    op.drop_table("payments")
    op.drop_table("saved_cards")
    op.drop_table("paper_series")
