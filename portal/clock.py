"""The time of day, asked for in one place.

Rows carry UTC instants; people see Asia/Kuwait (a setting of the product, whatever the machine's own zone).
"""

import datetime as dt


def utcnow() -> dt.datetime:
    """The present instant, with its zone (UTC)."""
    return dt.datetime.now(dt.UTC)
