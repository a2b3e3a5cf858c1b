"""All the work that is due, done here and now: for hosts where nothing may run for long and cron calls once a minute.

It needs neither worker nor scheduler nor store. Beside them it does no harm, since everything is claimed. What the web
processes put into a store that no worker serves is thrown away: nobody would ever take it.
"""

import time

from portal import queue
from portal.models import Delivery, EventStep
from portal.services import runs, timetable, work
from portal.services.notifications import delivery
from portal.tasks.graph import GRAPH
from portal.tasks.schedule import TIMETABLE

AT_ONCE = 100


def tick(seconds: float) -> dict[str, int]:
    """Run jobs, steps and deliveries until nothing is due or the time is up. Returns how many of each."""
    deadline = time.monotonic() + seconds
    done = {"jobs": 0, "steps": 0, "messages": 0}
    done["jobs"] = sum(timetable.run(job) for job in TIMETABLE if timetable.due(job))
    while time.monotonic() < deadline:
        runs.unfold_new(GRAPH)
        steps = sum(runs.run_step(GRAPH, step_id) is not None for step_id in work.due(EventStep, AT_ONCE))
        messages = 0
        for delivery_id in work.due(Delivery, AT_ONCE):
            if time.monotonic() < deadline:
                messages += delivery.deliver_one(delivery_id) is not None
        if not steps and not messages:
            break
        done["steps"] += steps
        done["messages"] += messages
    queue.empty_unserved()
    return done
