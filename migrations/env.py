"""How Alembic reaches the database: through the app's own engine, with the traps of SQLite closed.

A batch ALTER on SQLite drops and re-creates the table; with foreign keys on, ON DELETE CASCADE then deletes every child
row. So they are off during a migration, and checked after it.
"""

import sqlalchemy as sa
from alembic import context
from flask import current_app

from portal.extensions import db
from portal.models import Base
from portal.models.base import UtcDateTime

config = context.config


def _include(obj: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def _render(kind: str, obj: object, _autogen: object) -> str | bool:
    """Our own types by their own names: a revision says `exact(32)`, not three variants of a VARCHAR."""
    if kind == "type" and isinstance(obj, UtcDateTime):
        return "UtcDateTime()"
    if kind == "type" and type(obj) is sa.String and "mysql" in obj._variant_mapping:
        return f"exact({obj.length})"
    return False


def run() -> None:
    arguments = dict(current_app.extensions["migrate"].configure_args)
    with db.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            connection.exec_driver_sql("COMMIT")  # the pragma does nothing inside a transaction
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=_include,
            render_item=_render,
            **arguments,
        )
        with context.begin_transaction():
            context.run_migrations()
        if sqlite:
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise RuntimeError(f"a migration left rows without their parent: {broken[:5]}")
            connection.commit()
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
            connection.exec_driver_sql("BEGIN")


if context.is_offline_mode():
    raise SystemExit("offline migrations (--sql) are not supported: the three databases differ too much")
run()
