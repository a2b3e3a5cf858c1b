"""Streams that fail after they have begun, addresses that are none, slots beside a trial: as a review broke them."""

import pytest
import sqlalchemy as sa

from dev.log_watch import LogWatch
from portal.extensions import db
from portal.freshness import changing
from portal.models import Provider
from portal.providers.llm.upstream import UpstreamAway, UpstreamPool
from portal.services import providers
from tests.gateway.fleet import CLOUD, FIRST, TWINNED, AnyDoor, Fleet, attempts
from tests.gateway.wire import CHAT, Hub, chat, eventually, json_of, raw, read_all

LOCAL = {"x-portal-failover": "off"}
NONSENSE = "http://[nobody"
"""An address that no command would take, written into the row by hand: who uses it meets an error nobody foresaw."""


def spoil(fleet: Fleet, url: str) -> None:
    with fleet.app.app_context(), changing("catalog"):
        db.session.execute(sa.update(Provider).where(Provider.name == "ollama-1").values(url=url))
        db.session.commit()


# -- an error that nobody foresaw --------------------------------------------------------------------------------------


def test_an_unforeseen_error_after_a_heartbeat_is_an_event_of_the_stream(fleet: Fleet, gate: AnyDoor) -> None:
    """API-04, review 4: the contract's four members and `[DONE]`, as after any fault; nothing is charged or kept."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    try:
        with fleet.occupied(gate, crowd):
            answer = fleet.ask(gate, guest, stream=True, headers=LOCAL)
            answer.until(b": in line")
            spoil(fleet, NONSENSE)
        [event] = answer.events()
    finally:
        spoil(fleet, "")
    assert event["error"]["code"] == "internal_error"
    assert {"message", "type", "param", "code"} <= set(event["error"])
    assert "nobody" not in str(event)
    assert fleet.usage(answer.request_id).cost == 0
    assert fleet.wallet(guest.account_id) == (100_000, 0)
    eventually(lambda: fleet.busy() == 0, seconds=2, what="a free slot")
    fleet.books_are_right()


def test_there_is_one_head_on_the_wire_whatever_happens_after_it(
    fleet: Fleet, fleet_hub: Hub, fleet_complaints: LogWatch
) -> None:
    """API-04, review 4: a second `HTTP/1.1 500` came in the middle of the chunks, and a client read it as their length:
    what it said of the fault was that our protocol is broken. The staff are told in the log."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    body = json_of(chat(model=TWINNED, stream=True))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: portal\r\nAuthorization: Bearer {guest.api_key}\r\nConnection: close\r\n"
    head += "X-Portal-Failover: off\r\nContent-Type: application/json\r\n"
    try:
        with fleet.occupied(fleet_hub, crowd):
            sock = raw(fleet.web.url, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            said = b""
            while b": in line" not in said:
                said += sock.recv(65536)
            spoil(fleet, NONSENSE)
        with sock:
            said += read_all(sock)
    finally:
        spoil(fleet, "")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.count(b"HTTP/1.") == 1, said
    assert b'"code":"internal_error"' in said
    assert said.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), said
    assert any("unforeseen error" in line for line in fleet_complaints.errors())


@pytest.mark.parametrize("stream", [False, True])
def test_an_unforeseen_error_before_anything_was_said_is_a_clean_500(fleet: Fleet, gate: AnyDoor, stream: bool) -> None:
    """API-01: where the status can still be told, it is."""
    guest = fleet.somebody()
    try:
        spoil(fleet, NONSENSE)
        answer = fleet.ask(gate, guest, stream=stream, headers=LOCAL)
        assert (answer.status, answer.error()["code"]) == (500, "internal_error")
    finally:
        spoil(fleet, "")
    assert fleet.wallet(guest.account_id) == (100_000, 0)
    eventually(lambda: fleet.busy() == 0, seconds=2, what="a free slot")


# -- addresses that are none -------------------------------------------------------------------------------------------

NO_HOST = ("http://gpu..lan:11434", "http://" + "a" * 64 + ".lan", "http://.gpu.lan", "https://gpu..lan")


@pytest.mark.parametrize("url", NO_HOST)
def test_a_hosts_name_that_is_none_is_a_server_that_is_not_reached(url: str) -> None:
    """Issue B, 5, review 4: the name's encoding fails before anybody is asked, with an error that is no OSError."""
    with pytest.raises(UpstreamAway):
        UpstreamPool(url).post("/v1/chat/completions", b"{}")


@pytest.mark.parametrize("url", NO_HOST[:2])
def test_a_server_with_such_an_address_rests_as_any_that_is_not_reached(fleet: Fleet, gate: AnyDoor, url: str) -> None:
    """Issue B, 5, review 4: it never rested, and stayed the least loaded of all: every request went there to fail."""
    guest = fleet.somebody()
    with fleet.app.app_context():
        providers.change("ollama-1", url=url)  # an operator's typing mistake: the command takes it
    try:
        for _ in range(3):
            answer = fleet.ask(gate, guest, headers=LOCAL)
            assert (answer.status, answer.error()["code"]) == (503, "no_provider")
            assert attempts(fleet.usage(answer.request_id)) == [("ollama-1", "unreached")]
        eventually(lambda: fleet.provider("ollama-1").state == "resting", what="its rest")
        elsewhere = fleet.ask(gate, guest)
        assert (elsewhere.status, elsewhere.headers["x-portal-provider"]) == (200, "cloud")
        assert fleet.usage(elsewhere.request_id).attempts == ""
    finally:
        with fleet.app.app_context():
            providers.change("ollama-1", url="")
    assert fleet.asked(CLOUD) == 1


# -- beside a trial ----------------------------------------------------------------------------------------------------


def test_with_the_first_byte_of_its_trial_a_server_is_well(fleet: Fleet, gate: AnyDoor) -> None:
    """Issue B, 5, review 9: the trial's answer took minutes, and all slots beside it stayed shut until its end. Who
    waited is served, and who comes after that, while the trial still streams."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.app.app_context():
        providers.change("ollama-1", slots=2)
    fleet.sandbox.control(slots=2, server=FIRST)
    fleet.store.client.hset("line:health:ollama-1", mapping={"faults": 0, "rests": 1, "until": 1})  # it is over
    fleet.sandbox.next({"delay_first_ms": 1500, "hold_after": 1}, server=FIRST)
    trial = fleet.later(gate, crowd, stream=True, headers=LOCAL)
    eventually(lambda: fleet.asked(FIRST) == 1, what="the trial")
    waiting = fleet.later(gate, guest, headers=LOCAL)
    eventually(lambda: fleet.in_line() == 1, seconds=1.2, what="a place in line while nothing is known")
    try:
        answer = waiting.result(10)
        newcomer = fleet.later(gate, guest, headers=LOCAL).result(10)
        assert (answer.status, newcomer.status) == (200, 200)
        assert not trial.done()
        assert fleet.usage(answer.request_id).waited_ms is not None
        assert fleet.usage(newcomer.request_id).waited_ms is None
        assert not fleet.store.client.exists("line:health:ollama-1")
    finally:
        fleet.sandbox.release(server=FIRST)
    assert trial.result(20).events()[-1]["choices"][0]["finish_reason"] == "stop"
