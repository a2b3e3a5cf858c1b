"""Where the CPU time of one system goes: for whoever wants to make it smaller. Uses py-spy or perf."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench.accounting import own_cpu_seconds, tree
from bench.measure import Bench
from bench.systems import System

SECONDS = 8


def profile(bench: Bench, system: System, build: Path) -> str:
    """Sample the busiest process of the system under plain requests, then under streams. Returns what was found."""
    if system.pid is None:
        return "direct has no process to look into"
    found = []
    plain = ["-c", "32", "-d", str(SECONDS)]
    streams = ["-c", "32", "-d", str(SECONDS - 3), "-s", "-t", "100", "-r", "1000"]
    for what, arguments in (("plain", plain), ("streams", streams)):
        bench.mock.pace(0 if what == "plain" else bench.sizes.chunk_delay_us)
        worker = max(tree(system.pid), key=own_cpu_seconds)
        target = build / f"profile-{system.name}-{what}"
        sampler = _sampler(worker, target)
        if sampler is None:
            return "neither py-spy nor perf is installed"
        with subprocess.Popen(
            sampler, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            time.sleep(0.5)
            bench.load(system, arguments)
            process.send_signal(signal.SIGINT)
            process.wait(20)
        found.append(f"== {what}\n{_told(sampler[0], target)}")
    return "\n".join(found)


def _sampler(pid: int, target: Path) -> list[str] | None:
    if py_spy := shutil.which("py-spy"):
        return [py_spy, "record", "-r", "500", "-d", "600", "-f", "raw", "-o", str(target), "-p", str(pid)]
    if perf := shutil.which("perf"):
        return [perf, "record", "-e", "cpu-clock", "-F", "997", "-o", str(target), "-p", str(pid)]
    return None


def _told(sampler: str, target: Path) -> str:
    if not target.exists():
        return "no samples: the sampler could not attach (run as root, or allow ptrace and perf events)"
    if sampler.endswith("perf"):
        told = subprocess.run(
            [sampler, "report", "-i", str(target), "--stdio", "--no-children", "-s", "dso,symbol"],
            capture_output=True,
            text=True,
            check=False,
        )
        return "\n".join([line for line in told.stdout.splitlines() if line.strip() and not line.startswith("#")][:60])
    own: dict[str, int] = {}
    for line in target.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        leaf = stack.rpartition(";")[2]
        own[leaf] = own.get(leaf, 0) + int(samples)
    total = sum(own.values()) or 1
    return "\n".join(f"{n / total:6.1%}  {leaf}" for leaf, n in sorted(own.items(), key=lambda item: -item[1])[:40])
