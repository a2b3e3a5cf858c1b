"""The single values of MyFatoorah's wire, read without ever failing: texts, ids, amounts, dates.

A number may come as a number or as a string with commas, an id as either, a date in three forms, and each may be null
or of another type altogether. What can't be read is empty or None; what that means is told by the files that ask.
"""

import datetime as dt
import json
import re
from decimal import Decimal
from typing import Any

from portal.clock import KUWAIT

MONTHS = ("january", "february", "march", "april", "may", "june",
          "july", "august", "september", "october", "november", "december")  # fmt: skip
_NUMBER = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,15})(?:\.[0-9]{1,10})?")
_LONG_DATE = re.compile(r"([A-Za-z]{3,9})\s+([0-9]{1,2}),\s*([0-9]{4})")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?:\.[0-9]{1,12})?")


class NotJSON(ValueError):
    """The body is no JSON."""


def parsed(body: bytes) -> Any:
    """The JSON of a body. Numbers stay the text they were written as: no digit and no zero is lost. Raises NotJSON."""
    try:
        return json.loads(body.decode("utf-8-sig"), parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise NotJSON from None


def text(value: Any, most: int = 500) -> str:
    """One line of text as it stands. Empty for what is none, is longer, or has signs that no database takes."""
    if not isinstance(value, str):
        return ""
    line = value.strip()
    return line if len(line) <= most and line.isprintable() else ""


def identity(value: Any) -> str:
    """An id, with its leading zeros. Empty for none and for what can't be one."""
    found = text(value, 100)
    return found if re.fullmatch(r"[!-~]+", found) else ""


def member(value: Any, *path: str) -> Any:
    """`value[path[0]][path[1]]…`, None where the way ends."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none of what is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def number(value: Any) -> Decimal | None:
    """`2.5`, `"12,345.000"`. None for what is no plain decimal number."""
    found = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    return Decimal(found[0].replace(",", "")) if found else None


def fils(value: Any) -> int | None:
    """Thousandths of the unit. None for what is no number, or not a whole number of them."""
    amount = value if isinstance(value, Decimal) else number(value)
    if amount is None:
        return None
    thousandths = amount * 1000  # exact: `_NUMBER` lets 25 digits in, and Decimal holds 28
    return int(thousandths) if thousandths == thousandths.to_integral_value() else None


def instant(value: Any) -> dt.datetime | None:
    """`2026-01-10T00:15:07.293`, in Kuwait where it names no zone; in UTC. None for what is none."""
    try:
        at = dt.datetime.fromisoformat(text(value, 40))
        return (at if at.tzinfo else at.replace(tzinfo=KUWAIT)).astimezone(dt.UTC)
    except (ValueError, OverflowError):  # .NET's "never" is the first day of the year 1, and has no day before it
        return None


def long_date(day: Any, time: Any) -> dt.datetime | None:
    """`January 13, 2026` and `00:15:07.293`, in Kuwait; in UTC. Without a time, the end of that day: asking too long
    costs a question, giving up too early a payment. English whatever the machine speaks."""
    found = _LONG_DATE.fullmatch(text(day, 40))
    if found is None:
        return instant(day)
    names = [month for month in MONTHS if month.startswith(found[1].lower())]
    if len(names) != 1:
        return None
    hours = _TIME.fullmatch(text(time, 40))
    try:
        at = dt.datetime(int(found[3]), MONTHS.index(names[0]) + 1, int(found[2]), tzinfo=KUWAIT)
        if hours is None:
            at += dt.timedelta(days=1)
        else:
            at = at.replace(hour=int(hours[1]), minute=int(hours[2]), second=int(hours[3] or 0))
        return at.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
