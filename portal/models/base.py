"""What all rows share: names of constraints, the types that mean the same on three databases.

Every constraint has a name of ours, so that a migration can speak of it on any engine. Knows no Flask.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = sa.MetaData(naming_convention=NAMES)


class UtcDateTime(sa.types.TypeDecorator[dt.datetime]):
    """An instant to the microsecond, always UTC, always with its zone in Python. A naive datetime is refused."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant without a zone")
        value = value.astimezone(dt.UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        instant: dt.datetime = value
        return instant.replace(tzinfo=dt.UTC) if instant.tzinfo is None else instant.astimezone(dt.UTC)


class database_now(FunctionElement[dt.datetime]):  # noqa: N801  (reads as a function in a query)
    """The present instant by the database's own clock: what several hosts compare must not be each host's own."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(database_now)
def _standard_now(element: database_now, compiler: SQLCompiler, **_kw: Any) -> str:
    return "CURRENT_TIMESTAMP(6)"


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: SQLCompiler, **_kw: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(database_now, "mysql")
@compiles(database_now, "mariadb")
def _mysql_now(element: database_now, compiler: SQLCompiler, **_kw: Any) -> str:
    return "UTC_TIMESTAMP(6)"


def beside_id(column: Any) -> sa.ColumnElement[str]:
    """A text column as a condition beside a row's id, in words that no index serves.

    For `id = … AND state = …` MariaDB may take the index of states and lock that before the row. Whoever has the row
    and moves its state then waits for the index: a deadlock, and a webhook answered with 500.
    """
    found: sa.ColumnElement[str] = sa.func.coalesce(column, "")
    return found


def exact(length: int) -> sa.String:
    """Text that compares byte by byte. MariaDB's own collation holds 'Ali', 'ali' and 'ALI ' for one value."""
    return sa.String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb")


Id = exact(32)
MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mariadb_engine": "InnoDB", "mariadb_charset": "utf8mb4"}
