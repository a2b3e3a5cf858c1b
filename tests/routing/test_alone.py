"""The line while the store is away: each worker by its own share, the same rules, and then back again."""

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import redis

from portal.ids import new_id
from portal.pipeline import LOOK_AGAIN_SECONDS, BlockingScripts
from portal.services.routing import alone as alone_module
from portal.services.routing.line import Blame, Line, Place, Pool, Refused, Server
from tests.routing.clocked import pool
from tests.services.redis_server import RedisServer

FOUR, ONE = Server("four", 4, 1), Server("one", 1, 1)


class Worker:
    """A process's line over a store that the test stops."""

    def __init__(self, store: RedisServer, processes: int = 2, length: int = 100) -> None:
        self.rested: list[tuple[str, str, int]] = []
        self.line = Line(
            BlockingScripts(store.url), new_id(), rested=lambda *told: self.rested.append(told), length=length
        )
        self.line.processes = processes

    def enter(self, its: Pool, priority: int = 0) -> Place:
        place = self.line.place(new_id(), its, priority)
        assert self.line.enter(place) is None
        return place

    def refused(self, its: Pool, over: int = -1) -> Refused | None:
        return self.line.enter(self.line.place(new_id(), its, 0), over=over)

    def fail(self, server: Server, account: str = "mia", *, sure: bool = False, rest_seconds: int = 0) -> None:
        place = self.enter(pool(server))
        self.line.leave(place, "fault", Blame("it broke", account, sure, rest_seconds))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`ahead`: so many seconds later it is, for rests."""
    clock = SimpleNamespace(ahead=0.0)
    told = SimpleNamespace(monotonic=lambda: time.monotonic() + clock.ahead, time=time.time)
    monkeypatch.setattr(alone_module, "time", told)
    return clock


def back(store: RedisServer) -> None:
    """It runs again, and workers may look for it again."""
    store.start()
    time.sleep(LOOK_AGAIN_SECONDS + 0.1)


def soon(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return what()


# -- away --------------------------------------------------------------------------------------------------------------


def test_without_the_store_each_worker_has_its_share_of_the_slots(redis_server: RedisServer) -> None:
    """Issue B.2: slots over the workers that lived; the next one waits and is served when one of them ends."""
    workers = [Worker(redis_server), Worker(redis_server)]
    redis_server.stop()
    held = [[worker.enter(pool(FOUR)) for _ in range(3)] for worker in workers]
    assert [[place.server for place in its] for its in held] == [["four", "four", ""]] * 2
    assert (held[0][2].ahead, held[0][2].expected_ms) == (1, 0)
    workers[0].line.leave(held[0][0], "ok")
    assert (held[0][2].server, held[1][2].server) == ("four", "")
    assert held[0][2].changed is not None
    assert held[0][2].changed.is_set()


def test_every_worker_has_at_least_one_slot(redis_server: RedisServer) -> None:
    """Issue B.2: rather one too many at a server, which lets it wait, than a worker that answers nobody."""
    worker = Worker(redis_server, processes=8)
    redis_server.stop()
    assert [worker.enter(pool(ONE)).server for _ in range(2)] == ["one", ""]


def test_the_outage_is_said_once_and_its_end_once(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Issue B.2: Redis lost mid-way; each worker says so once, however many requests meet it."""
    caplog.set_level(logging.WARNING, "portal.line")

    def said() -> list[str]:
        return [record.levelname for record in caplog.records if record.name == "portal.line"]

    worker = Worker(redis_server)
    worker.enter(pool(FOUR))
    redis_server.stop()
    for _ in range(5):
        worker.line.leave(worker.enter(pool(FOUR)), "ok")
        worker.line.renew()
    assert said() == ["ERROR"]
    back(redis_server)
    for _ in range(5):
        worker.line.leave(worker.enter(pool(FOUR)), "ok")
        worker.line.renew()
    assert said() == ["ERROR", "WARNING"]


def test_slots_that_the_store_gave_are_counted(redis_server: RedisServer) -> None:
    """QUEUE-01: an outage gives no worker a second helping."""
    worker = Worker(redis_server)
    before = [worker.enter(pool(FOUR)) for _ in range(3)]
    redis_server.stop()
    waiting = worker.enter(pool(FOUR))
    assert waiting.server == ""
    worker.line.leave(before[0], "ok")
    assert waiting.server == "", "two run still, which is its share"
    worker.line.leave(before[1], "ok")
    assert waiting.server == "four"


def test_priority_goes_first_without_the_store_too(redis_server: RedisServer) -> None:
    """MODEL-03."""
    worker = Worker(redis_server)
    redis_server.stop()
    running = worker.enter(pool(ONE))
    basic, enterprise, pro = (worker.enter(pool(ONE), priority) for priority in (0, 2, 1))
    assert (basic.ahead, enterprise.ahead, pro.ahead) == (1, 1, 2)
    order = []
    for _ in range(3):
        worker.line.leave(running, "ok")
        (running,) = (place for place in (basic, enterprise, pro) if place.server and place not in order)
        order.append(running)
    assert order == [enterprise, pro, basic]


def test_who_leaves_the_line_is_not_served(redis_server: RedisServer) -> None:
    """QUEUE-01: leaving frees at once."""
    worker = Worker(redis_server)
    redis_server.stop()
    running, gone, stays = (worker.enter(pool(ONE)) for _ in range(3))
    worker.line.leave(gone)
    worker.line.leave(running, "ok")
    assert (gone.server, stays.server) == ("", "one")


def test_those_who_waited_in_the_stores_line_are_taken_over_in_their_order(redis_server: RedisServer) -> None:
    """MODEL-03: the store goes while others have the slots; this worker's share goes to whoever is first, at once."""
    there, here = Worker(redis_server), Worker(redis_server)
    there.enter(pool(ONE))
    basic, enterprise = here.enter(pool(ONE), 0), here.enter(pool(ONE), 2)
    redis_server.stop()
    here.line.renew()
    assert (basic.server, enterprise.server) == ("", "one")
    here.line.leave(enterprise, "ok")
    assert basic.server == "one"


def test_a_newcomer_does_not_overtake_those_who_waited_in_the_stores_line(redis_server: RedisServer) -> None:
    """QUEUE-02: the newcomer is who finds out that the store is away."""
    there, here = Worker(redis_server), Worker(redis_server)
    there.enter(pool(ONE))
    first = here.enter(pool(ONE))
    redis_server.stop()
    newcomer = here.enter(pool(ONE))
    assert (first.server, newcomer.server, newcomer.ahead) == ("one", "", 1)


def test_the_least_loaded_server_is_taken_without_the_store_too(redis_server: RedisServer) -> None:
    """Issue B.3."""
    worker = Worker(redis_server, processes=1)
    redis_server.stop()
    heavy = Server("heavy", 4, 3)
    assert sorted(worker.enter(pool(FOUR, heavy)).server for _ in range(4)) == ["four", "heavy", "heavy", "heavy"]


def test_refusals_without_the_store(redis_server: RedisServer) -> None:
    """QUEUE-02: too deep, or full; refused, it leaves nothing behind."""
    worker = Worker(redis_server, length=2)
    redis_server.stop()
    running = worker.enter(pool(ONE))
    assert worker.refused(pool(ONE), over=1) == Refused("over", 0)
    first = worker.enter(pool(ONE))
    assert worker.refused(pool(ONE), over=2) == Refused("over", 0)
    assert worker.refused(pool(ONE), over=3) is None
    assert worker.refused(pool(ONE)) == Refused("full", 0)
    worker.line.leave(worker.enter(pool(ONE), 2))  # who goes ahead of them all finds room
    worker.line.leave(running, "ok")
    assert first.server == "one"
    assert len(worker.line._places) == 2


# -- faults ------------------------------------------------------------------------------------------------------------


def test_faults_rest_a_server_without_the_store_too(redis_server: RedisServer, clock: SimpleNamespace) -> None:
    """Issue B.5: three sure ones in a row, or ten, or at once when it must."""
    worker = Worker(redis_server)
    redis_server.stop()
    for _ in range(2):
        worker.fail(FOUR, sure=True)
    worker.line.leave(worker.enter(pool(FOUR)), "ok")
    for _ in range(3):
        assert worker.rested == []
        worker.fail(FOUR, sure=True)
    assert worker.rested == [("four", "it broke", 5)]
    assert worker.refused(pool(FOUR)) == Refused("rest", 5)
    assert worker.enter(pool(FOUR, ONE)).server == "one"
    clock.ahead += 5
    for _ in range(10):
        assert len(worker.rested) == 1
        worker.fail(FOUR)
    assert worker.refused(pool(FOUR)) == Refused("rest", 5)
    clock.ahead += 5
    worker.fail(FOUR, rest_seconds=60)
    assert worker.refused(pool(FOUR)) == Refused("rest", 60)


def test_after_a_rest_those_who_wait_are_served_though_nobody_comes(
    redis_server: RedisServer, clock: SimpleNamespace
) -> None:
    """QUEUE-02: nobody leaves and nobody enters when a rest ends; they waited until their time was over."""
    worker = Worker(redis_server)
    redis_server.stop()
    running, basic, enterprise = worker.enter(pool(ONE)), worker.enter(pool(ONE)), worker.enter(pool(ONE), 2)
    worker.line.leave(running, "fault", Blame("our account was refused (429)", "mia", True, 60))
    worker.line.renew()
    assert (basic.server, enterprise.server) == ("", "")
    clock.ahead += 60
    worker.line.renew()
    assert (basic.server, enterprise.server) == ("", "one")


def test_after_a_rest_a_newcomer_does_not_overtake(redis_server: RedisServer, clock: SimpleNamespace) -> None:
    """QUEUE-02."""
    worker = Worker(redis_server)
    redis_server.stop()
    running, first = worker.enter(pool(ONE)), worker.enter(pool(ONE))
    worker.line.leave(running, "fault", Blame("our account was refused (429)", "mia", True, 60))
    clock.ahead += 60
    newcomer = worker.enter(pool(ONE))
    assert (first.server, newcomer.server) == ("one", "")


# -- back --------------------------------------------------------------------------------------------------------------


def test_when_the_store_is_back_everything_is_registered_at_once(redis_server: RedisServer) -> None:
    """QUEUE-01: by whoever finds it, not at the next renewal; then nothing is given twice."""
    workers = [Worker(redis_server), Worker(redis_server)]
    before = [worker.enter(pool(FOUR)) for worker in workers]
    redis_server.stop()
    alone = [worker.enter(pool(FOUR)) for worker in workers]
    waiting = [worker.enter(pool(FOUR)) for worker in workers]
    assert [place.server for place in (*before, *alone, *waiting)] == ["four"] * 4 + [""] * 2
    back(redis_server)
    finds_it = [worker.enter(pool(Server("other", 1, 1))) for worker in workers]
    client = redis.Redis.from_url(redis_server.url, decode_responses=True)

    def members(key: str) -> set[str]:
        return {str(member) for member in client.zrange(key, 0, -1)}

    everybody = {place.member for place in (*before, *alone)}
    assert soon(lambda: everybody <= members("line:busy:four") and not workers[0].line._away)
    assert soon(lambda: len(members("line:busy:four") | members("line:wait:four")) == 6)
    for worker in workers:  # a word published before this worker listened again
        worker.line.renew()
    got = [place for place in waiting if place.server]
    assert len(members("line:busy:four")) == 4 + len(got)
    for place, worker in zip(finds_it, workers, strict=True):
        worker.line.leave(place, "ok")
    for place, worker in zip(before + alone, workers * 2, strict=True):
        worker.line.leave(place, "ok")
    for worker in workers:
        worker.line.renew()
    assert [place.server for place in waiting] == ["four"] * 2
    assert members("line:busy:four") == {place.member for place in waiting}
    assert not client.exists("line:pools")


def test_leaving_finds_out_that_the_store_is_back(redis_server: RedisServer) -> None:
    """QUEUE-01: the slot went back to a store that knew nobody who waits here, and they waited for the next renewal."""
    worker = Worker(redis_server)
    redis_server.stop()
    running, waiting = worker.enter(pool(ONE)), worker.enter(pool(ONE))
    back(redis_server)
    worker.line.leave(running, "ok")
    assert waiting.changed is not None
    assert waiting.changed.wait(2)
    assert redis_server.client.zrange("line:busy:one", 0, -1) == [waiting.member.encode()]


def test_an_outage_under_load_serves_everybody_once(redis_server: RedisServer) -> None:
    """Issue B: started lines, threads that ask, the store gone and back meanwhile; all end, nothing stays behind."""
    workers = [Worker(redis_server) for _ in range(2)]
    for worker in workers:
        worker.line.start(redis_server.url)
    served, stop = [], threading.Event()

    def ask(worker: Worker) -> None:
        while not stop.is_set():
            place = worker.enter(pool(FOUR))
            if not place.server:
                assert place.changed is not None
                assert place.changed.wait(10)
            time.sleep(0.005)
            worker.line.leave(place, "ok")
            served.append(place.member)

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in workers for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    redis_server.stop()
    time.sleep(0.3)
    during = len(served)
    back(redis_server)
    stop.set()
    for thread in threads:
        thread.join(15)
    assert not any(thread.is_alive() for thread in threads)
    assert len(served) == len(set(served)) > during > 0
    for worker in workers:
        worker.line.renew()
        worker.line.stop()
        assert worker.line._places == {}
    assert soon(lambda: not redis_server.client.zcard("line:busy:four"))
