"""The line between real processes: four web workers, two servers with two slots each, two hundred customers."""

import json
import time
from collections import Counter

from portal.ids import new_id
from portal.pipeline import BlockingScripts
from portal.services.routing.line import LEASE_SECONDS, Line, Pool, Server
from tests.gateway.wire import eventually
from tests.races.crowd import Crowd, tag_of
from tests.races.two_servers import HERE, PLANS, SLOTS, TwoServers, ranks

CALLERS = 200
ON_THE_WAY = 12
"""Places by which an arrival may differ from the line's order: four turns at once, given by one store to four workers
on two cores."""


def test_two_hundred_customers_are_served_in_order_and_no_server_gets_a_question_too_many(
    two_servers: TwoServers,
) -> None:
    """QUEUE-01, MODEL-03, shown by: four workers, two servers with two slots, two hundred callers of three plans, half
    of them streamed. Nobody ever waits at a server; Enterprise goes first, then Pro, and within a plan who came first;
    everybody is answered, and pays once."""
    street = two_servers
    street.control(tokens=3, delay_chunk_ms=5)
    web = street.open(4, QUEUE_LENGTH=CALLERS)
    with Crowd(web.url) as crowd:
        crowd.ask(street.mixed(CALLERS // 2))  # whom a worker remembers is in line under the request's own id
        before = len(crowd.wait())
        street.control(hold_after=0)
        crowd.ask(street.mixed(CALLERS))
        eventually(lambda: len(street.in_line()) == CALLERS - 4, 40, "the line")
        assert street.at_servers() == before + 4
        line = street.in_line()
        street.let_go()
        told = crowd.wait()

    assert [(one.tag, one.status, one.body[-300:]) for one in told if not one.answered] == []
    assert street.most_at_once() == [2, 2], "the slots were all used, and never one too many"
    tags = {one.request: one.tag for one in told}
    plans = {one.tag: one.plan for one in told}
    order = [tags[request] for request in line if request in tags]
    assert len(order) > CALLERS * 3 // 4
    assert [plans[tag] for tag in order] == sorted((plans[tag] for tag in order), key=PLANS.index, reverse=True)
    arrived = street.tags()
    assert len(arrived) == len(set(arrived)) == before + CALLERS, "each question once"
    assert max(map(abs, ranks(order, [tag for tag in arrived if tag in set(order)]))) <= ON_THE_WAY
    street.nothing_is_left_in_line()
    street.all_settled()
    assert len(street.rows()) == before + CALLERS
    street.right_to_the_last_credit(told)
    assert web.errors() == []


def test_a_line_that_is_full_says_so_to_exactly_those_who_are_too_many(two_servers: TwoServers) -> None:
    """QUEUE-02, API-02, shown by: bounded across all workers. Of a hundred and twenty at once four are at the servers,
    twenty wait, and all others are told `queue_full` at once, with a Retry-After, and pay nothing. What counts are
    those ahead: twenty of eighty Enterprise requests find room before them, and no more."""
    street = two_servers
    street.control(hold_after=0, tokens=3)
    web = street.open(4, QUEUE_LENGTH=20)
    with Crowd(web.url) as crowd:
        crowd.ask([street.customers["basic"]] * 120)
        eventually(lambda: sum(one.status == 503 for one in crowd.told) == 120 - 24, 40, "the refusals")
        eventually(lambda: street.at_servers() == 4, 20, "those who have a slot, on their way")
        assert (street.at_servers(), len(street.in_line())) == (4, 20)
        crowd.ask([street.customers["enterprise"]] * 80)
        eventually(lambda: sum(one.status == 503 for one in crowd.told) == CALLERS - 44, 40, "the refusals")
        assert (street.at_servers(), len(street.in_line())) == (4, 40)
        street.let_go()
        told = crowd.wait()

    refused = [one for one in told if not one.answered]
    assert {(one.status, one.refusal) for one in refused} == {(503, "queue_full")}
    assert len(refused) == CALLERS - 44
    assert all(1 <= int(one.headers["retry-after"]) <= 120 for one in refused)
    assert street.most_at_once() == [2, 2]
    plans = {one.tag: one.plan for one in told}
    assert Counter(plans[tag] for tag in street.tags()[4:20]) == {"enterprise": 16}
    street.nothing_is_left_in_line()
    street.all_settled()
    assert len(street.rows()) == 44, "who was refused has no row and no hold"
    street.right_to_the_last_credit(told)
    assert web.errors() == []


def test_who_has_waited_longer_than_a_step_of_priority_is_not_overtaken(sqlite_two_servers: TwoServers) -> None:
    """QUEUE-01 (nobody starves): customers who have waited at another worker for 29 to 61 seconds. A plan's step is
    worth 30: Pro goes ahead of 29 and not of 31, Enterprise ahead of 59 and not of 61. Whoever leaves frees their slot
    at once, and the first in line has it."""
    street = sqlite_two_servers
    street.control(hold_after=0)
    web = street.open(4)
    other = Line(BlockingScripts(street.store.url), new_id())
    pool = Pool.of(tuple(Server(name, SLOTS, 1) for name in HERE))
    with Crowd(web.url) as crowd:
        crowd.ask(street.mixed(4))
        eventually(lambda: street.at_servers() == 4, what="all slots taken")
        seconds, milliseconds = street.store.client.time()
        now = seconds * 1000 + milliseconds // 1000
        old = {age: other.place(new_id(), pool, 0, score=now - age * 1000) for age in (29, 31, 59, 61)}
        assert all(other.enter(place) is None for place in old.values())
        names = {place.member.partition(":")[0]: f"waited {age} s" for age, place in old.items()}
        for plan in PLANS:
            crowd.ask([street.customers[plan]])
            eventually(lambda: set(street.in_line()) - set(names), what="one more in line")  # noqa: B023
            names |= {request: plan for request in street.in_line() if request not in names}
        order = [names[request] for request in street.in_line()]
        assert order == [
            "waited 61 s", "enterprise", "waited 59 s", "waited 31 s", "pro", "waited 29 s", "basic",
        ]  # fmt: skip

        crowd.leave(0)
        eventually(lambda: len(street.in_line()) == 6, what="the first turn")
        other.renew()
        assert [age for age, place in old.items() if place.server] == [61]
        assert street.at_servers() == 4
        crowd.leave(1)
        eventually(lambda: street.at_servers() == 5, what="the second turn")
        assert tag_of(street.arrivals()[-1]) == next(one.tag for one in crowd.told[4:] if one.plan == "enterprise")
        crowd.leave(2)
        crowd.leave(3)
        eventually(lambda: len(street.in_line()) == 3, what="the third and fourth turn")
        other.renew()
        assert [age for age, place in old.items() if place.server] == [31, 59, 61]
        for place in old.values():
            other.leave(place)
        eventually(lambda: street.at_servers() == 7, what="pro and basic")
        street.let_go()
    street.nothing_is_left_in_line()


def test_a_dead_workers_slots_come_back_within_the_lease(two_servers: TwoServers) -> None:
    """QUEUE-01 (self-healing), shown by: `kill -9` of a worker that has slots and customers in line. Its slots are
    given to others within the lease, all others are answered once; what it left open is swept and costs nothing."""
    street = two_servers
    street.control(hold_after=1, tokens=3)
    web = street.open(4, QUEUE_LENGTH=CALLERS)
    with Crowd(web.url) as crowd:
        crowd.ask(street.mixed(80))
        eventually(lambda: len(street.in_line()) == 76 and street.at_servers() == 4, 20, "the line")
        eventually(lambda: len(street.open_requests()) == 80, 20, "their holds")
        its = Counter(street.leases().values())
        processes = street.processes()
        dead = max(processes, key=lambda pid: its[processes[pid]])
        left_behind = {u.id for u in street.rows().values() if u.process_id == processes[dead]}
        web.kill_worker(dead)
        killed = time.monotonic()
        street.let_go()
        told = crowd.wait(LEASE_SECONDS + 15)
        took = time.monotonic() - killed

        assert took < LEASE_SECONDS + 8, "its slots were not given back in time"
        lost = [one for one in told if not one.answered]
        assert {(one.status, one.broken) for one in lost} <= {(0, True), (200, True)}, "who was not cut was answered"
        assert len(lost) == len(left_behind)
        tags = street.tags()
        assert len(tags) == len(set(tags)), "no question went to a server twice"
        assert street.most_at_once() == [2, 2]

        time.sleep(max(0.0, LEASE_SECONDS - took))
        crowd.ask(street.mixed(1))  # whoever comes next buries the dead
        assert crowd.wait()[-1].answered
    street.nothing_is_left_in_line()
    eventually(lambda: street.open_requests() == left_behind, 5, "the last settlement")
    street.half_a_minute_later(dead)
    assert street.sweep() == len(left_behind)
    assert street.sweep() == 0
    assert {(u.outcome, u.cost) for u in street.rows().values() if u.id in left_behind} == {("abandoned", 0)}
    street.right_to_the_last_credit(told)


def test_a_turn_given_to_a_dead_worker_ends_with_its_last_sign_of_life(sqlite_two_servers: TwoServers) -> None:
    """QUEUE-01: the store can't know yet that somebody in line is dead, and gives them a slot. It counted as a new
    lease: each of a dead worker's customers, as their turns came, kept a slot for ten seconds more."""
    line, dead = (Line(BlockingScripts(sqlite_two_servers.store.url), new_id(), lease_seconds=2) for _ in range(2))
    pool = Pool.of((Server("alone", 1, 1),))
    first, waits, next_one = line.place(new_id(), pool, 0), dead.place(new_id(), pool, 0), line.place(new_id(), pool, 0)
    assert line.enter(first) is None
    assert dead.enter(waits) is None
    died = time.monotonic()
    assert line.enter(next_one) is None
    time.sleep(1.6)
    line.renew()
    line.leave(first, "ok")
    line.renew()
    assert not next_one.server, "it is the dead one's turn"
    while not next_one.server:
        assert time.monotonic() - died < 2.6, "a slot stays with the dead for longer than a lease"
        time.sleep(0.05)
        line.renew()
    line.leave(next_one)


def test_a_dead_server_is_left_alone_until_it_is_back(two_servers: TwoServers) -> None:
    """GW-02, shown by: `kill -9` of one of two servers. Who was cut in mid-answer is told so and pays for what came;
    nobody else notices: whoever had heard nothing yet, and all others, are answered by the other server; the dead one
    rests, and is used again when it is back."""
    street = two_servers
    living, doomed = street.servers
    street.control(hold_after=3, tokens=6, delay_chunk_ms=10)
    web = street.open(4)
    with Crowd(web.url) as crowd:
        crowd.ask([street.customers["pro"]] * 2, stream=True)  # the least loaded first: one at each server
        eventually(lambda: [one.body.count(b'"content":"') for one in crowd.told] == [3] * 2, what="the first words")
        crowd.ask([street.customers["pro"]] * 2, stream=False)
        eventually(lambda: street.at_servers() == 4, what="all slots taken")
        cut, unheard = (tag_of(entry) for entry in doomed.chats())
        crowd.keep_asking(street.mixed(24))
        eventually(lambda: len(street.in_line()) == 24, 20, "the line")
        doomed.kill()
        living.control(hold_after=None)
        living.release()
        eventually(lambda: street.state("ollama-2") == "resting", 10, "its rest")
        doomed.start()
        doomed.control(slots=128, server_slots=2, tokens=6, delay_chunk_ms=10)
        eventually(lambda: doomed.counters()["calls"] >= 10, 20, "its return")
        eventually(lambda: street.state("ollama-2") == "up", 5, "its return told")
        crowd.enough()
        told = crowd.wait()

    (its,) = [one for one in told if not one.answered]
    assert (its.tag, its.cut) == (cut, "upstream_error")
    assert its.body.endswith(b"data: [DONE]\n\n")
    assert b'finish_reason":"' not in its.body
    assert street.most_at_once() == [2, 2]
    street.nothing_is_left_in_line()
    street.all_settled()
    rows = street.rows()
    assert (rows[its.request].outcome, rows[its.request].cost) == ("upstream_failed", 3)
    again = next(rows[one.request] for one in told if one.tag == unheard)
    assert (again.outcome, again.provider) == ("ok", "ollama-1")
    assert [attempt["fault"] for attempt in json.loads(again.attempts)] == ["failed"]
    went_on = [row for row in rows.values() if row.outcome == "ok" and '"unreached"' in row.attempts]
    assert went_on, "nobody met the dead server: this proved nothing"
    assert {row.provider for row in went_on} == {"ollama-1"}
    assert len(went_on) < 24, "it was asked again and again"
    assert len(rows) == len(told)
    street.right_to_the_last_credit(told)
    assert "Traceback" not in web.logged(), "what the store told of the rest was not taken in the hub"


def test_the_store_lost_and_found_costs_nobody_an_answer(two_servers: TwoServers) -> None:
    """QUEUE-01, shown by: Redis stopped and started in mid-run. Requests go on, each worker by its own share of the
    slots; each says so once and once that it is over; afterwards no slot is lost and none is given twice."""
    street = two_servers
    street.control(tokens=5, delay_chunk_ms=10)
    web = street.open(4)
    with Crowd(web.url) as crowd:
        crowd.keep_asking(street.mixed(24))
        eventually(lambda: street.at_servers() >= 40, 20, "a crowd that is served")
        eventually(lambda: len(street.processes()) == 4, 10, "customers at every worker")
        assert street.most_at_once() == [2, 2]
        street.store.stop()
        before = street.at_servers()
        eventually(lambda: street.at_servers() >= before + 60, 20, "answers without the store")
        eventually(lambda: web.logged().count("the line goes on without the store") == 4, 10, "their words")
        street.store.start()
        eventually(lambda: web.logged().count("the line is in the store again") == 4, 15, "the store's return")
        eventually(lambda: _at_most_two_of_the_next(street, 20), 15, "the end of those who were let in meanwhile")
        assert _at_most_two_of_the_next(street, 60)
        crowd.enough()
        told = crowd.wait()

    assert [(one.status, one.refusal) for one in told if not one.answered] == []
    street.nothing_is_left_in_line()
    street.all_settled()
    assert len(street.rows()) == len(told)
    street.right_to_the_last_credit(told)
    assert web.logged().count("the line goes on without the store") == 4
    assert web.logged().count("the shared store is away") == 4
    assert "Traceback" not in web.logged()


def _at_most_two_of_the_next(street: TwoServers, questions: int) -> bool:
    """Whether neither server has more at once than it has slots, while so many arrive."""
    for server in street.servers:
        server.forget_requests()
    eventually(lambda: street.at_servers() >= questions, 30, "answers as before")
    return street.most_at_once() == [2, 2]
