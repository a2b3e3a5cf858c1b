"""From rounds to what a person reads: medians with their spread, ratios, goals; a JSON file for machines.

Ratios are of medians taken in the same interleaved run; absolute numbers are this machine's on that day.
"""

import datetime as dt
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.measure import Round, Sizes, Turns
from bench.systems import System

COLUMNS = ("added p50", "added first event p50", "event's way, p50 / p99", "requests a second")
Rounds = Mapping[str, Sequence[Round]]


class Goal(NamedTuple):
    """`value` must not be above `limit`."""

    text: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def tables(
    systems: Sequence[System], rounds: Rounds, opened: Mapping[str, Mapping[str, Any]], turns: Turns | None
) -> str:
    """Everything that was measured, as Markdown."""
    lines = _head("", "plain request, CPU µs", "streamed chunk, CPU µs", *COLUMNS)
    base = rounds["direct"]
    for system in systems:
        of = rounds[system.name]
        label = f"{system.name} {system.version}".strip()
        cells = [label, _spread(of, lambda r: r.plain), _spread(of, lambda r: r.chunk)]
        added = [_time(_median(of, what) - _median(base, what)) for what in ("latency", "first")]
        cells.extend(added if system.pid is not None else ["", ""])
        cells.append(f"{_time(_median(of, 'lag'))} / {_time(_median(of, 'lag_p99'))}")
        cells.append(f"{_median(of, 'requests_a_second'):,.0f}")
        lines.append("| " + " | ".join(cells) + " |")
        for name in system.beside:
            lines.append(
                f"| its {name} | {_spread(of, lambda r, n=name: r.plain_beside.get(n))} "  # type: ignore[misc]
                f"| {_spread(of, lambda r, n=name: r.chunk_beside.get(n))} | | | | |"  # type: ignore[misc]
            )
    text = "\n".join(lines) + "\n\nCPU: median of the rounds (smallest to largest). "
    text += "Added: one request at a time, less the same without a gateway.\n"
    pairs = [(a, b) for a, b in (("ours", "nginx"), ("litellm", "ours")) if a in rounds and b in rounds]
    if pairs:
        lines = _head("ratio", "plain request", "streamed chunk")
        for a, b in pairs:
            lines.append(f"| {a} ÷ {b} | {ratio(rounds, a, b, 'plain'):.1f} | {ratio(rounds, a, b, 'chunk'):.2f} |")
        text += "\n" + "\n".join(lines) + "\n"
    if opened:
        lines = _head("streams open at once", "asked", "open", "failed", "private memory a stream", "CPU µs a chunk")
        for name, r in opened.items():
            counts = f"{r['asked']:,} | {r['most_open']:,} | {failed(r):,}"
            lines.append(f"| {name} | {counts} | {r['memory_a_stream'] / 1024:.1f} KiB | {r['cpu_a_chunk']:.1f} |")
        text += "\n" + "\n".join(lines) + "\n"
    if turns is not None:
        lines = _head("a slot free again while a request waits", "turns", "until the next is there, p50", "p95")
        lines.append(f"| ours | {turns.count:,} | {_time(turns.median)} | {_time(turns.p95)} |")
        text += "\n" + "\n".join(lines) + "\n"
    return text


def _head(*columns: str) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]


def goals(rounds: Rounds, opened: Mapping[str, Mapping[str, Any]], turns: Turns | None) -> list[Goal]:
    """The goals that this run can judge: those whose systems took part."""
    found = []
    if "ours" in rounds and "litellm" in rounds:
        found.append(
            Goal("a plain request costs at most 1/12 of LiteLLM's", ratio(rounds, "ours", "litellm", "plain"), 1 / 12)
        )
        found.append(
            Goal("a streamed chunk costs at most 1/12 of LiteLLM's", ratio(rounds, "ours", "litellm", "chunk"), 1 / 12)
        )
    if "ours" in rounds and "nginx" in rounds:
        found.append(
            Goal("a plain request costs at most 40 times nginx's", ratio(rounds, "ours", "nginx", "plain"), 40)
        )
        found.append(
            Goal("a streamed chunk costs at most 3.5 times nginx's", ratio(rounds, "ours", "nginx", "chunk"), 3.5)
        )
    if "ours" in opened:
        r = opened["ours"]
        found.append(
            Goal(
                f"{r['asked']:,} streams open at once on one worker, failed or not open",
                failed(r) + r["asked"] - r["most_open"],
                0,
            )
        )
    if turns is not None:
        found.append(Goal("a slot free again is used by who waits for it, median ms", turns.median / 1000, 10))
    return found


def failed(result: Mapping[str, Any]) -> int:
    """Streams that did not come whole: an error, another status, or no usage, or no end."""
    return max(int(result["errors"] + result["non200"]), int(result["asked"] - result["whole"]))


def ratio(rounds: Rounds, a: str, b: str, what: str) -> float:
    """How much `a` costs of what `b` costs."""
    return _median(rounds[a], what) / _median(rounds[b], what)


def goal_lines(found: Sequence[Goal]) -> str:
    return "\n".join(f"{'PASS' if g.met else 'FAIL'}  {g.text}: {g.value:.3g} (at most {g.limit:.3g})" for g in found)


def write(
    directory: Path,
    text: str,
    sizes: Sizes,
    systems: Sequence[System],
    rounds: Rounds,
    opened: Mapping[str, Mapping[str, Any]],
    turns: Turns | None,
    notes: Sequence[str],
) -> Path:
    """Write `<directory>/<date>.json` and `.md`; returns the path of the latter."""
    directory.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    told = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "sizes": {name: getattr(sizes, name) for name in sizes.__slots__},
        "versions": {s.name: s.version for s in systems},
        "rounds": {name: [{n: getattr(r, n) for n in r.__slots__} for r in of] for name, of in rounds.items()},
        "open_streams": dict(opened),
        "turns": None if turns is None else {n: getattr(turns, n) for n in turns.__slots__},
        "goals": [{**g._asdict(), "met": g.met} for g in goals(rounds, opened, turns)],
        "notes": list(notes),
    }
    path = directory / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(json.dumps(told, indent=1, default=str) + "\n")
    markdown = path.with_suffix(".md")
    markdown.write_text(f"{now:%Y-%m-%d}, {machine()}\n\n{text}\n" + "".join(f"- {n}\n" for n in notes))
    return markdown


def machine() -> str:
    """The machine in one line."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    processor = names[0] if names else platform.machine()
    return f"{cores} cores of {processor}, Linux {platform.release()}, Python {platform.python_version()}"


def _median(of: Sequence[Round], name: str) -> float:
    return float(median(getattr(r, name) for r in of))


def _spread(of: Sequence[Round], get: Callable[[Round], float | None]) -> str:
    values = [v for r in of if (v := get(r)) is not None]
    if not values:
        return ""
    return f"{_figure(median(values))} ({_figure(min(values))} to {_figure(max(values))})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _time(us: float) -> str:
    return f"{us / 1000:.2f} ms" if abs(us) >= 1000 else f"{us:.0f} µs"
