"""work: events as runs with steps, notifications and deliveries, templates, codes, bans, the timetable, subscriptions

Revision ID: 0003
Revises: 0002

Only adds; web processes of the release before may go on. What happened before it has no consequences any more: old
events are done, so that an upgrade sends nobody last month"s alarms.
"""

import sqlalchemy as sa
from alembic import op

from portal.models.base import MYSQL, UtcDateTime, exact

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("allowances",
    sa.Column("day", sa.Date(), nullable=False),
    sa.Column("name", exact(80), nullable=False),
    sa.Column("used", sa.Integer(), nullable=False),
    sa.Column("last_at", UtcDateTime(), nullable=True),
    sa.CheckConstraint("used >= 0", name=op.f("ck_allowances_used")),
    sa.PrimaryKeyConstraint("day", "name", name=op.f("pk_allowances")),
    **MYSQL,
    )
    op.create_table("bans",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("address", exact(45), nullable=False),
    sa.Column("jail", exact(60), nullable=False),
    sa.Column("failures", sa.Integer(), nullable=False),
    sa.Column("banned_at", UtcDateTime(), nullable=False),
    sa.Column("until", UtcDateTime(), nullable=True),
    sa.Column("lifted_at", UtcDateTime(), nullable=True),
    sa.Column("standing", exact(110), nullable=True),
    sa.CheckConstraint("failures >= 0", name=op.f("ck_bans_failures")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_bans")),
    sa.UniqueConstraint("standing", name=op.f("uq_bans_standing")),
    **MYSQL,
    )
    with op.batch_alter_table("bans", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bans_address"), ["address"], unique=False)
        batch_op.create_index(batch_op.f("ix_bans_banned_at"), ["banned_at"], unique=False)

    op.create_table("message_templates",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("kind", exact(40), nullable=False),
    sa.Column("language", exact(2), nullable=False),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("title", sa.String(length=120), nullable=False),
    sa.Column("body", sa.Text(), nullable=False),
    sa.Column("author", exact(64), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.CheckConstraint("language in ('ar', 'en')", name=op.f("ck_message_templates_language")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_message_templates")),
    sa.UniqueConstraint("kind", "language", "version", name=op.f("uq_message_templates_kind_language_version")),
    **MYSQL,
    )
    op.create_table("scheduled_jobs",
    sa.Column("name", exact(60), nullable=False),
    sa.Column("next_at", UtcDateTime(), nullable=False),
    sa.Column("run", sa.Integer(), nullable=False),
    sa.Column("running_until", UtcDateTime(), nullable=True),
    sa.Column("started_at", UtcDateTime(), nullable=True),
    sa.Column("ended_at", UtcDateTime(), nullable=True),
    sa.Column("succeeded_at", UtcDateTime(), nullable=True),
    sa.Column("duration_ms", sa.Integer(), nullable=True),
    sa.Column("error", exact(300), nullable=False),
    sa.Column("failures", sa.Integer(), nullable=False),
    sa.Column("failing_since", UtcDateTime(), nullable=True),
    sa.PrimaryKeyConstraint("name", name=op.f("pk_scheduled_jobs")),
    **MYSQL,
    )
    op.create_table("event_steps",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("event_id", exact(32), nullable=False),
    sa.Column("name", exact(40), nullable=False),
    sa.Column("result", sa.JSON(), nullable=False),
    sa.Column("started_at", UtcDateTime(), nullable=True),
    sa.Column("ended_at", UtcDateTime(), nullable=True),
    sa.Column("duration_ms", sa.Integer(), nullable=True),
    sa.Column("state", exact(10), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("due_at", UtcDateTime(), nullable=False),
    sa.Column("handed_at", UtcDateTime(), nullable=True),
    sa.Column("lease_until", UtcDateTime(), nullable=True),
    sa.Column("error", exact(300), nullable=False),
    sa.CheckConstraint("state in ('pending', 'waiting', 'running', 'done', 'dead', 'blocked')", name=op.f("ck_event_steps_state")),
    sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_event_steps_event_id"), ondelete="CASCADE"),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_event_steps")),
    sa.UniqueConstraint("event_id", "name", name=op.f("uq_event_steps_event_id_name")),
    **MYSQL,
    )
    with op.batch_alter_table("event_steps", schema=None) as batch_op:
        batch_op.create_index("ix_event_steps_state_due_at", ["state", "due_at"], unique=False)

    op.create_table("one_time_codes",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("purpose", exact(8), nullable=False),
    sa.Column("user_id", exact(32), nullable=False),
    sa.Column("phone", exact(16), nullable=False),
    sa.Column("tries", sa.Integer(), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.Column("expires_at", UtcDateTime(), nullable=False),
    sa.Column("ended_at", UtcDateTime(), nullable=True),
    sa.CheckConstraint("purpose in ('verify', 'reset', 'phone')", name=op.f("ck_one_time_codes_purpose")),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_one_time_codes_user_id"), ondelete="CASCADE"),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_codes")),
    **MYSQL,
    )
    with op.batch_alter_table("one_time_codes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_one_time_codes_created_at"), ["created_at"], unique=False)
        batch_op.create_index("ix_one_time_codes_user_id_purpose", ["user_id", "purpose"], unique=False)

    op.create_table("notifications",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("recipient", exact(60), nullable=False),
    sa.Column("account_id", exact(32), nullable=True),
    sa.Column("kind", exact(40), nullable=False),
    sa.Column("occasion", exact(120), nullable=False),
    sa.Column("facts", sa.JSON(), nullable=False),
    sa.Column("language", exact(2), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.Column("read_at", UtcDateTime(), nullable=True),
    sa.CheckConstraint("language in ('ar', 'en')", name=op.f("ck_notifications_language")),
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_notifications_account_id"), ondelete="CASCADE"),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    sa.UniqueConstraint("recipient", "kind", "occasion", name=op.f("uq_notifications_recipient_kind_occasion")),
    **MYSQL,
    )
    with op.batch_alter_table("notifications", schema=None) as batch_op:
        batch_op.create_index("ix_notifications_account_id_created_at", ["account_id", "created_at"], unique=False)
        batch_op.create_index("ix_notifications_account_id_read_at", ["account_id", "read_at"], unique=False)
        batch_op.create_index("ix_notifications_recipient_created_at", ["recipient", "created_at"], unique=False)

    op.create_table("opt_outs",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("account_id", exact(32), nullable=False),
    sa.Column("kind", exact(40), nullable=False),
    sa.Column("channel", exact(8), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_opt_outs_account_id"), ondelete="CASCADE"),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_opt_outs")),
    sa.UniqueConstraint("account_id", "kind", "channel", name=op.f("uq_opt_outs_account_id_kind_channel")),
    **MYSQL,
    )
    op.create_table("subscriptions",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("account_id", exact(32), nullable=False),
    sa.Column("plan_id", exact(32), nullable=False),
    sa.Column("state", exact(10), nullable=False),
    sa.Column("starts_at", UtcDateTime(), nullable=False),
    sa.Column("ends_at", UtcDateTime(), nullable=False),
    sa.Column("running_of", exact(32), nullable=True),
    sa.Column("actor", exact(64), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.Column("ended_at", UtcDateTime(), nullable=True),
    sa.CheckConstraint("state in ('active', 'cancelled', 'ended')", name=op.f("ck_subscriptions_state")),
    sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_subscriptions_account_id"), ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_subscriptions_plan_id")),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    sa.UniqueConstraint("running_of", name=op.f("uq_subscriptions_running_of")),
    **MYSQL,
    )
    with op.batch_alter_table("subscriptions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_subscriptions_account_id"), ["account_id"], unique=False)
        batch_op.create_index("ix_subscriptions_state_ends_at", ["state", "ends_at"], unique=False)

    op.create_table("deliveries",
    sa.Column("id", exact(32), nullable=False),
    sa.Column("notification_id", exact(32), nullable=False),
    sa.Column("channel", exact(8), nullable=False),
    sa.Column("address", exact(190), nullable=False),
    sa.Column("text", sa.Text(), nullable=False),
    sa.Column("in_doubt", sa.Boolean(), nullable=False),
    sa.Column("provider_id", exact(64), nullable=False),
    sa.Column("created_at", UtcDateTime(), nullable=False),
    sa.Column("expires_at", UtcDateTime(), nullable=True),
    sa.Column("accepted_at", UtcDateTime(), nullable=True),
    sa.Column("delivered_at", UtcDateTime(), nullable=True),
    sa.Column("read_at", UtcDateTime(), nullable=True),
    sa.Column("state", exact(10), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("due_at", UtcDateTime(), nullable=False),
    sa.Column("handed_at", UtcDateTime(), nullable=True),
    sa.Column("lease_until", UtcDateTime(), nullable=True),
    sa.Column("error", exact(300), nullable=False),
    sa.CheckConstraint("channel in ('whatsapp', 'email')", name=op.f("ck_deliveries_channel")),
    sa.CheckConstraint("state in ('waiting', 'running', 'done', 'dead', 'expired', 'cancelled')", name=op.f("ck_deliveries_state")),
    sa.ForeignKeyConstraint(["notification_id"], ["notifications.id"], name=op.f("fk_deliveries_notification_id"), ondelete="CASCADE"),
    sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    sa.UniqueConstraint("notification_id", "channel", "address", name=op.f("uq_deliveries_notification_id_channel_address")),
    **MYSQL,
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deliveries_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_deliveries_provider_id"), ["provider_id"], unique=False)
        batch_op.create_index("ix_deliveries_state_due_at", ["state", "due_at"], unique=False)

    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("state", exact(10), nullable=False, server_default="new"))
        batch_op.add_column(sa.Column("finished_at", UtcDateTime(), nullable=True))
        batch_op.create_check_constraint(op.f("ck_events_state"), "state in ('new', 'running', 'done', 'dead')")
        batch_op.create_index("ix_events_state_created_at", ["state", "created_at"], unique=False)
    op.execute("UPDATE events SET state = 'done', finished_at = created_at")
    op.add_column("wallets", sa.Column("credited_seq", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE wallets SET credited_seq = COALESCE((SELECT MAX(e.seq) FROM ledger_entries e "
        "WHERE e.account_id = wallets.account_id AND e.amount > 0), 0)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE wallets DROP COLUMN credited_seq")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("ix_events_state_created_at")
        batch_op.drop_constraint(op.f("ck_events_state"), type_="check")
        batch_op.drop_column("finished_at")
        batch_op.drop_column("state")
    for table in (
        "deliveries", "subscriptions", "opt_outs", "notifications", "one_time_codes", "event_steps", "scheduled_jobs",
        "message_templates", "bans", "allowances",
    ):
        op.drop_table(table)
