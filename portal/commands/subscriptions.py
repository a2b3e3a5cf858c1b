"""`flask subscribe`, `flask topup`: what was paid for in another way than by the portal's own checkout."""

import click
from flask.cli import with_appcontext

from portal import money
from portal.clock import KUWAIT
from portal.commands import whose
from portal.services import ledger, subscriptions, topups

ACTOR = "console"
REFERENCE = 80
"""Characters of a ledger entry's reference, as many as its column has."""


@click.command()
@click.argument("email")
@click.argument("plan")
@click.option("--reference", required=True, help="What was paid, such as a transfer's number: gives one period.")
@click.option("--days", type=click.IntRange(1, 3660), help="How long; by default the plan's own period.")
@with_appcontext
def subscribe(email: str, plan: str, reference: str, days: int | None) -> None:
    """Give the account of EMAIL (or its id) a period of PLAN, beside whatever runs, with its credit and its message."""
    account = whose.account(email)
    _checked(reference)
    try:
        running = subscriptions.activate(account.id, plan, reference=reference, actor=ACTOR, days=days)
    except subscriptions.NoSuchPlan as error:
        raise click.ClickException(f"There is no plan {plan} on sale.") from error
    except ledger.AlreadyBooked as error:
        raise click.ClickException(f"{reference} gave a period before. Nothing was changed.") from error
    click.echo(f"{running.plan_id} runs until {running.ends_at.astimezone(KUWAIT):%Y-%m-%d %H:%M}, Kuwait time.")


@click.command()
@click.argument("email")
@click.argument("pack")
@click.option("--reference", required=True, help="What was paid, such as a transfer's number: credited once.")
@with_appcontext
def topup(email: str, pack: str, reference: str) -> None:
    """Credit PACK to the account of EMAIL (or its id), with the message of it."""
    account = whose.account(email)
    _checked(reference)
    try:
        entry = topups.book(account.id, pack, reference=reference, actor=ACTOR)
    except topups.NoSuchPack as error:
        raise click.ClickException(f"There is no pack {pack}.") from error
    except ledger.AlreadyBooked as error:
        raise click.ClickException(f"{reference} was credited before. Nothing was changed.") from error
    click.echo(f"Balance: {money.credits(entry.balance_after)} credits.")


def _checked(reference: str) -> None:
    if not 0 < len(reference) <= REFERENCE:
        raise click.ClickException(f"A reference has 1 to {REFERENCE} characters.")
