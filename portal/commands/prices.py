"""`flask prices …` and `flask setting …`: what a model costs from when on, and what operators tune."""

import datetime as dt

import click
from flask.cli import AppGroup

from portal.clock import KUWAIT
from portal.services import pricing, tunables
from portal.services.pricing import Amounts, BadPrice, DatedPrice
from portal.services.tunables import BadValue, UnknownTunable

prices = AppGroup("prices", help="List prices and set new ones.")
setting = AppGroup("setting", help="What operators tune while the portal runs.")
_KINDS = {"rate": "credits for 1,000 tokens", "cost-plus": "US$ for a million tokens, plus the markup"}


@prices.command("list")
@click.argument("model", required=False)
def list_prices(model: str | None) -> None:
    """Every price, or MODEL's: what is in force, what was, what is to come."""
    found = pricing.dated_prices(model)
    for price in found:
        click.echo(_line(price))
    if not found:
        click.echo("There is no price." if model is None else f"{model} has no price: it is not on sale.")


@prices.command("set")
@click.argument("model")
@click.option("--provider", default="", help="Only there, such as at the cloud for a model's twin.")
@click.option("--in", "rate_in", help="Credits for 1,000 tokens of prompt; 1 is the 1× of a local model.")
@click.option("--out", "rate_out", help="Credits for 1,000 tokens of answer.")
@click.option("--cached", "rate_cached", help="Credits for 1,000 tokens of prompt that the provider had cached.")
@click.option("--usd-in", help="US dollars that the provider asks for a million tokens of prompt.")
@click.option("--usd-out", help="The same for tokens of answer.")
@click.option("--usd-cached", help="The same for tokens of prompt that it had cached.")
@click.option("--from", "since", help="2026-12-01 or 2026-12-01T09:00, Kuwait time unless it says; default: now.")
def set_price(
    model: str,
    provider: str,
    rate_in: str | None,
    rate_out: str | None,
    rate_cached: str | None,
    usd_in: str | None,
    usd_out: str | None,
    usd_cached: str | None,
    since: str | None,
) -> None:
    """Set what MODEL costs from now, or from an instant to come. What was charged stays charged."""
    ours, theirs = (rate_in, rate_out, rate_cached), (usd_in, usd_out, usd_cached)
    if any(theirs) == any(ours):
        raise click.UsageError("Give --in and --out, or --usd-in and --usd-out.")
    kind, (asked_in, asked_out, asked_cached) = ("rate", ours) if any(ours) else ("cost-plus", theirs)
    if asked_in is None or asked_out is None:
        raise click.UsageError("A price has both: what a prompt costs and what an answer costs.")
    try:
        cached = None if asked_cached is None else pricing.parse_amount(asked_cached)
        amounts = Amounts(kind, pricing.parse_amount(asked_in), pricing.parse_amount(asked_out), cached)
        begins = pricing.set_price(model, amounts, provider=provider, valid_from=_instant(since))
    except BadPrice as error:
        raise click.ClickException(f"{error}.") from error
    click.echo(_line(DatedPrice(model, provider, begins, "to come" if since else "now", amounts)))


@setting.command("list")
def list_settings() -> None:
    """Every setting, its value and what it means."""
    for name in tunables.names():
        click.echo(_setting(name))


@setting.command("get")
@click.argument("name")
def get_setting(name: str) -> None:
    """The value of NAME."""
    try:
        click.echo(tunables.shown(name))
    except UnknownTunable as error:
        raise _unknown(name) from error


@setting.command("set", context_settings={"ignore_unknown_options": True})  # or -5 would be taken for an option
@click.argument("name")
@click.argument("value")
def put_setting(name: str, value: str) -> None:
    """Set NAME to VALUE, on every worker at once."""
    try:
        tunables.put(name, value)
    except UnknownTunable as error:
        raise _unknown(name) from error
    except BadValue as error:
        raise click.ClickException(f"{error}.") from error
    click.echo(_setting(name))


def _unknown(name: str) -> click.ClickException:
    return click.ClickException(f"There is no setting {name}; there are {', '.join(tunables.names())}.")


def _setting(name: str) -> str:
    return f"{name} = {tunables.shown(name)}  ({tunables.meaning(name)})"


def _instant(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BadPrice(f"{text!r} is no instant such as 2026-12-01 or 2026-12-01T09:00") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=KUWAIT)


def _line(price: DatedPrice) -> str:
    at = price.provider or "at home"
    amounts = price.amounts
    told = f"in {pricing.tell_amount(amounts.prompt)}, out {pricing.tell_amount(amounts.answer)}"
    if amounts.cached is not None:
        told += f", cached {pricing.tell_amount(amounts.cached)}"
    since = f"{price.valid_from.astimezone(KUWAIT):%Y-%m-%d %H:%M:%S}"
    return f"{price.model}  ({at})  {price.state}, from {since}: {told}  ({_KINDS[amounts.kind]})"
