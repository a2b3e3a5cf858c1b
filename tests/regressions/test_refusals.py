"""What a refusal owes who is refused: where they stand in their limit, the way out, and words they read."""

import re
from collections.abc import Iterator

import pytest
from flask import Flask

from portal.extensions import db
from portal.services import ledger
from sandbox.process import SandboxProcess
from tests.gateway.wire import CHAT, Answer, Hub, Plain, chat
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb

BASE = "http://127.0.0.1:8000"
ARABIC = re.compile(r"[\u0600-\u06ff]{2}")


@pytest.fixture
def portal(sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess) -> Flask:
    return make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, BASE_URL=BASE)


def limit_told(answer: Answer) -> tuple[str, str]:
    """(limit, remaining) as the headers say; the third must make sense."""
    assert re.fullmatch(r"[0-9]+ms|[0-9]+m[0-9]+s|[0-9]+(\.[0-9]+)?s", answer.headers["x-ratelimit-reset-requests"])
    return answer.headers["x-ratelimit-limit-requests"], answer.headers["x-ratelimit-remaining-requests"]


def spend_all(app: Flask, person: Person) -> None:
    with app.app_context():
        balance = ledger.adjust(person.account_id, -1, reference="one", actor="test", reason="x").balance_after
        ledger.adjust(person.account_id, -balance, reference="rest", actor="test", reason="x")
        db.session.commit()


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_of_a_higher_plan_is_refused_with_the_way_to_it(portal: Flask, stream: bool) -> None:
    """API-05, RATE-02, contract: 403 `model_not_in_plan` with `upgrade_url`; it counts, so it tells the limit."""
    zaid, door = Cast(portal).zaid, Plain(portal)
    assert limit_told(door.ask("POST", CHAT, key=zaid.api_key, body=chat(max_tokens=2))) == ("10", "9")
    answer = door.ask("POST", CHAT, key=zaid.api_key, body=chat(model="Qwen3-VL-32B", stream=stream))
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (403, "model_not_in_plan", "model")
    assert error["upgrade_url"] == BASE + "/billing"
    assert limit_told(answer) == ("10", "8")


@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_wallet_is_refused_with_its_place_in_the_limit(portal: Flask, stream: bool) -> None:
    """API-03, RATE-02: 402 with balance, required amount, top-up link, and `x-ratelimit-*`."""
    zaid = Cast(portal).zaid
    spend_all(portal, zaid)
    answer = Plain(portal).ask("POST", CHAT, key=zaid.api_key, body=chat(stream=stream))
    error = answer.error()
    assert (answer.status, error["code"]) == (402, "insufficient_credits")
    assert (error["balance"], error["top_up_url"]) == (0, BASE + "/billing")
    assert error["required"] > 0
    assert limit_told(answer) == ("10", "9")


def test_the_headers_of_a_full_window_are_told_once(portal: Flask) -> None:
    """RATE-02: 429 had them already; telling them twice would be no better than not at all."""
    zaid = Cast(portal).zaid
    client = portal.test_client()
    answers = [client.post(CHAT, json=chat(max_tokens=2), headers=zaid.bearer) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    for name, value in (("limit", "10"), ("remaining", "0")):
        assert answers[-1].headers.getlist(f"x-ratelimit-{name}-requests") == [value]
    assert len(answers[-1].headers.getlist("x-ratelimit-reset-requests")) == 1


@pytest.fixture(params=["hub", "plain"])
def door(
    request: pytest.FixtureRequest, portal: Flask, start_web: StartWeb, sqlite_url: str, sandbox: SandboxProcess
) -> Iterator[Hub | Plain]:
    """Both transports."""
    hub = request.param == "hub"
    found = Hub(start_web(sqlite_url, OLLAMA_URL=sandbox.ollama_url).url) if hub else Plain(portal)
    yield found
    found.close()


def test_a_streams_error_is_told_in_the_language_of_its_request(
    door: Hub | Plain, portal: Flask, sandbox: SandboxProcess
) -> None:
    """API-01, contract: errors in Arabic for `Accept-Language: ar`, also where only an event can tell them."""
    layla = Cast(portal).layla
    told = {}
    for language in ("ar", "en"):
        for fault in ("crash_mid", "error_event"):
            sandbox.next({"fault": fault, "fault_after": 2})
            answer = door.ask(
                "POST", CHAT, key=layla.api_key, body=chat(stream=True), headers={"Accept-Language": language}
            )
            assert answer.status == 200
            error = answer.events()[-1]["error"]
            assert error["code"] == "upstream_error"
            told[language] = error["message"]
            assert bool(ARABIC.search(error["message"])) == (language == "ar"), error
    assert told["ar"] != told["en"]
