"""What operators type: who becomes staff, and credit that is taken away."""

import pytest
from click.testing import Result
from flask import Flask

from portal.extensions import db
from portal.models import User
from portal.services import staff
from tests.ledger.books import Books, a_hold
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import MakeApp

ANOTHER = "another-long-password-of-ours"


def with_admin(make_app: MakeApp, url: str, email: str, password: str) -> Flask:
    """A portal on that database whose environment names this administrator."""
    return make_app(url, ADMIN_EMAIL=email, ADMIN_PASSWORD=password, ADMIN_PHONES="+96550009999")


def typed(app: Flask, *arguments: str) -> Result:
    """What `flask …` said and how it ended."""
    with app.app_context():  # as `flask` itself opens it
        return app.test_cli_runner().invoke(args=arguments)


def role(app: Flask, user_id: str) -> str:
    with app.app_context():
        return db.session.get_one(User, user_id).role


@pytest.mark.parametrize("spelling", ["layla@example.com", "Layla@Example.com"])
def test_a_customer_with_the_administrators_address_is_not_made_staff(
    make_app: MakeApp, sqlite_url: str, spelling: str
) -> None:
    """OPS-02: who signed up first with the address of ADMIN_EMAIL became an administrator by the next release."""
    layla = Cast(make_app(sqlite_url)).layla
    app = with_admin(make_app, sqlite_url, spelling, ANOTHER)
    with app.app_context(), pytest.raises(staff.SomebodyElse):
        staff.ensure_admin(app.config["PORTAL"])
    assert role(app, layla.user_id) == "customer"


@pytest.mark.parametrize("command", ["seed", "create-admin"])
def test_the_console_says_that_nobody_was_made_administrator(make_app: MakeApp, sqlite_url: str, command: str) -> None:
    """OPS-02, OPS-03: `flask seed` fails in plain words, with no password in them."""
    layla = Cast(make_app(sqlite_url)).layla
    app = with_admin(make_app, sqlite_url, layla.email, ANOTHER)
    done = typed(app, command)
    assert done.exit_code == 1, done.output
    assert "ADMIN_EMAIL" in done.output
    assert "Traceback" not in done.output
    assert ANOTHER not in done.output
    assert role(app, layla.user_id) == "customer"


def test_a_customer_who_has_the_administrators_password_is_made_staff(make_app: MakeApp, sqlite_url: str) -> None:
    """OPS-02: who knows ADMIN_PASSWORD is who is meant; and staff stay staff when the environment changes."""
    layla = Cast(make_app(sqlite_url)).layla
    app = with_admin(make_app, sqlite_url, layla.email, PASSWORD)
    done = typed(app, "seed")
    assert done.exit_code == 0, done.output
    assert role(app, layla.user_id) == "staff"
    later = with_admin(make_app, sqlite_url, layla.email, ANOTHER)
    done = typed(later, "create-admin")
    assert done.exit_code == 0, done.output
    assert role(later, layla.user_id) == "staff"


def test_credit_is_taken_with_a_minus(cast: Cast) -> None:
    """CRD-01, CRD-02: `flask credit ACCOUNT -1 --reason x` was "no such option"; what is on hold can't be taken."""
    books, layla = Books(cast.app), cast.layla
    before = books.wallet(layla.account_id).balance

    for account, amount in ((layla.email, "-1"), (layla.account_id, "-0.5")):
        done = typed(cast.app, "credit", account, amount, "--reason", "taken back")
        assert done.exit_code == 0, done.output
    assert books.wallet(layla.account_id).balance == before - 1500
    done = typed(cast.app, "credit", layla.email, "2", "--reason", "given")
    assert done.exit_code == 0, done.output
    balance = before + 500
    assert books.wallet(layla.account_id).balance == balance

    till = books.till()
    till.hold(a_hold(layla.account_id, 3000))
    till.close()
    for amount in (f"-{balance // 1000 + 1}", f"-{(balance - 2999) / 1000}"):
        done = typed(cast.app, "credit", layla.email, amount, "--reason", "too much")
        assert done.exit_code == 1, done.output
        assert "less than that available" in done.output
        assert "Traceback" not in done.output
    assert (books.wallet(layla.account_id).balance, books.wallet(layla.account_id).held) == (balance, 3000)
    done = typed(cast.app, "credit", layla.email, f"-{(balance - 3000) / 1000}", "--reason", "all there is")
    assert done.exit_code == 0, done.output
    assert books.wallet(layla.account_id).balance == 3000


@pytest.mark.parametrize("arguments", [["-1"], ["-x", "--reason", "x"], ["--surely", "--reason", "x"]])
def test_a_line_that_is_no_amount_changes_nothing(cast: Cast, arguments: list[str]) -> None:
    """CRD-02: letting a minus pass must not let anything else pass."""
    before = Books(cast.app).wallet(cast.layla.account_id)
    done = typed(cast.app, "credit", cast.layla.email, *arguments)
    assert done.exit_code in (1, 2), done.output
    assert done.output, "it says why"
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert Books(cast.app).wallet(cast.layla.account_id) == before
