"""Who is told is written down with what happened: in its transaction, once, by the ways they want."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import OptOut, User
from portal.services.notifications import notify, notify_number, notify_staff
from portal.services.notifications.kinds import CUSTOMER, KINDS, STAFF
from portal.services.notifications.samples import FACTS
from tests.notifications.outside import Clock, Queued, at_once, customer, deliveries, notes
from tests.services.portal_app import MakeApp

SMTP = "smtp://127.0.0.1:9"
STRANGER = "+96599990001"


def ways() -> list[tuple[str, str]]:
    return sorted((way.channel, way.address) for way in deliveries())


def test_a_message_is_of_the_callers_transaction(make_app: MakeApp, database_url: str, queued: Queued) -> None:
    """NOTIF-20: rolled back, it was never there and nobody is woken; committed, it is there before a worker is."""
    app = make_app(database_url)
    with app.app_context():
        owner = customer()
        assert notify(owner.account, "credit_exhausted", "1", balance=0)
        db.session.execute(sa.update(User).values(name="changed"))
        db.session.rollback()
        assert (notes(), deliveries(), queued) == ([], [], [])

        assert notify(owner.account, "credit_exhausted", "1", balance=0)
        assert (notes(), queued) == ([], [])
        db.session.commit()
        [note], [way] = notes(), deliveries()
        assert (note.recipient, note.account_id, note.kind) == (f"account:{owner.account}", owner.account, note.kind)
        assert (note.occasion, note.facts, note.language, note.read_at) == ("1", {"balance": 0}, "ar", None)
        assert (way.notification_id, way.channel, way.address) == (note.id, "whatsapp", owner.phone)
        assert (way.state, way.attempts, way.text, way.in_doubt, way.expires_at) == ("waiting", 0, "", False, None)
        assert way.due_at == way.handed_at == way.created_at == note.created_at
        assert queued == [("deliver", (way.id,))]


def test_a_savepoint_that_is_undone_takes_its_message_along(make_app: MakeApp, database_url: str) -> None:
    """NOTIF-20: the transaction around it goes on, and what was told in it goes out."""
    app = make_app(database_url)
    with app.app_context():
        owner = customer()
        with pytest.raises(RuntimeError), db.session.begin_nested():
            notify(owner.account, "credit_exhausted", "inner", balance=0)
            raise RuntimeError
        notify(owner.account, "credit_exhausted", "outer", balance=0)
        db.session.commit()
        assert [note.occasion for note in notes()] == ["outer"]
        assert len(deliveries()) == 1


def test_fifty_threads_tell_once(make_app: MakeApp, database_url: str, queued: Queued) -> None:
    """NOTIF-20: one row, one delivery, one job, one True, whoever is at it at the same moment."""
    app = make_app(database_url, ADMIN_PHONES="+96550000901,+96550000902")
    with app.app_context():
        owner = customer()

    def tell() -> tuple[bool, bool]:
        mine = notify(owner.account, "credit_exhausted", "7", balance=0)
        staff = notify_staff("provider_up", "ollama-1", provider="ollama-1", seconds=5)
        db.session.commit()
        return mine, staff

    results = at_once(app, 50, tell)
    assert sorted(results, key=str) == [(False, False)] * 49 + [(True, True)]
    with app.app_context():
        assert (len(notes()), len(deliveries())) == (2, 3)
        assert sorted(queued.ids) == sorted(way.id for way in deliveries())


def test_another_occasion_recipient_or_kind_is_another_message(app: Flask) -> None:
    """NOTIF-20: unique by these three, and by all of them."""
    with app.app_context():
        one, other = customer(), customer("en")
        assert notify(one.account, "credit_exhausted", "1", balance=0)
        assert not notify(one.account, "credit_exhausted", "1", balance=5)
        assert notify(one.account, "credit_exhausted", "2", balance=0)
        assert notify(other.account, "credit_exhausted", "1", balance=0)
        assert notify(one.account, "credit_low", "1", balance=5, total=50)
        db.session.commit()
        assert len(notes()) == 4
        assert [note.language for note in notes()] == ["ar", "ar", "en", "ar"]
        assert notes()[0].facts == {"balance": 0}


@pytest.mark.parametrize(
    ("kind", "occasion", "facts"),
    [
        ("credit_lowest", "1", {"balance": 0}),
        ("provider_up", "1", FACTS["provider_up"]),
        ("credit_exhausted", "1", {}),
        ("credit_exhausted", "1", {"balance": 0, "total": 5}),
        ("credit_exhausted", "1", {"ballance": 0}),
        ("credit_exhausted", "", {"balance": 0}),
        ("credit_exhausted", "x" * 121, {"balance": 0}),
    ],
)
def test_what_can_not_be_told_is_refused(app: Flask, kind: str, occasion: str, facts: dict[str, Any]) -> None:
    """NOTIF-20: at once and at the caller, not weeks later in a worker. Staff's kinds are not for customers."""
    with app.app_context():
        owner = customer()
        with pytest.raises(ValueError, match=r"message|facts|occasion"):
            notify(owner.account, kind, occasion, **facts)
        with pytest.raises(ValueError, match=r"message|facts|occasion"):
            notify_number(STRANGER, "ar", kind, occasion, **facts)
        if kind != "provider_up":
            with pytest.raises(ValueError, match=r"message|facts|occasion"):
                notify_staff(kind, occasion, **facts)
        db.session.commit()
        assert notes() == []


def test_nobody_is_told_of_nobody(app: Flask) -> None:
    """NOTIF-20: an account that is not there is an error, not a silence."""
    with app.app_context(), pytest.raises(LookupError):
        notify("0" * 32, "credit_exhausted", "1", balance=0)


def test_every_kind_can_be_told(make_app: MakeApp, database_url: str) -> None:
    """NOTIF-01 to 11: with the facts that its words have, on each database, to customers and to staff."""
    app = make_app(database_url, ADMIN_PHONES="+96550000901")
    with app.app_context():
        owner = customer()
        for kind in KINDS.values():
            if kind.audience == STAFF:
                assert notify_staff(kind.name, "1", **FACTS[kind.name])
            else:
                assert notify(owner.account, kind.name, "1", **FACTS[kind.name])
        db.session.commit()
        assert [(note.kind, note.facts) for note in notes()] == list(FACTS.items())
        assert {note.kind for note in notes() if note.account_id is None} == {
            kind.name for kind in KINDS.values() if kind.audience == STAFF
        }


# --- by which ways ---------------------------------------------------------------------------------------------------


def test_email_is_a_way_only_with_a_mail_server(make_app: MakeApp, sqlite_url: str) -> None:
    """NOTIF-20: e-mail beside WhatsApp where SMTP_URL is set; a code goes to the telephone alone."""
    with make_app(sqlite_url).app_context():
        owner = customer()
        notify(owner.account, "credit_exhausted", "1", balance=0)
        db.session.commit()
        assert ways() == [("whatsapp", owner.phone)]
    with make_app(sqlite_url, SMTP_URL=SMTP).app_context():
        notify(owner.account, "credit_exhausted", "2", balance=0)
        notify(owner.account, "one_time_code", "3", **FACTS["one_time_code"])
        db.session.commit()
        assert ways() == sorted([("email", owner.email), *[("whatsapp", owner.phone)] * 3])


@pytest.mark.parametrize("unwanted", [("whatsapp",), ("email",), ("whatsapp", "email")])
def test_what_is_not_wanted_by_a_way_stays_in_the_centre(
    make_app: MakeApp, sqlite_url: str, queued: Queued, unwanted: tuple[str, ...]
) -> None:
    """NOTIF-20, NOTIF-21: an opt-out is of one kind and one way; the portal shows it all the same, and told is told."""
    with make_app(sqlite_url, SMTP_URL=SMTP).app_context():
        owner, other = customer(), customer()
        db.session.add_all([OptOut(account_id=owner.account, kind="credit_low", channel=way) for way in unwanted])
        db.session.commit()
        assert notify(owner.account, "credit_low", "1", **FACTS["credit_low"])
        assert not notify(owner.account, "credit_low", "1", **FACTS["credit_low"])
        db.session.commit()
        assert len(notes()) == 1
        both = {("email", owner.email), ("whatsapp", owner.phone)}
        assert set(ways()) == {way for way in both if way[0] not in unwanted}
        assert len(queued.ids) == 2 - len(unwanted)

        notify(owner.account, "key_created", "1", **FACTS["key_created"])
        notify(other.account, "credit_low", "1", **FACTS["credit_low"])
        db.session.commit()
        assert len(ways()) == 6 - len(unwanted)


def test_nobody_does_without_what_they_must_know(app: Flask) -> None:
    """NOTIF-20: a row that refuses the word of an exhausted credit or of a new password is not looked at."""
    with app.app_context():
        owner = customer()
        must = [kind.name for kind in KINDS.values() if kind.audience == CUSTOMER and not kind.optional]
        assert {"password_changed", "phone_changed", "credit_exhausted", "one_time_code"} <= set(must)
        for kind in must:
            db.session.add(OptOut(account_id=owner.account, kind=kind, channel="whatsapp"))
        for kind in must:
            notify(owner.account, kind, "1", **FACTS[kind])
        db.session.commit()
        assert len(deliveries()) == len(must)


def test_both_numbers_hear_of_a_new_number(app: Flask) -> None:
    """NOTIF-11: whose number was taken away must hear of it there. Once each, also where both are the same."""
    with app.app_context():
        owner = customer()
        facts = FACTS["phone_changed"]
        notify(owner.account, "phone_changed", "1", also_to=(STRANGER,), **facts)
        db.session.commit()
        assert ways() == [("whatsapp", owner.phone), ("whatsapp", STRANGER)]
        notify(owner.account, "phone_changed", "2", also_to=(owner.phone, owner.phone), **facts)
        db.session.commit()
        assert len(ways()) == 3


def test_staff_are_every_number_and_the_address(make_app: MakeApp, sqlite_url: str, queued: Queued) -> None:
    """NOTIF-07 to 10: ADMIN_PHONES, each once, and ADMIN_EMAIL with a mail server; without any, the row alone."""
    facts = FACTS["provider_down"]
    with make_app(sqlite_url).app_context():
        assert notify_staff("provider_down", "none", **facts)
        db.session.commit()
        assert (len(notes()), ways(), queued) == (1, [], [])
    settings = {"ADMIN_PHONES": "+96550000901, +96550000902, +96550000901", "ADMIN_EMAIL": "noor@example.com"}
    with make_app(sqlite_url, **settings).app_context():
        notify_staff("provider_down", "phones", **facts)
        db.session.commit()
        assert ways() == [("whatsapp", "+96550000901"), ("whatsapp", "+96550000902")]
    with make_app(sqlite_url, **settings, SMTP_URL=SMTP).app_context():
        notify_staff("provider_down", "all", **facts)
        db.session.commit()
        assert ("email", "noor@example.com") in ways()
        assert len(queued.ids) == len(ways()) == 5
        assert {(note.recipient, note.account_id) for note in notes()} == {("staff", None)}


# --- how urgent ------------------------------------------------------------------------------------------------------


def test_a_code_is_urgent_and_of_no_use_after_ten_minutes(app: Flask, clock: Clock, queued: Queued) -> None:
    """AUTH-04: ahead of everything else in the queue, at night as well; it expires with the code."""
    with app.app_context():
        clock.now = dt.datetime(2026, 11, 21, 23, tzinfo=dt.UTC)  # two in the morning in Kuwait
        notify_number(STRANGER, "en", "one_time_code", "1", code="0" * 32, minutes=10)
        db.session.commit()
        [note], [way] = notes(), deliveries()
        assert (note.recipient, note.account_id, note.language) == (f"phone:{STRANGER}", None, "en")
        assert way.expires_at == clock.now + dt.timedelta(minutes=10)
        assert queued == [("deliver code", (way.id,))]


def test_what_is_of_no_use_later_expires(make_app: MakeApp, sqlite_url: str, clock: Clock) -> None:
    """NOTIF-10: the summary is of no use twelve hours after it was due; other messages never expire."""
    with make_app(sqlite_url, ADMIN_PHONES="+96550000901").app_context():
        notify_staff("daily_summary", "2026-11-20", **FACTS["daily_summary"])
        notify_staff("provider_up", "1", **FACTS["provider_up"])
        db.session.commit()
        summary, other = deliveries()
        assert summary.expires_at == summary.due_at + dt.timedelta(hours=12)
        assert other.expires_at is None
