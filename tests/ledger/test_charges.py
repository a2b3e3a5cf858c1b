"""What a request costs by how it went: the same on both transports, streamed or not, never more than its hold."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from portal.models import Usage
from tests.gateway.wire import Answer, Door, Hub, Line, Plain, asked, eventually
from tests.races.street import BODY, Street, held_for, question

LIMIT = 20
GUESS = BODY // 4
"""The prompt's tokens where the server never told: a quarter of its bytes."""


@pytest.fixture
def doors(market: Street) -> Iterator[list[Door]]:
    """The app itself, and a gunicorn beside it."""
    hub = Hub(market.open_shop().url)
    yield [Plain(market.app), hub]
    hub.close()


def usage_of(market: Street, answer: Answer) -> Usage:
    """The request's row, once it is settled."""

    def settled() -> Usage | None:
        usage = market.usage(answer.request_id)
        return usage if usage is not None and usage.state == "settled" else None

    row: Usage = eventually(settled, what="the settlement")
    return row


def buy(market: Street, door: Door, key: str, *, stream: bool) -> tuple[int, int, int, bool, int]:
    """(prompt tokens, answer tokens, cost, estimated, cost as the answer told it), in milli-credits."""
    answer = door.ask("POST", "/v1/chat/completions", key=key, body=question(LIMIT, stream=stream))
    assert answer.status == 200
    told = answer.events()[-1]["usage"]["credits"] if stream else float(answer.headers["x-portal-credits"])
    row = usage_of(market, answer)
    return row.prompt_tokens, row.answer_tokens, row.cost, row.estimated, round(told * 1000)


USAGES: list[tuple[str, dict[str, Any], tuple[int, int, bool]]] = [
    ("as told", {"tokens": 7}, (5, 7, False)),
    ("all that the hold covers", {"usage": {"prompt_tokens": 656, "completion_tokens": 20}}, (656, 20, False)),
    ("explicit zeros are zeros", {"tokens": 7, "usage": "zero"}, (0, 0, False)),
    ("only the answer is zero", {"tokens": 7, "usage": {"completion_tokens": 0}}, (5, 0, False)),
    ("less than nothing is nothing", {"tokens": 7, "usage": "negative"}, (0, 0, False)),
    ("more than can be is what can be", {"tokens": 7, "usage": "huge"}, (656, 20, False)),
    ("thoughts are answer too", {"tokens": 3, "reasoning": 4}, (5, 7, False)),
]
"""A name, the sandbox's knobs, and (prompt tokens, answer tokens, estimated) to be charged."""


def test_streamed_and_not_the_same_usage_costs_the_same(market: Street, doors: list[Door]) -> None:
    """API-02, never again (streamed answers were free, or 1000 times off; zero taken for missing; negative usage):
    one settle function, four ways to it, each usage charged alike and told as it was charged."""
    account, key = market.customer(1_000_000)
    spent = 0
    for name, knobs, (prompt, answer, estimated) in USAGES:
        market.sandbox.reset()
        market.sandbox.control(**knobs)
        cost = prompt + answer  # a local model: one milli-credit a token
        for door in doors:
            for stream in (False, True):
                bought = buy(market, door, key, stream=stream)
                assert bought == (prompt, answer, cost, estimated, cost), f"{name}, {door.name}, stream={stream}"
                spent += cost
    assert market.wallet(account).balance == 1_000_000 - spent
    assert market.wallet(account).held == 0
    assert market.faults() == []


def test_without_counts_an_estimate_is_charged_and_marked(market: Street, doors: list[Door]) -> None:
    """Never again, Money: estimates only when the upstream gave no counts, and marked as such. Pieces are counted where
    there are pieces; an answer in one piece is measured as the prompt is, and free on neither way."""
    account, key = market.customer(1_000_000)
    market.sandbox.control(text="one two three four five six seven", usage="missing")
    pieces, measured = 7, -(-len("one two three four five six seven") // 4)
    for door in doors:
        assert buy(market, door, key, stream=True) == (GUESS, pieces, GUESS + pieces, True, GUESS + pieces)
        assert buy(market, door, key, stream=False) == (GUESS, measured, GUESS + measured, True, GUESS + measured)
    assert market.wallet(account).balance == 1_000_000 - 2 * (2 * GUESS + pieces + measured)
    assert market.faults() == []


def test_counts_that_can_not_be_are_told_to_the_operator(market: Street, told: list[Any]) -> None:
    """Never again, Money: upstream reported negative usage. It is brought into bounds, and it is an error of theirs."""
    _, key = market.customer(1_000_000)
    for usage in ("negative", "huge"):
        market.sandbox.control(usage=usage)
        buy(market, Plain(market.app), key, stream=True)
    assert [r.levelname for r in told if r.getMessage() == "impossible token counts"] == ["ERROR", "ERROR"]


CONTENT, COUNTS = b'"content":"', b'"usage":{'
LEAVING: list[tuple[str, dict[str, Any], tuple[bytes, int], set[str], tuple[int, int]]] = [
    ("before the first byte", {"hold_after": 0}, (CONTENT, 0), {"client_left"}, (GUESS, 0)),
    ("mid-stream", {"hold_after": 4, "tokens": 10}, (CONTENT, 4), {"client_left"}, (GUESS, 4)),
    ("after the last token", {"hold_after": 6, "tokens": 6}, (CONTENT, 6), {"client_left"}, (GUESS, 6)),
    # Only the end of the stream is missing: whether it still went out is chance, the price is not.
    ("after the counts", {"tokens": 6}, (COUNTS, 1), {"ok", "client_left"}, (5, 6)),
]


def test_who_leaves_pays_for_what_was_delivered_and_never_more_than_the_hold(market: Street) -> None:
    """Never again, Money: the client leaves before the last chunk, pays nothing; or pays for the whole reservation."""
    account, key = market.customer(1_000_000)
    web = market.open_shop()
    seen: set[str] = set()
    for name, knobs, (mark, times), outcomes, (prompt, answer) in LEAVING:
        market.sandbox.reset()
        market.sandbox.control(**knobs)
        _leave_after(web.url, market, key, mark, times)

        def settled() -> list[Usage]:
            return [u for u in market.usages(account) if u.id not in seen and u.state == "settled"]

        (row,) = eventually(settled, what="the settlement")
        assert (row.prompt_tokens, row.answer_tokens) == (prompt, answer) and row.outcome in outcomes, name
        assert row.cost == prompt + answer <= row.hold == held_for(LIMIT), name
        seen.add(row.id)
    spent = sum(prompt + answer for *_, (prompt, answer) in LEAVING)
    assert (market.wallet(account).balance, market.wallet(account).held) == (1_000_000 - spent, 0)
    assert market.faults() == []


def _leave_after(url: str, market: Street, key: str, mark: bytes, times: int) -> None:
    """Hang up once the mark has come so often; with none, once the server has the question."""
    line = Line(url)
    body, headers = asked(key, question(LIMIT, stream=True), None)
    line.connection.request("POST", "/v1/chat/completions", body, headers)
    if times:
        answer, seen = line.answer(), b""
        while seen.count(mark) < times:
            seen += answer.piece()
    else:
        eventually(lambda: len(market.sandbox.chats()) == 1, what="the question at the server")
    line.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_byte_costs_nothing_and_leaves_one_settled_row(market: Street, stream: bool) -> None:
    """Contract: 502, nothing charged. The hold is given back, no ledger entry is made, and the row tells what was."""
    account, key = market.customer(1_000_000)
    market.sandbox.control(fault="crash_before")
    answer = Plain(market.app).ask("POST", "/v1/chat/completions", key=key, body=question(LIMIT, stream=stream))
    assert answer.status == 502
    (row,) = market.usages(account)
    assert (row.state, row.cost, row.answer_tokens) == ("settled", 0, 0)
    assert row.outcome in ("refused", "upstream_failed")
    wallet = market.wallet(account)
    assert (wallet.balance, wallet.held, wallet.seq) == (1_000_000, 0, 1)
    assert market.faults() == []


def test_a_failure_in_the_middle_costs_what_was_delivered(market: Street, doors: list[Door]) -> None:
    """Never again, the API: an upstream crash mid-stream is billed only for what was delivered, without the prompt."""
    account, key = market.customer(1_000_000)
    market.sandbox.control(fault="crash_mid", fault_after=4, tokens=10)
    for number, door in enumerate(doors, 1):
        answer = door.ask("POST", "/v1/chat/completions", key=key, body=question(LIMIT, stream=True))
        assert "error" in answer.events()[-1]
        row = usage_of(market, answer)
        assert (row.outcome, row.prompt_tokens, row.answer_tokens, row.cost) == ("upstream_failed", 0, 4, 4)
        assert market.wallet(account).balance == 1_000_000 - 4 * number
    assert market.faults() == []


def test_an_answer_takes_no_longer_to_settle_than_to_arrive(market: Street) -> None:
    """Design: the balance an answer tells is the balance after it; the next question may rely on it."""
    account, key = market.customer(1_000_000)
    market.sandbox.control(tokens=5)
    started = time.monotonic()
    answer = Plain(market.app).ask("POST", "/v1/chat/completions", key=key, body=question(LIMIT))
    assert answer.headers["x-portal-balance"] == "999.99"
    assert market.wallet(account).balance == 999_990
    assert time.monotonic() - started < 5
