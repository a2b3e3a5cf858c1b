"""The line as one would write it in a page of Python: who has which slot, who waits, which server rests.

The property tests hold it beside the real one. It does not decide who is served, it judges it: every grant that the
store publishes must be one that the rules allow, and after every step nothing may be left undone.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from portal.services.routing.line import Blame, Pool, Server
from tests.routing.clocked import Grant

LEASE = 10_000
FAULTS, FAULTS_OF_ONE, SHORTEST, LONGEST = 3, 10, 5_000, 300_000


@dataclass
class Waiter:
    pool: Pool
    score: int
    until: int
    """So long its worker is believed to live."""


@dataclass
class Health:
    faults: int = 0
    last: str = ""
    several: bool = False
    until: int = 0
    rests: int = 0
    trial: str = ""


@dataclass
class Model:
    servers: dict[str, Server]
    now: int
    leases: dict[str, dict[str, int]] = field(default_factory=dict)
    lapsed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Waiter] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)
    overfull: set[str] = field(default_factory=set)
    """Servers where somebody came back to a slot that had been given to another meanwhile: a flush, a stall."""

    def __post_init__(self) -> None:
        self.leases = {name: {} for name in self.servers}

    def at(self, now: int) -> None:
        """Time goes on: what nobody kept alive ends."""
        self.now = now
        for name, leases in self.leases.items():
            for member in [member for member, until in leases.items() if until <= now]:
                del leases[member]
                self.lapsed[member] = name
        self.waiting = {member: waiter for member, waiter in self.waiting.items() if waiter.until > now}

    def flushed(self) -> None:
        self.leases = {name: {} for name in self.servers}
        self.waiting, self.health, self.lapsed = {}, {}, {}

    # -- what is so ----------------------------------------------------------------------------------------------------

    def rests(self, name: str) -> int:
        """Until when; 0 where it does not rest now."""
        health = self.health.get(name)
        return health.until if health is not None and health.until > self.now else 0

    def on_trial(self, name: str) -> bool:
        """Its rest is over, and nobody knows yet whether it is well."""
        health = self.health.get(name)
        return health is not None and 0 < health.until <= self.now

    def room(self, name: str) -> int:
        if self.rests(name):
            return 0
        free = self.servers[name].slots - len(self.leases[name])
        if self.on_trial(name):
            return 0 if self.health[name].trial in self.leases[name] else min(free, 1)
        return free

    def line_for(self, name: str) -> dict[str, Waiter]:
        return {m: w for m, w in self.waiting.items() if name in {server.name for server in w.pool.servers}}

    def waiting_beside(self, pool: Pool) -> dict[str, Waiter]:
        names = {server.name for server in pool.servers}
        return {m: w for m, w in self.waiting.items() if names & {server.name for server in w.pool.servers}}

    def depth(self, pool: Pool) -> int:
        return sum(len(self.leases[server.name]) for server in pool.servers) + len(self.waiting_beside(pool))

    def least_loaded(self, pool: Pool) -> set[str]:
        """Those of the pool that have room and the least to do; empty where none has room."""
        loads = {
            server.name: Fraction(len(self.leases[server.name]), server.slots * server.weight)
            for server in pool.servers
            if self.room(server.name) > 0
        }
        return {name for name, load in loads.items() if load == min(loads.values())}

    def ahead(self, member: str) -> int:
        """Its place: 1 is the next."""
        mine = self.waiting[member]
        return 1 + sum(
            (w.score, m) < (mine.score, member) if w.pool == mine.pool else w.score < mine.score
            for m, w in self.waiting_beside(mine.pool).items()
            if m != member
        )

    # -- what happens --------------------------------------------------------------------------------------------------

    def lease(self, name: str, member: str, until: int | None = None) -> bool:
        """until: the last that was heard of its worker, if not now. Returns whether it is the trial after a rest."""
        assert self.room(name) > 0, f"{name} has no slot for {member}"
        assert not any(member in leases for leases in self.leases.values()), "a place is granted once"
        self.leases[name][member] = self.now + LEASE if until is None else until
        if self.on_trial(name):
            self.health[name].trial = member
            return True
        return False

    def grant(self, grant: Grant) -> None:
        line = self.line_for(grant.server)
        assert grant.member in line, "who is granted a slot waits for that server"
        assert grant.member == min(line, key=lambda m: (line[m].score, m)), "the first is served first"
        waiter = self.waiting.pop(grant.member)
        assert self.lease(grant.server, grant.member, waiter.until) == grant.trial

    def put_back(self, name: str, member: str) -> None:
        """Its worker says that it has this slot."""
        new = member not in self.leases[name]
        self.leases[name][member] = self.now + LEASE
        if new and len(self.leases[name]) > self.servers[name].slots:
            self.overfull.add(name)

    def freed(self, name: str, member: str) -> bool:
        """Returns whether it had a slot until now."""
        return self.leases[name].pop(member, None) is not None

    def ok(self, name: str) -> bool:
        """Returns whether a rest ends with it."""
        if self.rests(name):
            return False
        health = self.health.pop(name, None)
        return health is not None and health.until > 0

    def well(self, name: str) -> bool:
        """Its trial is being answered. Returns whether a rest ends with it."""
        health = self.health.pop(name, None)
        return health is not None and health.until > 0

    def fault(self, name: str, blame: Blame) -> int:
        """Returns for how many seconds it rests from now on; 0 where nothing changes."""
        account, rest_seconds = blame.account_id, blame.rest_seconds
        health = self.health.setdefault(name, Health())
        health.faults += 1
        health.several = health.several or health.last not in ("", account)
        health.last = account
        full_weight = blame.sure or rest_seconds > 0 or health.several
        needed = 1 if rest_seconds or health.until else FAULTS
        if self.rests(name) or not ((full_weight and health.faults >= needed) or health.faults >= FAULTS_OF_ONE):
            return 0
        health.rests += 1
        rest: int = min((rest_seconds * 1000 or SHORTEST) << (health.rests - 1), LONGEST)
        health.until, health.faults, health.several, health.trial = self.now + rest, 0, False, ""
        return rest // 1000

    def nothing_left_undone(self, names: set[str]) -> None:
        for name in names:
            assert self.room(name) <= 0 or not self.line_for(name), f"{name} has room, and somebody waits for it"
