"""One-time codes: six digits that open once, for ten minutes and five tries, and are not sent without end."""

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import KUWAIT
from portal.extensions import db
from portal.ids import new_id
from portal.models import OneTimeCode
from portal.services import allowances, codes, tunables
from portal.services.codes import PHONE, RESET, VERIFY, TooManyCodes, TooSoon, WrongCode
from tests.ledger.books import Threads
from tests.notifications.outside import Clock, Line, customer, deliveries, everything, notes, reading
from tests.services.portal_app import MakeApp

HERE = "203.0.113.7"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def portal(make_app: MakeApp, database_url: str) -> Flask:
    """On each of the three databases."""
    return make_app(database_url)


def rows() -> list[Line]:
    with reading() as connection:
        return list(connection.execute(sa.select(OneTimeCode.__table__).order_by(OneTimeCode.id)))


def sent(user: Line, purpose: str = VERIFY, address: str = HERE) -> str:
    """The digits of a code that was sent just now."""
    codes.send(user.id, user.phone, purpose, "ar", address)
    return codes.digits(rows()[-1].id)


def wrong(digits: str) -> str:
    return f"{(int(digits) + 1) % 1_000_000:06d}"


def tries_left(user: Line, typed: str, purpose: str = VERIFY) -> int:
    """As the refusal tells."""
    with pytest.raises(WrongCode) as told:
        codes.check(user.id, purpose, typed)
    db.session.rollback()
    return told.value.tries


def use(user: Line, typed: str, purpose: str = VERIFY) -> str:
    number = codes.check(user.id, purpose, typed)
    db.session.commit()
    return number


# --- checking --------------------------------------------------------------------------------------------------------


def test_a_right_code_proves_the_number_once(portal: Flask) -> None:
    """AUTH-04: the number that it was sent to; the second time it is nothing any more."""
    with portal.app_context():
        user = customer()
        digits = sent(user)
        assert use(user, digits) == user.phone
        assert tries_left(user, digits) == 0
        assert rows()[0].ended_at is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda digits: f"  {digits[:3]} {digits[3:]}\n",
        lambda digits: digits.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
        lambda digits: digits.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")),
        lambda digits: "\u00a0".join(digits),
    ],
)
def test_a_code_may_be_typed_as_people_type(app: Flask, write: Callable[[str], str]) -> None:
    """AUTH-04: with blanks, with Arabic-Indic or Persian digits."""
    with app.app_context():
        user = customer()
        assert use(user, write(sent(user))) == user.phone


def test_five_wrong_tries_and_it_is_over(portal: Flask) -> None:
    """AUTH-04: what is left is told; after the fifth the right one is refused as well, also after a rollback."""
    with portal.app_context():
        user = customer()
        digits = sent(user)
        typed = (wrong(digits), "", digits + "0", "abcdef", "x" * 5_000)
        assert [tries_left(user, attempt) for attempt in typed] == [4, 3, 2, 1, 0]
        assert tries_left(user, digits) == 0
        assert rows()[0].tries == codes.TRIES


def test_the_fifth_try_may_be_the_right_one(app: Flask) -> None:
    """AUTH-04: five tries are five."""
    with app.app_context():
        user = customer()
        digits = sent(user)
        for _ in range(4):
            tries_left(user, wrong(digits))
        assert use(user, digits) == user.phone


def test_a_code_lives_for_ten_minutes(portal: Flask, clock: Clock) -> None:
    """AUTH-04: to the second."""
    with portal.app_context():
        user, late = customer(), customer()
        digits, expired = sent(user), sent(late)
        clock.later(minutes=10, seconds=-1)
        assert use(user, digits) == user.phone
        clock.later(seconds=1)
        assert tries_left(late, expired) == 0
        assert rows()[-1].tries == 0


def test_a_newer_code_ends_the_older_one(portal: Flask, clock: Clock) -> None:
    """AUTH-04: of the same purpose; one for something else stays."""
    with portal.app_context():
        user = customer()
        older = sent(user)
        clock.later(seconds=61)
        other = sent(user, RESET)
        clock.later(seconds=61)
        newer = sent(user)
        assert tries_left(user, older) == 4
        assert use(user, newer) == user.phone
        assert use(user, other, RESET) == user.phone
        assert tries_left(user, older) == 0


def test_a_code_opens_nothing_for_others_and_nothing_else(app: Flask) -> None:
    """AUTH-04: not another user's, not for another purpose, and the tries of neither are spent."""
    with app.app_context():
        user, other = customer(), customer()
        digits = sent(user)
        assert tries_left(other, digits) == 0
        assert tries_left(user, digits, RESET) == tries_left(user, digits, PHONE) == 0
        assert use(user, digits) == user.phone


def test_a_code_is_used_up_with_what_it_was_used_for(portal: Flask) -> None:
    """AUTH-04: rolled back, it is good again; but the try counts, or rolling back would be a way to guess."""
    with portal.app_context():
        user = customer()
        digits = sent(user)
        codes.check(user.id, VERIFY, digits)
        db.session.rollback()
        assert rows()[0].tries == 1
        assert use(user, digits) == user.phone
        assert rows()[0].tries == 2


def in_threads(app: Flask, calls: list[Callable[[], object]]) -> list[object]:
    def alone(call: Callable[[], object]) -> object:
        with app.app_context():
            return call()

    return Threads(*[partial(alone, call) for call in calls]).wait(60)


def test_of_twenty_with_the_right_code_one_gets_in(portal: Flask) -> None:
    """AUTH-04; never again, "used by many: check, then act"."""
    with portal.app_context():
        user = customer()
        digits = sent(user)
    results = in_threads(portal, [partial(use, user, digits)] * 20)
    assert results.count(user.phone) == 1
    assert sum(isinstance(result, WrongCode) for result in results) == 19


def test_twenty_that_guess_at_once_have_five_tries(portal: Flask) -> None:
    """AUTH-04: counted before it is compared, so nobody is ahead of the count."""
    with portal.app_context():
        user = customer()
        digits = sent(user)
        guesses = [partial(codes.check, user.id, VERIFY, f"{n:06d}") for n in range(20) if f"{n:06d}" != digits]
    results = in_threads(portal, list(guesses))
    assert all(isinstance(result, WrongCode) for result in results)
    with portal.app_context():
        assert rows()[0].tries == 5
        assert tries_left(user, digits) == 0


# --- sending ---------------------------------------------------------------------------------------------------------


def test_between_two_codes_to_a_number_lies_a_minute(portal: Flask, clock: Clock) -> None:
    """AUTH-04: whoever asks, and for whatever; how long is told to the second."""
    with portal.app_context():
        user, other = customer(), customer()
        assert codes.seconds_to_wait(user.phone) == 0
        sent(user)
        for passed, left in ((0, 60), (0.5, 60), (30, 30), (29, 1)):
            clock.later(seconds=passed)
            assert codes.seconds_to_wait(user.phone) == left
            with pytest.raises(TooSoon) as told:
                codes.send(other.id, user.phone, RESET, "ar", "198.51.100.1")
            assert told.value.seconds == left
        clock.later(seconds=0.5)
        assert codes.seconds_to_wait(user.phone) == 0
        sent(user)
        assert len(rows()) == len(deliveries()) == 2


def test_a_minute_over_midnight_is_a_minute(portal: Flask, clock: Clock) -> None:
    """AUTH-04: the new day's row knows nothing of the old one's last code."""
    with portal.app_context():
        user = customer()
        clock.now = dt.datetime(2026, 11, 21, 23, 59, 40, tzinfo=KUWAIT).astimezone(dt.UTC)
        sent(user)
        clock.later(seconds=30)
        assert codes.seconds_to_wait(user.phone) == 30
        with pytest.raises(TooSoon):
            sent(user)
        clock.later(seconds=30)
        sent(user)
        assert allowances.used(codes._by_number(user.phone))[0] == 1


def outcome(user_id: str, phone: str, address: str) -> str:
    try:
        codes.send(user_id, phone, VERIFY, "ar", address)
    except codes.CodeRefused as refused:
        return type(refused).__name__
    return "sent"


def test_of_twenty_at_once_one_code_is_sent(portal: Flask) -> None:
    """AUTH-04: one code, one message; the others are told to wait, and took nobody's place."""
    with portal.app_context():
        user = customer()
    results = in_threads(portal, [partial(outcome, user.id, user.phone, HERE)] * 20)
    assert sorted(map(str, results)) == ["TooSoon"] * 19 + ["sent"]
    with portal.app_context():
        assert (len(rows()), len(deliveries())) == (1, 1)
        assert allowances.used(codes._by_number(user.phone))[0] == 1
        assert allowances.used("codes")[0] == 1
        assert allowances.used(codes._named("address", HERE))[0] == 1


def test_a_number_has_ten_codes_a_day(app: Flask, clock: Clock) -> None:
    """AUTH-04: the eleventh is refused until it is another day in Kuwait."""
    with app.app_context():
        user = customer()
        for _ in range(codes.A_NUMBER_A_DAY):
            sent(user)
            clock.later(seconds=61)
        with pytest.raises(TooManyCodes):
            sent(user)
        clock.now = dt.datetime(2026, 11, 21, 23, 59, 59, tzinfo=KUWAIT).astimezone(dt.UTC)
        with pytest.raises(TooManyCodes):
            sent(user)
        clock.later(seconds=1)
        sent(user)
        assert len(rows()) == codes.A_NUMBER_A_DAY + 1


def test_nobody_is_refused_a_place_that_is_free(portal: Flask) -> None:
    """AUTH-04: twenty people of one office at once; who waited for another's line was told that there were too many."""
    with portal.app_context():
        users = [customer() for _ in range(20)]
    asked: list[Callable[[], object]] = [partial(outcome, user.id, user.phone, HERE) for user in users]
    assert in_threads(portal, asked) == ["sent"] * 20


@pytest.mark.parametrize("what", ["address", "day"])
def test_a_cap_is_exact_whoever_comes_at_once(portal: Flask, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """AUTH-04, the daily cost ceiling: twenty at once for seven places: seven codes. The refused lose nothing."""
    with portal.app_context():
        users = [customer() for _ in range(20)]
        if what == "day":
            tunables.put("codes_a_day", "7")
    monkeypatch.setattr(codes, "AN_ADDRESS_A_DAY", 7 if what == "address" else 1)
    asked: list[Callable[[], object]] = [
        partial(outcome, user.id, user.phone, HERE if what == "address" else f"198.51.100.{number}")
        for number, user in enumerate(users)
    ]
    results = in_threads(portal, asked)
    assert sorted(map(str, results)) == ["TooManyCodes"] * 13 + ["sent"] * 7
    with portal.app_context():
        assert (len(rows()), len(deliveries()), allowances.used("codes")[0]) == (7, 7, 7)
        for user, result in zip(users, results, strict=True):
            assert allowances.used(codes._by_number(user.phone))[0] == (result == "sent")
            assert (codes.seconds_to_wait(user.phone) > 0) == (result == "sent")
        if what == "day":
            tunables.put("codes_a_day", "1000")
            refused = next(n for n, result in enumerate(results) if result != "sent")
            assert outcome(users[refused].id, users[refused].phone, f"198.51.100.{refused}") == "sent"


def test_a_household_is_one_address(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-04: an IPv6 customer has a /64 of addresses, and one allowance."""
    monkeypatch.setattr(codes, "AN_ADDRESS_A_DAY", 2)
    with app.app_context():
        users = [customer() for _ in range(4)]
        told = [outcome(user.id, user.phone, f"2001:db8:0:1::{n}") for n, user in enumerate(users[:3])]
        assert told == ["sent", "sent", "TooManyCodes"]
        assert outcome(users[3].id, users[3].phone, "2001:db8:0:2::1") == "sent"


def test_what_fails_gives_its_places_back(portal: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-04: no code was sent, so none is counted, nobody waits, and the code before it is still good."""
    with portal.app_context():
        user = customer()

        def broken(*_: Any, **__: Any) -> bool:
            raise RuntimeError

        with monkeypatch.context() as patch:
            patch.setattr(codes, "notify_number", broken)
            with pytest.raises(RuntimeError):
                codes.send(user.id, user.phone, VERIFY, "ar", HERE)
        assert (rows(), notes()) == ([], [])
        assert [allowances.used(name)[0] for name in ("codes", codes._by_number(user.phone))] == [0, 0]
        assert use(user, sent(user)) == user.phone


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_copy_of_the_database_has_no_code_in_it(portal: Flask) -> None:
    """AUTH-04; never again, "Secrets, codes … in git and logs": neither the digits nor a hash of them."""
    with portal.app_context():
        user = customer()
        digits = sent(user)
        dump = everything()
        assert user.phone in dump  # the search finds what is there
        assert digits not in dump
        assert {column.name for column in OneTimeCode.__table__.columns} == {
            "id", "purpose", "user_id", "phone", "tries", "created_at", "expires_at", "ended_at",
        }  # fmt: skip


def test_the_digits_are_the_secrets(make_app: MakeApp, sqlite_url: str) -> None:
    """AUTH-04: from the id alone nobody computes them; they are six, and spread."""
    ids = [new_id() for _ in range(2_000)]
    made = []
    for key in ("a-key-for-tests-alone-0123456789abcdef", "another-key-for-tests-0123456789abcdef"):
        with make_app(sqlite_url, SECRET_KEY=key).app_context():
            made.append([codes.digits(one) for one in ids])
    assert sum(one == other for one, other in zip(*made, strict=True)) <= 2
    assert all(len(one) == 6 and one.isascii() and one.isdigit() for one in made[0])
    assert len({one[0] for one in made[0]}) == 10
    assert len(set(made[0])) > 1_990


def test_forgotten_passwords_have_a_ceiling_of_their_own_and_staff_hear_of_either_once_a_day(
    make_app: MakeApp, database_url: str, clock: Clock
) -> None:
    """AUTH-04: whoever signs up in crowds uses up the codes of sign-ups, and shuts nobody out who forgot a password."""
    app = make_app(database_url, ADMIN_PHONES="+96550000901,+96550000902")
    with app.app_context():
        tunables.put("codes_a_day", "2")
        people = [customer() for _ in range(7)]
        for user in people[:2]:
            sent(user)
        for user in people[2:4]:
            for purpose in (VERIFY, PHONE):
                with pytest.raises(TooManyCodes):
                    sent(user, purpose)
        for user in people[4:6]:
            sent(user, RESET)
        with pytest.raises(TooManyCodes):
            sent(people[6], RESET)
        assert [allowances.used(name)[0] for name in ("codes", "codes:reset")] == [2, 2]
        [told] = [note for note in notes() if note.kind == "codes_exhausted"]
        assert (told.recipient, told.facts) == ("staff", {"day": "2026-11-21", "limit": 2})
        assert len([way for way in deliveries() if way.notification_id == told.id]) == 2
        clock.later(days=1)
        for user in people[:3]:
            with suppress(TooManyCodes):
                sent(user)
        assert [note.facts["day"] for note in notes() if note.kind == "codes_exhausted"] == ["2026-11-21", "2026-11-22"]
