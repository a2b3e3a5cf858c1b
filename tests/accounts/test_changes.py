"""A new password and a new number: by who knows the present password, told to the owner, every other session ended."""

from functools import partial

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.errors import TooManyAttempts
from portal.extensions import db
from portal.models import UserSession
from portal.services import codes, recovery, sessions
from portal.services.recovery import Refused
from tests.accounts.people import HERE, NEW, failures, fields, me, newest, row, signed_in, told, wrong
from tests.ledger.books import Threads
from tests.notifications.outside import Clock, deliveries, notes
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import MakeApp


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def portal(make_app: MakeApp, sqlite_url: str) -> Flask:
    return make_app(sqlite_url)


@pytest.fixture
def everywhere(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases."""
    return make_app(database_url)


# --- a new password --------------------------------------------------------------------------------------------------


def test_a_new_password_takes_the_present_one(portal: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """AUTH-06: guesses are counted and slowed as at the door, and leave their line; the right one ends the rest."""
    layla = Cast(portal).layla
    with portal.app_context():
        token = signed_in(layla)
        user, other = sessions.user_of(token), signed_in(layla)
        assert user is not None
        for _ in range(2):
            assert set(fields(lambda: recovery.change_password(user, "not-mine-at-all", NEW, HERE))) == {"current"}
        line = f"auth_failure ip={HERE.address} reason=bad_password email={layla.email}"
        assert failures(caplog) == [line, line]
        assert set(fields(lambda: recovery.change_password(user, PASSWORD, "short", HERE))) == {"password"}
        recovery.change_password(user, PASSWORD, NEW, HERE)
        assert sessions.user_of(other) is None
        assert sessions.user_of(token) is not None
        assert len(told(layla, "password_changed")) == 1
        db.session.rollback()
        for _ in range(10):
            fields(lambda: recovery.change_password(user, PASSWORD, NEW, HERE))
        with pytest.raises(TooManyAttempts):
            recovery.change_password(user, NEW, PASSWORD, HERE)
        assert "reason=throttled" in failures(caplog)[-1]


# --- a new number ----------------------------------------------------------------------------------------------------


def test_a_new_number_is_proved_and_both_hear_of_it(everywhere: Flask) -> None:
    """AUTH-06: the code goes to the new number, the news to both; every other session ends."""
    layla = Cast(everywhere).layla
    with everywhere.app_context():
        user, other = me(layla), signed_in(layla)
        number = recovery.ask_for_number(user, "5000 0777", "kw", PASSWORD, HERE.address)
        assert (number, deliveries()[-1].address) == ("+96550000777", "+96550000777")
        digits = newest(codes.PHONE)
        assert set(fields(lambda: recovery.change_number(user, wrong(digits), HERE))) == {"code"}
        assert row(layla).phone == layla.phone
        recovery.change_number(user, digits, HERE)
        assert (row(layla).phone, row(layla).phone_verified_at is not None) == (number, True)
        assert sessions.user_of(other) is None
        [note] = told(layla, "phone_changed")
        assert note.facts["phone"] == number
        ways = sorted(way.address for way in deliveries() if way.notification_id == note.id)
        assert ways == sorted([layla.phone, number])


def test_a_number_that_can_not_be_taken_is_refused(portal: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """AUTH-06: none, one's own, somebody else's, and without the password; no code goes out."""
    cast = Cast(portal)
    layla, zaid = cast.layla, cast.zaid
    with portal.app_context():
        user = me(layla)

        def asked(phone: str, country: str = "KW", password: str = PASSWORD) -> set[str]:
            return set(fields(lambda: recovery.ask_for_number(user, phone, country, password, HERE.address)))

        assert asked("123") == asked("50000777", "XX") == asked(layla.phone) == asked(zaid.phone) == {"phone"}
        assert asked("50000777", password="not-mine-at-all") == {"current"}
        assert "reason=bad_password" in failures(caplog)[-1]
        assert [note for note in notes() if note.kind == "one_time_code"] == []


def test_of_two_who_take_one_number_one_gets_it(everywhere: Flask, clock: Clock) -> None:
    """AUTH-06: both have a right code for it; the other keeps their number and their sessions, and is told why."""
    cast = Cast(everywhere)
    people, digits = (cast.layla, cast.zaid), []
    with everywhere.app_context():
        for person in people:
            recovery.ask_for_number(me(person), "50000777", "KW", PASSWORD, HERE.address)
            digits.append(newest(codes.PHONE))
            clock.later(seconds=61)

    def change(number: int) -> str:
        with everywhere.app_context():
            recovery.change_number(me(people[number]), digits[number], HERE)
            return "changed"

    results = Threads(partial(change, 0), partial(change, 1)).wait(60)
    assert results.count("changed") == 1, results
    loser = people[0 if results[1] == "changed" else 1]
    [refused] = [result for result in results if isinstance(result, Refused)]
    assert set(refused.problems) == {"phone"}
    with everywhere.app_context():
        assert row(loser).phone == loser.phone
        assert db.session.scalar(sa.select(sa.func.count()).where(UserSession.user_id == loser.user_id)) == 2
        assert len([note for note in notes() if note.kind == "phone_changed"]) == 1
