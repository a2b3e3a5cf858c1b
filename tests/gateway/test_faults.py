"""What goes wrong behind us: the right word for it, the right charge, and nothing of the server's own words."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import Provider
from portal.services import seeds
from sandbox.process import SandboxProcess
from tests.gateway.conftest import QUICK, House
from tests.gateway.wire import CHAT, Answer, Hub, Plain, chat, eventually
from tests.services.cast import Cast
from tests.services.environment import NOWHERE
from tests.services.portal_app import MakeApp

AnyDoor = Hub | Plain

BEFORE = {
    "crash_before": (502, "upstream_error", "refused"),
    "load_failed": (502, "upstream_error", "refused"),
    "reset_before": (502, "upstream_error", "upstream_failed"),
    "cut_before": (502, "upstream_error", "upstream_failed"),
    "empty": (502, "upstream_error", "upstream_failed"),
    "400": (400, "invalid_request", "refused"),
    "400_context": (400, "context_length_exceeded", "refused"),
    "401_native": (503, "no_provider", "refused"),
    "402_native": (503, "no_provider", "refused"),
    "403_native": (503, "no_provider", "refused"),
    "429_native": (503, "no_provider", "refused"),
    "503_native": (503, "no_provider", "refused"),
    "503_busy": (503, "no_provider", "refused"),
    "503_text": (503, "no_provider", "refused"),
    "502_html": (502, "upstream_error", "refused"),
    "499": (502, "upstream_error", "refused"),
}
THEIRS = ("operator", "ollama", "llama-server", "runner", "upstream connect", "num_ctx", "nginx", "ref:", "127.0.0.1")
"""Words of the server's that no customer may read."""


def nothing_of_theirs(told: bytes) -> None:
    for word in THEIRS:
        assert word not in told.decode().lower(), told


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BEFORE)
def test_a_fault_before_the_first_byte_is_a_clean_refusal_and_costs_nothing(
    door: AnyDoor, house: House, fault: str, stream: bool
) -> None:
    """API-01, never-again, "Operator's account name in a relayed upstream error"; contract: nothing charged."""
    wallet = house.wallet(house.layla.account_id)
    house.sandbox.control(fault=fault, account="operator-account-name")
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=stream))
    status, code, outcome = BEFORE[fault]
    error = answer.error()
    assert (answer.status, error["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-portal-provider"] == "local"
    assert "x-request-id" in answer.headers
    nothing_of_theirs(b"".join(data for _, data in answer.arrived))
    if status == 503:
        assert int(answer.headers["retry-after"]) >= 1
    if code == "context_length_exceeded":
        assert error["param"] == "messages"
        assert "131072" in error["message"]
    row = house.usage(answer.request_id)
    assert (row.outcome, row.cost, row.prompt_tokens, row.answer_tokens) == (outcome, 0, 0, 0)
    assert house.wallet(house.layla.account_id) == wallet


def test_a_model_that_the_server_has_not_got_is_not_offered_there_any_more(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess
) -> None:
    """Issue B, 1: a model that is not there is not offered. An empty server would else draw every request to itself."""
    app = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, **QUICK)
    layla = Cast(app).layla
    sandbox.control(fault="404")
    first = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat())
    assert (first.status, first.error()["code"]) == (503, "no_provider")
    listed = partial(Plain(app).ask, "GET", "/v1/models/llama3.2:3b", key=layla.api_key)
    assert eventually(lambda: listed().status == 404, what="the end of the offer")
    assert Plain(app).ask("GET", "/v1/models/smollm2:135m", key=layla.api_key).status == 200


MID = ["crash_mid", "reset_mid", "cut_mid", "silent_end", "error_event", "error_line", "bad_json"]


@pytest.mark.parametrize("dialect", ["new", "old"])
@pytest.mark.parametrize("fault", MID)
def test_a_fault_in_a_stream_is_an_event_and_what_was_delivered_is_charged(
    door: AnyDoor, house: House, fault: str, dialect: str
) -> None:
    """never-again, "Upstream crash mid-stream looked like a complete answer"."""
    house.sandbox.control(fault=fault, fault_after=3, dialect=dialect, tokens=9)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    assert answer.status == 200
    events = answer.events()
    assert events[-1]["error"]["code"] == "upstream_error"
    assert set(events[-1]["error"]) == {"message", "type", "param", "code"}
    assert sum(bool(e["choices"][0]["delta"].get("content")) for e in events[:-1]) == 3
    nothing_of_theirs(json.dumps(events[-1]).encode())
    row = house.usage(answer.request_id)
    assert (row.outcome, row.cost, row.prompt_tokens, row.answer_tokens, row.estimated) == (
        "upstream_failed", 3, 0, 3, True,
    )  # fmt: skip


def test_the_repeat_guard_is_a_failure(door: AnyDoor, house: House) -> None:
    """API-04, facts 4: a clean 200 that ends without a word."""
    house.sandbox.control(fault="repeat_guard", fault_after=3, tokens=9)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    assert answer.events()[-1]["error"]["code"] == "upstream_error"
    assert house.usage(answer.request_id).cost == 34


def test_done_without_a_finish_is_a_failure_and_a_finish_without_done_is_none(door: AnyDoor, house: House) -> None:
    """API-04."""
    house.sandbox.control(fault="no_finish")
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    assert answer.events()[-1]["error"]["code"] == "upstream_error"
    house.sandbox.control(fault="no_done")
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    assert answer.events()[-1]["choices"][0]["finish_reason"] == "stop"
    assert house.usage(answer.request_id).outcome == "ok"


@pytest.mark.parametrize("fault", [*MID, "repeat_guard", "no_finish"])
def test_a_fault_in_an_answer_in_one_piece_costs_nothing(door: AnyDoor, house: House, fault: str) -> None:
    """never-again, "Upstream crash …": nothing was delivered, so nothing is charged."""
    wallet = house.wallet(house.layla.account_id)
    house.sandbox.control(fault=fault, fault_after=3, tokens=9)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat())
    assert (answer.status, answer.error()["code"]) == (502, "upstream_error")
    nothing_of_theirs(b"".join(data for _, data in answer.arrived))
    assert house.usage(answer.request_id).cost == 0
    assert house.wallet(house.layla.account_id) == wallet


def test_a_server_that_says_nothing_or_stops_speaking_is_given_up(door: AnyDoor, house: House) -> None:
    """Contract: 504 `upstream_timeout` before the first byte, an event after it (heartbeats count as bytes)."""
    stuck = {"smollm2:135m": "stall_before", "llama3.2:3b": "stall_mid"}
    for model, fault in stuck.items():
        house.sandbox.control(model, fault=fault, fault_after=3, slots=4)

    def ask(model: str, stream: bool) -> Answer:
        answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(model=model, stream=stream))
        answer.read()
        return answer

    cases = [(model, stream) for model in stuck for stream in (False, True)]
    with ThreadPoolExecutor(4) as together:
        answers = dict(zip(cases, together.map(lambda case: ask(*case), cases), strict=True))
    for (model, stream), answer in answers.items():
        row = house.usage(answer.request_id)
        delivered = 3 if stream and model == "llama3.2:3b" else 0
        assert (row.outcome, row.cost, row.answer_tokens) == ("timed_out", delivered, delivered)
        if stream:
            assert answer.status == 200
            assert answer.events()[-1]["error"]["code"] == "upstream_timeout"
        else:
            assert (answer.status, answer.error()["code"]) == (504, "upstream_timeout")
    assert eventually(lambda: house.sandbox.counters()["in_flight"] == 0, what="the end of the generations")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["reset_before", "cut_before"])
def test_a_kept_connection_that_was_dead_is_tried_once_more_and_charged_once(
    door: AnyDoor, house: House, fault: str, stream: bool
) -> None:
    """API-01, never-again, "Two usage rows per call": a server may close an idle connection as we send."""
    guest = house.somebody()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200  # leaves a connection behind
    house.sandbox.next({"fault": fault})
    before = len(house.sandbox.chats())
    answer = door.ask("POST", CHAT, key=guest.api_key, body=chat(stream=stream))
    assert answer.status == 200
    answer.read()
    assert len(house.sandbox.chats()) == before + 2
    row = house.usage(answer.request_id)
    assert (row.outcome, row.estimated) == ("ok", False)
    assert [r.outcome for r in house.usages(guest.account_id)] == ["ok", "ok"]
    assert house.wallet(guest.account_id) == (100_000 - sum(r.cost for r in house.usages(guest.account_id)), 0)


def test_a_connection_that_dies_after_a_heartbeat_is_not_tried_again(door: AnyDoor, house: House) -> None:
    """API-04: the customer has had bytes of this answer; a second head in its middle broke the connection."""
    assert door.ask("POST", CHAT, key=house.layla.api_key, body=chat()).status == 200
    house.sandbox.next({"fault": "cut_before", "delay_first_ms": 1400})
    before = len(house.sandbox.chats())
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    told = answer.read()
    assert told.count(b"HTTP/1.1") == 0
    assert answer.events()[-1]["error"]["code"] == "upstream_error"
    assert len(house.sandbox.chats()) == before + 1
    assert house.usage(answer.request_id).cost == 0


def two_servers(make_app: MakeApp, url: str, first: str, second: str) -> Flask:
    """A portal with two addresses in OLLAMA_URL, of two slots each."""
    app = make_app(url, OLLAMA_URL=f"{first},{second}", **QUICK)
    with app.app_context():
        seeds.seed(app.config["PORTAL"])
        db.session.execute(sa.update(Provider).values(slots=2))
        db.session.commit()
    return app


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_server_takes_over_while_the_first_is_down(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess, stream: bool
) -> None:
    """OPS-01, design, "Failover only before the first byte, never billed twice"."""
    app = two_servers(make_app, sqlite_url, NOWHERE, sandbox.ollama_url)
    layla = Cast(app).layla
    for _ in range(3):
        answer = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(stream=stream))
        assert answer.status == 200
        answer.read()
        told = Plain(app).ask("GET", f"/v1/requests/{answer.request_id}", key=layla.api_key).json()
        assert told["outcome"] == "ok"
    assert len(sandbox.chats()) == 3
    assert not app.extensions["chat_door"].process().line._places, "a request that moved on still has its first slot"


def test_no_server_that_answers_is_told_as_503(sqlite_url: str, make_app: MakeApp) -> None:
    """Contract: 503 `no_provider` with Retry-After; nothing charged."""
    app = two_servers(make_app, sqlite_url, NOWHERE, NOWHERE)
    layla = Cast(app).layla
    for stream in (False, True):
        answer = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(stream=stream))
        assert (answer.status, answer.error()["code"]) == (503, "no_provider")
        assert int(answer.headers["retry-after"]) >= 1
    assert not app.extensions["chat_door"].process().line._places


def test_a_server_is_chosen_by_how_much_it_has_to_do(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess
) -> None:
    """QUEUE-01: our own count; Ollama has none."""
    app = two_servers(make_app, sqlite_url, sandbox.ollama_url, sandbox.ollama_url)
    layla = Cast(app).layla
    sandbox.control(slots=4, hold_after=1)
    answers = [Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(stream=True)) for _ in range(4)]
    for answer in answers:
        answer.until(b'"content":')
    sandbox.release()
    used: list[Any] = []
    for answer in answers:
        answer.read()
        row_id = answer.request_id
        with app.app_context():
            used.append(
                db.session.execute(sa.text("SELECT provider FROM usage_records WHERE id = :i"), {"i": row_id}).scalar()
            )
    assert sorted(used) == ["ollama-1", "ollama-1", "ollama-2", "ollama-2"]
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Provider).where(Provider.kind == "ollama")) == 2
