"""The settings that prove who one is: another password, another number. Over HTTP, in two steps, without a script."""

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from limits import RateLimitItemPerMinute

from portal.extensions import db
from portal.models import Delivery, Notification, OptOut, User
from portal.services import attempts
from portal.services.notifications import centre, notify, samples
from tests.accounts.code_forms import NEW_PASSWORD, a_minute_later, code_of, send, user_of, words, wrong
from tests.accounts.forms import is_signed_in, log_in
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import MakeApp

NEW_NUMBER = "+96566001234"


@pytest.fixture
def layla(cast: Cast) -> FlaskClient:
    """Layla's browser, in English."""
    client = cast.sign_in(cast.layla)
    client.set_cookie("lang", "en")
    return client


def test_a_password_is_changed_with_the_present_one(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """AUTH-05: every other session ends, this one goes on."""
    elsewhere = cast.sign_in(cast.layla)
    answer = send(layla, "/settings/password", "/settings", current=PASSWORD, password=NEW_PASSWORD)
    assert answer.location == "/settings?saved=password"
    assert "Your new password is set" in words(layla.get(answer.location))
    assert is_signed_in(layla)
    assert not is_signed_in(elsewhere)
    assert log_in(app.test_client(), cast.layla.email, PASSWORD).status_code == 401
    assert log_in(app.test_client(), cast.layla.email, NEW_PASSWORD).status_code == 302


@pytest.mark.parametrize(
    ("current", "password", "field", "sentence"),
    [
        ("wrong", NEW_PASSWORD, "password-current", "This is not your present password"),
        ("", NEW_PASSWORD, "password-current", "Please fill in this field"),
        (PASSWORD, "password1", "password", "among the first that are guessed"),
        (PASSWORD, "layla@example.com", "password", "Do not use your e-mail address"),
    ],
)
def test_a_refused_password_is_told_beside_its_field(
    cast: Cast, layla: FlaskClient, current: str, password: str, field: str, sentence: str
) -> None:
    """AUTH-05: 422, the field marked, nothing typed repeated, every session as it was."""
    elsewhere = cast.sign_in(cast.layla)
    answer = send(layla, "/settings/password", "/settings", current=current, password=password)
    html = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert f'aria-describedby="{field}-error' in html
    assert sentence in words(answer)
    assert NEW_PASSWORD not in html
    assert is_signed_in(elsewhere)


def test_the_present_password_is_not_guessed_here(
    layla: FlaskClient, monkeypatch: pytest.MonkeyPatch, cast: Cast
) -> None:
    """AUTH-02: an open browser is no place to try passwords in."""
    monkeypatch.setattr(attempts, "PER_ACCOUNT", RateLimitItemPerMinute(2, 15, namespace="two"))
    for _ in range(2):
        assert send(layla, "/settings/password", "/settings", current="x", password=NEW_PASSWORD).status_code == 422
    for path in ("/settings/password", "/settings/phone"):
        answer = send(layla, path, "/settings", current=PASSWORD, password=NEW_PASSWORD, phone="66001234", country="KW")
        assert answer.status_code == 429
        assert "Too many attempts" in words(answer)


def test_a_number_is_changed_by_the_code_that_went_to_it(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """AUTH-05: two steps; until the second nothing changes; both numbers are told; other sessions end."""
    elsewhere = cast.sign_in(cast.layla)
    assert layla.get("/settings/phone").location == "/settings#phone-title", "the second step has a first"
    answer = send(layla, "/settings/phone", "/settings", phone="٦٦٠٠ ١٢٣٤", country="KW", current=PASSWORD)
    assert answer.location == "/settings/phone"
    assert "•••• 234" in words(layla.get("/settings/phone"))
    assert user_of(app, cast.layla.user_id).phone == cast.layla.phone
    code = code_of(app, cast.layla.user_id)
    refused = send(layla, "/settings/phone/code", "/settings/phone", code=wrong(code))
    assert refused.status_code == 422
    assert "This code is not right" in words(refused)
    done = send(layla, "/settings/phone/code", "/settings/phone", code=code)
    assert done.location == "/settings?saved=phone"
    text = words(layla.get(done.location))
    assert "Your new number counts from now on" in text
    assert f"{NEW_NUMBER} Verified" in text
    assert user_of(app, cast.layla.user_id).phone == NEW_NUMBER
    assert is_signed_in(layla)
    assert not is_signed_in(elsewhere)
    assert layla.get("/settings/phone").location == "/settings#phone-title", "the step is over"
    with app.app_context():
        told = sa.select(Delivery.address).join(Notification).where(Notification.kind == "phone_changed")
        assert set(db.session.scalars(told)) == {NEW_NUMBER, cast.layla.phone}


@pytest.mark.parametrize(
    ("phone", "current", "sentence"),
    [
        ("123", PASSWORD, "This number does not exist in the chosen country"),
        ("5000 0101", PASSWORD, "This is your number already"),
        ("5000 0103", PASSWORD, "already exists"),
        ("6600 1234", "wrong", "This is not your present password"),
        ("", "", "Please fill in this field"),
    ],
)
def test_a_refused_number_is_told_beside_its_field(
    cast: Cast, layla: FlaskClient, phone: str, current: str, sentence: str
) -> None:
    """AUTH-05: what was typed stands, but for the password; no code is sent."""
    assert cast.zaid.phone == "+96550000103"
    answer = send(layla, "/settings/phone", "/settings", phone=phone, country="KW", current=current)
    assert answer.status_code == 422
    assert sentence in words(answer)
    assert f'value="{phone}"' in answer.get_data(as_text=True)
    assert layla.get("/settings/phone").status_code == 302


def test_a_number_that_was_taken_meanwhile_stays_its_owners(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """AUTH-05: somebody registered with it while the code was on its way."""
    send(layla, "/settings/phone", "/settings", phone="66001234", country="KW", current=PASSWORD)
    with app.app_context():
        db.session.execute(sa.update(User).where(User.id == cast.zaid.user_id).values(phone=NEW_NUMBER))
        db.session.commit()
    answer = send(layla, "/settings/phone/code", "/settings/phone", code=code_of(app, cast.layla.user_id))
    assert answer.status_code == 422
    assert "An account with this phone number already exists" in words(answer)
    assert user_of(app, cast.layla.user_id).phone == cast.layla.phone


def test_another_code_to_the_same_number_waits_a_minute(app: Flask, layla: FlaskClient) -> None:
    """AUTH-04: by number, on this page too."""
    form = {"phone": "66001234", "country": "KW", "current": PASSWORD}
    assert send(layla, "/settings/phone", "/settings", **form).status_code == 302
    answer = send(layla, "/settings/phone", "/settings", **form)
    assert answer.status_code == 429
    assert "Seconds until you can ask for another one" in words(answer)
    a_minute_later(app)
    assert send(layla, "/settings/phone", "/settings", **form).status_code == 302


@pytest.mark.parametrize("path", ["/settings/password", "/settings/messages", "/settings/phone/code"])
def test_a_forms_address_can_be_opened(layla: FlaskClient, path: str) -> None:
    """look.md: the answer to a refused form links to itself in the other language."""
    assert layla.get(f"{path}?lang=ar").location == "/settings"


# --- messages that one can do without -------------------------------------------------------------------------------


def test_a_kind_that_is_not_wanted_is_not_sent_and_is_in_the_centre(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-21: opted out by a plain form; security and payments are no choice."""
    account = cast.layla.account_id
    wanted = {f"{kind}-whatsapp_shown": "1" for kind in centre.OPTIONAL} | {"key_created-whatsapp": "on"}
    answer = send(layla, "/settings/messages", "/settings", **wanted)
    assert answer.location == "/settings?saved=messages"
    assert "Saved. Your choice holds" in words(layla.get(answer.location))
    html = layla.get("/settings").get_data(as_text=True)
    for kind in centre.OPTIONAL:
        box = html.partition(f'id="{kind}-whatsapp"')[2].partition(">")[0]
        assert (" checked" in box) is (kind == "key_created"), kind
    with app.app_context():
        for kind in ("credit_low", "credit_exhausted", "key_created"):
            notify(account, kind, "now", **samples.FACTS[kind])
        db.session.commit()
        sent = sa.select(Notification.kind).join(Delivery).where(Notification.occasion == "now")
        assert set(db.session.scalars(sent)) == {"credit_exhausted", "key_created"}
    assert "Your credit is running low" in words(layla.get("/notifications"))
    back = {f"{kind}-whatsapp_shown": "1" for kind in centre.OPTIONAL}
    send(layla, "/settings/messages", "/settings", **back, **{f"{kind}-whatsapp": "on" for kind in centre.OPTIONAL})
    with app.app_context():
        assert db.session.scalars(sa.select(OptOut)).all() == []


def test_a_form_that_is_not_whole_changes_nothing(app: Flask, layla: FlaskClient) -> None:
    """NOTIF-21: an unticked box sends nothing, so silence of a whole form is no choice."""
    assert send(layla, "/settings/messages", "/settings", name="x").status_code == 400
    forced = {"password_changed-whatsapp_shown": "1"}
    assert send(layla, "/settings/messages", "/settings", **forced).status_code == 400
    with app.app_context():
        assert db.session.scalars(sa.select(OptOut)).all() == []


def test_email_is_offered_where_there_is_a_mail_server(sqlite_url: str, make_app: MakeApp) -> None:
    """NOTIF-20: no switch for what is never sent."""
    Cast(make_app(sqlite_url)).layla  # noqa: B018  (comes to life)
    for mail in ("", "smtp://127.0.0.1:9"):
        client = make_app(sqlite_url, SMTP_URL=mail).test_client()
        assert log_in(client, "layla@example.com", PASSWORD).status_code == 302
        assert ('id="credit_low-email"' in client.get("/settings").get_data(as_text=True)) is bool(mail)


@pytest.mark.parametrize(("kind", "channel"), [("password_changed", "whatsapp"), ("credit_low", "sms"), ("x", "email")])
def test_only_what_is_optional_can_be_done_without(app: Flask, cast: Cast, kind: str, channel: str) -> None:
    """NOTIF-21: the rule refuses the others, whatever a form sends; of several, all or none."""
    layla, zaid = cast.layla.account_id, cast.zaid.account_id
    with app.app_context():
        with pytest.raises(centre.NotOptional):
            centre.set_preferences(layla, {("key_created", "whatsapp"): False, (kind, channel): False})
        assert all(one.whatsapp for one in centre.preferences(layla))
        centre.set_preference(layla, "key_created", "whatsapp", False)
        centre.set_preference(layla, "key_created", "whatsapp", False)
        out = [one.kind for one in centre.preferences(layla) if not one.whatsapp]
        assert out == ["key_created"]
        assert all(one.whatsapp for one in centre.preferences(zaid))


def test_every_choice_has_a_name() -> None:
    """NOTIF-21: a kind that becomes optional without words for the page would end in an error there."""
    from portal.blueprints.settings_forms import KINDS

    assert set(KINDS) == set(centre.OPTIONAL)
