"""A worker whose steps do what a test wants: kill their process, or stop in the middle. Its clock is a file's.

`rq worker -w tests.tasks.scripted_worker.ScriptedWorker`; everything else is the product's own worker.
"""

import datetime as dt
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portal import clock
from portal.services import events, work
from portal.services.runs import Run, Step
from portal.tasks import graph
from portal.tasks.worker import PortalWorker
from tests.services import database_clock

FOLDER = Path(os.environ["SCRIPT"])
"""`ahead`: how many seconds the clock is moved on. `begun`: the slow step is in the middle of its work."""


def utcnow() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=float((FOLDER / "ahead").read_text()))


def deadly(run: Run) -> None:
    """The C library that crashes, the memory that is used up: nothing in Python hears of it."""
    os._exit(9)


def slow(run: Run) -> Mapping[str, Any]:
    """Has its effect, committed, and is then in the middle of something for as long as nobody kills it."""
    told = graph.tell_staff(run)
    if not (FOLDER / "begun").exists():
        (FOLDER / "begun").touch()
        time.sleep(600)
    return told


class ScriptedWorker(PortalWorker):
    """Its children inherit the script."""


clock.utcnow = utcnow
vars(work)["database_now"] = lambda: database_clock.told_now(utcnow())  # leases go by it
graph.GRAPH[events.PROVIDER_DOWN] = (Step("deadly", deadly), Step("after", slow, ("deadly",)))  # type: ignore[index]
graph.GRAPH[events.PROVIDER_UP] = (Step("slow", slow),)  # type: ignore[index]
