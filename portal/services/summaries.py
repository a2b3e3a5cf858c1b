"""The day in figures, for staff: computed once when the day is over, from rows, whoever asks later."""

import datetime as dt
from typing import NamedTuple

import sqlalchemy as sa
from flask import current_app

from portal import clock
from portal.extensions import db
from portal.models import CloudDay, Delivery, LedgerEntry, Usage, User


class DayFigures(NamedTuple):
    """spent, sold: milli-credits. undelivered: messages given up on that day."""

    day: str
    new_users: int
    requests: int
    failed: int
    spent: int
    sold: int
    cloud: int
    limit: int
    undelivered: int


def of_day(day: dt.date) -> DayFigures:
    """The figures of a day in Kuwait. A handful of counting queries; nothing is written."""
    begins = dt.datetime.combine(day, dt.time(), clock.KUWAIT).astimezone(dt.UTC)
    ends = clock.next_kuwait_midnight(begins)

    def count(*conditions: sa.ColumnElement[bool]) -> int:
        return db.session.scalar(sa.select(sa.func.count()).where(*conditions)) or 0

    def total(kinds: tuple[str, ...]) -> int:
        during = (LedgerEntry.created_at >= begins, LedgerEntry.created_at < ends, LedgerEntry.kind.in_(kinds))
        return int(db.session.scalar(sa.select(sa.func.sum(LedgerEntry.amount)).where(*during)) or 0)

    # By state and time, as their index is: over all rows it took seconds, and in a few years for ever.
    during_usage = (Usage.state.in_(("open", "settled")), Usage.created_at >= begins, Usage.created_at < ends)
    settled = (Usage.state == "settled", Usage.created_at >= begins, Usage.created_at < ends)
    return DayFigures(
        day=day.isoformat(),
        new_users=count(User.created_at >= begins, User.created_at < ends),
        requests=count(*during_usage),
        failed=count(*during_usage, Usage.outcome.in_(("upstream_failed", "timed_out", "abandoned"))),
        spent=int(db.session.scalar(sa.select(sa.func.sum(Usage.cost)).where(*settled)) or 0),
        sold=total(("topup", "subscription")),
        cloud=db.session.scalar(sa.select(CloudDay.used).where(CloudDay.day == day)) or 0,
        limit=current_app.config["PORTAL"].cloud_daily_limit,
        undelivered=count(Delivery.state == "dead", Delivery.created_at >= begins, Delivery.created_at < ends),
    )
