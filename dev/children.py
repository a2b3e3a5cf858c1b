"""Processes that we start and are answerable for: each in a group of its own, on a leash, writing to its own log file.

The log is the child's own file, not a pipe through us: a launcher that dies takes no child down with a broken pipe
before it could finish properly. Used by `make run` and by the tests' real servers alike.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")


class Child:
    """One process with its group. `argv`: the command; `environ`: all of its environment; `log`: where it writes."""

    def __init__(self, name: str, argv: Sequence[str], environ: Mapping[str, str], log: Path, cwd: Path) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-ISs", str(LEASH), str(os.getpid()), *argv],
                env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self.process.poll()

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        """Send to the process alone (its own children are its own business). Nothing happens when it has ended."""
        if self.running:
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """End the process and everything it started, now."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def last_lines(self, count: int = 15) -> list[str]:
        """The end of its log, for whoever has to say why it failed."""
        return self.log.read_text(errors="replace").splitlines()[-count:]


def stop(children: Sequence[Child], seconds: float) -> list[str]:
    """Ask all of them to end, wait at most `seconds` for all together, then kill what is left of their groups.

    Returns the names of those that had to be killed.
    """
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(c.running for c in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    late = [c.name for c in children if c.running]
    for child in children:
        child.kill_group()  # also what a child that ended well has left behind
    return late
