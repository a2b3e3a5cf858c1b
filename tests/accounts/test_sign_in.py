"""Signing in: by any name, alike for unknown and wrong, slowed, and written to the log."""

import logging
import re
import statistics
import time

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.extensions import db
from portal.models import Account, User, UserSession
from portal.services import attempts
from portal.services.sessions import Browser
from tests.accounts.forms import is_signed_in, log_in
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import MakeApp
from tests.services.redis_server import RedisServer

LINE = re.compile(r"auth_failure ip=(\S+) reason=(\w+) email=([A-Za-z0-9@._+-]*)$")


@pytest.mark.parametrize(
    "identifier",
    [
        "layla@example.com",
        " LAYLA@Example.com ",
        "+96550000101",
        "0096550000101",
        "96550000101",
        "5000 0101",
        "٥٠٠٠٠١٠١",
    ],
)
def test_any_spelling_of_address_or_number_opens(client: FlaskClient, cast: Cast, identifier: str) -> None:
    """AUTH-02: e-mail or phone, in one field."""
    assert cast.layla
    answer = log_in(client, identifier, PASSWORD)
    assert (answer.status_code, answer.location) == (302, "/dashboard")
    assert is_signed_in(client)


def test_a_local_saudi_number_opens_its_own_account(app: Flask, client: FlaskClient, cast: Cast) -> None:
    """AUTH-02: the sign-in form has no country field; the Gulf's local numbers are understood."""
    with app.app_context():
        db.session.execute(sa.update(User).where(User.id == cast.zaid.user_id).values(phone="+966501234567"))
        db.session.commit()
    assert log_in(client, "050 123 4567", PASSWORD).status_code == 302


def test_unknown_and_wrong_are_told_alike(app: Flask, cast: Cast) -> None:
    """AUTH-02, never again "login told who exists": the same words, the same status."""
    assert cast.layla
    pages = []
    for identifier in ("layla@example.com", "nobody@example.com", "+96550000101", "+96550000999"):
        answer = log_in(app.test_client(), identifier, "wrong-password-9")
        text = re.sub(r'value="[^"]*"|req_\w+', "", answer.get_data(as_text=True))
        pages.append((answer.status_code, text))
    assert len(set(pages)) == 1
    assert pages[0][0] == 401


def test_unknown_and_wrong_take_the_same_time(app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-02: an unknown name is checked against a hash of nobody's."""
    from limits import RateLimitItemPerMinute

    from portal.services import sign_in

    monkeypatch.setattr(attempts, "PER_ACCOUNT", RateLimitItemPerMinute(1000, 15))
    monkeypatch.setattr(attempts, "PER_ADDRESS", RateLimitItemPerMinute(1000, 15))
    with app.app_context():
        db.session.execute(
            sa.update(User).where(User.id == cast.zaid.user_id).values(password_hash="md5:0123456789abcdef")
        )
        db.session.commit()

    def seconds(identifier: str) -> float:
        with app.app_context():
            started = time.process_time()
            with pytest.raises(sign_in.SignInRefused):
                sign_in.sign_in(identifier, "wrong-password-9", Browser(address="127.0.0.1"))
            return time.process_time() - started

    names = ("layla@example.com", "nobody@example.com", "zaid@example.com")
    assert cast.layla
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(9):
        for name in names:
            taken[name].append(seconds(name))
    middle = {name: statistics.median(values) for name, values in taken.items()}
    assert max(middle.values()) < 1.6 * min(middle.values()), middle


def test_a_garbage_hash_is_a_failed_sign_in(app: Flask, client: FlaskClient, cast: Cast) -> None:
    """AUTH-02, never again "500 on a strange hash"."""
    for garbage in ("", "x", "$argon2id$v=19$broken", "pbkdf2:sha256:1$a$b", "ض" * 50):
        with app.app_context():
            db.session.execute(sa.update(User).where(User.id == cast.layla.user_id).values(password_hash=garbage))
            db.session.commit()
        assert log_in(client, "layla@example.com", PASSWORD).status_code == 401


def test_an_endless_password_is_refused_unhashed(client: FlaskClient, cast: Cast) -> None:
    """AUTH-02: nobody makes the server hash a megabyte."""
    assert cast.layla
    assert log_in(client, "layla@example.com", PASSWORD + "x" * 5000).status_code == 401


def test_an_old_hash_is_renewed_at_sign_in(app: Flask, client: FlaskClient, cast: Cast) -> None:
    """AUTH-02: parameters can change without anybody noticing."""
    import argon2

    old = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    with app.app_context():
        db.session.execute(sa.update(User).where(User.id == cast.layla.user_id).values(password_hash=old))
        db.session.commit()
    assert log_in(client, "layla@example.com", PASSWORD).status_code == 302
    with app.app_context():
        stored = db.session.scalars(sa.select(User.password_hash).where(User.id == cast.layla.user_id)).one()
    assert "m=19456,t=2" in stored
    assert log_in(app.test_client(), "layla@example.com", PASSWORD).status_code == 302


@pytest.mark.parametrize("who", ["user", "account"])
def test_the_suspended_are_out_at_once(app: Flask, client: FlaskClient, cast: Cast, who: str) -> None:
    """AUTH-02: a suspension ends what is open and opens nothing new; the words are those of a wrong password."""
    from portal.clock import utcnow

    signed_in = cast.sign_in(cast.layla)
    table, row_id = (User, cast.layla.user_id) if who == "user" else (Account, cast.layla.account_id)
    with app.app_context():
        db.session.execute(sa.update(table).where(table.id == row_id).values(suspended_at=utcnow()))
        db.session.commit()
    assert not is_signed_in(signed_in)
    assert log_in(client, "layla@example.com", PASSWORD).status_code == 401


def test_guessing_at_one_account_is_slowed_by_whichever_name(app: Flask, cast: Cast) -> None:
    """AUTH-02: per account; the right password is refused too until the window has moved on; others are not."""
    assert cast.layla
    spellings = ("layla@example.com", "+96550000101", "LAYLA@example.com", "50000101")
    for number in range(10):
        answer = log_in(app.test_client(), spellings[number % 4], f"wrong-password-{number}")
        assert answer.status_code == 401, number
    assert log_in(app.test_client(), "layla@example.com", PASSWORD).status_code == 429
    assert log_in(app.test_client(), cast.zaid.email, PASSWORD).status_code == 302


def test_a_name_nobody_has_is_slowed_just_the_same(app: Flask) -> None:
    """AUTH-02: otherwise the slowing itself would tell who exists."""
    statuses = [log_in(app.test_client(), "nobody@example.com", "wrong-password-9").status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]


def test_the_right_password_forgives_the_wrong_ones(app: Flask, cast: Cast) -> None:
    """AUTH-02: a person who finally remembers begins anew."""
    assert cast.layla
    for _ in range(2):
        for _ in range(8):
            assert log_in(app.test_client(), "layla@example.com", "wrong-password-9").status_code == 401
        assert log_in(app.test_client(), "layla@example.com", PASSWORD).status_code == 302


def test_guessing_from_one_address_is_slowed(app: Flask) -> None:
    """AUTH-02: per address, over many names."""
    statuses = [
        log_in(app.test_client(), f"nobody{n}@example.com", "wrong-password-9").status_code
        for n in range(attempts.PER_ADDRESS.amount + 1)
    ]
    assert statuses == [401] * attempts.PER_ADDRESS.amount + [429]


def test_with_the_store_away_guessing_is_still_slowed(
    app: Flask, cast: Cast, redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AUTH-02: an outage of ours locks nobody out, gives nobody endless guesses, and is said once."""
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    assert cast.zaid
    monkeypatch.setattr(attempts, "_away_until", 0.0)
    monkeypatch.setattr(attempts, "_memory", MovingWindowRateLimiter(MemoryStorage()))
    redis_server.stop()
    try:
        statuses = [log_in(app.test_client(), "nobody@example.com", "wrong-password-9").status_code for _ in range(11)]
        assert statuses == [401] * 10 + [429]
        assert log_in(app.test_client(), cast.zaid.email, PASSWORD).status_code == 302
    finally:
        redis_server.start()
    assert [r.name for r in caplog.records if "store away" in r.getMessage() and r.name == "portal.attempts"] == [
        "portal.attempts"
    ]


@pytest.fixture
def auth_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "portal.auth")
    return caplog


def _failures(log: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in log.records if r.name == "portal.auth" and r.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("identifier", "reason", "typed"),
    [
        ("layla@example.com", "bad_password", "layla@example.com"),
        ("nobody@example.com", "unknown_user", "nobody@example.com"),
        ("a ip=198.51.100.1 reason=bad@example.com", "unknown_user", "-"),
        ('"a ip=198.51.100.1"@example.com', "unknown_user", "-"),
        ("x@example.com\nauth_failure ip=198.51.100.1 reason=bad_password email=y@z.example", "unknown_user", "-"),
        ("a\r\nb@example.com", "unknown_user", "-"),
        ("$(id)`id`'@example.com", "unknown_user", None),
        ("my-secret-password", "unknown_user", "-"),
        ("+96550000101", "bad_password", "phone_101"),
    ],
)
def test_a_failure_leaves_one_line_that_bans_no_innocent(
    client: FlaskClient, cast: Cast, auth_log: pytest.LogCaptureFixture, identifier: str, reason: str, typed: str | None
) -> None:
    """AUTH-02, never again "the address of an innocent was banned": the caller's address, then harmless characters."""
    assert cast.layla
    auth_log.clear()
    assert log_in(client, identifier, "wrong-password-9").status_code == 401
    (line,) = _failures(auth_log)
    found = LINE.fullmatch(line)
    assert found is not None, line
    assert found.group(1, 2) == ("127.0.0.1", reason)
    assert typed is None or found.group(3) == typed
    assert "198.51.100.1" not in line
    assert "wrong-password" not in line


def test_a_throttled_try_is_a_line_too(app: Flask, auth_log: pytest.LogCaptureFixture) -> None:
    """AUTH-02: fail2ban sees those who go on."""
    for _ in range(11):
        log_in(app.test_client(), "nobody@example.com", "wrong-password-9")
    assert _failures(auth_log)[-1].startswith("auth_failure ip=127.0.0.1 reason=throttled email=nobody@example.com")


def test_behind_a_proxy_the_line_has_the_client(
    make_app: MakeApp, sqlite_url: str, auth_log: pytest.LogCaptureFixture
) -> None:
    """AUTH-02: the address comes from the trusted hop, never from what a client claims further out."""
    client = make_app(sqlite_url, TRUSTED_PROXIES=1).test_client()
    logging.getLogger("portal").addHandler(auth_log.handler)  # the factory has just replaced the handlers
    client.environ_base["HTTP_X_FORWARDED_FOR"] = "198.51.100.1, 203.0.113.9"
    log_in(client, "nobody@example.com", "wrong-password-9")
    assert _failures(auth_log)[0].startswith("auth_failure ip=203.0.113.9 ")


@pytest.mark.parametrize(
    ("wanted", "target"),
    [
        ("/keys", "/keys"),
        ("/keys?lang=en", "/keys?lang=en"),
        ("https://evil.example/", "/dashboard"),
        ("//evil.example/", "/dashboard"),
        ("/\\evil.example", "/dashboard"),
        ("/\t/evil.example", "/dashboard"),
        ("javascript:alert(1)", "/dashboard"),
        ("", "/dashboard"),
    ],
)
def test_after_signing_in_one_lands_where_one_wanted_to_go(
    client: FlaskClient, cast: Cast, wanted: str, target: str
) -> None:
    """AUTH-02: and never on somebody else's site."""
    assert cast.layla
    assert log_in(client, "layla@example.com", PASSWORD, next=wanted).location == target


def test_a_stranger_at_a_page_is_shown_the_way_in_and_back(client: FlaskClient, cast: Cast) -> None:
    """AUTH-02: the page that was asked for is remembered."""
    assert cast.layla
    answer = client.get("/keys?lang=en")
    assert answer.status_code == 302
    page = client.get(answer.location).get_data(as_text=True)
    assert 'name="next" value="/keys?lang=en"' in page


def test_no_sign_in_leaves_two_sessions(app: Flask, client: FlaskClient, cast: Cast) -> None:
    """AUTH-02: a failed one leaves none."""
    assert cast.layla
    log_in(client, "layla@example.com", "wrong-password-9")
    with app.app_context():
        assert db.session.scalars(sa.select(UserSession)).all() == []
    log_in(client, "layla@example.com", PASSWORD)
    with app.app_context():
        assert len(db.session.scalars(sa.select(UserSession)).all()) == 1
