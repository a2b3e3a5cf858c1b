"""The WhatsApp API: what is refused, what is accepted, how a message moves, how it is found again."""

import http.client
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox.process import SandboxError, SandboxProcess
from tests.sandbox.whatsapp import PHONE, SERVER, api, delivered, send, until

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
HEX24 = re.compile(r"[0-9a-f]{24}")


@pytest.mark.parametrize("token", [None, "", "wrong", "Sandbox"])
@pytest.mark.parametrize("path", ["/messages", "/devices", "/webhooks", "/messages/64a1f0c2b7d3e95f08c4a1b2"])
def test_without_the_right_key_nothing_is_told_or_accepted(
    sandbox: SandboxProcess, path: str, token: str | None
) -> None:
    """NOTIF-11: 403 with a message, at every door."""
    reply = api(sandbox, path, token=token)
    assert (reply.status, reply.json["status"]) == (403, 403)
    assert reply.json["message"]
    assert api(sandbox, "/messages", {"phone": PHONE, "message": "Hello"}, token=token).status == 403
    assert sandbox.messages() == []


def test_the_key_is_a_knob(sandbox: SandboxProcess) -> None:
    """NOTIF-11."""
    sandbox.control(server=SERVER, key="another")
    assert send(sandbox).status == 403
    assert api(sandbox, "/devices", token="another").status == 200


def test_an_accepted_message_is_201_and_queued_with_the_fields_of_the_real_one(sandbox: SandboxProcess) -> None:
    """NOTIF-11: accepted is not delivered."""
    reply = send(sandbox, "مرحباً", reference="welcome:7", priority="high")
    told = reply.json
    assert reply.status == 201
    assert HEX24.fullmatch(told["id"])
    assert HEX24.fullmatch(told["device"])
    assert told["waId"]
    assert (told["phone"], told["message"], told["reference"], told["priority"]) == (
        PHONE, "مرحباً", "welcome:7", "high",
    )  # fmt: skip
    assert (told["status"], told["deliveryStatus"], told["sentAt"]) == ("queued", "queued", None)
    assert told["webhookStatus"] == "pending"
    assert told["retry"] == {"count": 0}
    assert ISO.fullmatch(told["createdAt"])
    assert ISO.fullmatch(told["deliverAt"])
    entry = sandbox.requests(path="/messages", server=SERVER)[-1]
    assert entry["body"]["message"] == "مرحباً"
    assert entry["headers"]["token"] == "sandbox"
    assert entry["notes"] == {"v1": True, "query": {}, "message": told["id"]}


@pytest.mark.parametrize("phone", ["96550000001", "0096550000001", "+0965500001", "+965 5000 0001", "+12", "", None, 5])
@pytest.mark.parametrize("path", ["/messages", "/numbers/exists"])
def test_a_phone_that_is_not_e164_with_its_plus_is_refused(sandbox: SandboxProcess, phone: Any, path: str) -> None:
    """AUTH-04: the production fault of the fact sheet: 400, `phone:invalid`, a message that says E.164."""
    reply = api(sandbox, path, {"phone": phone, "message": "Hello"})
    assert (reply.status, reply.json["errorCode"]) == (400, "phone:invalid")
    assert "E.164" in reply.json["message"]
    assert sandbox.messages() == []


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"message": None}, "message"),
        ({"message": "  "}, "message"),
        ({"device": "0123456789abcdef01234567"}, "device"),
        ({"reference": 5}, "reference"),
        ({"deliverAt": "tomorrow"}, "deliverAt"),
    ],
)
def test_what_else_is_wrong_is_named_by_its_path(sandbox: SandboxProcess, more: dict[str, Any], path: str) -> None:
    """NOTIF-11: `errors[0].path`, by which a client knows that its device id is wrong."""
    reply = api(sandbox, "/messages", {"phone": PHONE, "message": "Hello", **more})
    assert reply.status == 400
    assert reply.json["errors"][0]["path"] == path
    assert reply.json["message"]
    assert sandbox.messages() == []
    assert api(sandbox, "/messages", b"no json").status == 400


def test_several_devices_must_be_chosen_from(sandbox: SandboxProcess) -> None:
    """NOTIF-11: RESAYIL_DEVICE."""
    one, two = "a" * 24, "b" * 24
    sandbox.control(server=SERVER, devices=[one, two])
    assert send(sandbox).json["errors"][0]["path"] == "device"
    assert send(sandbox, device=two).json["device"] == two
    assert [row["id"] for row in api(sandbox, "/devices").json] == [one, two]


def test_a_message_is_sent_delivered_and_read_by_itself(sandbox: SandboxProcess) -> None:
    """NOTIF-11: as a live message of the real service looked: status processed, deliveryStatus delivered."""
    delivered_id = send(sandbox).json["id"]
    found = until(lambda: _in_state(sandbox, delivered_id, "delivered"))
    assert (found["status"], found["id"]) == ("processed", delivered_id)
    assert ISO.fullmatch(found["sentAt"])
    sandbox.next({"deliver_ms": 10, "read_ms": 10}, {"deliver_ms": None}, server=SERVER)
    read_id, never_id = (send(sandbox).json["id"] for _ in range(2))
    until(lambda: _in_state(sandbox, read_id, "read"))
    _, seen, never = sandbox.messages()
    assert seen["at"] <= seen["sent_at"] < seen["delivered_at"] < seen["read_at"]
    assert (never["id"], never["deliveryStatus"], never["delivered_at"]) == (never_id, "sent", None)
    sandbox.control(server=SERVER, last_status="sent")
    other_id = send(sandbox).json["id"]
    assert until(lambda: _in_state(sandbox, other_id, "delivered"))["status"] == "sent"
    counters = sandbox.counters(server=SERVER)
    assert (counters["sent"], counters["delivered"], counters["read"]) == (4, 3, 1)


def _in_state(sandbox: SandboxProcess, message: str, state: str) -> Any:
    found = api(sandbox, f"/messages/{message}").json
    return found if found["deliveryStatus"] == state else None


def test_deliver_at_is_obeyed(sandbox: SandboxProcess) -> None:
    """NOTIF-11: quiet hours."""
    soon = datetime.now(UTC) + timedelta(milliseconds=150)
    sandbox.control(server=SERVER, deliver_ms=0)
    written = soon.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert send(sandbox, "later", deliverAt=written).json["deliverAt"] == written
    tomorrow = send(sandbox, "tomorrow", deliverAt=(soon + timedelta(days=1)).isoformat()).json
    send(sandbox, "now")
    later, now = delivered(sandbox, count=2)
    assert (later["message"], now["message"]) == ("later", "now")
    assert later["sent_at"] >= soon.timestamp() - 0.001
    assert now["sent_at"] - now["at"] < later["sent_at"] - later["at"]
    assert api(sandbox, f"/messages/{tomorrow['id']}").json["status"] == "queued"


def test_while_the_device_is_offline_messages_are_accepted_and_wait(sandbox: SandboxProcess) -> None:
    """NOTIF-11: an offline device is seen in /devices alone; nothing is lost and the order stays."""
    sandbox.control(server=SERVER, session="offline", deliver_ms=0)
    assert [row["session"]["status"] for row in api(sandbox, "/devices").json] == ["offline"]
    assert api(sandbox, "/devices").json[0]["status"] == "operative"
    assert [send(sandbox, text).status for text in ("one", "two", "three")] == [201] * 3
    until(lambda: sandbox.counters(server=SERVER)["waiting_for_device"] == 3)
    assert {message["status"] for message in sandbox.messages()} == {"queued"}
    sandbox.control(server=SERVER, session="online")
    order = sorted(delivered(sandbox, count=3), key=lambda message: float(message["sent_at"]))
    assert [message["message"] for message in order] == ["one", "two", "three"]


def test_messages_are_found_by_phone_reference_status_and_size(sandbox: SandboxProcess) -> None:
    """NOTIF-11: what a client asks after a time-out, before it sends again."""
    sandbox.control(server=SERVER, deliver_ms=0)
    for at in range(3):
        send(sandbox, f"m{at}", reference=f"r:{at}")
    send(sandbox, "other", "+96550000002", reference="r:1")
    delivered(sandbox, count=4)
    digits = PHONE[1:]
    for phone in (f"%2B{digits}", f"+{digits}", digits):
        assert _texts(sandbox, f"?phone={phone}") == ["m2", "m1", "m0"]
    assert _texts(sandbox, "?reference=r:1") == ["other", "m1"]
    assert _texts(sandbox, f"?reference=r%3A1&phone={digits}") == ["m1"]
    assert _texts(sandbox, "?size=2") == ["other", "m2"]
    assert _texts(sandbox, "?status=queued") == []
    assert len(_texts(sandbox, "?status=processed")) == 4
    assert _texts(sandbox, "?reference=unknown") == []
    assert api(sandbox, "/messages?size=0").json["errors"][0]["path"] == "size"
    assert api(sandbox, f"/messages/{'0' * 24}").status == 404


def _texts(sandbox: SandboxProcess, query: str) -> list[str]:
    return [message["message"] for message in api(sandbox, f"/messages{query}").json]


def test_a_lookup_can_be_blind_forgetful_or_careless(sandbox: SandboxProcess) -> None:
    """NOTIF-11: none of this is known of the real service; a client must bear each."""
    assert sandbox.next({"hidden_ms": 60_000}, {"hidden_ms": 30}, server=SERVER)["next"][0] == {"hidden_ms": 60_000}
    told = send(sandbox, "long hidden", reference="r:0").json
    send(sandbox, "hidden", reference="r:1")
    until(lambda: _texts(sandbox, "?reference=r:1") == ["hidden"])
    assert _texts(sandbox, f"?phone={PHONE[1:]}") == ["hidden"]
    assert _texts(sandbox, "?reference=r:0") == []
    assert api(sandbox, f"/messages/{told['id']}").status == 404
    assert len(sandbox.messages(PHONE)) == 2, "the tests' own list sees both"
    sandbox.control(server=SERVER, drop_reference=True)
    assert _texts(sandbox, "?reference=r:1") == []
    assert "reference" not in api(sandbox, "/messages").json[0]
    assert sandbox.messages()[1]["reference"] == "r:1"
    sandbox.control(server=SERVER, reference_filter=False)
    assert _texts(sandbox, "?reference=anything") == ["hidden"], "an unknown filter is ignored"


def test_a_number_without_whatsapp_is_accepted_and_fails(sandbox: SandboxProcess) -> None:
    """NOTIF-11: or refused at once, with the knob; which one is true is not known."""
    sandbox.control(server=SERVER, unreachable=[PHONE])
    assert api(sandbox, "/numbers/exists", {"phone": PHONE}).json == {"phone": PHONE, "exists": False}
    assert api(sandbox, "/numbers/exists", {"phone": "+96550000002"}).json["exists"] is True
    told = send(sandbox).json
    failed = until(lambda: _in_state(sandbox, told["id"], "failed"))
    assert (failed["status"], failed["failureReason"]) == ("failed", "the phone is not registered on WhatsApp")
    sandbox.control(server=SERVER, unreachable_refused=True)
    assert send(sandbox).status == 400
    assert len(sandbox.messages()) == 1


def test_the_api_answers_with_and_without_v1(sandbox: SandboxProcess) -> None:
    """NOTIF-11: RESAYIL_API_URL is written either way."""
    bare = sandbox.server_url(SERVER)
    assert sandbox.whatsapp_url == f"{bare}/v1"
    assert api(sandbox, "/messages", {"phone": PHONE, "message": "bare"}, base=bare).status == 201
    assert _texts(sandbox, "") == ["bare"]
    posts, gets = sandbox.requests(path="/messages", server=SERVER)
    assert (posts["notes"]["v1"], gets["notes"]["v1"]) == (False, True)
    assert api(sandbox, "/nothing").status == 404
    assert api(sandbox, "/devices", {}).status == 405


def test_two_accounts_in_one_process_know_nothing_of_each_other_and_a_reset_empties_both() -> None:
    """OPS-01."""
    with SandboxProcess(phones=("whatsapp", "wa-2")) as sandbox:
        sandbox.control(server="wa-2", fault="500")
        assert send(sandbox).status == 201
        assert api(sandbox, "/messages", {}, base=sandbox.server_url("wa-2")).status == 500
        assert len(sandbox.messages()) == 1
        assert sandbox.messages(server="wa-2") == []
        sandbox.reset()
        assert sandbox.messages() == sandbox.requests(server=SERVER) == sandbox.requests(server="wa-2") == []
        assert sandbox.state(server="wa-2")["knobs"]["fault"] is None


def test_a_wrong_knob_is_refused_with_the_right_names(sandbox: SandboxProcess) -> None:
    """OPS-01: a knob that does nothing would make a test that cannot fail."""
    for wish, sentence in (
        ({"deliver": 5}, r"no knob 'deliver' here; there are: .*deliver_ms"),
        ({"fault": "nonsense"}, "fault must be null or one of 400, "),
        ({"lookup_fault": "502_accepted"}, "lookup_fault must be null or one of"),
        ({"session": "gone"}, "session must be one of online, offline"),
        ({"unreachable": ["96550000001"]}, "unreachable must be a list of phones"),
        ({"webhook": "https://example.com"}, "webhook must be null or an address"),
        ({"next": [{"fault": "500"}, {"lookup_fault": "500"}]}, "no knob 'lookup_fault' here"),
    ):
        with pytest.raises(SandboxError, match=sentence):
            sandbox.control(server=SERVER, **wish)
    assert sandbox.state(server=SERVER)["next"] == []


def test_thousands_of_messages_cost_each_the_same(sandbox: SandboxProcess) -> None:
    """NOTIF-11: ten thousand in one test; a lookup never walks through the others."""
    parts = urlsplit(sandbox.whatsapp_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    took = []
    for at in range(2000):
        began = time.perf_counter()
        body = json.dumps({"phone": f"+9655{at:07d}", "message": "x" * 300, "reference": f"r:{at}"})
        connection.request("POST", "/whatsapp/v1/messages", body, {"Token": "sandbox"})
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - began)
        assert answer.status == 201
    connection.close()
    early, late = (sorted(part)[len(part) // 2] for part in (took[:500], took[-500:]))
    assert late < early * 3
    until(lambda: sandbox.counters(server=SERVER)["delivered"] == 2000)
    assert len({message["id"] for message in sandbox.messages()}) == 2000
    assert [found["phone"] for found in api(sandbox, "/messages?reference=r:42").json] == ["+96550000042"]
