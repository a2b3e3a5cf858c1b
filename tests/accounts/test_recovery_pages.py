"""Proving one's number, and the way back in without the password, as pages: over HTTP, with real codes."""

import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from limits import RateLimitItemPerMinute
from werkzeug.test import TestResponse

from portal.clock import utcnow
from portal.extensions import db
from portal.models import Delivery, Notification, OneTimeCode, User
from portal.services import attempts, codes, recovery
from portal.services.notifications import delivery
from sandbox.process import SandboxProcess
from tests.accounts.code_forms import (
    ARABIC_DIGITS,
    NEW_PASSWORD,
    a_minute_later,
    code_of,
    send,
    user_of,
    words,
    wrong,
)
from tests.accounts.forms import is_signed_in, log_in
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import MakeApp

PATHS = ("/verify", "/forgot", "/reset", "/settings/password", "/settings/phone", "/settings/phone/code")


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser of nobody's, in English."""
    client = app.test_client()
    client.set_cookie("lang", "en")
    return client


def _in_english(client: FlaskClient) -> FlaskClient:
    client.set_cookie("lang", "en")
    return client


def _read(client: FlaskClient, path: str) -> str:
    return words(client.get(path))


# --- the number is theirs -------------------------------------------------------------------------------------------


def test_a_number_is_verified_with_the_code_that_arrives(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess
) -> None:
    """AUTH-04: the whole way, from the banner to the telephone's screen and back; Arabic digits are digits too."""
    app = make_app(sqlite_url, RESAYIL_API_URL=sandbox.whatsapp_url, RESAYIL_API_KEY="sandbox")
    layla = Cast(app).layla
    client = _in_english(app.test_client())
    log_in(client, layla.email, PASSWORD)
    assert "Your phone number is not verified yet" in _read(client, "/dashboard")
    page = client.get("/verify").get_data(as_text=True)
    assert "•••• 101" in page
    assert layla.phone not in page, "masked but for the last three digits"
    assert 'name="code"' not in page
    answer = send(client, "/verify")
    assert (answer.status_code, answer.location) == (302, "/verify?step=sent")
    with app.app_context():
        newest = db.session.scalars(sa.select(Delivery.id).order_by(Delivery.id.desc()).limit(1)).all()
        db.session.commit()
        assert delivery.deliver(newest) == {"done": 1}
    (message,) = sandbox.messages(layla.phone)
    code = re.findall(r"^\d{6}$", message["message"], re.M)[0]
    page = client.get(answer.location).get_data(as_text=True)
    assert 'inputmode="numeric"' in page
    assert 'autocomplete="one-time-code"' in page
    assert code not in page
    answer = send(client, "/verify", "/verify?step=code", code=f" {code[:3]} {code[3:]} ".translate(ARABIC_DIGITS))
    assert (answer.status_code, answer.location) == (302, "/dashboard?saved=phone")
    assert "Your phone number is verified" in _read(client, answer.location)
    assert "not verified" not in _read(client, "/dashboard")
    assert client.get("/verify").location == "/dashboard"


def test_a_wrong_code_is_told_beside_its_field(app: Flask, cast: Cast) -> None:
    """AUTH-04: and after five it is over, in words that say what to do."""
    client = _in_english(cast.sign_in(cast.layla))
    send(client, "/verify")
    code = code_of(app, cast.layla.user_id)
    for number in range(1, 6):
        answer = send(client, "/verify", "/verify?step=code", code=wrong(code))
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in answer.get_data(as_text=True)
        assert ("This code is not right" if number < 5 else "no longer valid") in words(answer)
    assert send(client, "/verify", "/verify?step=code", code=code).status_code == 422, "the right one comes too late"
    assert user_of(app, cast.layla.user_id).phone_verified_at is None
    assert "Please fill in" in words(send(client, "/verify", "/verify?step=code", code=" "))


def test_a_second_code_waits_a_minute_and_the_page_says_how_long(app: Flask, cast: Cast) -> None:
    """AUTH-04: 60 s between sends; told with the seconds, in the header too; the code's field is there meanwhile."""
    client = _in_english(cast.sign_in(cast.layla))
    send(client, "/verify")
    first = code_of(app, cast.layla.user_id)
    answer = send(client, "/verify")
    assert answer.status_code == 429
    assert 50 <= int(answer.headers["Retry-After"]) <= 60
    found = re.search(r"another one: (\d+)", words(answer))
    assert found is not None
    assert 50 <= int(found[1]) <= 60
    assert 'name="code"' in answer.get_data(as_text=True)
    assert "data-countdown" in answer.get_data(as_text=True)
    a_minute_later(app)
    assert send(client, "/verify").status_code == 302
    assert send(client, "/verify", "/verify?step=code", code=first).status_code == 422, "the older one is over"
    assert send(client, "/verify", "/verify?step=code", code=code_of(app, cast.layla.user_id)).status_code == 302


def test_a_day_has_only_so_many_codes(app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-04: the daily caps, in words."""
    monkeypatch.setattr(codes, "A_NUMBER_A_DAY", 1)
    client = _in_english(cast.sign_in(cast.layla))
    assert send(client, "/verify").status_code == 302
    a_minute_later(app)
    answer = send(client, "/verify")
    assert answer.status_code == 429
    assert "No more codes can be sent today" in words(answer)


def test_another_persons_code_verifies_nobody(app: Flask, cast: Cast) -> None:
    """AUTH-04: Zaid's code is Zaid's."""
    send(cast.sign_in(cast.zaid), "/verify")
    client = cast.sign_in(cast.layla)
    send(client, "/verify")
    assert send(client, "/verify", "/verify?step=code", code=code_of(app, cast.zaid.user_id)).status_code == 422


@pytest.mark.parametrize("path", PATHS)
def test_a_form_of_somebody_elses_does_nothing(app: Flask, cast: Cast, path: str) -> None:
    """OPS-03: each form carries its token; without it nothing is sent and nothing changed."""
    client = cast.sign_in(cast.layla)
    form = {"email": cast.layla.email, "code": "123456", "current": PASSWORD, "password": NEW_PASSWORD, "phone": "5"}
    assert client.post(path, data=form).status_code == 400
    with app.app_context():
        assert db.session.scalars(sa.select(OneTimeCode)).all() == []


def test_strangers_are_sent_to_sign_in(client: FlaskClient) -> None:
    """AUTH-04: whose number it is must be known."""
    assert client.get("/verify").location == "/login?next=/verify"
    assert client.get("/settings/phone").location == "/login?next=/settings/phone"


# --- the way back in ------------------------------------------------------------------------------------------------


def test_a_forgotten_password_is_replaced_and_every_other_session_ends(app: Flask, client: FlaskClient) -> None:
    """AUTH-04: code, new password, signed in here; copied cookies are dead, API keys live, the owner is told."""
    cast = Cast(app)
    layla = cast.layla
    elsewhere = cast.sign_in(layla)
    cookie = elsewhere.get_cookie("portal")
    assert cookie is not None
    assert 'href="/forgot"' in client.get("/login").get_data(as_text=True)
    answer = send(client, "/forgot", email=layla.email.upper())
    assert (answer.status_code, answer.location) == (302, "/reset?step=sent")
    text = _read(client, answer.location)
    assert "If there is an account with these details" in text
    assert layla.email.upper() in text, "whose password it will be"
    code = code_of(app, layla.user_id)
    answer = send(client, "/reset", code=code, password=NEW_PASSWORD)
    assert (answer.status_code, answer.location) == (302, "/dashboard?saved=password")
    assert "Your new password is set" in _read(client, answer.location)
    assert is_signed_in(client)
    assert not is_signed_in(elsewhere)
    thief = app.test_client()
    thief.set_cookie("portal", cookie.value)
    assert not is_signed_in(thief)
    assert app.test_client().get("/v1/models", headers=layla.bearer).status_code == 200
    assert log_in(app.test_client(), layla.email, PASSWORD).status_code == 401
    assert log_in(app.test_client(), layla.email, NEW_PASSWORD).status_code == 302
    with app.app_context():
        told = sa.select(sa.func.count()).where(Notification.kind == "password_changed")
        assert db.session.scalar(told) == 1
    again = app.test_client()
    assert send(again, "/reset", email=layla.email, code=code, password="another-" + NEW_PASSWORD).status_code == 422
    assert user_of(app, layla.user_id).phone_verified_at is not None, "the code proved the number as well"


def test_it_is_done_on_another_device_too(app: Flask, client: FlaskClient) -> None:
    """AUTH-04: no cookie there, so the page asks who it is; a number in any spelling will do."""
    layla = Cast(app).layla
    proved(app, layla.user_id)
    send(client, "/forgot", email="5000 0101")
    other = _in_english(app.test_client())
    page = other.get("/reset").get_data(as_text=True)
    assert 'name="email"' in page
    assert 'name="email"' not in client.get("/reset").get_data(as_text=True).partition('class="resend"')[0]
    answer = send(other, "/reset", code="123456", password=NEW_PASSWORD)
    assert answer.status_code == 422
    assert "Please fill in" in words(answer)
    refused = send(other, "/reset", email="00965 50000101", code="x", password=NEW_PASSWORD)
    assert 'value="00965 50000101"' in refused.get_data(as_text=True), "what was typed stands"
    done = send(other, "/reset", email="٥٠٠٠٠١٠١", code=code_of(app, layla.user_id), password=NEW_PASSWORD)
    assert done.location == "/dashboard?saved=password"


def proved(app: Flask, user_id: str) -> None:
    """Their number is theirs, so that it may stand for them."""
    with app.app_context():
        db.session.execute(sa.update(User).where(User.id == user_id).values(phone_verified_at=utcnow()))
        db.session.commit()


def test_strangers_and_customers_are_told_alike(app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-04, never again "login told who exists": status, address, header and every word, at each step."""
    assert cast.layla
    monkeypatch.setattr(recovery, "ASKED_A_DAY", 2)
    tellings = []
    for typed in (cast.layla.email, "nobody@example.com"):
        client = _in_english(app.test_client())
        answers = [
            send(client, "/forgot", email=typed),
            client.get("/reset?step=sent"),
            send(client, "/forgot", email=typed),
            *(
                send(client, "/reset", code="x23456", password=password)
                for password in ("short", "password1", typed, NEW_PASSWORD)
            ),
        ]
        for _ in range(2):
            a_minute_later(app)
            answers.append(send(client, "/forgot", email=typed))
        tellings.append([_as_told(answer, typed) for answer in answers])
    assert tellings[0] == tellings[1]
    assert [status for status, *_ in tellings[0]] == [302, 200, 429, 422, 422, 422, 422, 302, 429]


def _as_told(answer: TestResponse, typed: str) -> tuple[int, str | None, bool, str]:
    """All that a stranger can see, but for the seconds, which go by."""
    text = re.sub(r"\d\d", "#", words(answer).replace(typed, "WHO"))
    return answer.status_code, answer.location, "Retry-After" in answer.headers, text


def test_a_number_does_not_betray_its_owners_address(app: Flask, cast: Cast) -> None:
    """AUTH-04: "do not use your e-mail address" told a stranger which address belongs to a number."""
    client = _in_english(app.test_client())
    proved(app, cast.layla.user_id)
    send(client, "/forgot", email=cast.layla.phone)
    guessed = words(send(client, "/reset", code="x23456", password=cast.layla.email))
    assert "Do not use your e-mail address" not in guessed
    assert "This code is not right" in guessed
    owner = send(client, "/reset", code=code_of(app, cast.layla.user_id), password=cast.layla.email)
    assert owner.status_code == 422
    assert "Do not use your e-mail address" in words(owner), "who has the code is told"
    done = send(client, "/reset", code=code_of(app, cast.layla.user_id), password=NEW_PASSWORD)
    assert done.status_code == 302, "and the code is not used up by that"


def test_who_guesses_codes_is_slowed(app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-04: from one address, across accounts; in words, with 429; and every guess leaves its line for fail2ban."""
    monkeypatch.setattr(attempts, "PER_ADDRESS", RateLimitItemPerMinute(3, 15, namespace="few"))
    client = _in_english(app.test_client())
    for number in range(3):
        assert send(client, "/reset", email=f"{number}@example.com", code="1", password=NEW_PASSWORD).status_code == 422
    answer = send(client, "/reset", email=cast.layla.email, code="1", password=NEW_PASSWORD)
    assert answer.status_code == 429
    assert "Too many attempts" in words(answer)
    answer = send(client, "/forgot", email=cast.layla.email)
    assert answer.status_code == 429
    assert "Too many attempts" in words(answer)


def test_a_password_can_be_reset_by_who_is_signed_in(app: Flask, cast: Cast) -> None:
    """AUTH-04: "if it was not you" in a message leads the owner here, signed in or not."""
    client = cast.sign_in(cast.layla)
    assert client.get("/forgot").status_code == 200
    send(client, "/forgot", email=cast.layla.email)
    assert send(client, "/reset", code=code_of(app, cast.layla.user_id), password=NEW_PASSWORD).status_code == 302
    assert is_signed_in(client)
