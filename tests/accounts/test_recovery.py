"""What hangs on a number: proving it, a forgotten password, and what a stranger learns of either."""

import logging
import time
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.errors import TooManyAttempts
from portal.extensions import db
from portal.models import Account, User, UserSession
from portal.services import attempts, codes, recovery, sessions, sign_in
from portal.services.codes import TooManyCodes, TooSoon
from portal.services.notifications import outbox
from portal.services.recovery import Refused
from tests.accounts.forms import is_signed_in
from tests.accounts.people import HERE, NEW, STRANGER, failures, fields, me, newest, row, told, wrong
from tests.ledger.books import Threads
from tests.notifications.outside import Clock, Line, deliveries, notes
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "ANSWER_SECONDS", 0)


# --- proving a number ------------------------------------------------------------------------------------------------


def test_a_number_is_proved_with_its_code(portal: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """AUTH-04: sent to the user's own number; a wrong one is refused, counted and in the log for fail2ban."""
    layla = Cast(portal).layla
    with portal.app_context():
        user = me(layla)
        recovery.send_verification(user, HERE.address)
        assert deliveries()[-1].address == layla.phone
        digits = newest(codes.VERIFY)
        first = fields(lambda: recovery.verify(user, wrong(digits), HERE.address))
        assert failures(caplog) == [f"auth_failure ip={HERE.address} reason=bad_code email={layla.email}"]
        assert row(layla).phone_verified_at is None
        recovery.verify(user, f" {digits} ", HERE.address)
        assert row(layla).phone_verified_at is not None
        assert fields(lambda: recovery.verify(user, digits, HERE.address)) != first  # "ask for another one"


def test_a_code_for_another_number_proves_nothing(portal: Flask) -> None:
    """AUTH-04: the number was changed while the code was on its way."""
    layla = Cast(portal).layla
    with portal.app_context():
        user = me(layla)
        recovery.send_verification(user, HERE.address)
        db.session.execute(sa.update(User).where(User.id == user.id).values(phone="+96550000999"))
        db.session.commit()
        recovery.verify(user, newest(codes.VERIFY), HERE.address)
        assert row(layla).phone_verified_at is None


# --- a forgotten password: what strangers see ------------------------------------------------------------------------


def outcomes(identifier: str, clock: Clock) -> list[str]:
    """What somebody is told who asks for one name all day long."""
    seen = []
    for pause in (0, 1, 58, 1, *[61] * 10):
        clock.later(seconds=pause)
        try:
            recovery.forgot(identifier, HERE.address)
            seen.append("on its way")
        except TooSoon as soon:
            seen.append(f"wait {soon.seconds}")
        except TooManyCodes:
            seen.append("too many")
    return seen


@pytest.mark.usefixtures("quick")
def test_known_and_unknown_are_told_alike(portal: Flask, clock: Clock) -> None:
    """AUTH-05; never again, "Login told who exists": the same words after the same waits; only one hears of it."""
    layla = Cast(portal).layla
    with portal.app_context():
        known = outcomes(layla.email, clock)
        clock.later(days=1)
        assert outcomes(STRANGER, clock) == known
        clock.later(days=1)
        assert outcomes("+965 5000 0888", clock) == known
        assert known == ["on its way", "wait 59", "wait 1", *["on its way"] * 9, "too many", "too many"]
        codes_sent = [note for note in notes() if note.kind == "one_time_code"]
        assert {note.recipient for note in codes_sent} == {f"phone:{layla.phone}"}
        assert len(codes_sent) == 10


def test_known_and_unknown_take_the_same_time(portal: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-05: to write a code takes what a stranger's name does not; here, on a slow disk, 100 ms."""
    layla, written = Cast(portal).layla, outbox.notify_number

    def slowly(*values: Any, **facts: Any) -> bool:
        time.sleep(0.1)
        return written(*values, **facts)

    monkeypatch.setattr(codes, "notify_number", slowly)
    took: dict[str, list[float]] = {layla.email: [], STRANGER: []}
    with portal.app_context():
        for identifier in list(took) * 3:
            clock.later(seconds=61)
            began = time.perf_counter()
            recovery.forgot(identifier, HERE.address)
            took[identifier].append(time.perf_counter() - began)
    assert min(map(min, took.values())) >= recovery.ANSWER_SECONDS
    assert abs(min(took[layla.email]) - min(took[STRANGER])) < 0.05
    assert len(deliveries_of(portal, layla.phone)) >= 3


def deliveries_of(app: Flask, phone: str) -> list[Line]:
    with app.app_context():
        return [way for way in deliveries() if way.address == phone]


@pytest.mark.usefixtures("quick")
def test_whoever_has_a_mistyped_number_can_not_ask_for_the_account(portal: Flask, clock: Clock) -> None:
    """AUTH-04: a number that nobody proved finds nobody, in the same words; proved, it does."""
    layla = Cast(portal).layla
    with portal.app_context():
        recovery.forgot(layla.phone, HERE.address)
        assert [note for note in notes() if note.kind == "one_time_code"] == []
        db.session.execute(sa.update(User).where(User.id == layla.user_id).values(phone_verified_at=clock.now))
        db.session.commit()
        clock.later(seconds=61)
        recovery.forgot(layla.phone, HERE.address)
        recovery.reset(layla.phone, newest(codes.RESET), NEW, HERE)


@pytest.mark.usefixtures("quick")
def test_every_spelling_of_a_name_is_one_name(portal: Flask, clock: Clock) -> None:
    """AUTH-05: no second code for the same number by writing it another way, known or not."""
    layla = Cast(portal).layla
    spellings = (
        (layla.email, layla.email.upper()),
        (layla.phone, f"00{layla.phone[1:]}"),
        ("+96555555555", "55555555"),
    )
    with portal.app_context():
        for first, second in spellings:
            clock.later(seconds=61)
            recovery.forgot(first, HERE.address)
            with pytest.raises(TooSoon):
                recovery.forgot(second, HERE.address)


@pytest.mark.usefixtures("quick")
def test_who_asks_for_many_names_is_stopped(portal: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-05: a list of addresses, known or not, is neither a list of messages nor of rows without end."""
    monkeypatch.setattr(recovery, "ASKED_FROM_AN_ADDRESS_A_DAY", 3)
    with portal.app_context():
        for number in range(3):
            recovery.forgot(f"u{number}@example.com", HERE.address)
        with pytest.raises(TooManyCodes):
            recovery.forgot("u3@example.com", HERE.address)
        recovery.forgot("u3@example.com", "198.51.100.1")
        for _ in range(50):
            attempts.take(attempts.PER_ADDRESS, "198.51.100.2")
        with pytest.raises(TooManyAttempts):
            recovery.forgot("u4@example.com", "198.51.100.2")


@pytest.mark.parametrize("password", ["short", "password1", "OWN", NEW])
def test_a_reset_that_fails_tells_nobody_who_exists(portal: Flask, password: str) -> None:
    """AUTH-05: weak passwords, one's own name as the password, and a wrong code: both in the same words."""
    layla = Cast(portal).layla
    with portal.app_context():
        refused = []
        for identifier in (layla.email, STRANGER, layla.phone, "+96555555555"):
            mine = identifier if password == "OWN" else password
            refused.append(fields(partial(recovery.reset, identifier, "000000", mine, HERE)))
        assert refused[1:] == refused[:1] * 3
        assert set(refused[0]) == ({"code"} if password == NEW else {"password"})
        # Nor whether a number and an address belong together.
        crossed = fields(partial(recovery.reset, layla.phone, "000000", layla.email, HERE))
        assert crossed == fields(partial(recovery.reset, "+96555555555", "000000", layla.email, HERE))


# --- a forgotten password: its owner ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_reset_ends_every_other_session_and_leaves_the_keys(everywhere: Flask) -> None:
    """AUTH-05: the old cookie is dead, so is the old password; applications run on; the owner is told once."""
    layla = Cast(everywhere).layla
    browser, thief = Cast(everywhere).sign_in(layla), Cast(everywhere).sign_in(layla)
    assert is_signed_in(browser)
    assert is_signed_in(thief)
    with everywhere.app_context():
        for _ in range(9):
            attempts.take(attempts.PER_ACCOUNT, layla.user_id)
        recovery.forgot(layla.email, HERE.address)
        token = recovery.reset(layla.email, newest(codes.RESET), NEW, HERE)
        assert [session.user_id for session in db.session.scalars(sa.select(UserSession))] == [layla.user_id]
        db.session.rollback()
        user = sessions.user_of(token)
        assert user is not None
        assert user.phone_verified_at is not None
        db.session.rollback()
        with pytest.raises(sign_in.SignInRefused):
            sign_in.sign_in(layla.email, PASSWORD, HERE)
        sign_in.sign_in(layla.email, NEW, HERE)  # what the guesser had counted against it is forgotten
        [note] = told(layla, "password_changed")
        assert [way.address for way in deliveries() if way.notification_id == note.id] == [layla.phone]
        assert set(fields(lambda: recovery.reset(layla.email, newest(codes.RESET), PASSWORD, HERE))) == {"code"}
    assert not is_signed_in(browser)
    assert not is_signed_in(thief)
    assert everywhere.test_client().get("/v1/models", headers=layla.bearer).status_code == 200


@pytest.mark.usefixtures("quick")
def test_a_code_resets_once_whoever_comes_at_once(everywhere: Flask) -> None:
    """AUTH-05: of five at the same moment with the right code one sets their password, and one message tells of it."""
    layla = Cast(everywhere).layla
    with everywhere.app_context():
        recovery.forgot(layla.email, HERE.address)
        digits = newest(codes.RESET)

    def reset(number: int) -> str:
        with everywhere.app_context():
            return recovery.reset(layla.email, digits, f"{NEW}-{number}", HERE)

    results = Threads(*[partial(reset, number) for number in range(5)]).wait(60)
    [winner] = [number for number, result in enumerate(results) if isinstance(result, str)]
    assert sum(isinstance(result, Refused) for result in results) == 4
    with everywhere.app_context():
        sign_in.sign_in(layla.email, f"{NEW}-{winner}", HERE)
        assert len(told(layla, "password_changed")) == 1


@pytest.mark.usefixtures("quick")
def test_a_code_that_went_to_the_old_number_resets_nothing(portal: Flask) -> None:
    """AUTH-05: who has the old telephone has nothing of the account any more."""
    layla = Cast(portal).layla
    with portal.app_context():
        recovery.forgot(layla.email, HERE.address)
        digits, before = newest(codes.RESET), row(layla).password_hash
        db.session.execute(sa.update(User).where(User.id == layla.user_id).values(phone="+96550000999"))
        db.session.commit()
        assert set(fields(lambda: recovery.reset(layla.email, digits, NEW, HERE))) == {"code"}
        assert row(layla).password_hash == before
        assert told(layla, "password_changed") == []


@pytest.mark.usefixtures("quick")
def test_a_weak_password_does_not_use_the_code_up(portal: Flask) -> None:
    """AUTH-05: one's own number as the password is refused with the right code too, which stays good."""
    layla = Cast(portal).layla
    with portal.app_context():
        recovery.forgot(layla.email, HERE.address)
        digits = newest(codes.RESET)
        assert set(fields(lambda: recovery.reset(layla.email, digits, layla.phone, HERE))) == {"password"}
        assert recovery.reset(layla.email, digits, NEW, HERE)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("model", [User, Account])
def test_a_suspended_account_gets_no_code(portal: Flask, clock: Clock, model: type[User] | type[Account]) -> None:
    """AUTH-05: and one that it got before opens nothing; the words are those for strangers."""
    layla = Cast(portal).layla
    with portal.app_context():
        recovery.forgot(layla.email, HERE.address)
        digits = newest(codes.RESET)
        db.session.execute(sa.update(model).values(suspended_at=clock.now))
        db.session.commit()
        clock.later(seconds=61)
        recovery.forgot(layla.email, HERE.address)
        assert len([note for note in notes() if note.kind == "one_time_code"]) == 1
        assert set(fields(lambda: recovery.reset(layla.email, digits, NEW, HERE))) == {"code"}


def test_nothing_of_it_is_logged_with_secrets(portal: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """Never again, "Secrets, codes and phone numbers in logs": neither code, nor password, nor number."""
    caplog.set_level(logging.DEBUG)
    layla = Cast(portal).layla
    with portal.app_context():
        recovery.forgot(layla.email, HERE.address)
        digits = newest(codes.RESET)
        fields(lambda: recovery.reset(layla.email, wrong(digits), NEW, HERE))
        recovery.reset(layla.email, digits, NEW, HERE)
    said = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "reason=bad_code" in said
    for secret in (digits, wrong(digits), NEW, layla.phone, layla.phone[1:]):
        assert secret not in said
