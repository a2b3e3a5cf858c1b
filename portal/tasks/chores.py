"""The house's own chores: the day's summary, rows that are too old, and a look at the timetable itself."""

import datetime as dt

from portal import clock
from portal.extensions import db
from portal.services import allowances, events, retention


def sum_up_yesterday() -> None:
    """Record that the day before is over; its steps count it and tell staff."""
    day = (clock.kuwait_day() - dt.timedelta(days=1)).isoformat()
    events.record(db.session, events.DAY_ENDED, day, day=day)
    db.session.commit()


def clear_away() -> int:
    """Returns how many rows were of no use any more."""
    return allowances.forget_old() + retention.clear_away()
