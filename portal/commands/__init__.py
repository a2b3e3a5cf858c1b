"""What operators type: `flask --app wsgi …`. A door like the others: parse, one service call, say what happened."""

import sys

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from flask_babel import force_locale

from portal import money
from portal.commands import alerts, messages, payments, prices, providers, sale, subscriptions, tasks, whose
from portal.services import accounts, adjustments, api_keys, ledger, seeds, staff
from portal.services.gateway import sweep as sweeping


def init_app(app: Flask) -> None:
    own = (seed, ledger_check, create_admin, create_key, credit, sweep, scheduler, tick)
    groups = (providers.group, messages.group, alerts.group, tasks.group, payments.group, sale.plans, sale.packs)
    for command in (*own, *groups, prices.prices, prices.setting, subscriptions.subscribe, subscriptions.topup):
        app.cli.add_command(command)


@click.command()
def seed() -> None:
    """Add the rows a new portal starts with. Safe to repeat: never overwrites what was edited."""
    settings = current_app.config["PORTAL"]
    added = seeds.seed(settings)
    click.echo(f"Seeded {len(added)} rows." if added else "Everything was seeded already.")
    _ensure_admin()


@click.command("create-admin")
def create_admin() -> None:
    """Make the user of ADMIN_EMAIL an administrator (password: ADMIN_PASSWORD, phone: the first of ADMIN_PHONES)."""
    if not current_app.config["PORTAL"].admin_email:
        raise click.ClickException("Set ADMIN_EMAIL, ADMIN_PASSWORD and ADMIN_PHONES first.")
    _ensure_admin()


def _ensure_admin() -> None:
    try:
        user_id = staff.ensure_admin(current_app.config["PORTAL"])
    except accounts.RegistrationRefused as refused:
        with force_locale("en"):  # a terminal is no place for right-to-left sentences
            problems = "; ".join(f"{field}: {sentence}" for field, sentence in refused.problems.items())
        raise click.ClickException(
            f"The administrator can't be created from ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_PHONES: {problems}"
        ) from refused
    except staff.SomebodyElse as error:
        raise click.ClickException(
            "A customer signed up with the address of ADMIN_EMAIL, and ADMIN_PASSWORD is not theirs: nobody was made "
            "an administrator. Choose another ADMIN_EMAIL, or set ADMIN_PASSWORD to that user's if they are you."
        ) from error
    if user_id:
        click.echo(f"Administrator: {current_app.config['PORTAL'].admin_email}")


@click.command("create-key")
@click.argument("email")
@click.option("--label", default="command line", show_default=True)
def create_key(email: str, label: str) -> None:
    """Create an API key for the account of EMAIL and print it, once."""
    account = whose.account(email)
    click.echo(api_keys.create(account.id, account.owner_id, label=label).secret)


@click.command("ledger-check")
def ledger_check() -> None:
    """Prove the books: name every broken invariant; exit code 1 if there is one."""
    faults = ledger.check()
    for fault in faults:
        click.echo(str(fault))
    if faults:
        sys.exit(1)
    click.echo("The books are right.")


@click.command(context_settings={"ignore_unknown_options": True})  # or a minus would be taken for an option
@click.argument("account")
@click.argument("amount")
@click.option("--reason", required=True, help="Why, for the ledger and for the customer to read.")
def credit(account: str, amount: str, reason: str) -> None:
    """Add AMOUNT credits (or take them, with a minus) to ACCOUNT (its id or its owner's e-mail), and tell its owner."""
    row = whose.account(account)
    try:
        entry = adjustments.adjust(row.id, money.parse_credits(amount), actor="console", reason=reason)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except ledger.NotCovered as error:
        raise click.ClickException("The account has less than that available. Nothing was changed.") from error
    click.echo(f"Balance: {money.credits(entry.balance_after)} credits.")


@click.command()
def sweep() -> None:
    """Settle requests whose process died. The timetable does it too; this is for cron and for the impatient."""
    click.echo(f"{sweeping.sweep(current_app.config['PORTAL'])} abandoned requests settled.")


@click.command()
def scheduler() -> None:
    """Run the timetable (rq-scheduler), in the foreground."""
    from portal.tasks import schedule

    schedule.run(current_app.config["PORTAL"])


@click.command()
@click.option("--seconds", default=50, show_default=True, help="Begin nothing new after so long.")
@with_appcontext
def tick(seconds: int) -> None:
    """Do all the work that is due: for hosts without worker and scheduler, called by cron once a minute."""
    from portal.tasks import tick as ticking

    done = ticking.tick(seconds)
    click.echo(", ".join(f"{count} {what}" for what, count in done.items()))
