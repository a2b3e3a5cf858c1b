"""What is compared, told in one shape: where it listens, which keys it takes, whose CPU time is its own.

`nginx.py`, `litellm.py` and `ours.py` each start one; `direct` is the way without any gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.native import Mock
from bench.processes import Processes


class Missing(Exception):
    """This system can't be measured here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every starter needs to know."""

    build: Path
    port_base: int
    processes: Processes
    mock: Mock
    accounts: int


@dataclass(frozen=True, slots=True)
class System:
    """A started system. `plain_requests` is the size of a round: large enough to measure, small enough to wait for."""

    name: str
    port: int
    pid: int | None
    """The root of the processes whose CPU time is the system's; None for `direct`, which has none."""
    keys: tuple[str, ...] = ()
    """The client's arguments for keys."""
    plain_requests: int = 4000
    warm_up: int = 1000
    reminder: int = 100
    """Requests before each round that are not counted."""
    beside: Mapping[str, int] = field(default_factory=dict)
    """Servers it leans on, by name: process ids. Measured too, and told apart."""
    version: str = ""


PORTS = {"mock": 0, "nginx": 1, "litellm": 2, "ours": 3, "postgresql": 4, "redis": 5}
"""Offsets from the port base."""


def direct(ground: Ground) -> System:
    """The client speaks to the upstream itself: the latency that no gateway can be blamed for."""
    return System("direct", ground.mock.port, None)
