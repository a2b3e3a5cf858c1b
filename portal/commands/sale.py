"""`flask plans …` and `flask packs …`: what is sold, for how much. A change is in force at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask.cli import AppGroup

from portal import money
from portal.models import Pack, Plan
from portal.services import sale
from portal.services.sale import BadSale, NotThere

plans = AppGroup("plans", help="What plans cost and give.")
packs = AppGroup("packs", help="What packs of credit cost and give.")
price_option = click.option("--price", help="Dinars, in steps of 0.010, such as 5.000.")
credits_option = click.option("--credits", type=int, help="Whole credits.")
sold_option = click.option("--enable/--disable", "enabled", default=None, help="Whether it is on sale.")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (BadSale, NotThere) as error:
        raise click.ClickException(f"{error}.") from error


@plans.command("list")
def list_plans() -> None:
    """Every plan, the smallest first."""
    for plan in sale.plans():
        click.echo(_plan(plan))


@plans.command("set")
@click.argument("plan", metavar="ID")
@price_option
@click.option("--days", type=int, help="How long a period is.")
@credits_option
@click.option("--requests", type=int, help="Requests a minute.")
@sold_option
def set_plan(
    plan: str, price: str | None, days: int | None, credits: int | None, requests: int | None, enabled: bool | None
) -> None:
    """Change the plan ID for everybody who buys it from now on. A price of 0 takes it off sale."""
    with _refusals():
        changed = sale.change_plan(
            plan, price_fils=None if price is None else sale.price(price), days=days, credits=credits,
            requests_per_minute=requests, enabled=enabled,
        )  # fmt: skip
    click.echo(_plan(changed))


@packs.command("list")
def list_packs() -> None:
    """Every pack, the smallest first."""
    found = sale.packs()
    for pack in found:
        click.echo(_pack(pack))
    if not found:
        click.echo("There are none. Add one: flask packs add pack-5000 --price 2.000 --credits 5000")


@packs.command("set")
@click.argument("pack", metavar="ID")
@price_option
@credits_option
@sold_option
def set_pack(pack: str, price: str | None, credits: int | None, enabled: bool | None) -> None:
    """Change the pack ID for everybody who buys it from now on."""
    with _refusals():
        fils = None if price is None else sale.price(price)
        changed = sale.change_pack(pack, price_fils=fils, credits=credits, enabled=enabled)
    click.echo(_pack(changed))


@packs.command("add")
@click.argument("pack", metavar="ID")
@click.option("--price", required=True, help="Dinars, in steps of 0.010, such as 5.000.")
@click.option("--credits", type=int, required=True, help="Whole credits.")
def add_pack(pack: str, price: str, credits: int) -> None:
    """Put a pack on sale, under a new ID such as pack-100000."""
    with _refusals():
        added = sale.add_pack(pack, price_fils=sale.price(price), credits=credits)
    click.echo(_pack(added))


def _plan(plan: Plan) -> str:
    sold = plan.enabled and plan.price_fils > 0
    told = f"{money.dinars(plan.price_fils)} KWD for {plan.period_days} days and {_credits(plan.credits)} credits"
    return f"{plan.id:<14}{told}, {plan.requests_per_minute} requests a minute{_sold(sold)}"


def _pack(pack: Pack) -> str:
    told = f"{money.dinars(pack.price_fils)} KWD for {_credits(pack.credits)} credits"
    return f"{pack.id:<14}{told}{_sold(pack.enabled)}"


def _credits(milli: int) -> str:
    return money.credits(milli).removesuffix(".000")


def _sold(sold: bool) -> str:
    return "" if sold else "  NOT ON SALE"
