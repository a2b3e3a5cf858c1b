"""Every address of the API: none passes admission by, none speaks anything but JSON, each error is one of the list."""

import datetime as dt
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import errors
from portal.blueprints import DOORS, guards
from portal.blueprints.proxy.mount import Direct, Mount
from portal.clock import utcnow
from portal.extensions import db
from portal.models import Account, ApiKey, Wallet
from sandbox.process import SandboxProcess
from tests.gateway.conftest import QUICK, House
from tests.gateway.wire import CHAT, Answer, Hub, Plain, chat, eventually
from tests.services.cast import Cast
from tests.services.environment import NOWHERE
from tests.services.portal_app import MakeApp

AnyDoor = Hub | Plain
NO_MODEL_RUNS = {"/v1/models", "/v1/requests"}
"""Addresses behind the key that only look at rows; every other one is inference and must pass admission."""


def key_rules(app: Flask) -> list[tuple[str, set[str], object]]:
    """(path, methods, view) of every rule behind the `key` guard."""
    blueprints = {name for name, door in app.extensions["doors"].items() if door.guard == guards.KEY}
    return [
        (rule.rule, (rule.methods or set()) - {"HEAD", "OPTIONS"}, app.view_functions[rule.endpoint])
        for rule in app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[0] in blueprints
    ]


def inference(app: Flask) -> list[str]:
    """Paths where a model may run: all that are not known to only look."""
    return [
        path
        for path, methods, _ in key_rules(app)
        if methods - {"GET"} or not any(path.removeprefix("/api").startswith(look) for look in NO_MODEL_RUNS)
    ]


def test_every_inference_address_is_a_direct_door_and_the_mount_has_it(house: House) -> None:
    """never-again, "A second route skipped the budget": proved from the URL map."""
    app = house.app
    assert {CHAT, "/api" + CHAT} <= set(inference(app))
    mount = app.wsgi_app
    assert isinstance(mount, Mount)
    for path, methods, view in key_rules(app):
        if path in inference(app):
            assert isinstance(view, Direct), f"{path} runs a model outside the gateway's door"
            assert methods == {"POST"}
            assert mount._doors[path] is app.extensions[view.extension]


def test_no_other_door_reaches_a_model() -> None:
    """never-again, "A second route …": only the proxy's blueprint is behind the key."""
    assert {door.blueprint.name for door in DOORS if door.guard == guards.KEY} == {"proxy"}


def test_every_inference_address_asks_for_key_limit_model_and_credit(door: AnyDoor, house: House) -> None:
    """never-again, "A second route skipped the budget": each step of admission refuses at each address."""
    poor = house.somebody(credits=0)
    closed = chat(model="bge-m3")
    for path in inference(house.app):
        assert door.ask("POST", path, body=chat()).status == 401
        assert door.ask("POST", path, key="rsk_" + "a" * 40, body=chat()).status == 401
        assert door.ask("POST", path, key=house.zaid.api_key, body=chat(model="gpt-oss:20b")).status == 403
        assert door.ask("POST", path, key=house.layla.api_key, body=closed).status == 404
        refused = door.ask("POST", path, key=poor.api_key, body=chat())
        assert (refused.status, refused.error()["code"]) == (402, "insufficient_credits")
    assert house.sandbox.chats() == []


def test_through_flask_itself_the_same_door_opens(house: House) -> None:
    """OPS-01: a server that calls the Flask app without the mount reaches no other code."""
    flask_app = house.app
    mounted, flask_app.wsgi_app = flask_app.wsgi_app, flask_app.wsgi_app._flask  # type: ignore[attr-defined, method-assign]
    try:
        answer = Plain(flask_app).ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
        assert answer.status == 200
        assert answer.events()
        assert Plain(flask_app).ask("POST", CHAT, body=chat()).status == 401
    finally:
        flask_app.wsgi_app = mounted  # type: ignore[method-assign]
    assert house.usage(answer.request_id).outcome == "ok"


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/v1/nothing", "/api/v1/nothing", "/v1/chat/completions/", "/v1/chat", "/v1/embeddings",
     "/v1/responses", "/v1/completions", "/v1/messages"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_address_is_told_in_json(door: AnyDoor, path: str, method: str) -> None:
    """facts 17: the AI SDK's default calls /v1/responses; it needs a plain 404 in OpenAI's shape."""
    answer = door.ask(method, path, body=chat() if method == "POST" else None)
    assert (answer.status, answer.error()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", [CHAT, "/api" + CHAT])
def test_another_method_is_told_in_json(door: AnyDoor, house: House, method: str, path: str) -> None:
    """Contract: errors have all four members."""
    answer = door.ask(method, path, key=house.layla.api_key)
    assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


def test_models_are_listed_by_plan_and_found_by_name(door: AnyDoor, house: House) -> None:
    """API-05, MODEL-01..04: ids may hold `/` and `:`."""
    listed = door.ask("GET", "/v1/models", key=house.zaid.api_key).json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == [
        "llama3.2:3b",
        "mistral-small3.2:24b",
        "qwen2.5-coder:14b",
        "smollm2:135m",
    ]
    for model in listed["data"]:
        assert {"id", "object", "created", "owned_by"} <= set(model)
        assert door.ask("GET", f"/v1/models/{model['id']}", key=house.zaid.api_key).json() == model
    more = {m["id"] for m in door.ask("GET", "/api/v1/models", key=house.layla.api_key).json()["data"]}
    assert {"gpt-oss:20b", "Qwen3-VL-32B", "qwen3-30b-40k"} <= more
    assert not {"bge-m3", "nomic-embed-text", "glm-4.7-flash"} & more
    for path, status in (("bge-m3", 404), ("a/b/c", 404), ("gpt-oss:20b", 403), ("LLAMA3.2:3b:latest", 200)):
        assert door.ask("GET", f"/v1/models/{path}", key=house.zaid.api_key).status == status


@pytest.mark.parametrize(
    "spelling", ["bge-m3", "BGE-M3:latest", "glm-4.7-flash", "glm\u200b-4.7-flash", "nomic-embed-text:LATEST"]
)
def test_a_closed_model_is_never_answered(door: AnyDoor, house: House, spelling: str) -> None:
    """MODEL-04: through HTTP."""
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(model=spelling))
    assert (answer.status, answer.error()["code"]) == (404, "model_not_found")
    assert house.sandbox.chats() == []


# -- money at the door -------------------------------------------------------------------------------------------------


def test_out_of_credit_is_402_with_what_is_there_what_it_takes_and_where_to_go(door: AnyDoor, house: House) -> None:
    """API-03, GW-04, never-again, "Out-of-credit told as 429: every SDK retried it"."""
    guest = house.somebody(credits=1)
    answer = door.ask("POST", CHAT, key=guest.api_key, body=chat(max_tokens=5000))
    error = answer.error()
    assert (answer.status, error["code"], error["type"]) == (402, "insufficient_credits", "insufficient_quota")
    assert error["balance"] == 1
    assert 5 < error["required"] < 6
    assert error["top_up_url"].endswith("/billing")
    assert "retry-after" not in answer.headers
    assert house.wallet(guest.account_id) == (1000, 0)


def test_without_a_limit_a_small_wallet_gets_the_answer_it_affords(door: AnyDoor, house: House) -> None:
    """CRD-01: the hold is what the wallet affords, and the server is told that limit."""
    guest = house.somebody(credits=1)
    house.sandbox.control(tokens=3000)
    answer = door.ask("POST", CHAT, key=guest.api_key, body=chat())
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    limit = house.sandbox.chats()[-1]["native"]["options"]["num_predict"]
    row = house.usage(answer.request_id)
    assert 16 <= limit < 1000
    assert row.answer_tokens == limit
    assert row.hold <= 1000
    balance, held = house.wallet(guest.account_id)
    assert (balance, held) == (1000 - row.cost, 0)


def test_credit_on_hold_is_another_matter_than_no_credit(door: AnyDoor, house: House) -> None:
    """API-03: 429 `credits_on_hold` with Retry-After; when the other request ends there is room again."""
    guest = house.somebody(credits=1)
    house.sandbox.control(hold_after=1, slots=4)
    running = door.ask("POST", CHAT, key=guest.api_key, body=chat(stream=True, max_tokens=600))
    running.until(b'"content":')
    answer = door.ask("POST", CHAT, key=guest.api_key, body=chat(max_tokens=600))
    assert (answer.status, answer.error()["code"]) == (429, "credits_on_hold")
    assert int(answer.headers["retry-after"]) >= 1
    house.sandbox.release()
    running.read()
    eventually(lambda: house.wallet(guest.account_id)[1] == 0)
    house.sandbox.control(hold_after=None)
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat(max_tokens=100)).status == 200


# -- the list of errors ------------------------------------------------------------------------------------------------


class Scenes:
    """How each error of the list comes about, on a portal of its own."""

    def __init__(self, make_app: MakeApp, url: str, sandbox: SandboxProcess) -> None:
        ways: dict[str, str | int] = {"OLLAMA_CLOUD_URL": sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": "sandbox"}
        self.app = make_app(url, OLLAMA_URL=sandbox.ollama_url, CLOUD_DAILY_LIMIT=0, QUEUE_LENGTH=0, **ways, **QUICK)
        self.sandbox, self.make_app, self.url = sandbox, make_app, url
        self.layla = Cast(self.app).layla
        self.headers: dict[str, str] = {}

    def ask(self, key: str | None = "", method: str = "POST", path: str = CHAT, **members: object) -> Answer:
        body = {**chat(), **members} if method == "POST" else None
        key = self.layla.api_key if key == "" else key
        return Plain(self.app).ask(method, path, key=key, body=body, headers=self.headers)

    def fault(self, name: str) -> Answer:
        self.sandbox.next({"fault": name})
        return self.ask()

    def layla_with(self, row: type[Account] | type[ApiKey] | type[Wallet], **values: object) -> Answer:
        mine = row.id if row is Account else row.account_id  # type: ignore[union-attr]
        with self.app.app_context():
            db.session.execute(sa.update(row).where(mine == self.layla.account_id).values(**values))
            db.session.commit()
        self.forget()
        return self.ask(max_tokens=100)

    def forget(self) -> None:
        self.app.extensions["chat_door"].process().caller_memory.clear()

    def pro(self, **values: object) -> Answer:
        """A request for a cloud model, by an account that has it."""
        with self.app.app_context():
            mine = Account.id == self.layla.account_id
            db.session.execute(sa.update(Account).where(mine).values(plan_id="pro", **values))
            db.session.commit()
        self.forget()
        return self.ask(model="qwen3.5:cloud")

    def in_a_crowd(self) -> Answer:
        self.sandbox.control(hold_after=1)
        running = self.ask(stream=True)
        running.until(b'"content":')
        answer = self.ask()
        self.sandbox.release()
        running.read()
        return answer

    def often(self) -> Answer:
        for _ in range(11):
            answer = self.ask()
        return answer

    def strict_without_a_store(self) -> Answer:
        self.app = self.make_app(
            self.url, OLLAMA_URL=NOWHERE, REDIS_URL="unix:///nonexistent/redis.sock", RATE_LIMIT_FAIL="closed"
        )
        return self.ask()

    def without_a_database(self) -> Answer:
        self.app = self.make_app("sqlite:////nonexistent/portal.db", OLLAMA_URL=NOWHERE)
        return self.ask()

    def with_a_broken_one(self) -> Answer:
        with self.app.app_context():
            db.session.execute(sa.text("ALTER TABLE plans RENAME TO lost"))
            db.session.commit()
        self.forget()
        return self.ask()


past = dt.timedelta(days=-1)
SCENES: dict[type[errors.PortalError], Callable[[Scenes], Answer]] = {
    errors.InvalidRequest: lambda s: s.ask(max_tokens=0),
    errors.ContextLengthExceeded: lambda s: s.fault("400_context"),
    errors.UnsupportedCapability: lambda s: s.ask(model="smollm2:135m", tools=[{"type": "function"}]),
    errors.MissingApiKey: lambda s: s.ask(None),
    errors.InvalidApiKey: lambda s: s.ask("sk-1"),
    errors.KeyExpired: lambda s: s.layla_with(ApiKey, expires_at=utcnow() + past),
    errors.KeyRevoked: lambda s: s.layla_with(ApiKey, revoked_at=utcnow()),
    errors.InsufficientCredits: lambda s: s.layla_with(Wallet, balance=0),
    errors.ModelNotInPlan: lambda s: s.ask(model="gpt-oss:20b"),
    errors.CloudNotAllowed: lambda s: s.pro(local_only=True),
    errors.ScopeMissing: lambda s: s.layla_with(ApiKey, scopes="read"),
    errors.AccountSuspended: lambda s: s.layla_with(Account, suspended_at=utcnow()),
    errors.ModelNotFound: lambda s: s.ask(model="nothing-like-it"),
    errors.NotFound: lambda s: s.ask(path="/v1/nothing"),
    errors.MethodNotAllowed: lambda s: s.ask(method="GET"),
    errors.RequestTooLarge: lambda s: s.ask(user="x" * QUICK["MAX_REQUEST_BYTES"]),
    errors.RateLimitExceeded: lambda s: s.often(),
    errors.CreditsOnHold: lambda s: s.layla_with(Wallet, held=Wallet.balance),
    errors.UpstreamError: lambda s: s.fault("crash_before"),
    errors.UpstreamTimeout: lambda s: s.fault("stall_mid"),
    errors.NoProvider: lambda s: s.fault("404"),
    errors.QueueFull: lambda s: s.in_a_crowd(),
    errors.CloudBudgetExhausted: lambda s: s.pro(),
    errors.LimiterUnavailable: lambda s: s.strict_without_a_store(),
    errors.ServiceUnavailable: lambda s: s.without_a_database(),
    errors.InternalError: lambda s: s.with_a_broken_one(),
}


def test_every_error_of_the_list_is_one_the_api_sends() -> None:
    """never-again, "Documented error codes the API never sent": the docs render this list."""
    assert set(SCENES) == set(errors.API_ERRORS)
    codes = [error.code for error in errors.API_ERRORS]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("error", SCENES, ids=lambda error: error.code)
def test_each_error_comes_about_and_is_told_in_the_callers_language(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess, error: type[errors.PortalError], language: str
) -> None:
    """Contract, the table of errors; API errors are English unless Arabic is asked for."""
    scenes = Scenes(make_app, sqlite_url, sandbox)
    scenes.headers = {"Accept-Language": "ar-KW,ar;q=0.9,en;q=0.5"} if language == "ar" else {}
    answer = SCENES[error](scenes)
    told = answer.error()
    assert (answer.status, told["code"], told["type"]) == (error.status, error.code, error.type)
    assert answer.headers["content-type"] == "application/json"
    arabic = any("\u0600" <= letter <= "\u06ff" for letter in told["message"])
    assert arabic is (language == "ar"), told["message"]
    assert "%(" not in told["message"]
    if error.status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    if error.status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_address_chooses_the_language_too(plain: Plain) -> None:
    """Contract: `?lang=ar|en`; it wins over the header."""
    told = plain.ask("POST", CHAT + "?lang=ar", body=chat(), headers={"Accept-Language": "en"}).error()
    assert any("\u0600" <= letter <= "\u06ff" for letter in told["message"])
