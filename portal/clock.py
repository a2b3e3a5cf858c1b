"""The time of day, asked for in one place.

Rows carry UTC instants; people see Asia/Kuwait (a setting of the product, whatever the machine's own zone), and a *day*
is a day there. What turns at midnight asks through the module (`clock.kuwait_day()`), so that a test which sets
`portal.clock.utcnow` moves the day as well.
"""

import datetime as dt
import zoneinfo

KUWAIT = zoneinfo.ZoneInfo("Asia/Kuwait")


def utcnow() -> dt.datetime:
    """The present instant, with its zone (UTC)."""
    return dt.datetime.now(dt.UTC)


def kuwait_day(now: dt.datetime | None = None) -> dt.date:
    """The calendar day in Kuwait. now: an instant with its zone; by default the present one."""
    return (utcnow() if now is None else now).astimezone(KUWAIT).date()


def next_kuwait_midnight(now: dt.datetime | None = None) -> dt.datetime:
    """The instant (UTC) at which the day after `now`'s begins in Kuwait."""
    local = (utcnow() if now is None else now).astimezone(KUWAIT)
    # A day is added to the wall's clock, not to the instant: right also in a zone that changes its clocks.
    tomorrow = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0) + dt.timedelta(days=1)
    return tomorrow.astimezone(dt.UTC)


def seconds_to_kuwait_midnight(now: dt.datetime | None = None) -> int:
    """Whole seconds, at least 1, after which it is the next day in Kuwait; what a `Retry-After` tells."""
    now = utcnow() if now is None else now
    left = next_kuwait_midnight(now) - now
    return max(1, -(-left // dt.timedelta(seconds=1)))
