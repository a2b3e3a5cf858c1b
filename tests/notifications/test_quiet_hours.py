"""What can wait is not told at night: from 22:00 to 08:00 in Kuwait, or as operators set it."""

import datetime as dt
from typing import Any

import pytest
from flask import Flask

from portal.clock import KUWAIT
from portal.extensions import db
from portal.models import Delivery
from portal.services import tunables, work
from portal.services.notifications import notify, outbox
from tests.notifications.outside import Clock, Queued, customer, deliveries, notes

SOON: dict[str, Any] = {"plan": {"ar": "نمو", "en": "Growth"}, "expires": "2026-11-24T09:00:00+00:00"}


def kuwait(hour: int, minute: int = 0, *, day: int = 21, second: int = 0) -> dt.datetime:
    return dt.datetime(2026, 11, day, hour, minute, second, tzinfo=KUWAIT)


def hours(begin: int, end: int) -> None:
    tunables.put("quiet_from", str(begin))
    tunables.put("quiet_until", str(end))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (kuwait(21, 59, second=59), kuwait(21, 59, second=59)),
        (kuwait(22), kuwait(8, day=22)),
        (kuwait(23, 59), kuwait(8, day=22)),
        (kuwait(0, day=22), kuwait(8, day=22)),
        (kuwait(7, 59, day=22, second=59), kuwait(8, day=22)),
        (kuwait(8, day=22), kuwait(8, day=22)),
        (kuwait(12), kuwait(12)),
        (kuwait(23, day=30), dt.datetime(2026, 12, 1, 8, tzinfo=KUWAIT)),
    ],
)
def test_the_night_is_from_ten_to_eight_in_kuwait(app: Flask, now: dt.datetime, told: dt.datetime) -> None:
    """NOTIF-20: to the second, over midnight and the end of a month, whatever the zone the instant comes in."""
    with app.app_context():
        for zone in (dt.UTC, KUWAIT, dt.timezone(dt.timedelta(hours=-8))):
            assert outbox.quiet_until(now.astimezone(zone)) == told


def test_operators_set_the_night(app: Flask) -> None:
    """NOTIF-20: within one day, over midnight, and none at all where both hours are the same."""
    with app.app_context():
        hours(1, 5)
        assert outbox.quiet_until(kuwait(0, 59)) == kuwait(0, 59)
        assert outbox.quiet_until(kuwait(1)) == outbox.quiet_until(kuwait(4, 59)) == kuwait(5)
        assert outbox.quiet_until(kuwait(5)) == kuwait(5)
        hours(23, 0)
        assert outbox.quiet_until(kuwait(23, 30)) == kuwait(0, day=22)
        assert outbox.quiet_until(kuwait(0)) == kuwait(0)
        hours(0, 6)
        assert outbox.quiet_until(kuwait(23, 59)) == kuwait(23, 59)
        assert outbox.quiet_until(kuwait(0)) == kuwait(6)
        for hour in (0, 8, 22):
            hours(hour, hour)
            assert [outbox.quiet_until(kuwait(at)) for at in range(24)] == [kuwait(at) for at in range(24)]


def test_only_what_can_wait_waits(app: Flask, clock: Clock, queued: Queued) -> None:
    """NOTIF-20: an urgent message goes out at night. The other is handed to nobody before eight, and then once."""
    with app.app_context():
        owner = customer()
        clock.now = kuwait(23).astimezone(dt.UTC)
        notify(owner.account, "subscription_expiring", "end", **SOON)
        notify(owner.account, "credit_exhausted", "1", balance=0)
        db.session.commit()
        kinds = {note.id: note.kind for note in notes()}
        by_kind = {kinds[way.notification_id]: way for way in deliveries()}
        waits, goes = by_kind["subscription_expiring"], by_kind["credit_exhausted"]
        assert queued == [("deliver", (goes.id,))]
        assert (waits.due_at, waits.handed_at, goes.due_at) == (kuwait(8, day=22), None, clock.now)
        clock.now = kuwait(7, 59, day=22).astimezone(dt.UTC)
        assert waits.id not in work.hand_out(Delivery)
        clock.now = kuwait(8, day=22).astimezone(dt.UTC)
        assert waits.id in work.hand_out(Delivery)
        assert work.hand_out(Delivery) == []
