"""`flask tasks …`: what happens later, as an operator sees it: runs of events, their steps, the timetable, the queue.

All that is read comes from rows, so it is told while the store is away. `again` is the one command that changes.
"""

import datetime as dt
import json

import click
from flask.cli import AppGroup

from portal.clock import KUWAIT
from portal.commands import listing
from portal.errors import NotFound
from portal.services import run_views, runs, timetable
from portal.services.run_views import RunLine, RunView, StepView
from portal.services.timetable import Job, JobState
from portal.tasks.graph import GRAPH, drawing
from portal.tasks.schedule import JOBS, TIMETABLE

group = AppGroup("tasks", help="Runs of events, their steps, the timetable and the queue.")


@group.command("list")
@click.option("--state", type=click.Choice(run_views.STATES))
@click.option("--kind", type=click.Choice(list(GRAPH)), metavar="KIND")
@click.option("--limit", type=click.IntRange(1, run_views.MOST), default=20, show_default=True)
@click.option("--before", help="Those before this one: the last ID of the list above.")
def list_runs(state: str | None, kind: str | None, limit: int, before: str | None) -> None:
    """Runs, the newest first: id, when, kind, occasion, state, steps that are done."""
    found = run_views.page(state=state, kind=kind, before=before, limit=limit)
    listing.tell(found.lines, found.before, _told)


@group.command()
@click.argument("run")
def show(run: str) -> None:
    """The run RUN (its id, or the beginning of it): its facts, and each step with its state, tries, time and error."""
    found = _find(run)
    click.echo(_told(found.line))
    if found.line.finished_at is not None:
        click.echo(f"ended: {_when(found.line.finished_at)}")
    for name, value in found.facts.items():
        click.echo(f"  {name}: {_plain(value)}")
    click.echo("")
    for step in found.steps:
        click.echo(_drawn(step))
        if step.error:
            click.echo(f"{'  ' * step.depth}    {step.error}")
        if step.result:
            click.echo(f"{'  ' * step.depth}    → {', '.join(f'{n}: {_plain(v)}' for n, v in step.result.items())}")


@group.command()
@click.argument("run")
@click.argument("step", required=False)
def again(run: str, step: str | None) -> None:
    """Run the dead steps of RUN again (or STEP alone), and then what waits behind them."""
    found = _find(run)
    dead = found.dead(step)
    if step is not None and step not in {one.name for one in found.steps}:
        raise click.ClickException(f"{found.line.id} has no step {step}.")
    if not dead:
        what = f"{step} of {found.line.id} is not" if step else f"No step of {found.line.id} is"
        raise click.ClickException(f"{what} dead: there is nothing to run again.")
    if found.line.kind not in GRAPH:
        raise click.ClickException(f"This release does not know {found.line.kind}: run it with the one that does.")
    for one in dead:
        assert one.id is not None
        try:
            runs.run_again(GRAPH, one.id)
        except runs.NotRunnable as error:
            raise click.ClickException(f"{one.name} is not dead any more: somebody was quicker.") from error
        click.echo(f"{one.name} is due now.")


@group.command()
def graph() -> None:
    """What follows from each event, as it is declared."""
    click.echo(drawing())


@group.command("timetable")
def show_timetable() -> None:
    """Every job: when, its latest run, what went wrong, what comes next; and how much waits in the queue."""
    for state in timetable.states(TIMETABLE):
        for line in _job(JOBS[state.name], state):
            click.echo(line)
    lengths = run_views.waiting()
    told = "unknown, the store is away" if lengths is None else ", ".join(f"{n} {name}" for name, n in lengths.items())
    click.echo(f"\nIn the queue: {told}")


def _find(run: str) -> RunView:
    try:
        return run_views.find(GRAPH, run.strip().lower())
    except NotFound as error:
        raise click.ClickException(f"There is no run {run}.") from error
    except run_views.Ambiguous as several:
        raise click.ClickException("Several runs begin like that:\n  " + "\n  ".join(several.ids)) from several


def _told(line: RunLine) -> str:
    steps = f"{line.done}/{line.total} steps" if line.total else "no steps yet"
    state = line.state.upper() if line.state == "dead" else line.state
    return f"{line.id}  {_when(line.created_at)}  {line.kind}  {line.occasion}  {state}, {steps}"


def _drawn(step: StepView) -> str:
    after = f"  (after {', '.join(step.needs)})" if step.needs else ""
    head = "  " * step.depth + "→ " + step.name + after
    if step.state is None:
        return f"{head}  not there yet"
    told = [step.state.upper() if step.state in ("dead", "blocked") else step.state]
    if step.tries:
        told.append(f"{step.tries} {'try' if step.tries == 1 else 'tries'}")
    if step.started_at is not None:
        told.append(_when(step.started_at))
    if step.duration_ms is not None:
        told.append(f"{step.duration_ms} ms")
    if step.state == "waiting" and step.tries and step.due_at is not None:
        told.append(f"next try {_when(step.due_at)}")
    return f"{head}  {', '.join(told)}"


def _job(job: Job, state: JobState) -> list[str]:
    row = state.row
    marks = (", STALE" if state.stale else "") + (f", FAILING {row.failures} times" if row and state.failing else "")
    lines = [f"{job.name}  ({run_views.when(job)}{marks})"]
    if row is None:
        return [*lines, "  never seen: does the scheduler run?"]
    if row.started_at is None:
        last = "never run"
    elif row.ended_at is None or row.ended_at < row.started_at:
        last = f"began {_when(row.started_at)}, runs or died"
    else:
        last = f"ran {_when(row.started_at)}, ended {_when(row.ended_at)}, {row.duration_ms} ms"
    lines.append(f"  {last}; next {_when(row.next_at)}")
    if row.error:
        since = f" (since {_when(row.failing_since)})" if row.failing_since else ""
        lines.append(f"  {row.error}{since}")
    return lines


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _when(instant: dt.datetime) -> str:
    return f"{instant.astimezone(KUWAIT):%Y-%m-%d %H:%M:%S}"
