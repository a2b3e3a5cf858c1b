"""A server that fails before the first byte is left for the next one: one answer, one row, one charge."""

import json
from typing import Any

import pytest

from dev.log_watch import LogWatch
from portal.services import providers, seeds
from portal.services.catalog_rows import read_catalog
from sandbox.process import SandboxProcess
from tests.gateway.conftest import QUICK
from tests.gateway.fleet import CLOUD, FIRST, SECOND, TWINNED, AnyDoor, Fleet, attempts, comments
from tests.gateway.wire import CHAT, Answer, Plain, chat, eventually
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp

LOCAL = {"x-portal-failover": "off"}
PASSES = {
    "reset_before": "failed", "cut_before": "failed", "empty": "failed", "crash_before": "error",
    "load_failed": "error", "500_native": "error", "502_html": "error", "503_native": "busy", "503_busy": "busy",
    "503_text": "busy", "401_native": "error", "404": "missing", "499": "error",
}  # fmt: skip
"""Faults of a server before the first byte, as the sandbox calls them, and as the usage row tells them."""


@pytest.fixture
def both(fleet: Fleet) -> Fleet:
    """Two servers; the first is the one that a request goes to."""
    fleet.switch("ollama-2", on=True)
    return fleet


def first_goes_first(fleet: Fleet) -> None:
    """The second one has something to do, so that the least loaded is the first."""
    with fleet.app.app_context():
        providers.change("ollama-2", slots=4)
        providers.change("ollama-1", slots=4)
    fleet.store.client.zadd("line:busy:ollama-2", {"somebody:" + "0" * 32: 4_000_000_000_000})


def told(fleet: Fleet, gate: AnyDoor, person: Person, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = gate.ask("GET", f"/v1/requests/{answer.request_id}", key=person.api_key).json()
    return found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", PASSES)
def test_the_next_server_answers_where_the_first_one_fails(
    both: Fleet, gate: AnyDoor, fault: str, stream: bool
) -> None:
    """Issue B, 5; never-again, "Two usage rows per call": each attempt is told, one charge."""
    first_goes_first(both)
    guest = both.somebody()
    both.sandbox.control(fault=fault, server=FIRST)
    answer = both.ask(gate, guest, stream=stream, headers=LOCAL)
    assert answer.status == 200
    assert answer.events() if stream else answer.json()["choices"]
    assert both.asked(FIRST) in (1, 2), "more than a kept connection that may have been dead, tried afresh"
    assert both.asked(SECOND) == 1
    [row] = both.usages(guest.account_id)
    row = both.usage(row.id)
    assert (row.outcome, row.provider, row.location) == ("ok", "ollama-2", "local")
    assert attempts(row) == [("ollama-1", PASSES[fault])]
    assert both.wallet(guest.account_id) == (100_000 - row.cost, 0)
    assert row.cost == row.prompt_tokens + row.answer_tokens > 0
    seen = told(both, gate, guest, answer)
    [tried] = seen["attempts"]
    assert (tried["location"], tried["fault"]) == ("local", PASSES[fault])
    assert "ollama-" not in json.dumps(seen)
    both.books_are_right()
    if fault == "404":  # it is written down beside the requests: the next test would else find it done to its offers
        eventually(lambda: not offered_by_first(both), what="the end of the offer")


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_server_answers_where_the_first_is_not_there(both: Fleet, gate: AnyDoor, stream: bool) -> None:
    """Issue B, 5: a connection that is refused."""
    first_goes_first(both)
    guest = both.somebody()
    with both.app.app_context():
        providers.change("ollama-1", url="http://127.0.0.1:9")
    try:
        answer = both.ask(gate, guest, stream=stream, headers=LOCAL)
        assert answer.status == 200
        answer.read()
        row = both.usage(answer.request_id)
        assert (row.outcome, row.provider, attempts(row)) == ("ok", "ollama-2", [("ollama-1", "unreached")])
        assert told(both, gate, guest, answer)["attempts"]
    finally:
        with both.app.app_context():
            providers.change("ollama-1", url="")


REFUSED = {"400": "invalid_request", "400_context": "context_length_exceeded"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_wrong_with_the_request_is_wrong_everywhere(
    both: Fleet, gate: AnyDoor, fault: str, stream: bool
) -> None:
    """Issue B, 5: only for faults that are not the request's own; nor is the server blamed for it."""
    first_goes_first(both)
    both.sandbox.control(fault=fault, server=FIRST)
    guest = both.somebody()
    for _ in range(4):
        answer = both.ask(gate, guest, stream=stream, headers=LOCAL)
        assert (answer.status, answer.error()["code"]) == (400, REFUSED[fault])
    assert (both.asked(FIRST), both.asked(SECOND)) == (4, 0)
    assert both.usage(answer.request_id).attempts == ""
    assert not both.store.client.exists("line:health:ollama-1")


@pytest.mark.parametrize("stream", [False, True])
def test_who_took_too_long_is_not_followed_by_another(fleet: Fleet, hurried: AnyDoor, stream: bool) -> None:
    """Issue B, 5: the customer has waited for as long as an answer may take; another server would take as long."""
    fleet.switch("ollama-2", on=True)
    first_goes_first(fleet)
    fleet.sandbox.control(fault="stall_before", server=FIRST)
    answer = fleet.ask(hurried, fleet.somebody(), stream=stream, headers=LOCAL)
    error = answer.events()[-1]["error"] if stream else answer.error()
    assert error["code"] == "upstream_timeout"
    assert (fleet.asked(FIRST), fleet.asked(SECOND)) == (1, 0)
    row = fleet.usage(answer.request_id)
    assert (row.outcome, row.cost, attempts(row)) == ("timed_out", 0, [("ollama-1", "timed_out")])


@pytest.mark.parametrize("fault", ["crash_mid", "reset_mid", "cut_mid", "error_event"])
def test_after_the_first_byte_of_an_answer_no_other_server_is_asked(both: Fleet, gate: AnyDoor, fault: str) -> None:
    """Issue B, 5: two halves of two answers are no answer."""
    first_goes_first(both)
    both.sandbox.control(fault=fault, fault_after=3, server=FIRST)
    answer = both.ask(gate, both.somebody(), stream=True, headers=LOCAL)
    assert answer.events()[-1]["error"]["code"] == "upstream_error"
    assert both.asked(SECOND) == 0
    row = both.usage(answer.request_id)
    assert (row.outcome, row.cost, attempts(row)) == ("upstream_failed", 3, [("ollama-1", "failed")])


def test_half_an_answer_in_one_piece_was_never_given_so_another_server_may(both: Fleet, gate: AnyDoor) -> None:
    """Issue B, 5: buffered, nothing has left for the customer yet."""
    first_goes_first(both)
    both.sandbox.control(fault="cut_mid", fault_after=3, server=FIRST)
    answer = both.ask(gate, both.somebody(), headers=LOCAL)
    assert answer.status == 200
    assert both.asked(SECOND) == 1


def test_after_a_heartbeat_another_server_may_still_answer(both: Fleet, gate: AnyDoor) -> None:
    """API-04, issue B, 5: a comment is no part of an answer."""
    first_goes_first(both)
    both.sandbox.next({"fault": "cut_before", "delay_first_ms": 1500}, server=FIRST)
    answer = both.ask(gate, both.somebody(), stream=True, headers=LOCAL)
    events = answer.events()
    whole = b"".join(data for _, data in answer.arrived)
    assert comments(answer)
    assert b"HTTP/1.1" not in whole
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert both.asked(SECOND) == 1
    assert attempts(both.usage(answer.request_id)) == [("ollama-1", "failed")]


def test_a_dead_connection_is_tried_afresh_though_the_line_was_heard_of(fleet: Fleet, gate: AnyDoor) -> None:
    """API-04: comments of the line say nothing of this connection, on which no byte came and none was waited for."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, waiting=1):  # whose answer in one piece leaves a connection behind for sure
        answer = fleet.ask(gate, guest, stream=True, headers=LOCAL)
        answer.until(b": in line")
        fleet.sandbox.next({}, {"fault": "cut_before"}, server=FIRST)
    assert answer.events()[-1]["choices"][0]["finish_reason"] == "stop"
    assert fleet.asked(FIRST) == 4
    row = fleet.usage(answer.request_id)
    assert (row.outcome, row.attempts) == ("ok", "")


@pytest.mark.parametrize("stream", [False, True])
def test_where_all_our_servers_fail_the_twin_answers_at_its_price(both: Fleet, gate: AnyDoor, stream: bool) -> None:
    """QUEUE-02, CRD-02: the hold becomes the twin's, and the books stay right."""
    guest = both.somebody()
    both.sandbox.control(fault="crash_before", server=FIRST)
    both.sandbox.control(fault="reset_before", server=SECOND)
    both.sandbox.control(hold_after=0, usage={"prompt_tokens": 20, "completion_tokens": 10}, server=CLOUD)
    coming = both.later(gate, guest, stream=stream, max_tokens=1000)
    eventually(lambda: both.asked(CLOUD) == 1, what="the request at the cloud")
    [open_row] = both.usages(guest.account_id)
    assert (open_row.state, open_row.location, open_row.failover) == ("open", "cloud", True)
    assert both.wallet(guest.account_id) == (100_000, open_row.hold)
    assert open_row.hold > 2 * 1000
    both.books_are_right()
    both.sandbox.release(server=CLOUD)
    answer = coming.result(20)
    assert (answer.status, answer.headers["x-portal-provider"]) == (200, "cloud")
    assert answer.headers["x-portal-failover"] == "cloud"
    row = both.usage(answer.request_id)
    assert (row.outcome, row.provider, row.rate_out, row.cost) == ("ok", "ollama-cloud", 2_000_000, 60)
    assert sorted(attempts(row)) == [("ollama-1", "error"), ("ollama-2", "failed")]
    assert both.wallet(guest.account_id) == (100_000 - 60, 0)
    assert both.cloud_used() == 1
    both.books_are_right()


def test_where_all_our_servers_fail_and_the_cloud_is_refused_it_is_said(both: Fleet, gate: AnyDoor) -> None:
    """Contract: 502, nothing charged, and the servers each asked once."""
    guest = both.somebody()
    both.sandbox.control(fault="crash_before", server=FIRST)
    both.sandbox.control(fault="crash_before", server=SECOND)
    answer = both.ask(gate, guest, headers=LOCAL)
    assert (answer.status, answer.error()["code"]) == (502, "upstream_error")
    assert (both.asked(FIRST), both.asked(SECOND), both.asked(CLOUD)) == (1, 1, 0)
    assert both.wallet(guest.account_id) == (100_000, 0)
    row = both.usage(answer.request_id)
    assert (row.outcome, row.cost) == ("refused", 0)
    assert len(attempts(row)) == 2


def test_who_cannot_pay_the_twins_price_is_told_of_the_fault(both: Fleet, gate: AnyDoor) -> None:
    """CRD-01: the hold is changed where the wallet covers it, and only there; the budget is given back."""
    guest = both.somebody(credits=1)
    for server in (FIRST, SECOND):
        both.sandbox.control(fault="crash_before", server=server)
    answer = both.ask(gate, guest, max_tokens=600)
    assert (answer.status, answer.error()["code"]) == (502, "upstream_error")
    row = both.usage(answer.request_id)
    assert (row.location, row.failover, row.rate_out, row.cost) == ("local", False, 1_000_000, 0)
    assert both.wallet(guest.account_id) == (1000, 0)
    assert (both.asked(CLOUD), both.cloud_used()) == (0, 0)
    both.books_are_right()


@pytest.mark.parametrize("stream", [False, True])
def test_where_everything_fails_it_is_told_once_and_costs_nothing(both: Fleet, gate: AnyDoor, stream: bool) -> None:
    """Issue B, 5: both servers, then the twin; nobody is asked twice."""
    guest = both.somebody()
    for server in (FIRST, SECOND, CLOUD):
        both.sandbox.control(fault="503_native", server=server)
    answer = both.ask(gate, guest, stream=stream)
    assert (answer.status, answer.error()["code"]) == (503, "no_provider")
    assert max(both.asked(FIRST), both.asked(SECOND)) <= 2, "a kept connection may have been dead"
    assert both.asked(CLOUD) == 1
    row = both.usage(answer.request_id)
    assert (row.outcome, row.cost) == ("refused", 0)
    assert [fault for _, fault in attempts(row)] == ["busy"] * 3
    assert both.wallet(guest.account_id) == (100_000, 0)
    assert both.cloud_used() == 1
    assert not both.sandbox.counters(server=CLOUD)["in_flight"]
    both.books_are_right()


def test_who_has_heard_of_the_line_stays_with_our_own_servers(fleet: Fleet, gate: AnyDoor) -> None:
    """API-02: the head said `x-portal-provider: local`; no twin at another price after that."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd):
        answer = fleet.ask(gate, guest, stream=True)
        answer.until(b": in line")
        fleet.sandbox.next({"fault": "crash_before"}, server=FIRST)
    assert answer.headers["x-portal-provider"] == "local"
    assert answer.events()[-1]["error"]["code"] == "upstream_error"
    assert (fleet.asked(CLOUD), fleet.cloud_used()) == (0, 0)
    assert fleet.usage(answer.request_id).cost == 0


@pytest.mark.parametrize("stream", [False, True])
def test_four_servers_are_tried_and_no_fifth(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess, stream: bool
) -> None:
    """Issue B, 5: a request that breaks every server would else break all of them, one after the other."""
    app = make_app(sqlite_url, OLLAMA_URL=",".join([sandbox.ollama_url] * 6), **QUICK)
    with app.app_context():
        seeds.seed(app.config["PORTAL"])
    layla = Cast(app).layla
    sandbox.control(fault="crash_before")
    answer = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(stream=stream))
    assert (answer.status, answer.error()["code"]) == (502, "upstream_error")
    assert len(sandbox.chats()) == 4
    tried = Plain(app).ask("GET", f"/v1/requests/{answer.request_id}", key=layla.api_key).json()["attempts"]
    assert [one["fault"] for one in tried] == ["error"] * 4
    assert not app.extensions["chat_door"].process().line._places


def test_the_next_server_may_be_busy_then_it_is_waited_for(both: Fleet, gate: AnyDoor) -> None:
    """Issue B, 3 and 5: in line for the server that is left, with the wait told."""
    crowd, guest = both.somebody(), both.somebody()
    both.sandbox.control(hold_after=1, server=SECOND)
    both.switch("ollama-1", on=False)
    running = both.later(gate, crowd, stream=True, headers=LOCAL)
    eventually(lambda: both.sandbox.counters(server=SECOND)["in_flight"] == 1)
    both.switch("ollama-1", on=True)
    both.sandbox.control(fault="crash_before", server=FIRST)
    coming = both.later(gate, guest, headers=LOCAL)
    eventually(lambda: both.in_line() == 1, what="a place at the second server")
    both.sandbox.control(hold_after=None, server=SECOND)
    both.sandbox.release(server=SECOND)
    answer = coming.result(20)
    assert (answer.status, running.result(20).status) == (200, 200)
    row = both.usage(answer.request_id)
    assert (row.provider, attempts(row)) == ("ollama-2", [("ollama-1", "error")])
    assert row.waited_ms is not None
    assert answer.headers["x-portal-queue-ms"] == str(row.waited_ms)


def test_a_server_that_has_not_got_the_model_is_left_out_until_a_probe_finds_it(both: Fleet, gate: AnyDoor) -> None:
    """Issue B, 1: an empty server would else draw every request to itself, for it is always the least loaded."""
    first_goes_first(both)
    guest = both.somebody()
    both.sandbox.next({"fault": "404"}, server=FIRST)
    assert both.ask(gate, guest, headers=LOCAL).status == 200
    eventually(lambda: not offered_by_first(both), what="the end of the offer")
    for _ in range(3):
        assert both.ask(gate, guest, headers=LOCAL).status == 200
    assert (both.asked(FIRST), both.asked(SECOND)) == (1, 4)
    assert not both.store.client.hexists("line:health:ollama-1", "until")
    assert both.ask(gate, guest, model="llama3.2:3b", headers=LOCAL).status == 200
    assert both.asked(FIRST) == 2, "it is left out for what it has, too"
    both.found("ollama-1", TWINNED, present=True)
    assert both.ask(gate, guest, headers=LOCAL).status == 200
    assert both.asked(FIRST) == 3


def offered_by_first(fleet: Fleet) -> bool:
    with fleet.app.app_context():
        catalog = read_catalog(fleet.app.config["PORTAL"])
    return any(
        offer.provider == "ollama-1" for model in catalog.models if model.name == TWINNED for offer in model.offers
    )


def test_a_server_that_goes_on_failing_rests_and_comes_back(
    fleet: Fleet, fleet_hub: AnyDoor, fleet_complaints: LogWatch
) -> None:
    """Issue B, 5. The word that a server rests comes in the hub: what began there lost the store for seconds."""
    fleet.sandbox.control(fault="crash_before", server=FIRST)
    people = [fleet.somebody(), fleet.somebody()]
    for number in range(3):
        assert fleet.ask(fleet_hub, people[number % 2], headers=LOCAL).status == 502
    eventually(lambda: fleet.provider("ollama-1").state == "resting", what="the rest in the provider's row")
    fleet.sandbox.reset(server=FIRST)
    refused = fleet.ask(fleet_hub, people[0], headers=LOCAL)
    assert (refused.status, refused.error()["code"]) == (503, "no_provider")
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert fleet.asked(FIRST) == 0
    assert [facts["provider"] for facts in fleet.events("provider_down")] == ["ollama-1"]

    def back() -> bool:
        return fleet.ask(fleet_hub, people[0], headers=LOCAL).status == 200

    eventually(back, what="the trial after the rest")
    eventually(lambda: fleet.provider("ollama-1").state == "up", what="the end of the rest in the provider's row")
    assert [facts["provider"] for facts in fleet.events("provider_up")] == ["ollama-1"]
    assert fleet_complaints.errors() == []


def test_one_account_cannot_rest_a_server_for_everybody_by_trying_a_few_times(fleet: Fleet, gate: AnyDoor) -> None:
    """Issue B, 5: the prompt that crashes a server is sent three times by every SDK."""
    fleet.sandbox.next(*[{"fault": "crash_before"}] * 4, server=FIRST)
    guest = fleet.somebody()
    for _ in range(4):
        assert fleet.ask(gate, guest, headers=LOCAL).status == 502
    assert fleet.ask(gate, fleet.somebody(), headers=LOCAL).status == 200


# -- a provider that is switched off -----------------------------------------------------------------------------------


def test_who_waits_for_a_server_that_is_switched_off_is_not_sent_there(fleet: Fleet, gate: AnyDoor) -> None:
    """GW-01: at once, also for those already in line; what runs there ends well."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    fleet.sandbox.control(hold_after=1, server=FIRST)
    running = fleet.later(gate, crowd, stream=True, headers=LOCAL)
    eventually(lambda: fleet.asked(FIRST) == 1)
    plain, stream = fleet.later(gate, guest, headers=LOCAL), fleet.later(gate, guest, stream=True, headers=LOCAL)
    eventually(lambda: fleet.in_line() == 2)
    fleet.switch("ollama-1", on=False)
    fleet.release()
    fleet.sandbox.control(hold_after=None, server=FIRST)
    assert running.result(20).events()[-1]["choices"][0]["finish_reason"] == "stop"
    refused, event = plain.result(20), stream.result(20)
    assert (refused.status, refused.error()["code"]) == (503, "no_provider")
    code = event.events()[-1]["error"]["code"] if event.status == 200 else event.error()["code"]
    assert code == "no_provider"
    assert fleet.asked(FIRST) == 1
    assert fleet.wallet(guest.account_id) == (100_000, 0)
    eventually(lambda: (fleet.busy(), fleet.in_line()) == (0, 0), what="an empty line")


def test_who_waits_is_answered_by_the_server_that_is_left(both: Fleet, gate: AnyDoor) -> None:
    """GW-01."""
    crowd, guest = both.somebody(), both.somebody()
    for server in (FIRST, SECOND):
        both.sandbox.control(hold_after=1, server=server)
    running = [both.later(gate, crowd, headers=LOCAL) for _ in range(2)]
    eventually(lambda: both.asked(FIRST) == both.asked(SECOND) == 1, what="a request at either server")
    coming = both.later(gate, guest, headers=LOCAL)
    eventually(lambda: both.in_line() == 1)
    both.switch("ollama-1", on=False)
    both.sandbox.control(hold_after=None, server=FIRST)
    both.sandbox.release(server=FIRST)
    eventually(lambda: any(future.done() for future in running), what="the first server's answer")
    both.sandbox.control(hold_after=None, server=SECOND)
    both.sandbox.release(server=SECOND)
    answer = coming.result(20)
    assert answer.status == 200
    assert both.usage(answer.request_id).provider == "ollama-2"
    assert both.asked(FIRST) == 1
    assert [future.result(20).status for future in running] == [200, 200]
