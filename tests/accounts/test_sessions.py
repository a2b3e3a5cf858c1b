"""Sessions are rows: they end when they should, on the server too."""

import datetime as dt

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.http import parse_cookie

from portal.clock import utcnow
from portal.extensions import db
from portal.models import UserSession
from portal.services import sessions
from tests.accounts.forms import is_signed_in, log_in, log_out
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import csrf_token


def _cookie(client: FlaskClient) -> str:
    cookie = client.get_cookie("portal")
    assert cookie is not None
    return cookie.value


def _with(app: Flask, cookie: str) -> FlaskClient:
    thief = app.test_client()
    thief.set_cookie("portal", cookie)
    return thief


def test_a_copied_cookie_is_dead_after_signing_out(app: Flask, cast: Cast) -> None:
    """AUTH-03: the session is gone on the server too."""
    client = cast.sign_in(cast.layla)
    copied = _cookie(client)
    assert is_signed_in(_with(app, copied))
    assert log_out(client).status_code == 302
    assert not is_signed_in(client)
    assert not is_signed_in(_with(app, copied))


def test_signing_out_ends_this_browser_only(app: Flask, cast: Cast) -> None:
    """AUTH-03: another device stays signed in."""
    one, other = cast.sign_in(cast.layla), cast.sign_in(cast.layla)
    log_out(one)
    assert is_signed_in(other)


def test_signing_out_takes_a_post_with_the_form_token(cast: Cast) -> None:
    """AUTH-03: a picture on somebody's page signs nobody out."""
    client = cast.sign_in(cast.layla)
    assert client.get("/logout").status_code == 405
    assert client.post("/logout").status_code == 400
    assert is_signed_in(client)


def test_every_page_of_the_signed_in_has_the_way_out(cast: Cast) -> None:
    """AUTH-03: from any page."""
    client = cast.sign_in(cast.layla)
    for path in ("/", "/dashboard", "/keys"):
        assert 'action="/logout"' in client.get(path).get_data(as_text=True), path


def test_each_sign_in_has_a_token_of_its_own(app: Flask, cast: Cast) -> None:
    """AUTH-02: what a browser held before it signed in opens nothing afterwards (session fixation)."""
    client = app.test_client()
    csrf_token(client, "/login")
    planted = _cookie(client)
    log_in(client, cast.layla.email, PASSWORD)
    first = _cookie(client)
    assert planted != first
    assert not is_signed_in(_with(app, planted))
    log_out(client)
    log_in(client, cast.layla.email, PASSWORD)
    assert _cookie(client) != first
    assert not is_signed_in(_with(app, first))


def test_the_rows_hold_no_token(app: Flask, cast: Cast) -> None:
    """AUTH-02: a dump of the database opens no door."""
    client = cast.sign_in(cast.layla)
    with client.session_transaction() as content:
        token = content["_user_id"]
    with app.app_context():
        row = db.session.execute(sa.select(*UserSession.__table__.columns)).one()
    assert all(token not in str(value) for value in row)
    assert cast.layla.user_id not in token


@pytest.mark.parametrize(("remember", "dated"), [("y", True), (None, False)])
def test_remember_me_outlives_the_browser(app: Flask, cast: Cast, remember: str | None, dated: bool) -> None:
    """AUTH-02: a dated cookie and a row for 30 days; otherwise the cookie ends with the browser."""
    client = app.test_client()
    answer = log_in(client, cast.layla.email, PASSWORD, **({"remember": remember} if remember else {}))
    (sent,) = [c for c in answer.headers.getlist("Set-Cookie") if c.startswith("portal=")]
    assert ("Expires=" in sent) is dated
    assert "HttpOnly" in sent
    assert "SameSite=Lax" in sent
    assert parse_cookie(sent)
    with app.app_context():
        row = db.session.scalars(sa.select(UserSession)).one()
    lifetime = row.expires_at - row.created_at
    assert lifetime == (sessions.REMEMBERED if dated else sessions.VISIT)


def test_an_expired_session_is_no_session(app: Flask, cast: Cast) -> None:
    """AUTH-02: and the next sign-in sweeps it away."""
    client = cast.sign_in(cast.layla)
    with app.app_context():
        db.session.execute(sa.update(UserSession).values(expires_at=utcnow()))
        db.session.commit()
    assert not is_signed_in(client)
    cast.sign_in(cast.layla)
    with app.app_context():
        assert len(db.session.scalars(sa.select(UserSession)).all()) == 1


def test_an_expiry_slides_while_the_person_is_about(app: Flask, cast: Cast) -> None:
    """AUTH-02: nobody is thrown out in the middle of their work, and not every page writes."""
    client = cast.sign_in(cast.layla)
    long_ago = utcnow() - dt.timedelta(hours=11)
    with app.app_context():
        db.session.execute(sa.update(UserSession).values(seen_at=long_ago, expires_at=utcnow() + dt.timedelta(hours=1)))
        db.session.commit()
    assert is_signed_in(client)
    with app.app_context():
        moved = db.session.scalars(sa.select(UserSession)).one()
    assert moved.expires_at - utcnow() > dt.timedelta(hours=11)
    assert is_signed_in(client)
    with app.app_context():
        assert db.session.scalars(sa.select(UserSession)).one().seen_at == moved.seen_at
