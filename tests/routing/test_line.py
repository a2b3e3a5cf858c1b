"""The line's rules one by one: weights, order, words that come early, late or to nobody."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from portal.ids import new_id
from portal.pipeline import BlockingScripts, Script, Word
from portal.services.routing.line import AGEING_SECONDS, Line, Place, Refused, Server
from portal.services.routing.scripts import ENTER, RENEW
from tests.routing.clocked import ClockedScripts, Grant, pool
from tests.routing.one_worker import ONE_SLOT, A, B, Worker
from tests.services.redis_server import RedisServer

# -- load and order ----------------------------------------------------------------------------------------------------


def test_a_server_of_weight_three_gets_three_times_as_many(worker: Worker) -> None:
    """Issue B.3: least loaded, by slots and weight."""
    light, heavy = Server("light", 40, 1), Server("heavy", 40, 3)
    got = Counter(worker.enter(pool(light, heavy)).server for _ in range(40))
    assert abs(got["heavy"] - 30) <= 1
    assert got.total() == 40


def test_of_equal_servers_each_gets_the_same(worker: Worker) -> None:
    """Issue B.3."""
    assert Counter(worker.enter(pool(A, B)).server for _ in range(4)) == {"a": 2, "b": 2}


def test_enterprise_goes_first_and_nobody_starves(worker: Worker) -> None:
    """MODEL-03: a step of priority is worth AGEING_SECONDS of waiting, and no more."""
    running = worker.enter(pool(ONE_SLOT))
    basic = worker.enter(pool(ONE_SLOT), 0)
    worker.wait(AGEING_SECONDS * 1000 - 1)
    soon = worker.enter(pool(ONE_SLOT), 1)
    worker.wait(2)
    late = worker.enter(pool(ONE_SLOT), 1)
    assert (soon.ahead, late.ahead) == (1, 3)
    worker.line.renew()
    assert [place.ahead for place in (soon, basic, late)] == [1, 2, 3]
    order = []
    for _ in range(3):
        worker.line.leave(running, "ok")
        (grant,) = worker.hear()
        running = next(place for place in (soon, basic, late) if place.member == grant.member)
        order.append(running)
    assert order == [soon, basic, late]


def test_somebody_whose_server_failed_keeps_what_the_wait_was_worth(worker: Worker) -> None:
    """Issue B.5: the next attempt does not begin at the end of the line."""
    worker.enter(pool(ONE_SLOT))
    first = worker.enter(pool(ONE_SLOT), 1)
    worker.store.now += 1000
    second = worker.enter(pool(ONE_SLOT), 1)
    worker.line.leave(first)
    again = worker.line.place(new_id(), pool(ONE_SLOT), 1, score=first.score)
    assert worker.line.enter(again) is None
    assert (again.ahead, again.score) == (1, first.score)
    worker.line.renew()
    assert second.ahead == 2


def test_who_waits_is_told_how_long(worker: Worker) -> None:
    """Issue B.2: the expected wait, by what requests took lately; and with a full line an honest Retry-After."""
    worker.store.client.hset("line:pace", mapping={"a": 8000, "b": 4000})
    for _ in range(4):
        worker.enter(pool(A, B))
    assert [worker.enter(pool(A, B)).expected_ms for _ in range(3)] == [1500, 3000, 4500]
    short = Line(worker.store, "short", length=3)
    assert short.enter(short.place(new_id(), pool(A, B), 0)) == Refused("full", 5)
    assert short.enter(short.place(new_id(), pool(A, B), 1)) is None, "who goes ahead of them all finds room"


# -- words that come early, late, or to nobody -------------------------------------------------------------------------


def test_a_grant_heard_before_the_stores_own_answer_is_not_lost(worker: Worker) -> None:
    """QUEUE-02: the word that somebody's turn has come may overtake the word that they wait."""
    running = worker.enter(pool(ONE_SLOT))
    place = worker.place(pool(ONE_SLOT))
    answer = worker.store.run(ENTER, (), worker.line.words(place))
    worker.line.leave(running, "ok")
    assert worker.hear() == [Grant(place.member, "a", False)]
    assert worker.line.entered(place, answer) is None
    assert place.server == "a"
    assert place.changed is not None
    assert place.changed.is_set()
    worker.line.leave(place, "ok")
    assert worker.enter(pool(ONE_SLOT)).server == "a"


def test_a_grant_for_somebody_who_left_is_given_back(worker: Worker, other: Worker) -> None:
    """QUEUE-01: it was under way when the customer left, and the store could not be told."""
    running, gone = worker.enter(pool(ONE_SLOT)), worker.enter(pool(ONE_SLOT))
    next_one = other.enter(pool(ONE_SLOT))
    worker.line.leave(running, "ok")
    worker.line._places.pop(gone.member)
    (grant,) = worker.store.published()
    worker.line.granted(*grant)
    assert worker.store.published() == [Grant(next_one.member, "a", False)]


def test_leaving_the_line_while_the_grant_is_under_way_frees_the_slot_at_once(worker: Worker, other: Worker) -> None:
    """QUEUE-01: nobody waits for the word to come and go."""
    running, gone = worker.enter(pool(ONE_SLOT)), worker.enter(pool(ONE_SLOT))
    next_one = other.enter(pool(ONE_SLOT))
    worker.line.leave(running, "ok")
    (grant,) = worker.store.published()
    worker.line.leave(gone)
    assert other.hear() == [Grant(next_one.member, "a", False)]
    worker.line.granted(*grant)
    assert worker.store.published() == []
    assert worker.store.client.zrange("line:busy:a", 0, -1) == [next_one.member]


def test_a_late_grant_of_another_pool_is_given_back(worker: Worker) -> None:
    """CLOUD-01: a request left the cloud's line, its hold being refused, and waits at home by the same name; the word
    from the cloud must not send it there, past the budget and at the local price."""
    cloud = Server("cloud", 1, 1)
    running, at_home = worker.enter(pool(cloud)), worker.enter(pool(ONE_SLOT))
    name = new_id()
    twin = worker.line.place(name, pool(cloud), 0)
    worker.line.enter(twin)
    worker.line.leave(running, "ok")
    (grant,) = worker.store.published()
    worker.line.leave(twin)
    home = worker.line.place(name, pool(ONE_SLOT), 0)
    worker.line.enter(home)
    worker.line.granted(*grant)
    assert home.server == ""
    worker.line.leave(at_home, "ok")
    worker.hear()
    assert home.server == "a"


def test_a_grant_that_nobody_heard_is_told_by_renewing(worker: Worker) -> None:
    """QUEUE-01: published words may be lost."""
    running, waiting = worker.enter(pool(ONE_SLOT)), worker.enter(pool(ONE_SLOT))
    worker.line.leave(running, "ok")
    assert waiting.server == ""
    worker.line.renew()
    assert waiting.server == "a"
    assert waiting.changed is not None
    assert waiting.changed.is_set()


def test_a_grant_heard_of_too_late_is_kept_while_nobody_else_got_it(worker: Worker) -> None:
    """QUEUE-01: a worker stood still for longer than the lease; its request has a slot or a place, never neither."""
    running, waiting = worker.enter(pool(ONE_SLOT)), worker.enter(pool(ONE_SLOT))
    worker.line.leave(running, "ok")
    worker.store.now += 10_000
    worker.line.renew()
    assert waiting.server == "a"
    assert worker.store.client.zscore("line:busy:a", waiting.member) == worker.store.now + 10_000


class Overtaken:
    """Scripts whose `renew` is on its way while something else happens."""

    def __init__(self, scripts: ClockedScripts) -> None:
        self._scripts = scripts
        self.meanwhile: Callable[[], None] = lambda: None

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...]) -> Any:
        if script is RENEW:
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()
        return self._scripts.run(script, keys, args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scripts, name)


def test_who_leaves_while_the_leases_are_renewed_leaves_nothing_behind(worker: Worker, store: ClockedScripts) -> None:
    """QUEUE-01: the list was made before; what was given back meanwhile would stay taken for a lease's length."""
    slow = Overtaken(store)
    line = Line(slow, "slow")
    held, waiting = (line.place(new_id(), pool(ONE_SLOT), 0) for _ in range(2))
    line.enter(held)
    line.enter(waiting)

    def both_leave() -> None:
        line.leave(waiting)
        line.leave(held, "ok")

    slow.meanwhile = both_leave
    line.renew()
    assert worker.enter(pool(ONE_SLOT)).server == "a"
    assert not store.client.exists("line:pools")


def test_a_renewal_between_the_stores_answer_and_ours_does_not_put_anybody_first(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MODEL-03: the keeper's thread met a place that was in line and did not know its score yet, and told 0."""
    worker.enter(pool(ONE_SLOT))
    wait = Place.wait

    def told_late(place: Place, score: int, ahead: int, expected_ms: int) -> None:
        worker.line.renew()
        wait(place, score, ahead, expected_ms)

    monkeypatch.setattr(Place, "wait", told_late)
    place = worker.enter(pool(ONE_SLOT))
    assert worker.store.client.zscore("line:wait:a", place.member) == place.score == worker.store.now


def test_everything_is_put_back_after_the_store_forgot_it(worker: Worker, other: Worker) -> None:
    """QUEUE-01: leases, places, scores, and how many slots there are."""
    here = pool(Server("a", 3, 1))
    held = [worker.enter(here) for _ in range(3)]
    basic, first = worker.enter(here, 0), other.enter(here, 2)
    score = first.score
    worker.store.flush()
    worker.line.renew()
    other.line.renew()
    assert worker.store.published() == []
    assert worker.store.client.hgetall("line:slots") == {"a": "3"}
    assert worker.store.client.zcard("line:busy:a") == 3
    assert (first.ahead, basic.ahead, first.score) == (1, 1, score), "each told when it was put back"
    worker.line.leave(held[0], "ok")
    assert other.hear() == [Grant(first.member, "a", False)]
    worker.line.renew()
    assert basic.ahead == 1


def test_the_names_of_requests_have_the_length_the_scripts_count_on(worker: Worker) -> None:
    """QUEUE-01: the worker's channel is what follows the 33rd character of a place's name."""
    assert worker.place(pool(A)).member[33:] == "one"


# -- real time ---------------------------------------------------------------------------------------------------------


def test_a_slot_that_comes_free_reaches_the_other_process_in_time(redis_server: RedisServer) -> None:
    """Issue B: two started lines; without the published word it would be the next renewal's, seconds later."""
    lines = [Line(BlockingScripts(redis_server.url), new_id()) for _ in range(2)]
    for line in lines:
        line.start(redis_server.url)
    try:
        deadline = time.monotonic() + 10
        while len(redis_server.client.pubsub_channels("line:*")) < 2:
            assert time.monotonic() < deadline, "the lines listen"
            time.sleep(0.02)
        for holder, waiter in ((lines[0], lines[1]), (lines[1], lines[0])):
            held, waiting = (line.place(new_id(), pool(ONE_SLOT), 0) for line in (holder, waiter))
            assert holder.enter(held) is None
            assert waiter.enter(waiting) is None
            assert (held.server, waiting.server) == ("a", "")
            assert waiting.changed is not None
            assert not waiting.changed.wait(0.05)
            holder.leave(held, "ok")
            assert waiting.changed.wait(2), "long before the next renewal"
            assert waiting.server == "a"
            waiter.leave(waiting, "ok")
    finally:
        for line in lines:
            line.stop()


def test_many_threads_of_many_workers_never_hold_more_than_there_is(redis_server: RedisServer) -> None:
    """QUEUE-01: counted where they work, not in the store; all are served."""
    lines = [Line(BlockingScripts(redis_server.url), new_id()) for _ in range(3)]
    for line in lines:
        line.start(redis_server.url)
    here, mutex, busy, most, served = pool(A, B), threading.Lock(), Counter[str](), Counter[str](), count()

    def ask(line: Line) -> None:
        for _ in range(10):
            place = line.place(new_id(), here, 0)
            assert line.enter(place) is None
            if not place.server:
                assert place.changed is not None
                assert place.changed.wait(10)
            with mutex:
                busy[place.server] += 1
                most[place.server] = max(most[place.server], busy[place.server])
            time.sleep(0.002)
            with mutex:
                busy[place.server] -= 1
                next(served)
            line.leave(place, "ok")

    threads = [threading.Thread(target=ask, args=(line,)) for line in lines for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for line in lines:
        line.stop()
    assert next(served) == 120
    assert most == {"a": 2, "b": 2}
