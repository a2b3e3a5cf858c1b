"""`flask providers …`: the servers of models, as an operator sees and changes them. Changes are in force at once."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click
from flask import current_app
from flask.cli import AppGroup

from portal.clock import KUWAIT
from portal.services import budget, probing, providers
from portal.services.probing import Report
from portal.services.providers import BadProvider, Listing, UnknownProvider

group = AppGroup("providers", help="List, probe and change the servers of models.")
KEY = {"none": "needs no key", "set": "key in {}, set", "missing": "key in {}, MISSING: nothing of it is offered"}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (UnknownProvider, BadProvider) as error:
        raise click.ClickException(f"{error}.") from error


def _options(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What describes a provider, for `add` and `set`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--location", type=click.Choice(providers.LOCATIONS), help="cloud counts against the budget."),
            click.option("--weight", type=click.IntRange(*providers.WEIGHTS), help="Its slots' share of requests."),
            click.option("--slots", type=click.IntRange(*providers.SLOTS), help="Requests it answers at once."),
            click.option("--key-variable", help="The environment variable that holds its key, SOMETHING_API_KEY."),
            click.option("--url", help="Where its /v1 begins, such as http://10.0.0.7:11434."),
        ):
            command = option(command)
        kind = click.option("--kind", type=click.Choice(providers.KINDS), default="ollama", show_default=True)
        return kind(command) if required else command

    return decorate


@group.command("list")
def list_providers() -> None:
    """Every provider: where it is, how it is, what it offers."""
    found = providers.listed(current_app.config["PORTAL"])
    for number, provider in enumerate(found):
        click.echo(("\n" if number else "") + "\n".join(_lines(provider)))
    if not found:
        click.echo("There are none. Add one: flask providers add NAME --url http://…")
    spent = budget.state(current_app.config["PORTAL"].cloud_daily_limit)
    back = ": off until midnight, Kuwait time" if spent.exhausted else ""
    click.echo(f"\nCloud requests today: {spent.used} of {spent.limit}{back}")


@group.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let requests go to NAME again."""
    with _refusals():
        providers.enable(name)
    click.echo(f"{name} is enabled.")
    _mention_key(name)


@group.command()
@click.argument("name")
def disable(name: str) -> None:
    """Let no further request go to NAME. Those that run are left to end."""
    with _refusals():
        providers.disable(name)
    click.echo(f"{name} is disabled.")


@group.command()
@click.argument("name", required=False)
def probe(name: str | None) -> None:
    """Ask every enabled provider (or NAME) what is there. Exit code 1 if one can't be reached."""
    with _refusals():
        if name is not None:
            providers.must_exist(name)
    failed = asked = 0
    for report in probing.probe(current_app.config["PORTAL"], name):
        asked += 1
        failed += report.state == "down" or (name is not None and report.state != "up")
        for line in _told(report):
            click.echo(line)
    if not asked:
        click.echo("No provider is enabled.")
    if failed:
        raise SystemExit(1)


@group.command()
@click.argument("name")
@_options(required=True)
def add(name: str, **given: Any) -> None:
    """Add a provider called NAME. It is enabled, and offers what `offer` says."""
    with _refusals():
        providers.add(name, **{option: value for option, value in given.items() if value is not None})
    click.echo(f"{name} was added. Now say what it serves: flask providers offer {name} MODEL")
    _mention_key(name)


@group.command("set")
@click.argument("name")
@_options(required=False)
def set_provider(name: str, **given: Any) -> None:
    """Change NAME. An empty --url follows the environment again, an empty --key-variable is no key."""
    values = {option: value for option, value in given.items() if value is not None}
    if not values:
        raise click.UsageError("Say what to change, such as --slots 4.")
    with _refusals():
        providers.change(name, **values)
    click.echo(f"{name} was changed.")
    _mention_key(name)


@group.command()
@click.argument("name")
@click.argument("model")
@click.option("--as", "upstream_name", default="", help="What the provider calls it, where that is another name.")
def offer(name: str, model: str, upstream_name: str) -> None:
    """Say that NAME serves MODEL."""
    with _refusals():
        remarks = providers.offer(name, model, upstream_name)
    click.echo(f"{name} offers {model}" + (f" as {upstream_name}." if upstream_name else "."))
    for remark in remarks:
        click.echo(remark)


@group.command()
@click.argument("name")
@click.argument("model")
def withdraw(name: str, model: str) -> None:
    """Say that NAME serves MODEL no more."""
    with _refusals():
        providers.withdraw(name, model)
    click.echo(f"{name} offers {model} no more.")


def _mention_key(name: str) -> None:
    """The environment is read once, at the start of a process."""
    (provider,) = (p for p in providers.listed(current_app.config["PORTAL"]) if p.name == name)
    if provider.key == "missing":
        click.echo(
            f"Set {provider.key_variable} in the environment of web and worker and restart them: until then nothing "
            "of it is offered."
        )


def _lines(p: Listing) -> Iterator[str]:
    yield f"{p.name}  ({p.kind}, {p.location})  {_address(p.url)}"
    state = p.state + (f" since {_when(p.since)}" if p.since else "") + (f": {p.reason}" if p.reason else "")
    asked = f"asked {_when(p.probed_at)}" if p.probed_at else "never asked"
    version = f", version {p.version}" if p.version else ""
    yield f"  {'enabled' if p.enabled else 'DISABLED'}, {state} ({asked}{version})"
    key = KEY[p.key].format(p.key_variable)
    yield f"  {p.slots} slot{'s' if p.slots > 1 else ''}, weight {p.weight}, {key}"
    for title, present in (("there", True), ("not asked yet", None), ("NOT THERE", False)):
        models = [
            m.model
            + (f" as {m.upstream_name}" if m.upstream_name != m.model else "")
            + ("" if m.priced else " UNPRICED")
            for m in p.models
            if m.present is present
        ]
        if models:
            yield f"  {title}: {', '.join(models)}"
    if not p.models:
        yield "  offers no model"


def _told(report: Report) -> Iterator[str]:
    if report.state != "up":
        yield f"{report.name}: {'DOWN' if report.state == 'down' else 'not asked'}, {report.reason}"
        return
    version = f", version {report.version}" if report.version else ""
    yield f"{report.name}: up{version}, {len(report.present)} of {len(report.present + report.absent)} models there"
    if report.absent:
        yield f"  not there: {', '.join(report.absent)}"
    if report.besides:
        yield f"  there, and not offered: {', '.join(report.besides)}"


def _when(instant: dt.datetime) -> str:
    return f"{instant.astimezone(KUWAIT):%Y-%m-%d %H:%M}"


def _address(url: str) -> str:
    """Without what may be a password."""
    if not url:
        return "no address"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
