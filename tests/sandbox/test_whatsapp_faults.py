"""What goes wrong with a send and with a lookup: each fault does what its name says, and says whether it accepted."""

import http.client
import json
from collections.abc import Callable
from functools import partial

import pytest

from sandbox.process import SandboxProcess
from sandbox.whatsapp.knobs import FAULTS_ACCEPTED, FAULTS_BEFORE, FAULTS_LOOKUP
from tests.sandbox.client import Reply
from tests.sandbox.whatsapp import PHONE, SERVER, api, delivered, send, until

# What reaches the client: a status, or what http.client raises.
TOLD: dict[str, int | type[Exception]] = {
    "400": 400, "401": 401, "403": 403, "404": 404, "409": 409, "429": 429, "429_retry_after": 429, "500": 500,
    "502": 502, "503": 503, "200_error": 200, "200_html": 200, "500_accepted": 500, "502_accepted": 502,
    "201_no_id": 201, "reset_before": ConnectionResetError, "reset_accepted": ConnectionResetError,
    "cut_accepted": http.client.IncompleteRead, "stall_before": TimeoutError, "stall_accepted": TimeoutError,
}  # fmt: skip


def _patience(fault: str) -> float:
    """Seconds: little where nothing will come, plenty where this machine may only be busy."""
    return 0.1 if fault.startswith("stall") else 5


def _told(expected: int | type[Exception], ask: Callable[[], Reply]) -> Reply | None:
    if isinstance(expected, int):
        reply = ask()
        assert reply.status == expected
        return reply
    with pytest.raises(expected):
        ask()
    return None


@pytest.mark.parametrize("fault", [*FAULTS_BEFORE, *FAULTS_ACCEPTED])
def test_a_send_goes_wrong_as_named_and_is_accepted_or_not_as_named(sandbox: SandboxProcess, fault: str) -> None:
    """NOTIF-11: the difference between "send again" and "look first"."""
    sandbox.control(server=SERVER, fault=fault, times=1)
    reply = _told(TOLD[fault], lambda: send(sandbox, "first", timeout=_patience(fault)))
    accepted = [message["message"] for message in sandbox.messages()]
    assert accepted == (["first"] if fault in FAULTS_ACCEPTED else [])
    entry = sandbox.requests(server=SERVER)[-1]
    assert (entry["fault"], entry["body"]["message"]) == (fault, "first")
    assert send(sandbox, "second").status == 201, "once, as `times` says"
    assert delivered(sandbox, count=len(accepted) + 1)
    if reply is not None and fault[0] in "45":
        _looks_like_an_error(reply, fault)


def _looks_like_an_error(reply: Reply, fault: str) -> None:
    assert ("retry-after" in reply.headers) is (fault == "429_retry_after")
    if fault.startswith("502"):
        assert (reply.headers["content-type"], reply.raw[:15]) == ("text/html", b"<!DOCTYPE html>")
    elif fault == "503":
        assert reply.headers["content-type"] == "text/plain"
    else:
        assert reply.json["status"] == reply.status
        assert reply.json["message"]


def test_a_success_can_be_none(sandbox: SandboxProcess) -> None:
    """NOTIF-11: 200 with an error in it, 200 of somebody else altogether, 201 without an id."""
    sandbox.next({"fault": "200_error"}, {"fault": "200_html"}, {"fault": "201_no_id"}, {}, server=SERVER)
    with_error, html, no_id, good = (send(sandbox) for _ in range(4))
    assert with_error.json == {"error": "device session is not ready"}
    assert html.headers["content-type"] == "text/html"
    assert "id" not in no_id.json
    assert [message["id"] for message in sandbox.messages()][1:] == [good.json["id"]]


def test_retry_after_and_the_short_names_are_what_they_say(sandbox: SandboxProcess) -> None:
    """NOTIF-11."""
    sandbox.next({"fault": "429_retry_after", "retry_after_s": 7}, {"fault": "timeout"}, server=SERVER)
    assert send(sandbox).headers["retry-after"] == "7"
    with pytest.raises(TimeoutError):
        send(sandbox, timeout=0.1)
    assert len(sandbox.messages()) == 1
    aliases = {"reset": "reset_before", "stall": "stall_before", "html": "200_html"}
    sandbox.next(*({"fault": name} for name in aliases), server=SERVER)
    assert [wish["fault"] for wish in sandbox.state(server=SERVER)["next"]] == list(aliases.values())


def test_a_fault_without_times_stays_until_it_is_taken_back(sandbox: SandboxProcess) -> None:
    """NOTIF-11: and a count left over from an earlier one does not end it."""
    sandbox.control(server=SERVER, fault="500", times=0)
    assert send(sandbox).status == 201
    sandbox.control(server=SERVER, fault="502")
    assert [send(sandbox).status for _ in range(3)] == [502] * 3
    sandbox.control(server=SERVER, fault=None)
    assert send(sandbox).status == 201


def test_a_slow_answer_comes_before_accepting_or_after(sandbox: SandboxProcess) -> None:
    """NOTIF-11: a client that gives up too early sent nothing, or sent it after all."""
    sandbox.next({"delay_ms": 10_000}, {"answer_delay_ms": 10_000}, {"answer_delay_ms": 60}, server=SERVER)
    with pytest.raises(TimeoutError):
        send(sandbox, "before", timeout=0.1)
    with pytest.raises(TimeoutError):
        send(sandbox, "after", timeout=0.1)
    assert [message["message"] for message in sandbox.messages()] == ["after"]
    sandbox.wait_for(lambda seen: [entry["outcome"] for entry in seen] == ["client_left"] * 2, server=SERVER)
    assert send(sandbox, "patient").json["status"] == "queued"
    assert sandbox.requests(server=SERVER)[-1]["finished_ms"] >= 60


@pytest.mark.parametrize("fault", FAULTS_LOOKUP)
def test_a_lookup_goes_wrong_on_its_own(sandbox: SandboxProcess, fault: str) -> None:
    """NOTIF-11: what cannot be looked up must not be taken for "was never sent"; sends are not concerned."""
    told = send(sandbox, reference="r:1").json
    sandbox.control(server=SERVER, lookup_fault=fault, lookup_times=2)
    list_told, one_told = (200, 404) if fault == "empty" else (TOLD[fault], TOLD[fault])
    patience = _patience(fault)
    reply = _told(list_told, lambda: api(sandbox, "/messages?reference=r:1", timeout=patience))
    _told(one_told, lambda: api(sandbox, f"/messages/{told['id']}", timeout=patience))
    if reply is not None and fault == "empty":
        assert reply.json == []
    assert [found["id"] for found in api(sandbox, "/messages?reference=r:1").json] == [told["id"]], "twice, no more"
    sandbox.control(server=SERVER, lookup_fault=fault)
    assert send(sandbox).status == 201


def test_a_lookup_can_be_slow(sandbox: SandboxProcess) -> None:
    """NOTIF-11."""
    sandbox.control(server=SERVER, lookup_delay_ms=60)
    assert api(sandbox, "/messages").json == []
    assert sandbox.requests(server=SERVER)[-1]["finished_ms"] >= 60


@pytest.mark.parametrize("fault", ["502", "reset_before", "403"])
def test_a_service_that_is_down_is_down_at_every_door(sandbox: SandboxProcess, fault: str) -> None:
    """NOTIF-11: devices and webhooks too; the tests' own doors and the inbox are not concerned."""
    sandbox.control(server=SERVER, down=fault)
    for path in ("/messages", "/devices", "/webhooks"):
        _told(TOLD[fault], partial(api, sandbox, path))
    _told(TOLD[fault], lambda: send(sandbox))
    assert sandbox.messages() == []
    assert api(sandbox, "/", base=sandbox.server_url(SERVER)).status == 200


def test_a_reset_lets_go_whoever_waits(sandbox: SandboxProcess) -> None:
    """OPS-01: a stalled request of one test does not outlive it."""
    sandbox.control(server=SERVER, fault="stall_accepted")
    connection = http.client.HTTPConnection("127.0.0.1", int(sandbox.url.rpartition(":")[2]), timeout=3)
    body = json.dumps({"phone": PHONE, "message": "Hello"})
    connection.request("POST", "/whatsapp/v1/messages", body, {"Token": "sandbox"})
    until(lambda: len(sandbox.messages()) == 1)
    sandbox.reset()
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    connection.close()
    assert sandbox.messages() == []
