"""The database's clock in a test's hands: leases go by it (`services/work`), and no test waits for one to end."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from portal.models.base import UtcDateTime


class told_now(FunctionElement[dt.datetime]):  # noqa: N801  (reads as a function in a query, as `database_now` does)
    """An instant, where the product asks the database for its own."""

    type = UtcDateTime()
    inherit_cache = False

    def __init__(self, at: dt.datetime) -> None:
        super().__init__()
        self.at = at.astimezone(dt.UTC)


@compiles(told_now)
def _in_words(element: told_now, compiler: SQLCompiler, **_kw: Any) -> str:
    at = element.at.strftime("%Y-%m-%d %H:%M:%S.%f")
    forms = {"sqlite": f"'{at}'", "postgresql": f"TIMESTAMPTZ '{at}+00'"}
    return forms.get(compiler.dialect.name, f"TIMESTAMP '{at}'")


def follow(patch: pytest.MonkeyPatch, clock: Callable[[], dt.datetime]) -> None:
    """Have leases go by this clock."""
    for who in ("work", "refunds"):
        patch.setattr(f"portal.services.{who}.database_now", lambda: told_now(clock()))
