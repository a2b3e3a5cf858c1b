"""What the carrier's webhook tells of a message: noted once, only ever forwards, whoever tells it and how often."""

import hashlib
import hmac
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from portal import logs
from portal.extensions import db
from portal.models import Delivery
from portal.services import work
from portal.services.notifications import delivery, receipts, sent
from sandbox.process import SandboxProcess
from tests.doors.letters import CARRIERS, LONG_AGO, PHONE, accepted, event, fate, letter, now
from tests.doors.typing_at import refused, said
from tests.fail2ban.waiting import eventually
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb

TOKEN = "canary-Pq7-resayil-token-31"
SECRET = "canary-the-signing-secret-5"
DOOR = f"/webhooks/resayil/{TOKEN}"
OTHERS = "7771f0c2b7d3e95f08c4a1b2"


@pytest.fixture
def portal(make_app: MakeApp, sqlite_url: str) -> Flask:
    return make_app(sqlite_url, RESAYIL_WEBHOOK_TOKEN=TOKEN)


def told(app: Flask, body: Any, *, door: str = DOOR, **headers: str) -> TestResponse:
    """The carrier's post."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent_with = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return app.test_client().post(door, data=raw, headers=sent_with)


def understood(app: Flask, *bodies: Any) -> None:
    for body in bodies:
        answer = told(app, body)
        assert (answer.status_code, answer.get_json()) == (200, {})


# --- steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("name", "status", "becomes"),
    [
        ("message:out:sent", "sent", ("done", False, False)),
        ("message:out:ack", "sent", ("done", False, False)),
        ("message:out:ack", "delivered", ("done", True, False)),
        ("message:out:ack", "read", ("done", True, True)),
        ("message:out:delivered", "delivered", ("done", True, False)),
        ("message:out:read", "read", ("done", True, True)),
        ("message:out:failed", "failed", ("dead", False, False)),
    ],
)
def test_both_vintages_and_both_nestings_are_understood(
    portal: Flask, name: str, status: str, becomes: tuple[str, bool, bool], nested: bool
) -> None:
    """NOTIF-20, facts 2.4: by our reference, and by the carrier's id where it gives none back; twice is once."""
    by_reference, by_id, other = (
        accepted(portal, provider_id=""),
        accepted(portal),
        accepted(portal, provider_id=OTHERS),
    )
    mine = event(name, nested=nested, id="abc1", reference=by_reference, deliveryStatus=status)
    theirs = event(name, nested=nested, id=CARRIERS, reference="another system's", deliveryStatus=status)
    understood(portal, mine, theirs)
    assert fate(portal, by_reference) == fate(portal, by_id) == becomes
    assert (now(portal, by_reference).provider_id, now(portal, by_id).provider_id) == ("abc1", CARRIERS)
    before = now(portal, by_reference), now(portal, by_id)
    understood(portal, mine, theirs)
    assert (now(portal, by_reference), now(portal, by_id)) == before
    assert fate(portal, other) == ("done", False, False)


def test_steps_that_come_in_the_wrong_order_only_move_forwards(make_app: MakeApp, database_url: str) -> None:
    """NOTIF-20, on every database: read implies delivered; an earlier step that comes late, and a failure of what
    somebody already had, change nothing."""
    app = make_app(database_url, HOOK_TOKEN=TOKEN)  # the door's token where it has none of its own
    message = accepted(app)
    ack: dict[str, Any] = {"id": CARRIERS, "reference": message}
    read, delivered, failed = (
        event("message:out:ack", deliveryStatus=step, **ack) for step in ("read", "delivered", "failed")
    )
    understood(app, read)
    first = now(app, message)
    assert fate(app, message) == ("done", True, True)
    assert first.read_at == first.delivered_at > LONG_AGO
    assert first.accepted_at == LONG_AGO
    understood(app, delivered, failed, read)
    assert now(app, message) == first

    late = accepted(app, provider_id=OTHERS)
    understood(app, event("message:out:failed", id=OTHERS, reference=late), event("message:out:read", reference=late))
    assert fate(app, late) == ("done", True, True)  # it got there in the end
    assert now(app, late).error == ""


@pytest.mark.parametrize("state", ["waiting", "dead", "expired", "cancelled"])
def test_what_somebody_has_was_sent_whatever_we_thought(make_app: MakeApp, database_url: str, state: str) -> None:
    """NOTIF-20: a message in doubt that is delivered is done, and is neither looked for nor sent any more."""
    app = make_app(database_url, RESAYIL_WEBHOOK_TOKEN=TOKEN)
    message = letter(app, state=state, attempts=1, in_doubt=True, error="the carrier takes too long to answer")
    understood(app, event("message:out:ack", id=CARRIERS, reference=message, deliveryStatus="delivered"))
    row = now(app, message)
    assert (row.state, row.in_doubt, row.error, row.provider_id) == ("done", False, "", CARRIERS)
    assert row.accepted_at == row.delivered_at
    with app.app_context():
        assert work.claim(Delivery, message, 60) is None
        assert message not in work.hand_out(Delivery)


def test_a_failure_after_accepting_ends_the_message_in_our_own_words(
    portal: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """NOTIF-20, never-again "upstream texts": staff see why in our words; the carrier's own are in the log, without
    the digits that may be a number or a code."""
    known, unknown = accepted(portal), accepted(portal, provider_id=OTHERS)
    said: dict[str, Any] = {"failureReason": "Number +96550001234 is not registered on WhatsApp"}
    with caplog.at_level(logging.WARNING, "portal.notifications"):
        understood(portal, event("message:out:failed", id=CARRIERS, **said))
        understood(portal, event("message:out:failed", id=OTHERS, reference=unknown, failureReason="Xyzzy 482913"))
    assert now(portal, known).error == "accepted, and not delivered: the number is not on WhatsApp"
    assert now(portal, unknown).error == "accepted, and not delivered: the log has what the carrier said"
    written = [logs.JsonLines().format(record) for record in caplog.records if record.name == "portal.notifications"]
    assert [json.loads(line)["said"] for line in written] == [
        "Number +[digits] is not registered on WhatsApp", "Xyzzy [digits]",
    ]  # fmt: skip
    with portal.app_context():
        sent.resend(known, "user:noor")  # and a person may have it sent once more
    assert now(portal, known).state == "waiting"


def test_the_failure_of_a_first_sending_is_no_news_of_the_second(portal: Flask) -> None:
    """NOTIF-20: webhooks are repeated for a day; staff sent it again meanwhile, which is another message there."""
    old = event("message:out:failed", id=CARRIERS, failureReason="x")
    for state in ("waiting", "running"):
        message = accepted(portal, state=state, provider_id=CARRIERS, attempts=2)
        understood(portal, old | {"data": old["data"] | {"reference": message}})
        assert now(portal, message).state == state
    again = accepted(portal, provider_id=OTHERS, attempts=2)
    understood(portal, old | {"data": old["data"] | {"reference": again}})
    assert now(portal, again).state == "done"


def test_what_was_sent_again_is_told_from_what_failed_before(make_app: MakeApp, database_url: str) -> None:
    """ADMIN-13, on every database: the first failed, staff sent it again, and that answer was lost. A repeated failure
    of the first is no news; the second's own receipts are, and then it is neither looked for nor sent a third time."""
    app = make_app(database_url, RESAYIL_WEBHOOK_TOKEN=TOKEN)
    arrives, fails = accepted(app, provider_id="a1"), accepted(app, provider_id="b1")
    for message, first in ((arrives, "a1"), (fails, "b1")):
        old = event("message:out:failed", id=first, reference=message, failureReason="x")
        understood(app, old)
        with app.app_context():
            sent.resend(message, "console")
            held = work.claim(Delivery, message, 60)
            assert held is not None and (held.attempt, now(app, message).accepted_at) == (delivery.TRIES + 1, None)
            with db.engine.begin() as connection:
                assert work.write(connection, Delivery, held, state="waiting", in_doubt=True, due_at=LONG_AGO)
        understood(app, old, event("message:out:sent", id=first, reference=message))
        row = now(app, message)
        assert (row.state, row.provider_id, row.accepted_at) == ("waiting", first, None)
    understood(app, event("message:out:sent", id="a2", reference=arrives))
    assert (now(app, arrives).provider_id, now(app, arrives).accepted_at is None) == ("a2", False)
    with app.app_context():  # RESAYIL_API_URL is an address where nobody is: asking there would be a fault
        assert delivery.deliver_one(arrives) == "done"
    understood(app, event("message:out:failed", id="b2", reference=fails))
    assert (now(app, fails).state, now(app, fails).provider_id) == ("dead", "b2")


def test_what_was_given_up_in_doubt_and_is_out_is_not_sent_again_by_staff(portal: Flask) -> None:
    """NOTIF-11: the carrier told us that it has it, after we had given up."""
    message = letter(portal, state="dead", attempts=delivery.TRIES, in_doubt=True)
    understood(portal, event("message:out:sent", id=CARRIERS, reference=message))
    with portal.app_context():
        sent.resend(message, "console")
        assert delivery.deliver_one(message) == "done"


def test_what_is_not_ours_changes_nothing_and_is_not_repeated(portal: Flask) -> None:
    """Contract, hooks: unknown ids, messages coming in, other events: 200 and nothing; no id is never everybody's."""
    fresh, mail = letter(portal, provider_id=""), letter(portal, channel="email", address="l@example.com")
    before = now(portal, fresh), now(portal, mail)
    for data in ({}, {"id": ""}, {"id": None, "reference": 7}, {"id": "% or 1"}, {"id": "f" * 24}, {"reference": "x"},
                 {"reference": "f" * 32}, {"reference": mail}):  # fmt: skip
        for name in ("message:out:failed", "message:out:read", "message:out:sent"):
            understood(portal, event(name, **data))
    for name in ("message:in:new", "message:out:new", "message:update", "number:session", "", "x" * 5000):
        understood(portal, event(name, id=CARRIERS, reference=fresh, deliveryStatus="read"))
    odd: list[Any] = [{}, {"event": 5}, {"event": "message:out:ack", "data": [1]}, {"data": {"message": {"id": [1]}}}]
    understood(portal, *odd, event("message:out:ack", reference=fresh, deliveryStatus="teleported"))
    assert (now(portal, fresh), now(portal, mail)) == before


def test_a_receipt_costs_one_statement_and_what_is_not_ours_none(portal: Flask) -> None:
    """The carrier waits ten seconds for its answer, and a busy account tells of everything."""
    message = accepted(portal)
    asked: list[str] = []
    with portal.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    understood(portal, event("message:out:read", reference=message))
    assert len([sql for sql in asked if not sql.startswith("BEGIN")]) == 1
    asked.clear()
    understood(portal, event("message:in:new", id="x", fromNumber=PHONE))
    assert asked == []


# --- races ----------------------------------------------------------------------------------------------------------


def test_a_receipt_that_is_quicker_than_the_answer_is_not_lost(make_app: MakeApp, database_url: str) -> None:
    """NOTIF-20, on every database: delivered while the worker still waits for its 201; whether that comes or is lost,
    the message is done and delivered, and never sent twice."""
    app = make_app(database_url, RESAYIL_WEBHOOK_TOKEN=TOKEN)
    answered, lost, failed = letter(app), letter(app), letter(app)
    with app.app_context():
        held = {message: work.claim(Delivery, message, 60) for message in (answered, lost, failed)}
    for message in (answered, lost):
        understood(app, event("message:out:ack", id=CARRIERS, reference=message, deliveryStatus="delivered"))
        assert fate(app, message) == ("running", True, False)
    understood(app, event("message:out:failed", id=OTHERS, reference=failed))

    def ends(message: str, **outcome: Any) -> bool:
        claim = held[message]
        assert claim is not None
        with app.app_context(), db.engine.begin() as connection:
            return work.write(connection, Delivery, claim, **outcome)

    assert ends(answered, state="done", provider_id=CARRIERS)
    assert fate(app, answered) == ("done", True, False)
    assert not ends(failed, state="done", provider_id=OTHERS)
    assert (now(app, failed).state, now(app, failed).provider_id) == ("dead", OTHERS)
    assert ends(lost, state="waiting", in_doubt=True, due_at=LONG_AGO)
    with app.app_context():  # RESAYIL_API_URL is an address where nobody is: asking there would be a fault
        assert delivery.deliver_one(lost) == "done"
    assert (now(app, lost).state, now(app, lost).error, now(app, lost).in_doubt) == ("done", "", False)


def test_many_receipts_at_once_leave_one_fate(make_app: MakeApp, database_url: str) -> None:
    """NOTIF-20, on every database: twelve threads tell of delivery, reading and failure of one message."""
    app = make_app(database_url, RESAYIL_WEBHOOK_TOKEN=TOKEN)
    message = accepted(app)
    ready, answers = threading.Barrier(12), []

    def tell(step: str) -> None:
        ready.wait(20)
        answers.append(told(app, event("message:out:" + step, id=CARRIERS, reference=message)).status_code)

    threads = [threading.Thread(target=tell, args=(step,)) for step in ("delivered", "read", "failed", "sent") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 12
    assert fate(app, message) == ("done", True, True)


# --- the door -------------------------------------------------------------------------------------------------------


def test_the_door_is_shut_without_a_token_and_silent_to_a_wrong_one(
    make_app: MakeApp, sqlite_url: str, tmp_path: Path
) -> None:
    """Contract, hooks: 503 while none is set; else an address that does not exist, and a line for fail2ban."""
    shut = make_app(sqlite_url)
    answer = told(shut, event("message:out:read"))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "service_unavailable")

    log = tmp_path / "auth.log"
    app = make_app(sqlite_url, RESAYIL_WEBHOOK_TOKEN=TOKEN, HOOK_TOKEN="another-one-for-fail2ban", AUTH_LOG=str(log))
    message = accepted(app)
    nowhere = app.test_client().post("/webhooks/nothing-here").get_json()
    for guess in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "another-one-for-fail2ban", "كلمة", "a/b/c"):
        answer = told(app, event("message:out:read", reference=message), door="/webhooks/resayil/" + guess)
        assert (answer.status_code, answer.get_json()) == (404, nowhere)
    assert log.read_text().count("auth_failure ip=127.0.0.1 reason=bad_hook_token email=-\n") == 6
    assert TOKEN[:-1] not in log.read_text()
    assert fate(app, message) == ("done", False, False)


def test_a_signature_that_comes_must_be_right(make_app: MakeApp, sqlite_url: str) -> None:
    """Facts 2.4: sources conflict over it, so the token is what counts; but a wrong signature is a forger's."""
    app = make_app(sqlite_url, RESAYIL_WEBHOOK_TOKEN=TOKEN, RESAYIL_WEBHOOK_SECRET=SECRET)
    message = accepted(app)
    raw = json.dumps(event("message:out:ack", reference=message, deliveryStatus="delivered")).encode()
    right = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    for wrong in ("", "sha256=", right, "sha256=" + "0" * 64, "sha1=" + right, "sha256=\xe9"):
        answer = told(app, raw, X_Wassenger_Signature=wrong)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "invalid_token")
    assert told(app, raw + b" ", X_Wassenger_Signature="sha256=" + right).status_code == 401
    assert fate(app, message) == ("done", False, False)
    assert told(app, raw, X_Wassenger_Signature="sha256=" + right).status_code == 200
    assert fate(app, message) == ("done", True, False)
    assert told(app, event("message:out:read", reference=message)).status_code == 200  # unsigned, as some carriers do
    assert fate(app, message) == ("done", True, True)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"event": "\xff"}']
)
def test_what_is_no_json_object_is_refused(portal: Flask, body: bytes) -> None:
    """Contract, errors: 400 in the API's shape, never a 500."""
    answer = told(portal, body)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_request")


def test_a_body_that_is_too_large_is_refused_with_the_doors_own_limit(portal: Flask) -> None:
    """Never a body of any size in memory for a door that everybody can knock at."""
    answer = told(portal, b'{"x": "' + b"x" * receipts.LARGEST + b'"}')
    assert answer.status_code == 413
    assert str(receipts.LARGEST) in answer.get_json()["error"]["message"]


def test_the_token_in_the_address_is_never_written_down() -> None:
    """Never again, "secrets in logs": whoever reads a log must not be able to forge receipts."""
    record = logging.makeLogRecord({"name": "portal.errors", "msg": "unforeseen error", "path": DOOR})
    assert TOKEN not in logs.JsonLines().format(record)
    assert "/webhooks/resayil/[redacted]" in logs.JsonLines().format(record)


# --- the real webhooks of the sandbox -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{"vintage": "code", "nested": False}, {"vintage": "skills", "nested": True}])
def test_the_sandboxs_receipts_reach_the_portal(
    make_app: MakeApp, start_web: StartWeb, sqlite_url: str, sandbox: SandboxProcess, shape: dict[str, Any]
) -> None:
    """NOTIF-20, end to end over HTTP, signed, each told twice: delivered, read, unreachable, told before our 201, by
    id where the reference is dropped."""
    app = make_app(sqlite_url, RESAYIL_API_URL=sandbox.whatsapp_url, RESAYIL_API_KEY="sandbox")
    web = start_web(sqlite_url, RESAYIL_WEBHOOK_TOKEN=TOKEN, RESAYIL_WEBHOOK_SECRET=SECRET)
    knobs: dict[str, Any] = {
        "webhook": web.url + DOOR,
        "webhook_twice": True,
        "webhook_secret": SECRET,
        "deliver_ms": 5,
        "read_ms": 5,
    }
    sandbox.control(server="whatsapp", unreachable=["+96550000009"], **knobs, **shape)

    def send(**values: Any) -> str:
        message = letter(app, **values)
        with app.app_context():  # None: its failure was told before our 201 had been read
            assert delivery.deliver_one(message) in ("done", None)
        return message

    plain = send()
    unreachable = send(address="+96550000009")
    sandbox.next({"answer_delay_ms": 400}, server="whatsapp")
    early = send()
    assert fate(app, early) == ("done", True, True)  # told while the 201 was still held back
    sandbox.control(server="whatsapp", drop_reference=True)
    sandbox.next({"deliver_ms": 150}, server="whatsapp")  # there the id alone tells, so the 201 must have come
    by_id = send()
    for message in (plain, early, by_id):
        eventually(lambda: fate(app, message) == ("done", True, True), "it is read")  # noqa: B023
    eventually(lambda: fate(app, unreachable) == ("dead", False, False), "the number is not on WhatsApp")
    assert now(app, unreachable).error.endswith("the number is not on WhatsApp")
    eventually(lambda: sandbox.counters(server="whatsapp")["webhook_pending"] == 0, "all is told")
    counters = sandbox.counters(server="whatsapp")
    assert (counters["webhook_refused"], counters["webhook_posts"] >= 20) == (0, True)
    assert len(sandbox.messages()) == 4
    assert TOKEN not in web.logged()
    assert web.errors() == []


def test_the_carrier_is_told_where_receipts_go_once(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """NOTIF-20: `flask messages connect-receipts`; repeated, it registers nothing; the token is not shown."""
    carrier = {"RESAYIL_API_URL": sandbox.whatsapp_url, "RESAYIL_API_KEY": "sandbox"}
    app = make_app(sqlite_url, HOOK_TOKEN="a/b+c-canary-hook-token", BASE_URL="http://portal.example", **carrier)
    assert "carrier tells http://portal.example" in said(app, "messages", "connect-receipts")
    assert "told already" in said(app, "messages", "connect-receipts")
    [hook] = sandbox.state(server="whatsapp")["webhooks"]
    assert hook["url"] == "http://portal.example/webhooks/resayil/a%2Fb%2Bc-canary-hook-token"
    assert set(hook["events"]) == {"message:out:sent", "message:out:ack", "message:out:failed"}
    message = accepted(app)
    path = hook["url"].removeprefix("http://portal.example")
    assert told(app, event("message:out:read", reference=message), door=path).status_code == 200
    assert fate(app, message) == ("done", True, True)

    sandbox.control(server="whatsapp", down="403")
    assert "refuses our key" in refused(app, "messages", "connect-receipts")
    assert "must be set" in refused(make_app(sqlite_url, **carrier), "messages", "connect-receipts")
