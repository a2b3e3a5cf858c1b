"""In line, as customers live it: they hear their place, leave when they like, and are told when it takes too long."""

import os
import re
import signal
import socket
import time
from typing import Any

import pytest

from dev.log_watch import TRACEBACK, LogWatch
from tests.gateway.fleet import ALONE, CLOUD, FIRST, AnyDoor, Fleet, comments, pause
from tests.gateway.wire import CHAT, Hub, chat, eventually, json_of, raw
from tests.services.cast import Person

LOCAL = {"x-portal-failover": "off"}
PLACE = re.compile(rb": in line, place (\d+)(, about \d+ s)?")


def post(fleet: Fleet, person: Person, url: str, **members: Any) -> socket.socket:
    """A socket that has asked."""
    body = json_of(chat(**{"model": ALONE, **members}))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: portal\r\nAuthorization: Bearer {person.api_key}\r\n"
    return raw(url, f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def test_a_stream_in_line_hears_its_place_until_its_turn_comes(fleet: Fleet, gate: AnyDoor) -> None:
    """API-04, issue B, 2: headers and heartbeats at once, so that no proxy gives up; every client skips comments."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, waiting=1, model=ALONE):
        answer = fleet.ask(gate, guest, model=ALONE, stream=True)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-portal-provider"] == "local"
        told = answer.until(b"\n\n")
        found = PLACE.match(told)
        assert found is not None, told
        assert found[1] == b"2"
        assert b"data:" not in told
    events = answer.events()
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert all(PLACE.fullmatch(line) for line in comments(answer)), comments(answer)
    row = fleet.usage(answer.request_id)
    assert row.outcome == "ok"
    assert row.waited_ms is not None
    assert 900 <= row.waited_ms < 20_000
    assert row.duration_ms >= row.waited_ms  # type: ignore[operator]
    seen = gate.ask("GET", f"/v1/requests/{answer.request_id}", key=guest.api_key).json()
    assert seen["waited_ms"] == row.waited_ms


def test_an_answer_in_one_piece_says_nothing_before_it_is_there(fleet: Fleet, fleet_hub: Hub) -> None:
    """API-01: a status is told once; who was told 200 in line could be told of no fault any more."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(fleet_hub, crowd, model=ALONE):
        sock = post(fleet, guest, fleet.web.url)
        eventually(lambda: fleet.in_line() == 1)
        sock.settimeout(1.5)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    sock.settimeout(20)
    assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
    sock.close()
    [row] = fleet.usages(guest.account_id)
    assert fleet.usage(row.id).waited_ms


def test_the_wait_of_an_answer_in_one_piece_is_told_in_its_head(fleet: Fleet, gate: AnyDoor) -> None:
    """API-02: `x-portal-queue-ms`; who did not wait is told nothing of it."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, model=ALONE):
        coming = fleet.later(gate, guest, model=ALONE)
        eventually(lambda: fleet.in_line() == 1)
    answer = coming.result(20)
    assert int(answer.headers["x-portal-queue-ms"]) == fleet.usage(answer.request_id).waited_ms
    straight = fleet.ask(gate, guest, model=ALONE)
    assert "x-portal-queue-ms" not in straight.headers
    assert fleet.usage(straight.request_id).waited_ms is None


# -- leaving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_the_line_frees_it_at_once_and_pays_nothing(
    fleet: Fleet, fleet_hub: Hub, fleet_complaints: LogWatch, stream: bool
) -> None:
    """Issue B, 2; design, "Left in the queue: free"."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(fleet_hub, crowd, model=ALONE):
        sock = post(fleet, guest, fleet.web.url, stream=stream)
        eventually(lambda: fleet.in_line() == 1)
        assert fleet.wallet(guest.account_id)[1] > 0
        sock.close()
        eventually(lambda: fleet.in_line() == 0, seconds=1, what="an empty line")
        eventually(lambda: fleet.wallet(guest.account_id) == (100_000, 0), seconds=1, what="the hold given back")
        [row] = fleet.usages(guest.account_id)
        row = fleet.usage(row.id)
        assert (row.outcome, row.cost, row.provider) == ("client_left", 0, "")
    assert fleet.asked(FIRST) == 1
    eventually(lambda: fleet.busy() == 0, what="a free slot")
    assert fleet_complaints.errors() == []
    fleet.books_are_right()


def test_who_leaves_the_line_after_hearing_of_it_leaves_nothing_either(fleet: Fleet, gate: AnyDoor) -> None:
    """API-04: on every transport, a stream that is closed is over."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, model=ALONE):
        answer = fleet.ask(gate, guest, model=ALONE, stream=True)
        answer.until(b"\n\n")
        answer.leave()
        eventually(lambda: fleet.in_line() == 0, what="an empty line")
        assert fleet.usage(answer.request_id).outcome == "client_left"
        assert fleet.wallet(guest.account_id) == (100_000, 0)


def test_who_leaves_the_clouds_line_gives_the_budget_back(fleet: Fleet, fleet_hub: Hub) -> None:
    """CLOUD-01, issue B, 4: given back if the call never left."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    fleet.sandbox.control(hold_after=1, server=CLOUD)
    running = [fleet.later(fleet_hub, crowd, model="qwen3.5:cloud") for _ in range(1)]
    eventually(lambda: fleet.busy("ollama-cloud") == 1)
    sock = post(fleet, guest, fleet.web.url, model="qwen3.5:cloud")
    eventually(lambda: fleet.in_line() == 1)
    assert fleet.cloud_used() == 2
    sock.close()
    eventually(lambda: fleet.cloud_used() == 1, seconds=1, what="the place in the budget")
    eventually(lambda: fleet.wallet(guest.account_id) == (100_000, 0), seconds=1)
    fleet.sandbox.release(server=CLOUD)
    assert [answer.result(20).status for answer in running] == [200]
    assert fleet.cloud_used() == 1
    assert fleet.asked(CLOUD) == 1


def test_who_sends_ahead_has_not_left(fleet: Fleet, fleet_hub: Hub) -> None:
    """API-04: a second request on the same connection is no departure."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(fleet_hub, crowd, model=ALONE):
        sock = post(fleet, guest, fleet.web.url)
        eventually(lambda: fleet.in_line() == 1)
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n\r\n")
        pause(0.3)
        assert fleet.in_line() == 1
    told = b""
    sock.settimeout(20)
    while data := sock.recv(65536):
        told += data
    sock.close()
    assert told.count(b"HTTP/1.1 200 OK") == 2


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_full_line_takes_nobody_and_says_when_to_come_back(fleet: Fleet, hurried: AnyDoor, gate: AnyDoor) -> None:
    """Contract: 503 `queue_full`, Retry-After; nothing held."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, waiting=2, model=ALONE):
        for stream in (False, True):
            answer = fleet.ask(hurried, guest, model=ALONE, stream=stream)
            assert (answer.status, answer.error()["code"]) == (503, "queue_full")
            assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert fleet.usages(guest.account_id) == []
        assert fleet.wallet(guest.account_id) == (100_000, 0)
        assert fleet.in_line() == 2


@pytest.mark.parametrize("stream", [False, True])
def test_who_has_waited_long_enough_is_told_so_and_pays_nothing(
    fleet: Fleet, hurried: AnyDoor, gate: AnyDoor, stream: bool
) -> None:
    """Contract: 503 `queue_full`; after a heartbeat the same as an event, then `[DONE]`."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, model=ALONE):
        began = time.monotonic()
        answer = fleet.ask(hurried, guest, model=ALONE, stream=stream)
        if stream:
            assert answer.status == 200
            [event] = answer.events()
            error = event["error"]
            assert {"message", "type", "param", "code"} <= set(error)
            assert comments(answer)
        else:
            assert answer.status == 503
            error = answer.error()
            assert int(answer.headers["retry-after"]) >= 1
        assert error["code"] == "queue_full"
        assert 1.5 <= time.monotonic() - began < 10
        row = fleet.usage(answer.request_id)
        assert (row.outcome, row.cost, row.provider) == ("refused", 0, "")
        assert row.waited_ms is not None
        assert 1900 <= row.waited_ms < 10_000
        assert fleet.wallet(guest.account_id) == (100_000, 0)
        eventually(lambda: fleet.in_line() == 0, what="an empty line")
    assert fleet.asked(FIRST) == 1


def test_enterprise_goes_before_basic_and_among_equals_who_came_first(fleet: Fleet, gate: AnyDoor) -> None:
    """MODEL-03: the order in which the server sees them."""
    model = "llama3.2:3b"
    crowd, basic, enterprise = fleet.somebody(), fleet.somebody("basic"), fleet.somebody()
    coming = []
    with fleet.occupied(gate, crowd, model=model):
        for number, (who, name) in enumerate([(basic, "b1"), (basic, "b2"), (enterprise, "e1"), (enterprise, "e2")]):
            coming.append(fleet.later(gate, who, name, model=model))
            eventually(lambda n=number + 1: fleet.in_line() == n)  # type: ignore[misc]
    assert [answer.result(20).status for answer in coming] == [200] * 4
    said = [entry["body"]["messages"][0]["content"] for entry in fleet.sandbox.chats(server=FIRST)]
    assert said[1:] == ["e1", "e2", "b1", "b2"]


# -- the end of a process ----------------------------------------------------------------------------------------------


def test_who_waits_in_a_process_that_is_told_to_end_hears_of_it(fleet: Fleet, fleet_hub: Hub) -> None:
    """CRD-01, OPS-01: a new version is deployed: everybody is told, nothing is left on hold or in line."""
    other = fleet.start(1, GUNICORN_CMD_ARGS="--graceful-timeout 6")
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(fleet_hub, crowd, model=ALONE):
        streams = [post(fleet, guest, other.url, stream=True), post(fleet, guest, other.url, stream=True)]
        whole = post(fleet, guest, other.url)
        eventually(lambda: fleet.in_line() == 3)
        heard = [sock.recv(65536) for sock in streams]
        os.kill(other.pid, signal.SIGTERM)
        told = []
        for sock, begun in zip([*streams, whole], [*heard, b""], strict=True):
            sock.settimeout(40)
            said = begun
            while data := sock.recv(65536):
                said += data
            told.append(said)
            sock.close()
        eventually(lambda: fleet.in_line() == 0, what="an empty line")
        eventually(lambda: fleet.wallet(guest.account_id) == (100_000, 0), what="the holds given back")
    for said in told[:2]:
        assert b'"code":"service_unavailable"' in said
        assert b"data: [DONE]\n\n" in said
    assert told[2].startswith(b"HTTP/1.1 503 "), told[2]
    assert b'"code":"service_unavailable"' in told[2]
    assert [row.cost for row in fleet.usages(guest.account_id)] == [0, 0, 0]
    assert not any(TRACEBACK in line for line in other.errors()), other.errors()
    assert fleet.asked(FIRST) == 1
    fleet.books_are_right()


@pytest.mark.parametrize("stream", [False, True])
def test_who_has_heard_nothing_yet_hears_of_the_end_too(fleet: Fleet, stream: bool) -> None:
    """OPS-01: whose answer had not begun when its process ended saw a broken line, and no SDK could say why."""
    other = fleet.start(1, GUNICORN_CMD_ARGS="--graceful-timeout 5", HEARTBEAT_SECONDS=60)
    guest = fleet.somebody()
    fleet.sandbox.control(hold_after=0, server=FIRST)
    sock = post(fleet, guest, other.url, stream=stream)
    eventually(lambda: fleet.asked(FIRST) == 1)
    os.kill(other.pid, signal.SIGTERM)
    sock.settimeout(40)
    said = b""
    while data := sock.recv(65536):
        said += data
    sock.close()
    assert said.startswith(b"HTTP/1.1 503 "), said
    assert b'"code":"service_unavailable"' in said
    assert b"retry-after: 1\r\n" in said.lower()
    [row] = fleet.usages(guest.account_id)
    row = fleet.usage(row.id)
    assert (row.outcome, row.cost, row.attempts) == ("upstream_failed", 0, "")
    eventually(lambda: fleet.wallet(guest.account_id) == (100_000, 0))
    eventually(lambda: fleet.busy() == 0)
    assert not fleet.store.client.exists("line:health:ollama-1")
