"""Staff in a crowd of alerts: some are messages, all are in the portal, and that the rest is only there is said."""

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import Delivery, EventStep
from portal.services import bans, runs, work
from portal.services.notifications import centre, notify_staff
from portal.services.notifications.outbox import AN_HOUR
from portal.services.notifications.samples import FACTS
from portal.tasks.graph import GRAPH
from tests.notifications.outside import Clock, deliveries, notes, reading
from tests.services.portal_app import MakeApp

ADMINS = ("+96550000901", "+96550000902")


@pytest.fixture
def portal(make_app: MakeApp, database_url: str) -> Flask:
    return make_app(database_url, ADMIN_PHONES=",".join(ADMINS))


def tell(kind: str, occasion: object) -> bool:
    new = notify_staff(kind, str(occasion), **FACTS[kind])
    db.session.commit()
    return new


def test_sixty_bans_are_six_messages_to_each_administrator(portal: Flask, clock: Clock) -> None:
    """NOTIF-09: whoever has a network of IPv6 is banned a thousand times an hour, at night too."""
    with portal.app_context():
        for number in range(60):
            bans.ban(f"2001:db8:0:{number:x}::1", "portal-auth", 15, 3600)
        runs.unfold_new(GRAPH)
        for step in work.due(EventStep, 500):
            runs.run_step(GRAPH, step)
        for phone in ADMINS:
            assert len(deliveries(Delivery.address == phone)) == AN_HOUR + 1 == 6
        kinds = [note.kind for note in notes()]
        assert (kinds.count("address_banned"), kinds.count("alerts_muted")) == (60, 1)
        shown = centre.staff_page("ar", limit=100).notes
        assert len(shown) == 61
        [muted] = [note for note in shown if note.kind == "alerts_muted"]
        assert "حُظر عنوان بعد محاولات فاشلة" in muted.body
        assert muted.link == "/notifications?of=staff"


def test_another_kind_is_told_meanwhile_and_the_same_when_it_is_calm(portal: Flask, clock: Clock) -> None:
    """NOTIF-07 to 09: what is quiet is the crowd alone; a repeated occasion is neither told nor counted."""
    clock.later(minutes=30)
    with portal.app_context():
        assert [tell("address_banned", number) for number in range(7)] == [True] * 7
        assert not tell("address_banned", 6)
        assert len(deliveries()) == 2 * 6
        assert tell("provider_down", "x")
        assert len(deliveries()) == 2 * 7
        clock.later(minutes=59)
        assert tell("address_banned", 7)  # of another hour by the clock: that it is quiet is told once in that
        assert tell("address_banned", 8)
        assert len(deliveries()) == 2 * 8
        clock.later(minutes=61)
        assert tell("address_banned", 9)
        assert len(deliveries()) == 2 * 9
        assert [note.facts["count"] for note in notes() if note.kind == "alerts_muted"] == [6, 8]


def test_to_look_whether_there_is_a_crowd_reads_an_index(make_app: MakeApp, sqlite_url: str) -> None:
    """REL-02: staff's notifications of years are not read for one more."""
    with make_app(sqlite_url).app_context(), reading() as connection:
        query = "SELECT count(*) FROM notifications WHERE recipient = 'staff' AND created_at > '2026' AND kind = 'x'"
        plan = str(connection.execute(sa.text("EXPLAIN QUERY PLAN " + query)).all())
    assert "ix_notifications_recipient_created_at" in plan
