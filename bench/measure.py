"""One round of one system, and the run with many open streams.

A round is a fixed amount of work: CPU before, the work, a moment for what still settles, CPU after. No round with a
single failed request counts, and the upstream's own counters must agree that the work arrived there.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accounting import Memory, cpu_seconds, memory
from bench.native import Mock, load
from bench.processes import BenchError, die_with_parent
from bench.systems import System

SETTLING_SECONDS = 0.3
"""Late work (a ledger entry after the last byte, a log line) belongs to the request that caused it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work a round is."""

    rounds: int = 5
    connections: int = 32
    plain_factor: float = 1.0
    streams: int = 32
    chunks: int = 100
    chunk_delay_us: int = 30_000
    together: bool = False
    """Begin all streams of a round at once, so that their events coincide: cheaper for everybody, and unlike life."""
    alone: int = 150
    alone_streams: int = 40
    open_streams: int = 1000
    open_seconds: int = 8
    open_ramp: int = 250
    turns: int = 300
    """Answers in the run with one slot."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of one system showed. Times in microseconds, CPU times for one request or chunk."""

    plain: float | None
    chunk: float | None
    plain_beside: dict[str, float]
    chunk_beside: dict[str, float]
    requests_a_second: float
    latency: float
    """Median of one request at a time."""
    first: float
    """Median time to the first event, one stream at a time."""
    lag: float
    """Median way of an event through the system, with all the round's streams open."""
    lag_p99: float


@dataclass(frozen=True, slots=True)
class Turns:
    """A slot free again while somebody waits: from the end of an answer at the server to the next request's arrival
    there, by the server's own clock. Microseconds."""

    count: int
    median: float
    p95: float


WAITING = 8
"""Customers who share the one slot."""
ANSWER_CHUNKS, ANSWER_DELAY_US = 10, 2000


class Bench:
    """Measures systems over one upstream; counts what was answered, for the check of the books."""

    def __init__(self, build: Path, mock: Mock, sizes: Sizes) -> None:
        self.build, self.mock, self.sizes = build, mock, sizes
        self.answered: dict[str, int] = {}

    def warm_up(self, system: System) -> None:
        """Fill caches and pools, let the interpreter specialise: nothing of it is counted."""
        self.mock.pace(0)
        self.load(system, ["-c", str(self.sizes.connections), "-n", str(system.warm_up)])
        self.mock.pace(2000)
        self.load(system, ["-c", str(self.sizes.connections), "-n", str(self.sizes.connections), "-s", "-t", "20"])

    def round(self, system: System) -> Round:
        """One round. Raises BenchError when anything failed in it."""
        s = self.sizes
        connections = str(s.connections)
        # While others had their turn, caches may have forgotten the customers: in life a busy key is a remembered one.
        # Streams first, with their few customers: what plain requests leave behind for later is not theirs.
        self.mock.pace(0)
        self.load(system, ["-c", connections, "-n", connections])
        self.mock.pace(s.chunk_delay_us)
        # Begun one after the other within one delay, as strangers' are: events that come at once share a wake-up.
        ramp = 0 if s.together else s.connections * 1_000_000 / s.chunk_delay_us
        wanted = ["-c", connections, "-n", str(s.streams), "-s", "-t", str(s.chunks), "-r", f"{ramp:.0f}"]
        chunk, chunk_cpu = self._work(system, wanted, s.streams * s.chunks)

        self.mock.pace(0)
        self.load(system, ["-c", connections, "-n", str(system.reminder)])
        plain_requests = int(system.plain_requests * s.plain_factor)
        plain, plain_cpu = self._work(system, ["-c", connections, "-n", str(plain_requests)], plain_requests)
        alone = self.load(system, ["-c", "1", "-n", str(s.alone)])
        first = self.load(system, ["-c", "1", "-n", str(s.alone_streams), "-s", "-t", "1"])
        return Round(
            plain=plain_cpu.pop("", None),
            chunk=chunk_cpu.pop("", None),
            plain_beside=plain_cpu,
            chunk_beside=chunk_cpu,
            requests_a_second=plain["rate"],
            latency=alone["latency_p50"],
            first=first["first_p50"],
            lag=chunk["lag_p50"],
            lag_p99=chunk["lag_p99"],
        )

    def open_streams(self, system: System) -> dict[str, Any]:
        """Many slow streams at once. Returns the client's result and what the system held in memory, in bytes a stream.

        Never raises for failed streams: their number is the result.
        """
        s = self.sizes
        ramp_seconds = -(-s.open_streams // s.open_ramp)
        chunks = ramp_seconds + s.open_seconds  # one a second: the first stream outlives the opening of the last
        self.mock.pace(1_000_000)
        if system.pid is None:
            raise BenchError(f"{system.name} has no memory to measure")
        before = memory(system.pid)
        peak, cpu = before, cpu_seconds(system.pid)
        arguments = self._arguments(
            system,
            ["-c", str(s.open_streams), "-n", str(s.open_streams), "-s", "-t", str(chunks), "-r", str(s.open_ramp)],
        )
        client = subprocess.Popen(
            [str(self.build / "load"), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            deadline = time.monotonic() + chunks + 60
            while client.poll() is None:
                if time.monotonic() > deadline:
                    raise BenchError(f"{system.name}: the open streams did not end")
                now = memory(system.pid)
                peak = Memory(max(peak.resident, now.resident), max(peak.private, now.private))
                time.sleep(0.5)
            result: dict[str, Any] = json.loads(client.communicate()[0])
        finally:
            client.kill()
            client.wait()
        time.sleep(SETTLING_SECONDS)
        self._count(system, result["done"])
        result["whole"] = min(result["with_done"], result["with_usage"])
        result["memory_a_stream"] = (peak.private - before.private) / s.open_streams
        result["memory_before"], result["memory_peak"] = before.private, peak.private
        result["cpu_a_chunk"] = (cpu_seconds(system.pid) - cpu) / max(1, result["events"]) * 1e6
        return result

    def turns(self, system: System) -> Turns:
        """How fast a slot goes to whoever waits for it. The system must have been told that its server has one slot.

        Raises BenchError when it did not keep to that.
        """
        self.mock.pace(ANSWER_DELAY_US)
        wanted = ["-c", str(WAITING), "-s", "-t", str(ANSWER_CHUNKS)]
        self.load(
            system, [*wanted, "-n", str(WAITING)]
        )  # each worker has heard of the change, and connections are open
        self.mock.gaps(forget=True)
        self.load(system, [*wanted, "-n", str(self.sizes.turns)])
        told = self.mock.gaps()
        if told["count"] < self.sizes.turns - 1:
            raise BenchError(f"{system.name}: of {self.sizes.turns} answers only {told['count']} had the server alone")
        return Turns(told["count"], told["p50_ns"] / 1000, told["p95_ns"] / 1000)

    def _work(self, system: System, arguments: list[str], units: int) -> tuple[dict[str, Any], dict[str, float]]:
        """Do it. Returns the client's result and CPU µs a unit: the system's own under "", the others by name."""
        roots = ({"": system.pid} if system.pid is not None else {}) | dict(system.beside)
        stats = self.mock.stats()
        before = {name: cpu_seconds(pid) for name, pid in roots.items()}
        result = self.load(system, arguments)
        time.sleep(SETTLING_SECONDS)
        used = {name: (cpu_seconds(pid) - before[name]) / units * 1e6 for name, pid in roots.items()}
        self._compare(system, stats, result)
        return result, used

    def _compare(self, system: System, before: dict[str, int], result: dict[str, Any]) -> None:
        after = self.mock.stats()
        if after["requests"] - before["requests"] < result["done"]:
            raise BenchError(
                f"{system.name} answered {result['done']} requests, but fewer reached the upstream: it has a cache"
            )
        if "events" in result and (
            after["events"] - before["events"] != result["events"] or after["aborted"] != before["aborted"]
        ):
            raise BenchError(
                f"{system.name}: of {after['events'] - before['events']} events that left the upstream, "
                f"{result['events']} arrived"
            )

    def load(self, system: System, arguments: list[str]) -> dict[str, Any]:
        """Run the client against the system. Raises BenchError when any request failed."""
        result = load(self.build, self._arguments(system, arguments), seconds=120)
        self._count(system, result["done"])
        return result

    def _arguments(self, system: System, arguments: list[str]) -> list[str]:
        return ["-p", str(system.port), *system.keys, *arguments]

    def _count(self, system: System, done: int) -> None:
        self.answered[system.name] = self.answered.get(system.name, 0) + done
