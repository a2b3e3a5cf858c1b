"""Customers who leave, or read slowly: the server is stopped at once, and they pay for what they got."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from dev.log_watch import LogWatch
from tests.gateway.conftest import House
from tests.gateway.wire import CHAT, Hub, Line, Plain, chat, eventually, json_of

AnyDoor = Hub | Plain
AT_ONCE_MS = 100

SILENCES: dict[str, dict[str, Any]] = {
    "before the first byte": {"hold_after": 0},
    "while the prompt is read": {"delay_first_ms": 6000},
    "while the model is loaded": {"load_ms": 6000},
    "silent in the middle": {"hold_after": 3},
    "in the middle": {"tokens": 200, "delay_chunk_ms": 20},
}


def gone(house: House) -> dict[str, Any]:
    """The last request as the server saw it, once it has ended."""

    def ended() -> Any:
        last = house.sandbox.chats()[-1]
        return last if last["outcome"] != "running" else None

    found: dict[str, Any] = eventually(ended, what="the end of the generation")
    return found


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("when", SILENCES)
def test_who_leaves_stops_the_server_within_a_tenth_of_a_second(
    house: House, complaints: LogWatch, when: str, stream: bool
) -> None:
    """API-04: even while the model is silent. The best of three counts: two cores are shared with everything else."""
    guest = house.somebody()
    lags = []
    for _ in range(3):
        house.sandbox.reset()
        house.sandbox.control(**SILENCES[when])
        line = Line(house.web.url)
        line.connection.request(
            "POST", CHAT, json_of(chat(stream=stream)), {"Authorization": f"Bearer {guest.api_key}"}
        )  # fmt: skip
        eventually(lambda: house.sandbox.counters()["in_flight"] == 1, what="the request at the server")
        if stream and "middle" in when:
            line.answer().until(b'"content":"')
        left_at = time.time()
        line.close()
        last = gone(house)
        assert last["client_left"], last
        lags.append((last["client_left_at"] - left_at) * 1000)
        if lags[-1] <= AT_ONCE_MS:
            break
    assert min(lags) <= AT_ONCE_MS
    row = house.usage(house.usages(guest.account_id)[-1].id)
    assert row.outcome == "client_left"
    assert row.estimated
    assert row.prompt_tokens > 0
    assert 0 <= row.answer_tokens <= last["deltas_sent"]
    assert house.wallet(guest.account_id)[1] == 0
    assert complaints.errors() == []


def test_who_leaves_in_the_middle_pays_for_what_was_delivered(door: AnyDoor, house: House) -> None:
    """never-again, "Client leaves before the last chunk, pays nothing; or pays for the whole reservation"."""
    house.sandbox.control(tokens=50, hold_after=5)
    body = chat("Some words that are about so long", stream=True)
    before, _ = house.wallet(house.layla.account_id)
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=body)
    while sum(data.count(b'"content":"') for _, data in answer.arrived) < 5:
        assert answer.piece()
    answer.leave()
    row = house.usage(answer.request_id)
    assert (row.outcome, row.answer_tokens, row.estimated) == ("client_left", 5, True)
    assert 0 < row.prompt_tokens < 60
    assert row.cost == row.prompt_tokens + 5
    assert house.wallet(house.layla.account_id) == (before - row.cost, 0)
    assert gone(house)["client_left"]


def test_a_stream_nobody_began_to_read_is_settled_and_stopped(plain: Plain, house: House) -> None:
    """design, "a generator that never started never runs its finally": settlement hangs on the response's close."""
    house.sandbox.control(tokens=50, hold_after=2)
    answer = plain.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    answer.leave()
    assert house.usage(answer.request_id).outcome == "client_left"
    assert gone(house)["client_left"]


def test_who_leaves_after_the_last_word_pays_exactly_once(door: AnyDoor, house: House) -> None:
    """never-again, "Holds leaked …; or were refunded twice": leaving when all is said changes nothing."""
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=True))
    answer.read()
    answer.leave()
    answer.leave()
    row = house.usage(answer.request_id)
    assert (row.outcome, row.estimated) == ("ok", False)


def test_a_departure_is_no_error_in_the_log(house: House, complaints: LogWatch) -> None:
    """OPS-04: people close their browsers; a traceback for each buries what matters."""
    for stream in (True, False):
        house.sandbox.control(hold_after=1)
        line = Line(house.web.url)
        line.connection.request(
            "POST", CHAT, json_of(chat(stream=stream)), {"Authorization": f"Bearer {house.layla.api_key}"}
        )
        eventually(lambda: house.sandbox.counters()["in_flight"] == 1)
        line.close()
        gone(house)
    eventually(lambda: house.wallet(house.layla.account_id)[1] == 0)
    assert complaints.errors() == []


def memory(pid: int) -> int:
    """Bytes a process has in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def test_who_reads_slowly_slows_the_server_down_and_fills_no_memory(house: House) -> None:
    """API-04: a megabyte waits in the sockets, thirty never come into ours; who takes nothing at all is let go."""
    word = "x" * 3000
    house.sandbox.control(text=word, tokens=20_000)  # 60 MB
    [worker] = house.web.worker_pids()
    line = Line(house.web.url)
    line.connection.connect()
    line.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    before = memory(worker)
    body = json_of(chat(stream=True, max_tokens=20_000))
    line.connection.request("POST", CHAT, body, {"Authorization": f"Bearer {house.layla.api_key}"})
    answer = line.answer()
    answer.until(word.encode())
    time.sleep(1.0)
    assert memory(worker) - before < 20_000_000
    last = gone(house)  # SILENCE_SECONDS later: the customer takes nothing
    assert last["client_left"]
    assert last["bytes_sent"] < 40_000_000
    line.close()
    row = house.usage(answer.request_id)
    assert row.outcome == "client_left"
    assert row.answer_tokens <= last["deltas_sent"] + 1


def test_who_reads_slowly_but_reads_gets_everything(house: House) -> None:
    """API-04."""
    house.sandbox.control(text="y" * 3000, tokens=600)
    line = Line(house.web.url)
    body = json_of(chat(stream=True, max_tokens=600))
    line.connection.request("POST", CHAT, body, {"Authorization": f"Bearer {house.layla.api_key}"})
    answer = line.answer()
    for _ in range(5):
        answer.piece()
        time.sleep(0.1)
    assert answer.read().count(b"y" * 3000) == 600
    line.close()
    assert house.usage(answer.request_id).answer_tokens == 600
