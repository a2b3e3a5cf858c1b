"""What a program is told of places: of each model where it runs, of each request where it ran; and the description."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import errors
from portal.blueprints.proxy.models import TOLD
from portal.errors import API_ERRORS
from portal.extensions import db
from portal.models import Account, ApiKey, Usage
from portal.services.gateway.upstream_refusal import Fault
from tests.pages.history import give_cloud_history, give_history
from tests.services.cast import Cast
from tests.services.environment import ROOT
from tests.services.portal_app import MakeApp

DESCRIPTION = json.loads((ROOT / "portal/openapi.json").read_text())
SCHEMAS = DESCRIPTION["components"]["schemas"]
RESPONSES = {
    400: "BadRequest", 401: "NotSignedIn", 402: "OutOfCredit", 403: "Forbidden", 404: "NotFound", 405: "WrongMethod",
    413: "TooLarge", 429: "TooMany", 500: "OurFault", 502: "UpstreamFailed", 503: "NotNow", 504: "UpstreamSlow",
}  # fmt: skip


@pytest.fixture
def cloudy(sqlite_url: str, make_app: MakeApp) -> Flask:
    """A portal whose operator has a cloud account. No model is asked here."""
    return make_app(sqlite_url, OLLAMA_CLOUD_API_KEY="the-operators-own")


def _told(app: Flask, cast: Cast, path: str) -> dict[str, Any]:
    answer = app.test_client().get(path, headers=cast.layla.bearer)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    body: dict[str, Any] = answer.get_json()
    return body


def _set(app: Flask, row: type[Account] | type[ApiKey], cast: Cast, **values: object) -> None:
    column = Account.id if row is Account else ApiKey.account_id
    with app.app_context():
        db.session.execute(sa.update(row).where(column == cast.layla.account_id).values(**values))
        db.session.commit()


def _places(app: Flask, cast: Cast) -> dict[str, tuple[str, bool]]:
    listed = _told(app, cast, "/v1/models")["data"]
    for model in listed:
        assert _told(app, cast, f"/v1/models/{model['id']}") == model
    return {model["id"]: (model["location"], model["cloud_twin"]) for model in listed}


def test_a_model_says_where_it_runs_and_whether_it_may_move(cloudy: Flask) -> None:
    """QUEUE-02, API-05: as it is for this very caller: their plan, their key, their switch."""
    cast = Cast(cloudy)
    assert set(_places(cloudy, cast).values()) == {("local", False)}, "Basic waits its turn"
    _set(cloudy, Account, cast, plan_id="pro")
    places = _places(cloudy, cast)
    assert places["gpt-oss:20b"] == ("local", True)
    assert places["llama3.2:3b"] == ("local", False), "it has no twin"
    assert places["qwen3.5:cloud"] == ("cloud", False), "it is there already"
    _set(cloudy, ApiKey, cast, failover=False)
    assert _places(cloudy, cast) == places | {"gpt-oss:20b": ("local", False)}, "the key waits; the cloud by name is on"
    _set(cloudy, ApiKey, cast, failover=True)
    _set(cloudy, Account, cast, local_only=True)
    staying = {name: (place, False) for name, (place, _) in places.items() if place == "local"}
    assert _places(cloudy, cast) == staying


def test_a_request_says_where_it_ran_and_what_was_tried_before(app: Flask, cast: Cast) -> None:
    """API-02, QUEUE-02, CLOUD-01: place, move, wait and attempts; the servers' names stay the operator's."""
    ids = give_cloud_history(app, cast.layla)
    told = {story: _told(app, cast, f"/v1/requests/req_{request}") for story, request in ids.items()}
    moved = told["moved"]
    assert (moved["provider"], moved["failover"], moved["credits"]) == ("cloud", True, 3.0)
    assert moved["attempts"] == [{"location": "local", "fault": "timed_out", "ms": 3012}]
    assert moved["usage"]["cached_tokens"] == 64
    assert "ollama" not in json.dumps(told)
    cloud, waited = told["cloud"], told["waited"]
    assert (cloud["provider"], cloud["failover"], cloud["attempts"], cloud["waited_ms"]) == ("cloud", False, [], None)
    assert (waited["provider"], waited["failover"], waited["waited_ms"]) == ("local", False, 12_340)


@pytest.mark.parametrize("broken", ['[{"provider": "ollama-1", "loc', '[{"fault": "timed_out"}]', "7"])
def test_attempts_that_cant_be_read_hide_no_cost(
    app: Flask, cast: Cast, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """API-02: what it cost is told all the same, and the log is loud about the rest."""
    request = give_cloud_history(app, cast.layla)["moved"]
    with app.app_context():
        db.session.execute(sa.update(Usage).where(Usage.id == request).values(attempts=broken))
        db.session.commit()
    told = _told(app, cast, f"/v1/requests/{request}")
    assert (told["attempts"], told["credits"]) == ([], 3.0)
    assert [record.levelname for record in caplog.records if record.name == "portal.requests"] == ["ERROR"]


def test_the_description_has_each_member_that_is_told(cloudy: Flask) -> None:
    """API-02, API-05: neither a member without a description nor one that never comes."""
    cast = Cast(cloudy)
    give_history(cloudy, cast.layla)
    ids = give_cloud_history(cloudy, cast.layla)
    for model in _told(cloudy, cast, "/v1/models")["data"]:
        assert set(model) == set(SCHEMAS["Model"]["properties"]) == set(SCHEMAS["Model"]["required"])
    request = SCHEMAS["Request"]
    with cloudy.app_context():
        everything = db.session.scalars(sa.select(Usage.id)).all()
    assert set(ids.values()) < set(everything)
    for number in everything:
        told = _told(cloudy, cast, f"/v1/requests/{number}")
        assert set(told) == set(request["properties"]) == set(request["required"])
        usage = request["properties"]["usage"]
        assert set(told["usage"]) == set(usage["properties"]) == set(usage["required"])
        assert told["outcome"] in request["properties"]["outcome"]["enum"]
        for attempt in told["attempts"]:
            assert set(attempt) == set(SCHEMAS["Attempt"]["properties"])


def test_each_fault_is_described_and_our_account_is_not_the_customers_business() -> None:
    """API-02, never again "Operator's account name in a relayed upstream error": the words the gateway writes."""
    told = {TOLD.get(fault.value, fault.value) for fault in Fault}
    assert told == set(SCHEMAS["Attempt"]["properties"]["fault"]["enum"])
    assert "account" not in told


def test_the_description_names_each_error_under_its_status() -> None:
    """Never again "documented error codes the API never sent": the errors' list and the description are one."""
    named = DESCRIPTION["components"]["responses"]
    for error in API_ERRORS:
        assert f"`{error.code}`" in named[RESPONSES[error.status]]["description"], error.code
    known = {error.code for error in API_ERRORS}
    for response in named.values():
        words = {word.strip("`,.:;") for word in response["description"].split() if word.startswith("`")}
        codes = {word for word in words if "_" in word and not word.endswith("_url")}
        assert codes <= known, codes - known


def test_who_is_turned_away_by_the_budget_is_not_asked_to_come_back_at_once(app: Flask) -> None:
    """CLOUD-02: OpenAI's SDKs obey the header, which the description tells of."""
    with app.test_request_context():
        told = dict(errors.CloudBudgetExhausted(retry_after=3600).headers())
    described = DESCRIPTION["components"]["responses"]["NotNow"]["headers"]
    assert told["x-should-retry"] == described["x-should-retry"]["schema"]["const"]
    assert set(told) <= set(described)
