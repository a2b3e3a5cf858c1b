"""The cloud twin: who goes there while our own servers are busy, what it costs, and who stays whatever happens."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from portal.freshness import changing
from portal.models import Account, ApiKey
from portal.services import budget, ledger, providers
from sandbox.process import SandboxProcess
from tests.gateway.fleet import ALONE, CLOUD, FIRST, TWINNED, AnyDoor, Fleet, attempts
from tests.gateway.wire import CHAT, Answer, Plain, chat, eventually
from tests.services.cast import Cast, Person
from tests.services.environment import NOWHERE
from tests.services.portal_app import MakeApp, close


@pytest.mark.parametrize("stream", [False, True])
def test_the_request_that_makes_the_line_too_deep_goes_to_the_twin_at_its_price(
    fleet: Fleet, gate: AnyDoor, stream: bool
) -> None:
    """QUEUE-02, API-02, never-again, "Budget of 500 only changed a label; failover was written and never called"."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, waiting=2):  # one runs, two wait: the next one is the fourth
        fleet.sandbox.control(usage={"prompt_tokens": 20, "completion_tokens": 10}, server=CLOUD)
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        answer = fleet.ask(gate, guest, **options)
        assert answer.status == 200
        assert answer.headers["x-portal-provider"] == "cloud"
        assert answer.headers["x-portal-failover"] == "cloud"
        usage = answer.events()[-1]["usage"] if stream else answer.json()["usage"]
    row = fleet.usage(answer.request_id)
    assert (row.outcome, row.provider, row.location, row.failover) == ("ok", "ollama-cloud", "cloud", True)
    price = fleet.rate(TWINNED, "ollama-cloud")
    assert price == 2_000_000
    assert (row.rate_in, row.rate_out) == (price, price)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (20, 10)
    assert (row.cost, usage["credits"]) == (60, 0.06)
    if not stream:
        assert float(answer.headers["x-portal-credits"]) == 0.06
    assert fleet.wallet(guest.account_id) == (99_940, 0)
    [sent] = fleet.sandbox.chats(server=CLOUD)
    assert sent["headers"]["authorization"] == "Bearer sandbox"
    assert guest.api_key not in str(sent)
    told = gate.ask("GET", f"/v1/requests/{answer.request_id}", key=guest.api_key).json()
    assert (told["provider"], told["failover"], told["credits"]) == ("cloud", True, 0.06)
    assert fleet.cloud_used() == 1
    fleet.books_are_right()


def test_the_twin_is_asked_by_the_name_it_has_there(fleet: Fleet, gate: AnyDoor) -> None:
    """Issue B, 1: a mapping, never a concatenation."""
    fleet.found("ollama-cloud", TWINNED, upstream_name="gpt-oss:120b")
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, waiting=2):
        answer = fleet.ask(gate, guest)
        assert answer.json()["model"] == TWINNED
    assert [sent["model"] for sent in fleet.sandbox.chats(server=CLOUD)] == ["gpt-oss:120b"]
    fleet.found("ollama-cloud", TWINNED, upstream_name=TWINNED)


def test_up_to_the_limit_it_waits_for_our_own_servers(fleet: Fleet, gate: AnyDoor) -> None:
    """QUEUE-02: deeper than 3, not 3; what waited pays the local price."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(gate, crowd, waiting=1):
        third = fleet.later(gate, guest)
        eventually(lambda: fleet.in_line() == 2, what="the third in line")
        assert fleet.asked(CLOUD) == 0
    answer = third.result(20)
    assert (answer.status, answer.headers["x-portal-provider"]) == (200, "local")
    row = fleet.usage(answer.request_id)
    assert (row.location, row.failover, row.rate_out) == ("local", False, 1_000_000)
    assert fleet.asked(CLOUD) == 0
    assert fleet.cloud_used() == 0


def key_says_no(fleet: Fleet, person: Person) -> None:
    with fleet.app.app_context(), changing(f"account:{person.account_id}"):
        db.session.execute(sa.update(ApiKey).where(ApiKey.account_id == person.account_id).values(failover=False))
        db.session.commit()


NOT_TO_THE_CLOUD: dict[str, Callable[[Fleet, Person], object]] = {
    "the key says no": key_says_no,
    "the plan says no": lambda fleet, _person: fleet.plan("enterprise", failover=False),
    "the account stays local": lambda fleet, person: fleet.change(person.account_id, local_only=True),
    "the budget is spent": lambda fleet, _person: fleet.spend_budget(500),
    "the cloud is switched off": lambda fleet, _person: fleet.switch("ollama-cloud", on=False),
    "the cloud has not got it": lambda fleet, _person: fleet.found("ollama-cloud", TWINNED, present=False),
}


def waits_and_is_answered_here(fleet: Fleet, gate: AnyDoor, guest: Person, **members: object) -> None:
    """The claim of every reason to stay."""
    used = fleet.cloud_used()
    crowd = fleet.somebody()
    model = str(members.get("model", TWINNED))
    with fleet.occupied(gate, crowd, waiting=2, model=model):
        fourth = fleet.later(gate, guest, **members)
        eventually(lambda: fleet.in_line() == 3, what="the fourth in line")
    answer = fourth.result(20)
    assert (answer.status, answer.headers["x-portal-provider"]) == (200, "local")
    assert "x-portal-failover" not in answer.headers
    row = fleet.usage(answer.request_id)
    assert (row.outcome, row.location, row.failover, row.rate_out) == ("ok", "local", False, 1_000_000)
    assert row.waited_ms is not None
    assert fleet.asked(CLOUD) == 0
    assert fleet.cloud_used() == used
    assert fleet.wallet(guest.account_id)[1] == 0
    fleet.books_are_right()


@pytest.mark.parametrize("reason", NOT_TO_THE_CLOUD)
def test_it_waits_its_turn_where_something_forbids_the_cloud(fleet: Fleet, gate: AnyDoor, reason: str) -> None:
    """QUEUE-02: if the caller's plan and key allow it and budget is left; else it waits its turn."""
    guest = fleet.somebody()
    NOT_TO_THE_CLOUD[reason](fleet, guest)
    waits_and_is_answered_here(fleet, gate, guest)


@pytest.mark.parametrize("word", ["off", "OFF", " off "])
def test_a_request_can_refuse_the_cloud_for_itself(fleet: Fleet, fleet_hub: AnyDoor, word: str) -> None:
    """Issue B, 3: `x-portal-failover: off`."""
    waits_and_is_answered_here(fleet, fleet_hub, fleet.somebody(), headers={"x-portal-failover": word})


def test_a_model_without_a_twin_waits(fleet: Fleet, gate: AnyDoor) -> None:
    """QUEUE-02: if it has one."""
    waits_and_is_answered_here(fleet, gate, fleet.somebody(), model=ALONE)


def test_who_can_pay_here_but_not_there_waits(fleet: Fleet, gate: AnyDoor) -> None:
    """QUEUE-02, CRD-01: a wallet that covers 1× and not 2× is answered, at 1×."""
    waits_and_is_answered_here(fleet, gate, fleet.somebody(credits=1), max_tokens=500)


def test_a_cloud_that_rests_is_no_reason_to_refuse(fleet: Fleet, gate: AnyDoor) -> None:
    """QUEUE-02: its account was refused a moment ago; until it is tried again everybody waits here."""
    fleet.sandbox.control(fault="402_native", server=CLOUD)
    explicit = fleet.ask(gate, fleet.somebody(), model="qwen3.5:cloud")
    assert explicit.status == 503
    fleet.sandbox.forget_requests(server=CLOUD)
    waits_and_is_answered_here(fleet, gate, fleet.somebody())


def test_a_cloud_without_a_key_is_not_there(fleet: Fleet) -> None:
    """OPS-03: the key is the environment's; without it there is no twin and no cloud model."""
    app = create_app(load_settings(fleet.environment(OLLAMA_CLOUD_API_KEY="")))
    try:
        guest = fleet.somebody()
        assert fleet.ask(Plain(app), guest, model="qwen3.5:cloud").status == 404
        waits_and_is_answered_here(fleet, Plain(app), guest)
    finally:
        close(app)


def test_while_our_own_servers_rest_the_twin_answers(fleet: Fleet, gate: AnyDoor) -> None:
    """QUEUE-02, issue B, 5: nobody waits for a server that is known to be down."""
    fleet.sandbox.control(down="reset", server=FIRST)
    guest = fleet.somebody()
    for _ in range(4):
        answer = fleet.ask(gate, guest)
        assert (answer.status, answer.headers["x-portal-provider"]) == (200, "cloud")
    assert fleet.usage(answer.request_id).failover
    assert fleet.cloud_used() == 4
    fleet.books_are_right()


# -- an account that is refused ----------------------------------------------------------------------------------------

REFUSALS = {"401_native": 401, "402_native": 402, "403_native": 403, "429_native": 429}
ACCOUNT = "operator-account-name"
THEIRS = (ACCOUNT, "ollama", "ref:", "upgrade", "unauthorized", "subscription", "weekly", "127.0.0.1")


def nothing_of_theirs(answer: Answer) -> None:
    """Neither body nor headers hold a word of the cloud's own."""
    told = (answer.read() + str(answer.headers).encode()).decode().lower()
    for word in THEIRS:
        assert word not in told, told


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", REFUSALS)
def test_a_refused_account_rests_the_cloud_is_told_to_the_staff_and_never_to_the_customer(
    fleet: Fleet, gate: AnyDoor, fault: str, stream: bool
) -> None:
    """Issue B, 4; never-again, "Operator's account name in a relayed upstream error"."""
    fleet.sandbox.control(fault=fault, account=ACCOUNT, server=CLOUD)
    guest = fleet.somebody()
    first = fleet.ask(gate, guest, model="qwen3.5:cloud", stream=stream)
    assert (first.status, first.error()["code"]) == (503, "no_provider")
    assert int(first.headers["retry-after"]) >= 1
    nothing_of_theirs(first)
    row = fleet.usage(first.request_id)
    assert (row.outcome, row.cost, attempts(row)) == ("refused", 0, [("ollama-cloud", "account")])
    told = gate.ask("GET", f"/v1/requests/{first.request_id}", key=guest.api_key)
    assert [tried["fault"] for tried in told.json()["attempts"]] == ["error"]
    eventually(lambda: fleet.provider("ollama-cloud").state == "resting", what="the rest in the provider's row")
    assert ACCOUNT not in fleet.provider("ollama-cloud").state_reason
    eventually(lambda: fleet.events("cloud_account_refused"), what="the event")

    second = fleet.ask(gate, guest, model="deepseek-v3.2:cloud", stream=stream)
    assert (second.status, second.error()["code"]) == (503, "no_provider")
    assert 1 <= int(second.headers["retry-after"]) <= 60
    nothing_of_theirs(second)
    assert fleet.asked(CLOUD) == 1
    assert fleet.cloud_used() == 1, "the first call left, the second one never did"
    assert fleet.events("cloud_account_refused") == [{"provider": "ollama-cloud", "status": REFUSALS[fault]}]
    assert fleet.wallet(guest.account_id) == (100_000, 0)
    fleet.books_are_right()


@pytest.mark.parametrize("stream", [False, True])
def test_who_was_refused_in_the_cloud_goes_back_into_the_line_at_the_local_price(
    fleet: Fleet, gate: AnyDoor, stream: bool
) -> None:
    """Issue B, 3 and 4: our account is not the customer's trouble."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    fleet.sandbox.control(fault="402_native", account=ACCOUNT, server=CLOUD)
    with fleet.occupied(gate, crowd, waiting=2):
        coming = fleet.later(gate, guest, stream=stream, max_tokens=1000)
        eventually(lambda: fleet.in_line() == 3, what="a place in the local line")
        eventually(lambda: fleet.usages(guest.account_id)[0].location == "local", what="the local hold")
        [open_row] = fleet.usages(guest.account_id)
        assert (open_row.failover, open_row.rate_out) == (False, 1_000_000)
        assert fleet.wallet(guest.account_id) == (100_000, open_row.hold)
        fleet.books_are_right()
    answer = coming.result(20)
    assert (answer.status, answer.headers["x-portal-provider"]) == (200, "local")
    assert "x-portal-failover" not in answer.headers
    assert ACCOUNT not in answer.read().decode() + str(answer.headers)
    row = fleet.usage(answer.request_id)
    assert (row.outcome, row.provider, row.location) == ("ok", "ollama-1", "local")
    assert attempts(row) == [("ollama-cloud", "account")]
    assert row.cost == row.prompt_tokens + row.answer_tokens
    assert fleet.wallet(guest.account_id) == (100_000 - row.cost, 0)
    assert fleet.cloud_used() == 1
    fleet.books_are_right()


def test_a_cloud_that_cannot_be_reached_costs_no_budget(fleet: Fleet, gate: AnyDoor) -> None:
    """CLOUD-01, issue B, 4: given back if the call never left."""
    with fleet.app.app_context():
        providers.change("ollama-cloud", url=NOWHERE)
    try:
        guest = fleet.somebody()
        explicit = fleet.ask(gate, guest, model="qwen3.5:cloud")
        assert (explicit.status, explicit.error()["code"]) == (503, "no_provider")
        assert attempts(fleet.usage(explicit.request_id)) == [("ollama-cloud", "unreached")]
        assert fleet.cloud_used() == 0
        with fleet.occupied(gate, fleet.somebody(), waiting=2):
            coming = fleet.later(gate, guest)
            eventually(lambda: fleet.in_line() == 3, what="a place in the local line")
        answer = coming.result(20)
        assert (answer.status, answer.headers["x-portal-provider"]) == (200, "local")
        assert attempts(fleet.usage(answer.request_id)) == [("ollama-cloud", "unreached")]
        assert fleet.cloud_used() == 0
        fleet.books_are_right()
    finally:
        with fleet.app.app_context():
            providers.change("ollama-cloud", url="")


def test_at_the_end_of_the_budget_cloud_models_are_off_and_nothing_else_is(fleet: Fleet, gate: AnyDoor) -> None:
    """CLOUD-02: 503 with Retry-After at midnight; the last one of the day still leaves."""
    fleet.spend_budget(499)
    guest = fleet.somebody()
    assert fleet.ask(gate, guest, model="qwen3.5:cloud").status == 200
    refused = fleet.ask(gate, guest, model="qwen3.5:cloud")
    assert (refused.status, refused.error()["code"]) == (503, "cloud_budget_exhausted")
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert fleet.ask(gate, guest).status == 200
    assert "qwen3.5:cloud" in {m["id"] for m in gate.ask("GET", "/v1/models", key=guest.api_key).json()["data"]}
    assert fleet.asked(CLOUD) == 1
    assert fleet.wallet(guest.account_id)[1] == 0


@pytest.mark.parametrize(("limit", "calls"), [(2, 2), (1, 1)])
def test_every_call_that_leaves_for_the_cloud_counts_also_the_second_of_one_request(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess, limit: int, calls: int
) -> None:
    """CLOUD-01: two cloud providers, of which the first one fails: with a budget of one, one call leaves."""
    ways: dict[str, str | int] = {"OLLAMA_CLOUD_URL": sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": "sandbox"}
    app = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, CLOUD_DAILY_LIMIT=limit, **ways)
    layla = Cast(app).layla
    with app.app_context():
        providers.add("cloud-b", kind="ollama-cloud", url=sandbox.cloud_url)
        providers.offer("cloud-b", "qwen3.5:cloud", "qwen3.5")
        db.session.execute(sa.update(Account).values(plan_id="enterprise"))
        db.session.commit()
    sandbox.next({"fault": "503_native"}, server=CLOUD)
    answer = Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat(model="qwen3.5:cloud"))
    assert answer.status == (200 if calls == 2 else 503)
    assert len(sandbox.chats(server=CLOUD)) == calls
    with app.app_context():
        assert budget.state(limit).used == calls
        assert ledger.check() == []
