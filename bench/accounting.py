"""What a process and all its descendants used: CPU from the kernel's own clocks, memory from /proc.

Requests a second depend on what else the machine does at that moment; CPU time for a fixed piece of work hardly does.
Linux only.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `resident` counts pages that processes share once for each of them; `private` counts none of those."""

    resident: int
    private: int


def tree(root: int) -> list[int]:
    """The process ids of `root` and its descendants; empty when it is gone."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    if _stat(root) is None:
        return []
    found = [root]
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, those of its children that ended and were waited for included.

    Only differences mean anything.
    """
    return sum(own_cpu_seconds(pid) + _ended_children(pid) for pid in tree(root))


def memory(root: int) -> Memory:
    """What the tree holds in memory now."""
    resident = private = 0
    for pid in tree(root):
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:  # gone meanwhile, or another user's and we are not root
            continue
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines()[1:]}
        resident += values["Rss"]
        private += values["Private_Clean"] + values["Private_Dirty"]
    return Memory(resident, private)


def own_cpu_seconds(pid: int) -> float:
    """User and system time of this one process; 0 when it is gone."""
    # The clock of a process in nanoseconds, ended threads included. /proc/<pid>/stat tells the same in whole
    # hundredths of a second, and a round of nginx takes six. The kernel's number is ~pid << 3 | CPUCLOCK_SCHED.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _ended_children(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) / TICKS if fields else 0.0


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the name, which may itself hold blanks and brackets."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
