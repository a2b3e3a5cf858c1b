"""Registering: what is accepted, what is refused, and what a new account begins with."""

import threading

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.extensions import db
from portal.models import Account, LedgerEntry, Membership, User, UserSession, Wallet
from portal.services import accounts, ledger
from tests.accounts.forms import PASSWORD, is_signed_in, register, registration
from tests.services.portal_app import MakeApp


def test_a_new_account_has_its_owner_its_wallet_and_the_gift(app: Flask, client: FlaskClient) -> None:
    """AUTH-01: signed in at once, sign-up credit through the ledger."""
    answer = register(client)
    assert (answer.status_code, answer.location) == (302, "/dashboard")
    assert is_signed_in(client)
    with app.app_context():
        user = db.session.scalars(sa.select(User)).one()
        account = db.session.scalars(sa.select(Account)).one()
        assert (user.email, user.phone, user.name, user.language) == ("sara@example.com", "+96555001234", "سارة", "ar")
        assert (account.owner_id, account.plan_id) == (user.id, "basic")
        assert db.session.scalars(sa.select(Membership.role)).all() == ["owner"]
        entry = db.session.scalars(sa.select(LedgerEntry)).one()
        assert (entry.kind, entry.amount, entry.reference) == ("grant", 100_000, f"signup:{account.id}")
        wallet = db.session.scalars(sa.select(Wallet)).one()
        assert (wallet.balance, wallet.held, wallet.total) == (100_000, 0, 100_000)
    with app.app_context():
        assert ledger.check() == []


def test_no_gift_is_set_no_gift_is_booked(make_app: MakeApp, sqlite_url: str) -> None:
    """AUTH-01: the sign-up credit is a setting, and may be nothing."""
    app = make_app(sqlite_url, SIGNUP_CREDITS=0)
    assert register(app.test_client()).status_code == 302
    with app.app_context():
        assert db.session.scalar(sa.select(Wallet.balance)) == 0
        assert db.session.scalars(sa.select(LedgerEntry)).all() == []


def test_the_password_is_nowhere_in_the_rows(app: Flask, client: FlaskClient) -> None:
    """AUTH-01: only an argon2 hash is kept."""
    register(client)
    with app.app_context():
        stored = db.session.scalars(sa.select(User.password_hash)).one()
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in stored


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"email": "sara"}, "email", "E-mail"),
        ({"email": "sara@localhost"}, "email", "E-mail"),
        ({"email": "a" * 250 + "@example.com"}, "email", "E-mail"),
        ({"phone": "123"}, "phone", "number"),
        ({"phone": "+965 5500 12345 67"}, "phone", "number"),
        ({"country": "XX"}, "country", "country"),
        ({"country": "SA"}, "phone", "number"),
        ({"password": "short"}, "password", "8"),
        ({"password": "password1"}, "password", "guess"),
        ({"password": "PASSWORD1"}, "password", "guess"),
        ({"password": "١٢٣٤٥٦٧٨"}, "password", "guess"),
        ({"password": "qqqqqqqqqqqqqq"}, "password", "guess"),
        ({"password": "Sara@Example.com"}, "password", "e-mail"),
        ({"password": "+96555001234"}, "password", "phone"),
        ({"password": "x" * 1025}, "password", "1,024"),
        ({"name": "س" * 121}, "name", "120"),
    ],
)
def test_a_wrong_form_is_refused_beside_the_field(
    app: Flask, client: FlaskClient, changed: dict[str, str], field: str, words: str
) -> None:
    """AUTH-01: the form says what is wrong, keeps what was typed, and writes nothing."""
    client.get("/?lang=en")
    answer = register(client, **changed)
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in page
    assert f'aria-describedby="{field}-error' in page
    assert page.count('aria-invalid="true"') == 1
    assert registration()["phone" if field == "email" else "email"] in page
    assert PASSWORD not in page
    with app.app_context():
        assert db.session.scalars(sa.select(User)).all() == []


def test_every_problem_is_told_at_once(client: FlaskClient) -> None:
    """AUTH-01: nobody corrects a form five times."""
    page = register(client, email="", phone="", password="", country="XX").get_data(as_text=True)
    assert [name for name in ("email", "phone", "password", "country") if f'id="{name}-error"' in page] == [
        "email", "phone", "password", "country",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"phone": "66001234"}, "email"),
        ({"phone": "66001234", "email": " SARA@Example.COM "}, "email"),
        ({"email": "other@example.com", "phone": "+965 5500-1234"}, "phone"),
        ({"email": "other@example.com", "phone": "٠٠٩٦٥٥٥٠٠١٢٣٤", "country": "SA"}, "phone"),
    ],
)
def test_an_address_or_number_in_use_is_said_honestly(app: Flask, changed: dict[str, str], field: str) -> None:
    """AUTH-01: e-mail and phone are unique, in whatever spelling."""
    assert register(app.test_client()).status_code == 302
    answer = register(app.test_client(), **changed)
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in page
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(User)) == 1
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Account)) == 1


def test_two_at_once_make_one_account(make_app: MakeApp, database_url: str) -> None:
    """AUTH-01: the race for one address has one winner; all others are told like latecomers, and leave nothing."""
    app = make_app(database_url)
    start, results = threading.Barrier(6), []

    def one(number: int) -> None:
        with app.app_context():
            start.wait()
            new = accounts.NewUser(email="sara@example.com", phone=f"6600120{number}", password=PASSWORD)
            try:
                accounts.register(new, "127.0.0.1")
                results.append("won")
            except accounts.RegistrationRefused as refused:
                results.append(",".join(refused.problems))
            finally:
                db.session.remove()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["email"] * 5 + ["won"]
    with app.app_context():
        for table in (User, Account, Membership, Wallet, LedgerEntry):
            assert db.session.scalar(sa.select(sa.func.count()).select_from(table)) == 1, table.__tablename__
    with app.app_context():
        assert ledger.check() == []


def test_a_form_without_its_token_is_refused(app: Flask, client: FlaskClient) -> None:
    """AUTH-01: every form carries csrf_token."""
    answer = client.post("/register", data=registration())
    assert answer.status_code == 400
    assert answer.mimetype == "text/html"
    with app.app_context():
        assert db.session.scalars(sa.select(User)).all() == []


def test_one_address_can_not_open_accounts_without_end(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH-01: each account is worth the sign-up credit; mistakes in the form are not counted."""
    from limits import RateLimitItemPerMinute

    from portal.services import attempts

    monkeypatch.setattr(attempts, "REGISTRATIONS", RateLimitItemPerMinute(2, 60, namespace="signup-address"))
    for _ in range(3):
        assert register(app.test_client(), phone="1").status_code == 422
    assert register(app.test_client(), email="one@example.com", phone="66001201").status_code == 302
    assert register(app.test_client(), email="two@example.com", phone="66001202").status_code == 302
    assert register(app.test_client(), email="three@example.com", phone="66001203").status_code == 429


def test_registering_leaves_one_session(app: Flask, client: FlaskClient) -> None:
    """AUTH-01, AUTH-03: the new user's sign-in is a row like any other."""
    register(client)
    with app.app_context():
        assert [row.remember for row in db.session.scalars(sa.select(UserSession))] == [False]
