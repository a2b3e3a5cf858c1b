"""Requests a minute over HTTP: exact across four processes, honest in every header."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from portal.services import api_keys
from portal.services.limits import WINDOW_MS
from tests.gateway.conftest import House
from tests.gateway.wire import CHAT, Answer, Hub, Line, Plain, chat


def frees_in_ms(client: redis.Redis, account_id: str) -> int:
    """When the oldest request in the window will be old enough, by the store's own clock."""
    seconds, micros = client.time()
    entries: Any = client.zrange(f"rpm:{account_id}", 0, 0, withscores=True)
    return int(entries[0][1]) + WINDOW_MS - (seconds * 1000 + micros // 1000)


def test_four_processes_let_exactly_the_plans_number_through(house: House) -> None:
    """RATE-01, never-again, "Limits fired early, late, or per process": 70 at once, thirty pass."""
    house.sandbox.control(slots=64)
    assert house.four.worker_pids()
    # On a busy machine one process may have taken all connections before the others woke: that proves nothing of four.
    assert any(len(seventy_at_once(house)) > 1 for _ in range(5)), "one process did it all, five times"


def seventy_at_once(house: House) -> set[str]:
    """The processes that let somebody's thirty requests through."""
    guest = house.somebody(plan="pro", credits=1000)

    def ask(number: int) -> Answer:
        line = Line(house.four.url)
        answer = line.ask("POST", CHAT, key=guest.api_key, body=chat(stream=number % 2 == 0, max_tokens=3))
        answer.read()
        line.close()
        return answer

    with ThreadPoolExecutor(35) as together:
        answers = list(together.map(ask, range(70)))
    assert Counter(answer.status for answer in answers) == {200: 30, 429: 40}
    passed = [a.headers for a in answers if a.status == 200]
    assert sorted(int(h["x-ratelimit-remaining-requests"]) for h in passed) == list(range(30))
    assert {h["x-ratelimit-limit-requests"] for h in passed} == {"30"}
    truth = frees_in_ms(house.store.client, guest.account_id)
    for answer in answers:
        if answer.status == 429:
            error = answer.error()
            assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
            wait = int(answer.headers["retry-after"])
            assert truth / 1000 <= wait <= 60
            assert "30" in error["message"]
            assert str(wait) in error["message"]
            assert answer.headers["x-ratelimit-limit-requests"] == "30"
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
            assert answer.headers["x-ratelimit-reset-requests"] in {f"{s}s" for s in range(30, 60)} | {"1m0s"}
    assert len(house.sandbox.chats()) == 30
    house.sandbox.forget_requests()
    rows = house.usages(guest.account_id)
    assert len(rows) == 30
    return {row.process_id for row in rows}


def test_retry_after_is_when_the_next_one_passes(door: Hub | Plain, house: House) -> None:
    """RATE-02: whole seconds, at least 1, never earlier than the truth; nothing is charged."""
    guest = house.somebody(plan="basic")
    client = house.store.client
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    for age in (59_400, *range(9)):
        client.zadd(f"rpm:{guest.account_id}", {f"old-{age}": now - age})
    answer = door.ask("POST", CHAT, key=guest.api_key, body=chat())
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert house.usages(guest.account_id) == []
    assert house.wallet(guest.account_id) == (100_000, 0)


def test_a_question_that_is_no_question_takes_no_place(door: Hub | Plain, house: House) -> None:
    """RATE-01: a client that corrects its request is not punished for it."""
    guest = house.somebody(plan="basic")
    for _ in range(3):
        assert door.ask("POST", CHAT, key=guest.api_key, body=chat(max_tokens=-1)).status == 400
    answer = door.ask("POST", CHAT, key=guest.api_key, body=chat())
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"


def test_keys_of_one_account_share_its_limit_and_looking_is_free(door: Hub | Plain, house: House) -> None:
    """RATE-01: per account; models and costs may be looked at without end."""
    guest = house.somebody(plan="basic")
    with house.app.app_context():
        second = api_keys.create(guest.account_id, guest.user_id, label="second").secret
    for number in range(10):
        key = second if number % 2 else guest.api_key
        assert door.ask("POST", CHAT, key=key, body=chat()).status == 200
    for key in (guest.api_key, second):
        assert door.ask("POST", CHAT, key=key, body=chat()).status == 429
        assert door.ask("GET", "/v1/models", key=key).status == 200
