"""The cloud's budget between real processes, and the midnight that renews it."""

import datetime as dt
import time

import pytest

from portal import clock
from sandbox.process import SandboxProcess
from tests.gateway.wire import CHAT, Plain, eventually
from tests.races.crowd import Crowd, Customer
from tests.races.street import Street
from tests.routing.days import FIRST, NOON, SECOND, Days, set_clock
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb

CLOUD, MODEL = "ollama-cloud", "qwen3.5:cloud"
LIMIT, USED, CALLERS = 500, 495, 100
CREDIT = 100_000_000


def cloud_settings(sandbox: SandboxProcess) -> dict[str, str]:
    return {"OLLAMA_CLOUD_URL": sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": "sandbox"}


def test_of_a_hundred_at_once_exactly_the_last_five_leave_for_the_cloud(street: Street) -> None:
    """CLOUD-01, shown by: 495 of 500 used, four workers, a hundred requests at once, half of them streamed. Five reach
    the cloud and are paid for; ninety-five are told `cloud_budget_exhausted`, until midnight in Kuwait, not to be tried
    again before, and pay nothing; the staff is told once."""
    if clock.seconds_to_kuwait_midnight() < 60:
        time.sleep(60)  # a day that ends in the middle of the test is the next test's subject
    days = Days(street.app)
    days.put(clock.kuwait_day(), USED)
    street.sandbox.control(server=CLOUD, text="Yes, of course.")
    account, key = street.customer(CREDIT, "pro")
    web = street.open_shop(4, CLOUD_DAILY_LIMIT=LIMIT, **cloud_settings(street.sandbox))
    with Crowd(web.url) as crowd:
        crowd.ask([Customer("pro", key)] * CALLERS, model=MODEL)
        told = crowd.wait()

    assert len(street.sandbox.chats(server=CLOUD)) == LIMIT - USED
    answered = [one for one in told if one.answered]
    refused = [one for one in told if not one.answered]
    assert len(answered) == LIMIT - USED
    assert {one.headers["x-portal-provider"] for one in answered} == {"cloud"}
    assert {(one.status, one.refusal) for one in refused} == {(503, "cloud_budget_exhausted")}
    assert {one.headers["x-should-retry"] for one in refused} == {"false"}
    for one in refused:
        midnight = one.ended_at + int(one.headers["retry-after"])
        assert abs(midnight - clock.next_kuwait_midnight().timestamp()) < 10
    assert days.used() == {clock.kuwait_day(): LIMIT}
    assert days.told() == [
        (kind, clock.kuwait_day().isoformat()) for kind in ("cloud_budget_exhausted", "cloud_budget_warning")
    ]
    eventually(lambda: street.wallet(account).held == 0, what="the last settlement")
    usages = street.usages(account)
    assert {usage.id for usage in usages} == {one.request for one in answered}, "who was refused has no row"
    assert {(usage.state, usage.outcome, usage.location) for usage in usages} == {("settled", "ok", "cloud")}
    assert street.wallet(account).balance == CREDIT - sum(usage.cost for usage in usages)
    assert all(usage.cost == 2 * (usage.prompt_tokens + usage.answer_tokens) for usage in usages), (
        "twice the local price"
    )
    assert street.faults() == []
    assert web.errors() == []


def test_at_midnight_in_kuwait_the_cloud_is_back(
    database_url: str,
    make_app: MakeApp,
    start_web: StartWeb,
    sandbox: SandboxProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CLOUD-01: nothing is restarted and nothing reset: a new day is a new row. To the last second of the old one it is
    told how long that takes."""
    app = make_app(database_url, OLLAMA_URL=sandbox.ollama_url, CLOUD_DAILY_LIMIT=3, **cloud_settings(sandbox))
    street = Street(app, database_url, start_web, sandbox)
    days = Days(app)
    account, key = street.customer(CREDIT, "pro")
    door = Plain(app)

    def ask(model: str = MODEL) -> tuple[int, str, str]:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
        answer = door.ask("POST", CHAT, key=key, body=body)
        code = "" if answer.status == 200 else str(answer.error()["code"])
        answer.read()
        return answer.status, code, answer.headers.get("retry-after", "")

    set_clock(monkeypatch, NOON)
    assert [ask() for _ in range(4)] == [(200, "", "")] * 3 + [(503, "cloud_budget_exhausted", str(12 * 3600))]
    assert ask("llama3.2:3b") == (200, "", ""), "our own servers have nothing to do with it"
    midnight = clock.next_kuwait_midnight(NOON)
    set_clock(monkeypatch, midnight - dt.timedelta(milliseconds=1))
    assert ask() == (503, "cloud_budget_exhausted", "1")
    set_clock(monkeypatch, midnight)
    assert ask() == (200, "", "")
    assert days.used() == {FIRST: 3, SECOND: 1}
    assert len(sandbox.chats(server=CLOUD)) == 4
    eventually(lambda: street.wallet(account).held == 0, what="the last settlement")
    assert street.faults() == []
