"""Bans as fail2ban's hook or a command tells of them: noted once, told to the administrators, listed."""

import datetime as dt
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from portal import clock
from portal.extensions import db
from portal.models import Ban, Event, EventStep, Notification
from portal.services import runs, work
from portal.services.bans import ban
from portal.tasks.graph import GRAPH
from tests.doors.typing_at import refused, said
from tests.services.portal_app import MakeApp

TOKEN = "canary-hook-token-73-Zq"
GUESSER = "203.0.113.9"
NOW = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)


@pytest.fixture
def portal(make_app: MakeApp, sqlite_url: str) -> Flask:
    return make_app(sqlite_url, HOOK_TOKEN=TOKEN, ADMIN_PHONES="+96550000201")


def told(app: Flask, form: Mapping[str, object] | None = None, **headers: str) -> TestResponse:
    """The hook's post."""
    given = {"event": "ban", "ip": GUESSER, "jail": "portal-auth", "failures": "5", "bantime": "600"} | dict(form or {})
    bearer = {"Authorization": f"Bearer {TOKEN}"} | headers
    return app.test_client().post("/webhooks/fail2ban", data=given, headers=bearer)


def bans(app: Flask) -> list[sa.Row[*tuple[Any, ...]]]:
    with app.app_context(), db.engine.connect() as connection:
        return list(connection.execute(sa.select(Ban.__table__).order_by(Ban.id)).all())


def events(app: Flask) -> int:
    with app.app_context():
        return db.session.scalars(sa.select(sa.func.count()).select_from(Event)).one()


def test_a_ban_is_noted_once_and_the_administrators_are_told(make_app: MakeApp, database_url: str) -> None:
    """NOTIF-09, on every database: eight hooks tell of one ban at once; one row, one event, one message."""
    app = make_app(database_url, HOOK_TOKEN=TOKEN, ADMIN_PHONES="+96550000201")
    ready, answers = threading.Barrier(8), []

    def tell() -> None:
        ready.wait(20)
        answers.append(told(app).status_code)

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [204] * 8
    [row] = bans(app)
    assert (row.address, row.jail, row.failures, row.standing) == (GUESSER, "portal-auth", 5, f"portal-auth {GUESSER}")
    assert row.until - row.banned_at == dt.timedelta(seconds=600)
    assert events(app) == 1
    with app.app_context():
        runs.unfold_new(GRAPH)
        assert [runs.run_step(GRAPH, step) for step in work.due(EventStep, 10)] == ["done"]
        told_of = db.session.scalars(sa.select(Notification)).one()
        assert (told_of.kind, told_of.recipient) == ("address_banned", "staff")
        assert told_of.facts == {"address": GUESSER, "jail": "portal-auth", "failures": 5}

    assert told(app, {"event": "unban"}).status_code == 204
    assert told(app, {"event": "unban"}).status_code == 204  # told twice, or of a ban we never heard of
    assert [(row.standing, row.lifted_at is not None) for row in bans(app)] == [(None, True)]
    assert told(app).status_code == 204
    assert len(bans(app)) == events(app) == 2


def test_a_list_that_was_read_before_the_ban_was_lifted_does_not_ban_anew(portal: Flask) -> None:
    """NOTIF-09: `portal-ban sync` tells of every ban that stands, with the second it began; the hook knows it again."""
    began = str(int(clock.utcnow().timestamp()) - 100)
    assert told(portal, {"time": began}).status_code == 204
    assert told(portal, {"time": began}).status_code == 204
    told(portal, {"event": "unban"})
    for rounded in (-1, 0, 1):  # a restart of fail2ban moves the second
        assert told(portal, {"time": str(int(began) + rounded)}).status_code == 204
    [row] = bans(portal)
    assert row.standing is None
    assert row.until == dt.datetime.fromtimestamp(int(began) + 600, dt.UTC)  # not from when we heard of it
    assert told(portal, {"time": str(int(began) + 50)}).status_code == 204
    assert len(bans(portal)) == events(portal) == 2


def test_a_ban_for_good_has_no_end_and_one_that_ran_out_makes_room(
    portal: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """facts fail2ban: a bantime of -1 is for good; an unban can be lost."""
    monkeypatch.setattr("portal.clock.utcnow", lambda: NOW)
    told(portal, {"bantime": "-1", "ip": "2001:db8::7"})
    told(portal, {"bantime": "600"})
    monkeypatch.setattr("portal.clock.utcnow", lambda: NOW + dt.timedelta(seconds=601))
    told(portal, {"bantime": "600"})
    told(portal, {"bantime": "", "failures": "", "ip": "::ffff:198.51.100.7"})
    assert [(row.address, row.until is None, row.standing is None, row.failures) for row in bans(portal)] == [
        ("2001:db8::7", True, False, 5), (GUESSER, False, True, 5), (GUESSER, False, False, 5),
        ("198.51.100.7", True, False, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"event": ""}, "event"), ({"event": "flush"}, "event"), ({"ip": ""}, "ip"), ({"ip": "x'; --"}, "ip"),
        ({"ip": "203.0.113.0/24"}, "ip"), ({"jail": ""}, "jail"), ({"jail": "a b"}, "jail"),
        ({"jail": "j" * 61}, "jail"), ({"failures": "many"}, "failures"), ({"failures": "-1"}, "failures"),
        ({"failures": "9" * 12}, "failures"), ({"failures": "٥"}, "failures"), ({"bantime": "1h"}, "bantime"),
        ({"bantime": "9" * 13}, "bantime"), ({"time": "soon"}, "time"), ({"time": "-5"}, "time"),
        ({"time": "0"}, "time"), ({"time": "9999999999"}, "time"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named(portal: Flask, wrong: dict[str, str], param: str) -> None:
    """Contract, errors: 400 with the field, in words that the log of fail2ban can show; nothing is noted."""
    answer = told(portal, wrong)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert param in error["message"]
    assert (bans(portal), events(portal)) == ([], 0)


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Bearer x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x",
                                   f"Bearer {TOKEN[:-1]}", "Bearer \xe9"])  # fmt: skip
def test_a_wrong_token_is_refused_and_counted(make_app: MakeApp, sqlite_url: str, tmp_path: Path, given: str) -> None:
    """Contract, hooks: 401 in the API's shape, a line for fail2ban with the address and no token; nothing is noted."""
    log = tmp_path / "auth.log"
    app = make_app(sqlite_url, HOOK_TOKEN=TOKEN, AUTH_LOG=str(log))
    answer = told(app, Authorization=given)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert log.read_text().endswith("auth_failure ip=127.0.0.1 reason=bad_hook_token email=-\n")
    assert log.read_text().count("\n") == 1
    assert "canary" not in log.read_text()
    assert bans(app) == []


def test_the_scheme_is_read_as_http_reads_it(portal: Flask) -> None:
    """RFC 9110: the scheme's case means nothing; curl users write what they like."""
    assert told(portal, Authorization=f"bearer  {TOKEN} ").status_code == 204


def test_without_a_token_the_hook_is_closed_to_everybody(make_app: MakeApp, sqlite_url: str) -> None:
    """Contract, hooks: an empty HOOK_TOKEN is none, and never equals an empty one that is sent."""
    app = make_app(sqlite_url, RESAYIL_WEBHOOK_TOKEN="another-doors-own-token")
    for given in ("Bearer ", f"Bearer {TOKEN}", "Bearer another-doors-own-token"):
        answer = told(app, Authorization=given)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "service_unavailable")
    assert bans(app) == []


def test_a_form_that_is_too_large_is_refused(portal: Flask) -> None:
    """A door that strangers knock at reads no more than a form."""
    answer = told(portal, {"jail": "x" * 40_000})
    assert answer.status_code == 413
    assert "16384" in answer.get_json()["error"]["message"]


# --- the same by hand -----------------------------------------------------------------------------------------------


def test_bans_are_noted_lifted_and_listed_at_the_terminal(portal: Flask) -> None:
    """Contract, commands: `flask alerts ip-banned IP --jail J --failures N`; the list says which of them stand."""
    assert "There are none." in said(portal, "alerts", "bans")
    words = ("alerts", "ip-banned", GUESSER, "--jail", "sshd", "--failures", "12")
    assert "noted as banned" in said(portal, *words)
    assert "noted before" in said(portal, *words)
    assert "is noted" in said(portal, "alerts", "ip-banned", "2001:DB8::1", "--jail", "sshd", "--seconds", "3600")
    assert events(portal) == 2
    assert "noted as over" in said(portal, "alerts", "unbanned", GUESSER, "--jail", "sshd")
    assert "No ban of" in said(portal, "alerts", "unbanned", GUESSER, "--jail", "sshd")
    with portal.app_context():
        ban("192.0.2.8", "sshd")
    lines = [line.split() for line in said(portal, "alerts", "bans").splitlines()[1:]]
    assert [(line[2], line[3], line[4], line[5]) for line in lines] == [
        ("192.0.2.8", "sshd", "0", "STANDS"), ("2001:db8::1", "sshd", "0", "STANDS"), (GUESSER, "sshd", "12", "over"),
    ]  # fmt: skip
    assert "ip must be" in refused(portal, "alerts", "ip-banned", "nobody", "--jail", "sshd")
    assert "jail must be" in refused(portal, "alerts", "unbanned", GUESSER, "--jail", "a b")
    assert "--jail" in refused(portal, "alerts", "ip-banned", GUESSER)
