"""The line against a simple model: whatever workers, servers and time do, no slot is given twice and none is lost.

Several workers over a real store; the test delivers or loses the published grants, and owns the time.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test as run_machine,
)

from portal.services.routing import line as line_module
from portal.services.routing.line import AGEING_SECONDS, NEVER, Blame, Line, Place, Pool, Refused
from tests.routing.clocked import BEGIN, ClockedScripts, Grant, pool, servers
from tests.routing.line_model import LEASE, Model, Waiter
from tests.services.redis_server import RedisServer

LENGTH = 4
NAMES = ("a", "b", "c")
POOLS = ("a", "b", "c", "ab", "bc", "abc")
WORKERS = 3


@dataclass
class Worker:
    line: Line
    process_id: str
    places: list[Place] = field(default_factory=list)
    under_way: list[Grant] = field(default_factory=list)
    """Published for it, not heard yet."""


class Machine(RuleBasedStateMachine):
    def __init__(self, store: ClockedScripts) -> None:
        super().__init__()
        self.store = store
        store.flush()
        store.now = BEGIN
        store.published()
        self.workers: list[Worker] = []
        self.number = 0
        self.rested: list[tuple[str, int]] = []
        self.recovered: list[str] = []
        self.arrivals: dict[str, int] = {}
        self.bonuses: dict[str, int] = {}
        self.scores: list[int] = []

    @initialize(slots=st.tuples(*[st.integers(1, 2)] * 3), weights=st.tuples(*[st.integers(1, 3)] * 3))
    def begin(self, slots: tuple[int, ...], weights: tuple[int, ...]) -> None:
        here = servers(**{n: (s, w) for n, s, w in zip(NAMES, slots, weights, strict=True)})
        self.model = Model(here, BEGIN)
        self.pools = {names: pool(*(here[name] for name in names)) for names in POOLS}
        for _ in range(WORKERS):
            self._new_worker()

    # -- rules ---------------------------------------------------------------------------------------------------------

    @rule(
        who=st.integers(0, WORKERS - 1),
        names=st.sampled_from(POOLS),
        priority=st.sampled_from((0, 1, 2)),
        margin=st.sampled_from((NEVER, NEVER, 0, 1, 1)),
        keeps_score=st.sampled_from((False, False, True)),
    )
    def enter(self, who: int, names: str, priority: int, margin: int, keeps_score: bool) -> None:
        """A request comes; or one whose server failed comes again, and keeps what its wait was worth.

        margin: by how much the line may be deeper than it is before the request would rather not wait.
        """
        worker, its = self.workers[who], self.pools[names]
        self.number += 1
        score = self.scores[-1] if keeps_score and self.scores else None
        place = worker.line.place(f"{self.number:032x}", its, priority, score=score)
        bonus = priority * AGEING_SECONDS * 1000
        assert place.bonus == bonus
        self.arrivals[place.member] = self.model.now if score is None else score + bonus
        self.bonuses[place.member] = bonus
        pace = self._pace()
        over = NEVER if margin == NEVER else self.model.depth(its) + margin
        refused = worker.line.enter(place, over=over)
        self._judge_grants({server.name for server in its.servers})
        wanted = self._expect(place, over, pace, self.arrivals[place.member] - bonus)
        assert refused == wanted
        if refused is None:
            worker.places.append(place)

    @rule(
        names=st.sampled_from(POOLS),
        priorities=st.lists(st.sampled_from((0, 1, 2)), min_size=2, max_size=5),
        who=st.integers(0, WORKERS - 1),
    )
    def a_crowd_enters(self, names: str, priorities: list[int], who: int) -> None:
        for number, priority in enumerate(priorities):
            self.enter((who + number) % WORKERS, names, priority, NEVER, False)

    @precondition(lambda self: any(self._running()))
    @rule(
        which=st.lists(st.integers(0, 99), min_size=1, max_size=4),
        verdict=st.sampled_from(("ok", "ok", "none", "fault")),
        account=st.sampled_from(("mia", "noor")),
        sure=st.booleans(),
    )
    def some_leave(self, which: list[int], verdict: str, account: str, sure: bool) -> None:
        for number in which:
            running = self._running()
            if running:
                self._leave(*running[number % len(running)], verdict, Blame("it was so", account, sure))

    @precondition(lambda self: any(self._running()))
    @rule(which=st.integers(0, 99), sure=st.booleans(), rest_seconds=st.sampled_from((0, 0, 60)), spared=st.booleans())
    def a_server_breaks(self, which: int, sure: bool, rest_seconds: int, spared: bool) -> None:
        """Its requests fail, all or all but one, and so does whoever comes next."""
        running = self._running()
        survivor = running[which % len(running)][1]
        broken = survivor.server
        for number in range(6):
            for worker, place in self._running():
                if place.server == broken and not (spared and place is survivor):
                    self._leave(worker, place, "fault", Blame("it was so", f"{number}", sure, rest_seconds))
            if number % 2:
                self.enter(number % WORKERS, broken, 0, NEVER, False)

    @precondition(lambda self: any(self.model.rests(name) for name in NAMES))
    @rule(answer=st.sampled_from(("first byte", "ok", "fault", "none")), crowd=st.integers(1, 3))
    def a_rest_ends(self, answer: str, crowd: int) -> None:
        """One tries the server, some wait for what it finds."""
        until, name = min((self.model.rests(name), name) for name in NAMES if self.model.rests(name))
        self._pass(until - self.model.now)
        for worker in self.workers:
            self._renew(worker)
        for number in range(crowd):
            self.enter(number % WORKERS, name, 0, NEVER, False)
        for worker, place in self._running():
            if place.server == name and place.trial:
                if answer == "first byte":
                    before = self.recovered.copy()
                    worker.line.well(place)
                    assert self.recovered == before + ([name] if self.model.well(name) else [])
                    self._judge_grants({name})
                else:
                    self._leave(worker, place, answer, Blame("it was so", "mia", True))
                break

    @precondition(lambda self: any(self._in_line()))
    @rule(which=st.integers(0, 99))
    def leave_the_line(self, which: int) -> None:
        """The customer is gone; perhaps its turn had come, and the word of it is still under way."""
        waiting = self._in_line()
        worker, place = waiting[which % len(waiting)]
        worker.places.remove(place)
        worker.line.leave(place)
        self.model.waiting.pop(place.member, None)
        freed = {server.name for server in place.pool.servers if self.model.freed(server.name, place.member)}
        self._judge_grants(freed)
        worker.line.leave(place)  # a second time nothing happens
        self._judge_grants(set())

    @precondition(lambda self: any(worker.under_way for worker in self.workers))
    @rule(which=st.integers(0, 99), lost=st.sampled_from((False, False, False, True)))
    def a_grant_arrives(self, which: int, lost: bool) -> None:
        """Or is lost, and only `renew` tells."""
        under_way = [(worker, grant) for worker in self.workers for grant in worker.under_way]
        worker, grant = under_way[which % len(under_way)]
        worker.under_way.remove(grant)
        if lost:
            return
        place = next((place for place in worker.places if place.member == grant.member), None)
        worker.line.granted(*grant)
        self._judge_grants(set())
        if place is not None:
            assert place.server == grant.server
            assert place.changed is not None
            assert place.changed.is_set()

    @rule(who=st.integers(0, WORKERS - 1))
    def renew(self, who: int) -> None:
        self._renew(self.workers[who])

    @rule(ms=st.sampled_from((1, 700, 3000, 3000, 9999)))
    def time_passes(self, ms: int) -> None:
        """As it should be: every worker renews in time."""
        for step in [3000] * (ms // 3000) + [ms % 3000]:
            if step:
                self._pass(step)
                for worker in self.workers:
                    self._renew(worker)
        self._nothing_is_lost()

    @rule(ms=st.sampled_from((2000, 5000, LEASE - 1, LEASE, LEASE, 61_000)))
    def everything_stands_still(self, ms: int) -> None:
        """Nobody renews in time."""
        self._pass(ms)

    @rule(who=st.integers(0, WORKERS - 1))
    def a_worker_dies(self, who: int) -> None:
        """Without a word; another one takes over for it."""
        self.workers.pop(who)
        self._new_worker()

    @rule(order=st.permutations(range(WORKERS)))
    def the_store_forgets(self, order: list[int]) -> None:
        self.store.flush()
        self.model.flushed()
        for worker in self.workers:
            worker.under_way.clear()
        for who in order:
            self._renew(self.workers[who])

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def the_store_knows_what_the_model_knows(self) -> None:
        if not self.workers:
            return
        now, names, pools = self.model.now, list(self.model.servers), list(self.pools.values())
        asked = self.store.client.pipeline(transaction=False)
        asked.zrange("line:alive", 0, -1, withscores=True)
        asked.smembers("line:pools")
        for its in pools:
            asked.zrange("line:wait:" + its.name, 0, -1, withscores=True)
        for name in names:
            asked.zrangebyscore("line:busy:" + name, f"({now}", "+inf", withscores=True)
            asked.hgetall("line:health:" + name)
        alive, pools_in_use, *rest = asked.execute()
        lines, of_servers = dict(zip(pools, rest, strict=False)), rest[len(pools) :]
        until = dict(alive)
        there = {m: Waiter(its, int(score), int(until[m])) for its in pools for m, score in lines[its]}
        assert {m: waiter for m, waiter in there.items() if waiter.until > now} == self.model.waiting
        assert pools_in_use == {its.name for its in pools if lines[its]}
        for at, name in enumerate(names):
            leases, told = of_servers[2 * at : 2 * at + 2]
            assert dict(leases) == self.model.leases[name]
            health = self.model.health.get(name)
            assert bool(told) == (health is not None)
            if health is not None:
                numbers = {what: int(told.get(what, 0)) for what in ("faults", "until", "rests", "several")}
                assert numbers == {
                    "faults": health.faults, "until": health.until, "rests": health.rests, "several": health.several,
                }  # fmt: skip

    @invariant()
    def no_slot_is_given_twice(self) -> None:
        if not self.workers:
            return
        for name, server in self.model.servers.items():
            busy = len(self.model.leases[name])
            if busy <= server.slots:
                self.model.overfull.discard(name)
            assert busy <= server.slots or name in self.model.overfull
            theirs = {place.member for _, place in self._running() if place.server == name}
            assert theirs <= self.model.leases[name].keys() | self.model.lapsed.keys()

    def teardown(self) -> None:
        """When everybody has gone, nothing is left of them."""
        for worker in self.workers:
            self._renew(worker)
        for worker in self.workers:
            for place in worker.places:
                worker.line.leave(place)
        self.store.now = self.model.now + LEASE
        for worker in self.workers:
            assert worker.line._places == {}
        here = self.workers[0].line if self.workers else None
        if here is not None:
            place = here.place("f" * 32, self.pools["abc"], 0)
            here.enter(place)
            here.leave(place)
            for key in ("line:pools", "line:alive"):
                assert not self.store.client.exists(key), key
            for name in NAMES:
                assert self.store.client.zcount("line:busy:" + name, f"({self.store.now}", "+inf") == 0

    def _leave(self, worker: Worker, place: Place, verdict: str, blame: Blame) -> None:
        worker.places.remove(place)
        before = self.rested.copy(), self.recovered.copy()
        worker.line.leave(place, verdict, blame)
        held = self.model.freed(place.server, place.member)
        seconds, well = 0, False
        if verdict == "ok":
            well = self.model.ok(place.server)
        elif verdict == "fault":
            seconds = self.model.fault(place.server, blame)
        assert self.rested == before[0] + ([(place.server, seconds)] if seconds else [])
        assert self.recovered == before[1] + ([place.server] if well else [])
        self._judge_grants({place.server} if held else set())

    # -- the model's part ----------------------------------------------------------------------------------------------

    def _new_worker(self) -> None:
        self.number += 1
        process_id = f"w{self.number}"
        line = Line(
            self.store,
            process_id,
            rested=lambda server, reason, seconds: self.rested.append((server, seconds)),
            recovered=lambda server: self.recovered.append(server),
            length=LENGTH,
        )
        self.workers.append(Worker(line, process_id))

    def _running(self) -> list[tuple[Worker, Place]]:
        return [(worker, place) for worker in self.workers for place in worker.places if place.server]

    def _in_line(self) -> list[tuple[Worker, Place]]:
        return [(worker, place) for worker in self.workers for place in worker.places if not place.server]

    def _pass(self, ms: int) -> None:
        self.store.now = self.model.now + ms
        self.model.at(self.store.now)
        for worker in self.workers:  # a word that is as old as its lease is told by nobody any more
            worker.under_way = [g for g in worker.under_way if g.member in self.model.leases[g.server]]

    def _pace(self) -> dict[str, float]:
        return {str(name): float(ms) for name, ms in self.store.client.hgetall("line:pace").items()}

    def _expected_ms(self, ahead: int, its: Pool, pace: dict[str, float]) -> int:
        known = [pace[server.name] for server in its.servers if pace.get(server.name, 0) > 0]
        slots = sum(server.slots for server in its.servers)
        return math.ceil(ahead * sum(known) / len(known) / slots - 1e-9) if known else 0

    def _expect(self, place: Place, over: int, pace: dict[str, float], score: int) -> Refused | None:
        """What the model says to somebody who enters; the place is held against it."""
        model, its = self.model, place.pool
        best = model.least_loaded(its)
        if best:
            assert place.server in best, "the least-loaded server that has room"
            assert not model.line_for(place.server), "nobody waits for a slot that somebody else is given"
            assert model.lease(place.server, place.member) == place.trial
            return None
        assert not place.server
        rests = [model.rests(server.name) for server in its.servers]
        if all(rests):
            return Refused("rest", -(-(min(rests) - model.now) // 1000))
        if 0 <= over < model.depth(its) + 1:
            return Refused("over", 0)
        before = sum(waiter.score <= score for waiter in model.waiting_beside(its).values())
        if before >= LENGTH:
            return Refused("full", -(-self._expected_ms(before, its, pace) // 1000))
        assert place.score == score
        self.scores.append(score)
        model.waiting[place.member] = Waiter(its, score, model.now + LEASE)
        self._judge_place(place, pace)
        return None

    def _judge_place(self, place: Place, pace: dict[str, float]) -> None:
        assert place.ahead == self.model.ahead(place.member)
        assert place.expected_ms == pytest.approx(self._expected_ms(place.ahead, place.pool, pace), abs=1)

    def _judge_grants(self, served: set[str], published: list[Grant] | None = None) -> None:
        """What was published was allowed, and these servers have given what they had."""
        for grant in self.store.published() if published is None else published:
            for member in self.model.line_for(grant.server):
                latest = self.arrivals[member] + self.bonuses[grant.member]
                assert self.arrivals[grant.member] <= latest, "nobody is overtaken by so much later a request"
            self.model.grant(grant)
            for worker in self.workers:
                if worker.process_id == grant.process_id:
                    worker.under_way.append(grant)
        self.model.nothing_left_undone(served)

    def _renew(self, worker: Worker) -> None:
        model, pace = self.model, self._pace()
        held = [place for place in worker.places if place.server]
        waiting = [place for place in worker.places if not place.server]
        worker.line.renew()
        published = self.store.published()
        anew = {grant.member for grant in published}
        for place in held:
            model.put_back(place.server, place.member)
        for place in waiting:
            had = next((name for name, leases in model.leases.items() if place.member in leases), "")
            if not had and place.server and place.member not in anew:
                # Its lease had ended, and nobody has got the slot yet.
                assert place.server == model.lapsed[place.member]
                assert len(model.leases[place.server]) < model.servers[place.server].slots
                had = place.server
            if had:
                model.put_back(had, place.member)
            else:
                assert place.score is not None
                model.waiting[place.member] = Waiter(place.pool, place.score, model.now + LEASE)
        self._judge_grants({server.name for place in waiting for server in place.pool.servers}, published)
        for place in waiting:
            name = next((name for name, leases in model.leases.items() if place.member in leases), "")
            assert place.server == name, "a lost word is told by renewing"
            if not name:
                self._judge_place(place, pace)

    def _nothing_is_lost(self) -> None:
        """All workers have renewed: whoever waits has no free slot that could be theirs."""
        for name in self.model.servers:
            if any(name in {server.name for server in place.pool.servers} for _, place in self._in_line()):
                self.model.nothing_left_undone({name})


def test_no_slot_is_given_twice_and_none_is_lost(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """QUEUE-01, QUEUE-02, MODEL-03: depth, order, ageing, places and rests are what a simple model says, always."""
    store = ClockedScripts(redis_server.url)
    monkeypatch.setattr(line_module, "time", SimpleNamespace(monotonic=lambda: store.now / 1000))
    # Not shrunk: a failure is read from its steps, and shrinking some hundred of them would take minutes.
    bounded = settings(
        max_examples=300, stateful_step_count=50, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    try:
        run_machine(partial(Machine, store), settings=bounded)  # type: ignore[arg-type]  # it is called
    finally:
        store.close()
