"""The dashboard and the front page: every figure is a row's."""

import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.extensions import db
from portal.models import LanguageModel, Plan, Usage, Wallet
from tests.accounts.forms import register
from tests.pages.history import REQUESTS, give_cloud_history, give_history
from tests.services.cast import Cast


def _text(client: FlaskClient, path: str) -> str:
    html = client.get(path + "?lang=en").get_data(as_text=True)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.partition("<main")[2]))


def test_the_balance_is_on_every_page_of_the_signed_in(app: Flask, cast: Cast) -> None:
    """DASH-01: in the top line, wherever one is."""
    client = cast.sign_in(cast.layla)
    for path in ("/dashboard", "/keys", "/settings"):
        top = client.get(path + "?lang=en").get_data(as_text=True).partition("<main")[0]
        assert "1,100</bdi> credits" in top, path


def test_what_is_available_held_and_in_all_is_told_apart(app: Flask, cast: Cast) -> None:
    """DASH-01: credits left and total; what running requests set aside is not left."""
    client = cast.sign_in(cast.layla)
    with app.app_context():
        db.session.execute(sa.update(Wallet).where(Wallet.account_id == cast.layla.account_id).values(held=250_500))
        db.session.commit()
    text = _text(client, "/dashboard")
    assert "Available credit 849.5 credits" in text
    assert "After the latest top-up 1,100 credits" in text
    assert "Set aside for running requests 250.5 credits" in text


def test_a_new_account_is_led_to_its_first_key(app: Flask, client: FlaskClient) -> None:
    """DASH-03: the step is there until there is a key."""
    register(client)
    assert "Create your first key" in _text(client, "/dashboard")
    assert "No requests yet" in _text(client, "/dashboard")


def test_who_has_a_key_sees_it_instead(cast: Cast) -> None:
    """DASH-03: keys with quick actions."""
    text = _text(cast.sign_in(cast.layla), "/dashboard")
    assert "Create your first key" not in text
    assert "layla&#39;s key" in text


def test_the_latest_requests_say_what_they_cost(app: Flask, cast: Cast) -> None:
    """DASH-05: model, tokens, cost, outcome, as the usage rows have them; nobody else's."""
    give_history(app, cast.layla)
    text = _text(cast.sign_in(cast.layla), "/dashboard")
    for model, outcome, prompt, answer in REQUESTS:
        assert model in text
        if outcome == "ok":
            assert f"{prompt + answer:,} {(prompt + answer) / 1000:.3f}".rstrip("0").rstrip(".") in text
    assert "Interrupted by you" in text
    assert "Running" in text
    assert "qwen2.5-coder" not in _text(cast.sign_in(cast.zaid), "/dashboard")


def test_each_request_says_where_it_ran(app: Flask, cast: Cast) -> None:
    """QUEUE-02, API-02: in words; what moved to the cloud and what it cost there; how long it stood in line."""
    give_history(app, cast.layla)
    give_cloud_history(app, cast.layla)
    client = cast.sign_in(cast.layla)
    text = _text(client, "/dashboard")
    assert re.search(r"gpt-oss:20b [\w ]+ ago Moved to the cloud 1,500 3 credits Done", text)
    assert re.search(r"qwen3.5:cloud [\w ]+ ago In the cloud 625 1.25 credits Done", text)
    assert re.search(r"gpt-oss:20b [\w ]+ ago On our servers waited 12.3 s in line 100 0.1 credits Done", text)
    assert re.search(r"gpt-oss:20b [\w ]+ ago – – – Running", text), "what runs may yet move"
    assert text.count("in line") == 1, "nothing is said of what did not wait"
    assert text.count("cloud") == len(("Moved to the cloud", "qwen3.5:cloud", "In the cloud"))


@pytest.mark.parametrize(("waited", "words"), [(0, None), (40, "40 ms"), (999, "999 ms"), (94_260, "94.3 s")])
def test_a_wait_is_told_with_its_unit(app: Flask, cast: Cast, waited: int, words: str | None) -> None:
    """QUEUE-02: no wait, no word; never a number without a unit."""
    ids = give_cloud_history(app, cast.layla)
    with app.app_context():
        db.session.execute(sa.update(Usage).where(Usage.id == ids["waited"]).values(waited_ms=waited))
        db.session.commit()
    text = _text(cast.sign_in(cast.layla), "/dashboard")
    assert ("in line" in text) is (words is not None)
    assert words is None or f"waited {words} in line" in text


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_plans_are_told_as_the_operator_has_them(app: Flask, cast: Cast, path: str) -> None:
    """SUB-01: another limit, another name in the row: another page."""
    client = cast.sign_in(cast.layla)
    with app.app_context():
        changed = {"name_en": "Starter", "requests_per_minute": 13, "price_fils": 6_250}
        db.session.execute(sa.update(Plan).where(Plan.id == "basic").values(**changed))
        db.session.commit()
    text = _text(client, path)
    assert "Starter" in text
    assert "13" in text
    if path == "/":
        assert "6.250 KWD" in text


def test_no_page_names_a_model_that_is_never_listed(app: Flask, client: FlaskClient) -> None:
    """MODEL-04: neither shown, nor anything an operator has switched off."""
    with app.app_context():
        db.session.execute(sa.update(LanguageModel).where(LanguageModel.name == "llama3.2:3b").values(enabled=False))
        db.session.commit()
    text = _text(client, "/")
    assert "smollm2:135m" in text
    for name in ("glm-4.7-flash", "bge-m3", "nomic-embed-text", "llama3.2:3b"):
        assert name not in text


def test_the_front_page_invites_strangers_and_knows_members(client: FlaskClient, cast: Cast) -> None:
    """LP-06: a way to begin; who is in already finds the dashboard."""
    assert 'href="/register"' in client.get("/").get_data(as_text=True)
    page = cast.sign_in(cast.layla).get("/").get_data(as_text=True)
    assert 'href="/register"' not in page
    assert 'href="/dashboard"' in page


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("get", "/nothing", 404), ("post", "/login", 400), ("get", "/logout", 405), ("delete", "/dashboard", 405)],
)
def test_errors_are_pages_that_say_what_now(client: FlaskClient, method: str, path: str, status: int) -> None:
    """Errors say what happened, what was not lost, what to do next, and carry a reference."""
    answer = getattr(client, method)(path)
    page = answer.get_data(as_text=True)
    assert answer.status_code == status
    assert answer.mimetype == "text/html"
    assert answer.headers["X-Request-Id"] in page
    assert 'href="/"' in page


def test_an_error_page_stands_when_the_database_does_not(
    app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 that needs the database to be told is a blank page."""
    client = cast.sign_in(cast.layla)

    def away(*_arguments: object, **_values: object) -> None:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("the database is away"))

    with app.app_context():
        sa.event.listen(db.engine, "before_cursor_execute", away)
        try:
            answer = client.get("/dashboard?lang=en")
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", away)
    assert answer.status_code == 500
    assert "Something went wrong on our side" in answer.get_data(as_text=True)
    assert "the database is away" not in answer.get_data(as_text=True)
