"""Insert a row unless it is there, inside somebody's transaction, alike on the three databases.

An INSERT that fails on a unique key ends the transaction around it on PostgreSQL; a savepoint for each costs two more
trips. So each database is told in its own words to pass over what it has.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from portal.models import Base


def insert_missing(connection: sa.Connection, model: type[Base], row: dict[str, Any]) -> bool:
    """Insert `row` unless a unique key of it is taken. Returns whether it is new.

    While another transaction is inserting the same key, it is waited for. row: every value, checked by the caller:
    MariaDB's IGNORE would also cut what is too long.
    """
    name, statement = connection.dialect.name, sa.insert(model)
    if name == "postgresql":
        statement = postgresql.insert(model).on_conflict_do_nothing()
    elif name == "sqlite":
        statement = sqlite.insert(model).on_conflict_do_nothing()
    else:
        statement = statement.prefix_with("IGNORE")
    done = connection.execute(statement.values(**row), execution_options={"preserve_rowcount": True})
    return done.rowcount == 1
