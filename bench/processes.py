"""Starts what is measured, each in a process group of its own, and stops all of it, whatever happened in between.

Nothing is ever ended by its name: other people's servers may be called the same.
"""

import contextlib
import ctypes
import functools
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    """The run can't go on; the message says why in words for the person who started it."""


class Processes:
    """What this run started, newest last."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.running: list[tuple[str, subprocess.Popen[bytes], signal.Signals]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        user: str | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> int:
        """Start a server; its output goes to `<logs>/<name>.log`. Returns its process id."""
        identity = pwd.getpwnam(user) if user else None
        with (self.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we stop them in order
                user=identity.pw_uid if identity else None,
                group=identity.pw_gid if identity else None,
                extra_groups=[] if identity else None,
                preexec_fn=functools.partial(die_with_parent, stop),
            )
        self.running.append((name, process, stop))
        return process.pid

    def wait_for_port(self, name: str, port: int, seconds: float) -> None:
        """Wait until `port` answers. Raises BenchError when the process ends or the time is over."""
        process = next(p for n, p, _ in self.running if n == name)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise BenchError(
                    f"{name} ended with status {process.returncode} at its start:\n{self.last_words(name)}"
                )
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.1)
        raise BenchError(f"{name} did not answer on port {port} within {seconds:.0f} s:\n{self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """The end of a server's log."""
        return (self.logs / f"{name}.log").read_text(errors="replace")[-2000:].strip()

    def stop_all(self) -> None:
        """Stop everything, newest first: asked politely, then, after five seconds, killed with its whole group."""
        while self.running:
            _, process, polite = self.running.pop()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(polite)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the group outlives its leader as long as a member runs
            process.wait()


def refuse_taken_ports(ports: Mapping[str, int]) -> None:
    """Raises BenchError naming the first port somebody else listens on: their server would be measured as ours."""
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise BenchError(f"port {port}, meant for {name}, is taken; choose others with --port-base") from error


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """For `preexec_fn`: killed with -9, we can stop nobody; then the kernel does.

    how: SIGKILL only for what has no children: they would not be told, and an orphaned nginx worker keeps its port.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, how)
