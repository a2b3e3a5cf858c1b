"""`flask alerts …`: addresses that were shut out, told by a script where no hook can be, and the list of them.

The portal bans nobody itself: this notes what fail2ban (or whoever) did, and administrators are told.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask.cli import AppGroup

from portal import clock
from portal.clock import KUWAIT
from portal.models import Ban
from portal.services import bans

group = AppGroup("alerts", help="Addresses that fail2ban shut out: note one, lift one, list them.")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except bans.BadBan as wrong:
        raise click.ClickException(f"{wrong}.") from wrong


@group.command("ip-banned")
@click.argument("ip")
@click.option("--jail", required=True, help="Which of fail2ban's jails it was.")
@click.option("--failures", type=int, default=0, show_default=True, help="How often it had failed.")
@click.option("--seconds", type=int, help="How long it lasts; for good without it.")
def ip_banned(ip: str, jail: str, failures: int, seconds: int | None) -> None:
    """Note that the address IP was banned, and tell the administrators, once."""
    with _refusals():
        new = bans.ban(ip, jail, failures, seconds)
    click.echo(f"{ip} is noted as banned; the administrators are told." if new else f"{ip} was noted before.")


@group.command()
@click.argument("ip")
@click.option("--jail", required=True)
def unbanned(ip: str, jail: str) -> None:
    """Note that the ban of IP is over."""
    with _refusals():
        lifted = bans.lift(ip, jail)
    click.echo(f"The ban of {ip} is noted as over." if lifted else f"No ban of {ip} stands in {jail}.")


@group.command("bans")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_bans(limit: int) -> None:
    """The latest bans, the newest first, Kuwait time."""
    found = bans.latest(limit)
    if not found:
        click.echo("There are none.")
        return
    click.echo(f"{'since':<18}{'address':<41}{'jail':<20}{'failures':>8}  state")
    for ban in found:
        since = f"{ban.banned_at.astimezone(KUWAIT):%Y-%m-%d %H:%M}"
        click.echo(f"{since:<18}{ban.address:<41}{ban.jail:<20}{ban.failures:>8}  {_state(ban)}")


def _state(ban: Ban) -> str:
    over = ban.lifted_at or (ban.until if ban.until is not None and ban.until <= clock.utcnow() else None)
    if over is not None:
        return f"over since {over.astimezone(KUWAIT):%Y-%m-%d %H:%M}"
    return f"STANDS until {ban.until.astimezone(KUWAIT):%Y-%m-%d %H:%M}" if ban.until else "STANDS for good"
