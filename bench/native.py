"""The two C programs: the upstream that costs next to nothing, and the client that tells the truth about errors.

Compiled when they are missing or older than their source.
"""

import json
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import BenchError, Processes, die_with_parent

SOURCE = Path(__file__).resolve().parent / "native"
PROGRAMS = {"mock": ("mock.c",), "load": ("load.c", "reply.c")}


def compile_programs(build: Path) -> None:
    """Bring `build/mock` and `build/load` up to date. Raises BenchError without a compiler or when it complains."""
    build.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in SOURCE.iterdir())
    for name, sources in PROGRAMS.items():
        target = build / name
        if target.exists() and target.stat().st_mtime > newest:
            continue
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise BenchError("a C compiler is needed (Debian: apt install gcc libc6-dev)")
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), *(str(SOURCE / s) for s in sources), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command)}\n{done.stderr}")


@dataclass(frozen=True, slots=True)
class Mock:
    """The running upstream."""

    port: int
    pid: int

    def pace(self, delay_us: int) -> None:
        """From now on, so long between the events of a stream; 0 sends all at once. Microseconds."""
        self._get(f"/__set?delay_us={delay_us}")

    def stats(self) -> dict[str, int]:
        """Its counters: requests, streams, aborted, events, accepted, open, streaming."""
        return self._get("/__stats")

    def gaps(self, *, forget: bool = False) -> dict[str, int]:
        """How long the server was empty between a stream and the next request: count, p50_ns, p95_ns.

        forget: from now on only those to come.
        """
        return self._get("/__gaps" + ("?forget=1" if forget else ""))

    def _get(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            result: dict[str, int] = json.load(answer)
            return result


def start_mock(processes: Processes, build: Path, port: int, *, old_dialect: bool) -> Mock:
    """Start the upstream. old_dialect: streams as Ollama up to 0.32.5 sent them."""
    pid = processes.start("mock", [build / "mock", "-p", str(port), *(["-o"] if old_dialect else [])])
    processes.wait_for_port("mock", port, 5)
    return Mock(port, pid)


def load(build: Path, arguments: list[str], *, seconds: float) -> dict[str, Any]:
    """Run the client to its end and give its result.

    Raises BenchError when any request failed in any way: a round with errors measures nothing.
    """
    done = subprocess.run(
        [str(build / "load"), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        raise BenchError(f"load {' '.join(arguments)}: {done.stderr.strip()}")
    return checked(json.loads(done.stdout), arguments)


def checked(result: dict[str, Any], arguments: list[str]) -> dict[str, Any]:
    """The client's result, unless it tells of a failure: then BenchError with the client's own words."""
    streamed = "-s" in arguments
    whole = not streamed or result["with_done"] == result["with_usage"] == result["done"]
    if result["errors"] or result["non200"] or not whole:
        told = {
            k: result[k] for k in ("done", "errors", "non200", "with_done", "with_usage", "first_error") if k in result
        }
        raise BenchError(f"load {' '.join(arguments)}\n  {told}")
    return result
