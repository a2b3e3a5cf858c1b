"""Workers that die, and the sweep that gives back what they held."""

import os
import signal
import time
from pathlib import Path

import pytest

from portal.services.gateway import process
from portal.services.gateway.process import DEAD_AFTER
from tests.gateway.wire import eventually
from tests.ledger.books import Threads, a_hold, its_end
from tests.races.street import Customer, Stream, Street, closing, held_for, question
from tests.services.web import Web

OPEN = 20


def test_a_worker_killed_with_twenty_open_streams_leaves_no_hold_behind(street: Street) -> None:
    """Issue, shown by: `kill -9` of a web worker with 20 open streams: within the sweep every hold is gone and the
    invariants hold. Before its half minute of silence is over nobody touches them; swept twice changes nothing."""
    street.sandbox.control(hold_after=3)
    account, key = street.customer(1_000_000)
    web = street.open_shop()
    (worker,) = web.worker_pids()
    streams = street.open_streams(web, key, OPEN)
    with closing(streams):
        assert street.wallet(account).held == OPEN * held_for(20)
        assert street.sweep() == 0, "its process shows signs of life"
        web.kill_worker(worker)
        eventually(lambda: _gone(worker), what="the worker's end")
        assert street.sweep() == 0, "it may only be slow: nobody is given up before DEAD_AFTER"
        street.half_a_minute_later(worker)
        assert street.sweep() == OPEN
        assert street.sweep() == 0

    assert street.wallet(account).held == 0
    assert street.wallet(account).balance == 1_000_000, "what was delivered is not known, and the fault is ours"
    assert {(u.state, u.outcome, u.cost) for u in street.usages(account)} == {("settled", "abandoned", 0)}
    assert street.faults() == []
    street.sandbox.control(hold_after=None)
    street.sandbox.release()
    _still_sells(web, key)


def test_all_processes_killed_between_hold_and_answer(street: Street) -> None:
    """Never again, Money (holds leaked when a worker died): as when the machine loses power. The hold was durable
    before the server was asked, so nothing is lost and nothing stays held."""
    street.sandbox.control(fault="stall_before")
    account, key = street.customer(1_000_000)
    web = street.open_shop(workers=2)
    threads = Threads(*[lambda s=s: Stream(web.url, key, question(20, stream=s)) for s in (True, False) * 4])
    eventually(lambda: len(street.sandbox.chats()) == 8, what="the eighth question at the server")
    pids = web.worker_pids()
    web.kill()
    assert all(isinstance(result, Exception) for result in threads.wait()), "nobody got an answer"
    assert street.wallet(account).held == 8 * held_for(20)
    street.half_a_minute_later(*pids)
    assert street.sweep() == 8
    assert (street.wallet(account).held, street.wallet(account).balance) == (0, 1_000_000)
    assert street.faults() == []


def test_the_sweep_waits_for_real_and_never_touches_the_living(sqlite_street: Street) -> None:
    """CRD-01: no clock turned. Beside the dead one's twenty streams another process has five, older than any sign of
    life: those stay, and are charged in full when they end. `flask sweep` is what cron calls."""
    street = sqlite_street
    street.sandbox.control(hold_after=3)
    dead_account, dead_key = street.customer(1_000_000)
    account, key = street.customer(1_000_000)
    doomed, living = street.open_shop(), street.open_shop()
    with closing(street.open_streams(doomed, dead_key, OPEN)):
        streams = street.open_streams(living, key, 5)
        (worker,) = doomed.worker_pids()
        doomed.kill_worker(worker)
        killed = time.monotonic()
        while len(street.open_requests()) > 5:
            assert time.monotonic() - killed < DEAD_AFTER.total_seconds() + 15, "the sweep never came"
            time.sleep(1)
            street.sweep()
        assert time.monotonic() - killed > DEAD_AFTER.total_seconds() - 6, "given up before it was silent for long"
    assert street.wallet(dead_account).held == 0
    assert street.wallet(account).held == 5 * held_for(20)
    street.sandbox.release()
    with closing(streams):
        assert all(stream.rest().endswith(b"data: [DONE]\n\n") for stream in streams)
    eventually(lambda: street.wallet(account).held == 0, what="the settlement of the living")
    assert {u.outcome for u in street.usages(account)} == {"ok"}
    assert street.faults() == []


def test_a_worker_told_to_stop_lets_streams_finish_and_settles_the_others(sqlite_street: Street) -> None:
    """OPS-01: a deployment is no crash. Who can end within the grace is answered in full; who can't is cut and pays
    for what was delivered; no hold is left, and nobody waits for a sign of life."""
    street = sqlite_street
    street.sandbox.control("llama3.2:3b", hold_after=3)
    street.sandbox.control("smollm2:135m", delay_chunk_ms=60, tokens=10)
    account, key = street.customer(1_000_000)
    web = street.open_shop(GUNICORN_CMD_ARGS="--graceful-timeout 5")
    held = street.open_streams(web, key, 3)
    ending = [Stream(web.url, key, question(20, model="smollm2:135m", stream=True)) for _ in range(3)]
    with closing(held + ending):
        for stream in ending:
            stream.read_tokens(1)
        os.kill(web.pid, signal.SIGTERM)
        for stream in ending:
            assert stream.rest().endswith(b"data: [DONE]\n\n")
        for stream in held:
            told = stream.rest().decode()
            assert "service_unavailable" in told and 'finish_reason":"' not in told, (
                "what was cut must not look complete"
            )
        eventually(lambda: not web.process.running, what="the end of gunicorn")
    outcomes = sorted((u.outcome, u.prompt_tokens, u.answer_tokens, u.estimated) for u in street.usages(account))
    assert outcomes == [("ok", 5, 10, False)] * 3 + [("upstream_failed", 0, 3, True)] * 3
    assert street.wallet(account).balance == 1_000_000 - 3 * 15 - 3 * 3
    assert street.open_requests() == set()
    assert street.processes() == {}, "it said farewell"
    assert street.faults() == []


def test_a_process_whose_row_was_cleared_away_is_not_taken_for_dead(
    sqlite_street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRD-01: after minutes without a database (or with the machine asleep) the sweep forgets a process that still
    lives. It writes itself down again; else its running answers would be settled at nothing for ever after."""
    street = sqlite_street
    account = street.open_account(1_000)
    monkeypatch.setattr(process, "SIGN_OF_LIFE_SECONDS", 0.05)
    gateway = process.GatewayProcess(street.app)
    gateway.start()
    hold = a_hold(account, 300, process_id=gateway.id)
    gateway.till.hold(hold)
    street.execute("DELETE FROM gateway_processes")
    eventually(lambda: gateway.id in street.processes().values(), what="the next sign of life")
    assert street.sweep() == 0
    assert street.wallet(account).held == 300
    gateway.till.settle(its_end(hold, 1))
    gateway.stop()
    assert street.processes() == {}


def _gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter: it ended between our opening and our reading
        return True


def _still_sells(web: Web, key: str) -> None:
    """gunicorn has put another worker in the dead one's place."""
    eventually(lambda: len(web.worker_pids()) == 1, 15, "a new worker")

    def sold() -> bool:
        customer = Customer(web, key)
        try:
            return customer.ask(question(20))[0] == 200
        except OSError:
            return False
        finally:
            customer.close()

    eventually(sold, 15, "an answer by the new worker")
