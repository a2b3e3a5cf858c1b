"""Instants as this provider writes them: Kuwait's clock without a word of it, UTC, and a date in long English."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

KUWAIT = timezone(timedelta(hours=3), "Asia/Kuwait")  # no summer time since there is a Kuwait
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def _there(instant: float) -> datetime:
    return datetime.fromtimestamp(instant, KUWAIT)


def local(instant: float) -> str:
    """`2026-01-10T00:15:07.293`, Kuwait, no zone."""
    return _there(instant).replace(tzinfo=None).isoformat(timespec="milliseconds")


def long_date(instant: float) -> str:
    """`January 13, 2026`. Not by strftime: the machine's language must not show."""
    there = _there(instant)
    return f"{_MONTHS[there.month - 1]} {there.day:02d}, {there.year}"


def clock(instant: float) -> str:
    """`00:15:07.293`, Kuwait."""
    return _there(instant).time().isoformat(timespec="milliseconds")


def packed(instant: float) -> str:
    """`21112026073000` (ddMMyyyyHHmmss), Kuwait, as in webhooks V1."""
    return f"{_there(instant):%d%m%Y%H%M%S}"


def utc(instant: float) -> str:
    """`2026-11-21T04:30:00.0000000Z`, as in webhooks V2: seven digits, as .NET writes them."""
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"


def track_day(instant: float) -> str:
    """`21-11-2026`."""
    return f"{_there(instant):%d-%m-%Y}"


def knet_day(instant: float) -> str:
    """`2026325`: year and day of the year, as KNET's ids begin."""
    return f"{_there(instant):%Y%j}"


def year(instant: float) -> str:
    return f"{_there(instant):%Y}"


def parse_local(text: str) -> float:
    """The instant of `YYYY-MM-DDTHH:MM:SS` in Kuwait. Raises ValueError for anything else."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=KUWAIT).timestamp()


def parse_utc(text: str) -> float:
    """The instant of an ISO text; without a zone it is UTC. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
