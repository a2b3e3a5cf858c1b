"""What follows from events: unfolded into steps, run, and swept for what was lost on the way."""

from portal.services import runs
from portal.tasks.graph import GRAPH


def unfold(*event_ids: str) -> int:
    """Returns how many had not been unfolded before."""
    return sum(runs.unfold(GRAPH, event_id) for event_id in event_ids)


def run_steps(*step_ids: str) -> int:
    """Returns how many were due and nobody else's."""
    return sum(runs.run_step(GRAPH, step_id) is not None for step_id in step_ids)


def sweep_events() -> int:
    """Returns how much was handed over."""
    return runs.sweep(GRAPH)
