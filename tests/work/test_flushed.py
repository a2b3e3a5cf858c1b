"""The store forgets everything, or dies in the middle: rows say what is due, and the office goes on by itself."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.services.accounts import NewUser, register
from portal.tasks.schedule import TIMETABLE
from sandbox.process import SandboxProcess
from tests.services.databases import Engine
from tests.services.redis_server import RedisServer
from tests.work.office import ENTRIES, Office, an_office, horses


@pytest.fixture
def office(
    sqlite_engine: Engine, work_store: RedisServer, work_sandbox: SandboxProcess, tmp_path: Path
) -> Iterator[Office]:
    url = sqlite_engine.fresh("seeded")
    work_sandbox.reset()
    with an_office(url, work_sandbox, work_store, tmp_path / "office") as office:
        yield office
    sqlite_engine.server.drop(url)


def phone(number: int) -> str:
    return f"+9655102{number:04}"


def sign_up(office: Office, number: int) -> None:
    with office.app.app_context():
        new = NewUser(email=f"u{number}@example.com", phone=phone(number), password="saffron-tide-lamp")
        register(new, "127.0.0.1")


def pids(office: Office) -> list[int]:
    assert office.scheduler is not None
    return [child.pid for child in (*office.workers, office.scheduler) if child.running]


def test_a_store_that_dies_ends_neither_worker_nor_scheduler(office: Office) -> None:
    """NOTIF-11 (survives a crash at any point), OPS-05: between two jobs and in the middle of one the store is gone and
    comes back empty. Who was told meanwhile is told afterwards, once, by the same processes: nobody starts them again,
    as some supervisors do not bring back a worker that ended well."""
    office.start()
    began = pids(office)
    sign_up(office, 1)
    office.until(lambda: office.accepted() == 1, 15, "the first message")
    office.store.stop()
    sign_up(office, 2)
    time.sleep(1)
    office.store.start()
    office.until(lambda: office.accepted() == 2, 30, "what was written while the store was away", hurry=True)

    office.sandbox.control(server="whatsapp", delay_ms=1500)
    sign_up(office, 3)
    office.until(lambda: horses(office.workers[0]), 5, "a job")
    office.store.stop()
    time.sleep(2)
    office.store.start()
    sign_up(office, 4)
    office.until(lambda: not office.unfinished(), 30, "everybody told", hurry=True)
    assert pids(office) == began
    assert Counter(message.phone for message in office.arrived()) == {phone(number): 1 for number in (1, 2, 3, 4)}


def test_a_flushed_store_loses_no_message_and_the_timetable_comes_back(office: Office) -> None:
    """OPS-05: a thousandfold `enqueue` and the whole timetable are gone in one FLUSHALL; rows and the reconciling
    scheduler bring all of it back."""
    office.start()
    office.kill_workers()
    for number in range(5, 25):
        sign_up(office, number)
    office.store.client.flushall()
    office.start_worker()
    office.until(lambda: not office.unfinished(), 40, "everybody told", hurry=True)
    assert Counter(message.phone for message in office.arrived()) == {phone(number): 1 for number in range(5, 25)}
    assert office.store.client.zcard(ENTRIES) == len(TIMETABLE)
