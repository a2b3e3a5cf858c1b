"""Keys: shown once, stored as a hash, deleted for good, and nobody else's business."""

import hashlib
import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal import store
from portal.extensions import db
from portal.models import Account, ApiKey
from portal.services import api_keys, callers
from tests.services.cast import Cast
from tests.services.portal_app import csrf_token

KEY = re.compile(r"rsk_[A-Za-z0-9]{40}")


def _create(client: FlaskClient, **form: str | list[str]) -> TestResponse:
    return client.post("/keys", data={"csrf_token": csrf_token(client, "/keys"), **form})


def _secret(page: str) -> str:
    found = set(KEY.findall(page))
    assert len(found) == 1, "exactly one key is on the page"
    return str(found.pop())


def test_a_key_is_shown_once_with_examples_to_paste(app: Flask, cast: Cast) -> None:
    """KEY-01, KEY-04: the answer to the form shows it; no page afterwards does."""
    client = cast.sign_in(cast.layla)
    answer = _create(client, label="متجر العطور")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200
    secret = _secret(page)
    assert "http://127.0.0.1:8000/v1/chat/completions" in page
    assert "smollm2:135m" in page
    assert page.count(secret) == 4, "the key itself, curl, Python, JavaScript"
    for path in ("/keys", "/dashboard"):
        later = client.get(path).get_data(as_text=True)
        assert secret not in later
        assert secret[:12] in later
    assert "no-store" in answer.headers["Cache-Control"]


def test_only_the_hash_is_stored(app: Flask, cast: Cast) -> None:
    """KEY-04, never again "keys stored in clear": the rows have the SHA-256 and twelve characters."""
    secret = _secret(_create(cast.sign_in(cast.layla), label="one").get_data(as_text=True))
    with app.app_context():
        row = db.session.execute(sa.select(*ApiKey.__table__.columns).where(ApiKey.label == "one")).one()
    assert row.hash == hashlib.sha256(secret.encode()).hexdigest()
    assert row.prefix == secret[:12]
    assert all(secret[:13] not in str(value) for value in row)


def test_the_list_tells_keys_apart(app: Flask, cast: Cast) -> None:
    """KEY-02: first 12 characters, label, scopes, created, last used, state."""
    client = cast.sign_in(cast.layla)
    secret = _secret(
        _create(client, label="Shop", scopes=["read", "delete"], scopes_shown="1", expires="30").get_data(as_text=True)
    )
    page = client.get("/keys?lang=en").get_data(as_text=True)
    row = page[page.index("<bdi>Shop</bdi>") :].partition("</tr>")[0]
    for expected in (secret[:12], "Read, Delete", "Not yet", "Active", "until", "<time datetime="):
        assert expected in row


@pytest.mark.parametrize(
    ("form", "scopes"),
    [
        ({}, "read write"),
        ({"scopes_shown": "1", "scopes": ["write"]}, "write"),
        ({"scopes": ["delete", "read"]}, "read delete"),
    ],
)
def test_a_key_has_the_scopes_that_were_ticked(
    app: Flask, cast: Cast, form: dict[str, str | list[str]], scopes: str
) -> None:
    """KEY-05: read and write where nothing was asked, as scripts send only a label."""
    _create(cast.sign_in(cast.layla), label="scoped", **form)
    with app.app_context():
        assert db.session.scalar(sa.select(ApiKey.scopes).where(ApiKey.label == "scoped")) == scopes


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"label": "  "}, "label"),
        ({"label": "x" * 81}, "label"),
        ({"label": "x", "scopes_shown": "1"}, "scopes"),
        ({"label": "x", "scopes": ["admin"]}, "scopes"),
        ({"label": "x", "expires": "7"}, "expires"),
        ({"label": "x", "expires": "soon"}, "expires"),
    ],
)
def test_a_wrong_key_form_makes_no_key(app: Flask, cast: Cast, form: dict[str, str | list[str]], field: str) -> None:
    """KEY-01: refused beside the field."""
    client = cast.sign_in(cast.layla)
    answer = _create(client, **form)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.get_data(as_text=True)
    with app.app_context():
        count = sa.select(sa.func.count()).select_from(ApiKey).where(ApiKey.account_id == cast.layla.account_id)
        assert db.session.scalar(count) == 1  # the cast's own


def test_a_label_is_text_and_nothing_else(cast: Cast) -> None:
    """KEY-01: what is typed is shown, never run."""
    client = cast.sign_in(cast.layla)
    page = _create(client, label="<script>alert(1)</script>").get_data(as_text=True)
    assert "<script>alert" not in page + client.get("/keys").get_data(as_text=True)


@pytest.mark.parametrize(
    ("form", "failover"),
    [
        ({}, True),
        ({"scopes_shown": "1", "scopes": ["write"]}, True),
        ({"failover_shown": "1", "failover": "y"}, True),
        ({"failover_shown": "1"}, False),
    ],
)
def test_a_new_key_may_use_the_cloud_unless_the_box_is_unticked(
    app: Flask, cast: Cast, form: dict[str, str | list[str]], failover: bool
) -> None:
    """QUEUE-02, KEY-01: on by default, for scripts that send only a label too; the list says which."""
    client = cast.sign_in(cast.layla)
    assert re.search(r'<input[^>]* checked[^>]* name="failover"', client.get("/keys").get_data(as_text=True))
    _create(client, label="Shop", **form)
    with app.app_context():
        assert db.session.scalar(sa.select(ApiKey.failover).where(ApiKey.label == "Shop")) is failover
    page = client.get("/keys?lang=en").get_data(as_text=True)
    row = page[page.index("<bdi>Shop</bdi>") :].partition("</tr>")[0]
    assert ("<span>Allowed</span>" in row, "<span>Not allowed</span>" in row) == (failover, not failover)


def test_an_unticked_box_stays_unticked_when_something_else_is_wrong(cast: Cast) -> None:
    """QUEUE-02: correcting the name must not let the key into the cloud; a bare label keeps the usual."""
    client = cast.sign_in(cast.layla)
    for form, ticked in (({"failover_shown": "1"}, False), ({}, True)):
        page = _create(client, label="", **form).get_data(as_text=True)
        assert bool(re.search(r'<input[^>]* checked[^>]* name="failover"', page)) is ticked


def _turn(client: FlaskClient, key_id: str, failover: str) -> TestResponse:
    form = {"csrf_token": csrf_token(client, "/keys"), "failover": failover}
    return client.post(f"/keys/{key_id}/failover", data=form)


def _key(app: Flask, cast: Cast) -> ApiKey:
    with app.app_context():
        return db.session.scalars(sa.select(ApiKey).where(ApiKey.account_id == cast.layla.account_id)).one()


def test_a_key_is_kept_out_of_the_cloud_from_the_next_request_on(app: Flask, cast: Cast) -> None:
    """QUEUE-02: the caller that the gateway reads has it; the mark makes every worker read it."""
    client, key = cast.sign_in(cast.layla), _key(app, cast)
    with app.app_context():
        pro = sa.update(Account).where(Account.id == cast.layla.account_id).values(plan_id="pro")
        db.session.execute(pro)
        db.session.commit()
    marks = set()
    for wanted, words in (("off", "wait for our own servers"), ("on", "is allowed the cloud"), ("off", "wait for our")):
        answer = _turn(client, key.id, wanted)
        assert answer.status_code == 302
        assert words in client.get(answer.location + "&lang=en").get_data(as_text=True)
        with app.app_context():
            assert callers.find(key.hash).failover is (wanted == "on")
            marks.add(store.client().get(f"fresh:account:{cast.layla.account_id}"))
    assert len(marks - {None}) == 3
    assert not any(str(mark).startswith("b'?") for mark in marks)


def test_a_permission_that_comes_to_nothing_says_so(app: Flask, cast: Cast) -> None:
    """QUEUE-02: a plan without failover, an account that stays here: allowing it for a key promises nothing."""
    client, key = cast.sign_in(cast.layla), _key(app, cast)
    for values, words in (
        ({"plan_id": "basic"}, "With your plan, requests never move"),
        ({"plan_id": "pro"}, "Its requests may then go to the same model"),
        ({"local_only": True}, "no key uses the cloud"),
    ):
        with app.app_context():
            db.session.execute(sa.update(Account).where(Account.id == cast.layla.account_id).values(**values))
            db.session.commit()
        page = client.get(_turn(client, key.id, "on").location + "&lang=en").get_data(as_text=True)
        assert page.count(words) == 2, "said of the key that was changed, and beside the box for the next"


@pytest.mark.parametrize("wrong", ["", "maybe"])
def test_a_key_stays_as_it_is_without_a_clear_word(app: Flask, cast: Cast, wrong: str) -> None:
    """QUEUE-02: a broken form neither allows nor forbids."""
    client, key = cast.sign_in(cast.layla), _key(app, cast)
    assert _turn(client, key.id, wrong).status_code == 400
    assert client.post(f"/keys/{key.id}/failover", data={"failover": "off"}).status_code == 400  # no token
    assert _key(app, cast).failover is True


def test_a_deleted_key_is_not_changed_any_more(app: Flask, cast: Cast) -> None:
    """KEY-03: its row is a record; the list offers no button for it, and nothing is announced."""
    client, key = cast.sign_in(cast.layla), _key(app, cast)
    with app.app_context():
        api_keys.delete(cast.layla.account_id, key.id)
    assert "/failover" not in client.get("/keys").get_data(as_text=True)
    page = client.get(_turn(client, key.id, "off").location + "&lang=en").get_data(as_text=True)
    assert "from now on" not in page
    assert _key(app, cast).failover is True


def test_deleting_asks_by_name_and_keeps_the_record(app: Flask, cast: Cast) -> None:
    """KEY-03: the question names the key; the row stays, revoked, for the usage it caused."""
    client = cast.sign_in(cast.layla)
    with app.app_context():
        key = db.session.scalars(sa.select(ApiKey).where(ApiKey.account_id == cast.layla.account_id)).one()
    question = client.get(f"/keys/{key.id}/delete").get_data(as_text=True)
    assert "layla&#39;s key" in question
    assert key.prefix in question
    answer = client.post(f"/keys/{key.id}/delete", data={"csrf_token": csrf_token(client, "/keys")})
    assert answer.status_code == 302
    assert "layla&#39;s key" in client.get(answer.location).get_data(as_text=True)
    with app.app_context():
        assert db.session.get_one(ApiKey, key.id).revoked_at is not None
    first = _revoked_at(app, key.id)
    client.post(f"/keys/{key.id}/delete", data={"csrf_token": csrf_token(client, "/keys")})
    assert _revoked_at(app, key.id) == first, "a second deletion changes nothing"
    assert client.get(f"/keys/{key.id}/delete").status_code == 302


def _revoked_at(app: Flask, key_id: str) -> object:
    with app.app_context():
        return db.session.get_one(ApiKey, key_id).revoked_at


def test_a_deleted_key_is_refused_by_the_next_request(app: Flask, cast: Cast) -> None:
    """KEY-03, never again "revoked keys kept working"."""
    api = app.test_client()
    assert api.get("/v1/models", headers=cast.layla.bearer).status_code == 200
    client = cast.sign_in(cast.layla)
    with app.app_context():
        key_id = db.session.scalars(sa.select(ApiKey.id).where(ApiKey.account_id == cast.layla.account_id)).one()
    client.post(f"/keys/{key_id}/delete", data={"csrf_token": csrf_token(client, "/keys")})
    refused = api.get("/v1/models", headers=cast.layla.bearer)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (401, "key_revoked")


def test_a_deletion_marks_the_account_changed(app: Flask, cast: Cast) -> None:
    """KEY-03: that mark is what empties the caches of all workers."""
    client = cast.sign_in(cast.layla)
    with app.app_context():
        key_id = db.session.scalars(sa.select(ApiKey.id).where(ApiKey.account_id == cast.layla.account_id)).one()
        before = store.client().get(f"fresh:account:{cast.layla.account_id}")
    client.post(f"/keys/{key_id}/delete", data={"csrf_token": csrf_token(client, "/keys")})
    with app.app_context():
        after = store.client().get(f"fresh:account:{cast.layla.account_id}")
    assert after is not None
    assert after != before
    assert not str(after).startswith("b'?"), "the change is committed: what is read now may be remembered"


def test_zaid_finds_nothing_behind_laylas_key(app: Flask, cast: Cast) -> None:
    """KEY-03: a stranger gets 404, as if there were no such key, and changes nothing."""
    with app.app_context():
        key_id = db.session.scalars(sa.select(ApiKey.id).where(ApiKey.account_id == cast.layla.account_id)).one()
    zaid = cast.sign_in(cast.zaid)
    assert zaid.get(f"/keys/{key_id}/delete").status_code == 404
    assert zaid.post(f"/keys/{key_id}/delete", data={"csrf_token": csrf_token(zaid, "/keys")}).status_code == 404
    assert _turn(zaid, key_id, "off").status_code == 404
    assert "layla" not in zaid.get("/keys").get_data(as_text=True)
    assert _revoked_at(app, key_id) is None
    assert _key(app, cast).failover is True


def test_keys_are_counted_and_bounded(app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """KEY-01: a runaway script does not fill the table; deleting one makes room."""
    monkeypatch.setattr(api_keys, "MOST", 3)
    with app.app_context():
        for n in range(2):
            api_keys.create(cast.layla.account_id, cast.layla.user_id, label=f"{n}")
        with pytest.raises(api_keys.KeyRefused):
            api_keys.create(cast.layla.account_id, cast.layla.user_id, label="one too many")
        db.session.rollback()
        newest = api_keys.of_account(cast.layla.account_id)[0]
        api_keys.delete(cast.layla.account_id, newest.id)
        api_keys.create(cast.layla.account_id, cast.layla.user_id, label="room again")


def test_keys_are_random_and_well_formed(app: Flask, cast: Cast) -> None:
    """KEY-01: `rsk_` and 40 letters and digits, never the same twice."""
    with app.app_context():
        made = {api_keys.create(cast.zaid.account_id, cast.zaid.user_id, label="k").secret for _ in range(20)}
    assert len(made) == 20
    assert all(KEY.fullmatch(secret) for secret in made)
