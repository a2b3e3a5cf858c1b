"""The order of the run: compile, start everything, warm up, rounds in turn, open streams, books, tables, goals.

All of it is bounded in time, and whatever ends it, everything that was started is stopped.
"""

import argparse
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import litellm, native, nginx, report
from bench.measure import Bench, Round, Sizes
from bench.ours import Ours
from bench.processes import BenchError, Processes, refuse_taken_ports
from bench.profiling import profile
from bench.systems import PORTS, Ground, Missing, System, direct

HERE = Path(__file__).resolve().parent
NAMES = ("direct", "nginx", "litellm", "ours")
LIMIT_SECONDS = 360
ROUNDS_SECONDS = 230
"""No new round begins after this: on a machine with other work to do, fewer rounds are better than none."""
QUICK = dict(
    rounds=2,
    plain_factor=0.25,
    streams=32,
    chunks=40,
    alone=30,
    alone_streams=10,
    open_streams=200,
    open_seconds=3,
    turns=60,
)


def main() -> int:
    """Run. 0: done (and, with --check, every goal met); 1: a goal missed with --check; 2: the run could not be done."""
    options = _arguments()
    if options.messages:
        return _messages()
    limit = 120 if options.quick else LIMIT_SECONDS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit unwinds, and unwinding stops what was started
    build = HERE / "build"
    try:
        native.compile_programs(build)
        wanted = _installed(options.only or list(NAMES), build)
        with _at_most(limit):
            return _run(options, wanted, build)
    except BenchError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130


def _messages() -> int:
    from bench import messages  # it needs the portal and the tests' servers, which the others do without

    try:
        return messages.main([])
    except BenchError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="CPU time and latency of the gateway beside nginx and LiteLLM; see docs/benchmarks.md"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke: everything runs, the figures are rough")
    parser.add_argument("--check", action="store_true", help="end with 1 when a goal is missed")
    parser.add_argument("--only", action="append", choices=NAMES, help="only this system and direct; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of each system (5)")
    parser.add_argument("--open-streams", type=int, help="streams open at once (1000; 0 leaves that run out)")
    parser.add_argument("--accounts", type=int, default=1000, help="customers of the portal, each with a key (1000)")
    parser.add_argument("--old-dialect", action="store_true", help="the upstream streams as Ollama up to 0.32.5 did")
    parser.add_argument(
        "--together", action="store_true", help="begin all streams of a round at once: their events coincide"
    )
    parser.add_argument(
        "--profile", action="store_true", help="instead of measuring: where the CPU time goes (py-spy or perf)"
    )
    parser.add_argument(
        "--messages", action="store_true", help="instead: ten thousand messages through the worker (bench/messages.py)"
    )
    parser.add_argument(
        "--port-base",
        type=int,
        default=int(os.environ.get("BENCH_PORT", "18200")),
        help="the first of six ports (18200)",
    )
    return parser.parse_args()


def _installed(names: list[str], build: Path) -> list[str]:
    """The names without LiteLLM where it can't be had. Before the clock starts: a first installation takes its time."""
    if "litellm" in names:
        try:
            litellm.install(build)
        except Missing as reason:
            print(f"litellm is not measured: {reason}")
            return [n for n in names if n != "litellm"]
    return names


def _run(options: argparse.Namespace, wanted: list[str], build: Path) -> int:
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    if options.rounds:
        changes["rounds"] = options.rounds
    if options.together:
        changes["together"] = True
    if options.open_streams is not None:
        changes["open_streams"] = options.open_streams
    sizes = Sizes(**changes)
    files = _raise_file_limit()
    used = {"mock", *wanted, *(("postgresql", "redis") if "ours" in wanted else ())}
    refuse_taken_ports({name: options.port_base + offset for name, offset in PORTS.items() if name in used})
    began = time.monotonic()
    processes = Processes(build / "logs")
    ours: Ours | None = None
    try:
        mock = native.start_mock(processes, build, options.port_base, old_dialect=options.old_dialect)
        ground = Ground(build, options.port_base, processes, mock, 100 if options.quick else options.accounts)
        systems = [direct(ground)]
        if "nginx" in wanted:
            _add(systems, "nginx", lambda: nginx.start(ground, files=files))
        if "litellm" in wanted:
            _add(systems, "litellm", lambda: litellm.start(ground))
        if "ours" in wanted:
            try:
                ours = Ours(ground)
                systems.append(ours.system)
            except Missing as reason:
                print(f"ours is not measured: {reason}")
        bench = Bench(build, mock, sizes)
        for system in systems:
            _say(began, f"warm-up of {system.name}")
            bench.warm_up(system)
        if options.profile:
            for system in systems[1:]:
                print(f"\n{system.name}\n{profile(bench, system, build)}")
            return 0
        rounds = _rounds(bench, systems, began)
        opened = _open_streams(bench, systems, began) if sizes.open_streams else {}
        turns = None
        if ours is not None:
            _say(began, f"{sizes.turns} turns at one slot")
            ours.one_slot()
            turns = bench.turns(ours.system)
        dialect = "up to 0.32.5" if options.old_dialect else "from 0.32.6"
        together = ", streams begun together" if sizes.together else ""
        took = f"{len(rounds['direct'])} rounds, whole run {time.monotonic() - began:.0f} s"
        notes = [f"{took}; upstream as Ollama {dialect}{together}"]
        if ours is not None:
            notes.append("ours: " + ours.check_books(bench.answered["ours"]))
    finally:
        processes.stop_all()
        if ours is not None:
            ours.close()
    found = report.goals(rounds, opened, turns)
    text = report.tables(systems, rounds, opened, turns) + ("\n" + report.goal_lines(found) + "\n" if found else "")
    path = report.write(HERE / "results", text, sizes, systems, rounds, opened, turns, notes)
    print(f"\n{report.machine()}\n\n{text}\n" + "\n".join(notes) + f"\nwritten to {path}")
    if options.check and not found:
        print("bench: no goal could be judged without ours", file=sys.stderr)
        return 1
    return 1 if options.check and not all(g.met for g in found) else 0


def _add(systems: list[System], name: str, start: Callable[[], System]) -> None:
    try:
        systems.append(start())
    except Missing as reason:
        print(f"{name} is not measured: {reason}")


def _rounds(bench: Bench, systems: list[System], began: float) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {system.name: [] for system in systems}
    for number in range(bench.sizes.rounds):
        if number and time.monotonic() - began > ROUNDS_SECONDS:
            print(f"the machine is slow: {number} rounds must do")
            break
        turn = number % len(systems)
        for system in systems[turn:] + systems[:turn]:  # nobody always comes after the heaviest
            result = bench.round(system)
            rounds[system.name].append(result)
            cpu = (
                ""
                if result.plain is None or result.chunk is None
                else f"{result.plain:8.1f} µs a request {result.chunk:7.2f} µs a chunk"
            )
            _say(began, f"round {number + 1} {system.name:8} {cpu}")
    return rounds


def _open_streams(bench: Bench, systems: list[System], began: float) -> dict[str, dict[str, Any]]:
    opened = {}
    for system in systems:
        if system.name in ("nginx", "ours"):  # LiteLLM can't open them as fast as they come; docs/benchmarks.md
            _say(began, f"{bench.sizes.open_streams} open streams through {system.name}")
            opened[system.name] = {"asked": bench.sizes.open_streams, **bench.open_streams(system)}
    return opened


def _raise_file_limit() -> int:
    """As many open files as we may have: a stream takes two in a gateway. What is started inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, 60_000)


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def over(*_: object) -> None:
        raise BenchError(f"the run took longer than {seconds} s and was stopped")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
