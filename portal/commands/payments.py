"""`flask payments …`: what was paid and what became of it, asked, let count, given back. Never a card's token."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from portal import money
from portal.clock import KUWAIT
from portal.commands import listing, whose
from portal.errors import PaymentsClosed
from portal.models import PaymentEvent, Refund
from portal.models.payment import STATES
from portal.providers.payments import PaymentsError
from portal.services import payments, refunds
from portal.services.payments import NoSuchPayment, concerns, held, merchant, reasons, records
from portal.services.payments.held import NotHeld, Trouble
from portal.services.payments.records import Line, Record
from portal.services.refunds import NotRefundable

group = AppGroup("payments", help="What customers paid, what became of it, and money given back.")
ACTOR = "console"
payment_argument = click.argument("payment", metavar="ID")
WHAT_TO_DO = {
    "held": "payments show, then payments release or payments refund … all",
    "concern": "payments show; look it up at the provider, then payments looked … --remark",
    "unanswered": "payments ask; look the invoice up at the provider",
    "refund": "payments refunds; look the refund up at the provider",
}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except NoSuchPayment as error:
        raise click.ClickException(
            f"There is no payment {error}: give its id, the provider's invoice, or its payment id."
        ) from error
    except PaymentsClosed as error:
        raise click.ClickException("MYFATOORAH_API_KEY is not set: the provider can't be asked.") from error
    except PaymentsError as error:
        raise click.ClickException(f"{error.reason[:1].upper()}{error.reason[1:]}.") from error
    except (NotHeld, NotRefundable) as error:
        raise click.ClickException(f"{str(error)[:1].upper()}{str(error)[1:]}. Nothing was changed.") from error


# --- what there is --------------------------------------------------------------------------------------------------


@group.command("list")
@click.option("--state", type=click.Choice(STATES))
@click.option("--account", help="Its id, or its owner's e-mail address.")
@click.option("--limit", type=click.IntRange(1, records.MOST), default=20, show_default=True)
@click.option("--before", help="Those before this one: the last ID of the list above.")
def list_payments(state: str | None, account: str | None, limit: int, before: str | None) -> None:
    """Payments and their state, the newest first, Kuwait time."""
    of = None if account is None else whose.account(account).id
    found = records.page(state=state, account_id=of, before=before, limit=limit)
    listing.tell(found.lines, found.before, _told)


@group.command()
@payment_argument
def show(payment: str) -> None:
    """Everything about the payment ID (ours, or the provider's invoice or payment id): trail, refunds, papers."""
    with _refusals():
        found = records.find(payment)
    for line in _lines(found):
        click.echo(line)
    click.echo("\nWhat happened, Kuwait time:")
    for event in found.trail:
        click.echo(_event(event))
    if found.refunds:
        click.echo("\nRefunds:")
        for refund in found.refunds:
            click.echo(_refund(refund))
    for paper in found.papers:
        what = "receipt" if paper.kind == "receipt" else "credit note"
        click.echo(f"{what} {paper.number}, {_when(paper.issued_at)}, {money.dinars(paper.amount_fils)} KWD")


@group.command("refunds")
@payment_argument
def list_refunds(payment: str) -> None:
    """What was given back of the payment ID, and how much still can be."""
    with _refusals():
        found = records.find(payment)
    for refund in found.refunds:
        click.echo(_refund(refund))
    if not found.refunds:
        click.echo("There are none.")
    click.echo(_possible(found.payment.id))


@group.command()
def attention() -> None:
    """What waits for people, the oldest first: held money, payments without an answer, refunds that stick.

    Exit code 1 when there is anything, so that cron can tell somebody.
    """
    found = held.attention()
    for trouble in found:
        click.echo(_trouble(trouble))
    if found:
        raise SystemExit(1)
    click.echo("Nothing waits for people.")


@group.command()
def methods() -> None:
    """Ask the provider which ways to pay it offers: whether key, address and connection are right."""
    settings = current_app.config["PORTAL"]
    with _refusals():
        found = merchant.provider(patient=True).methods()
    click.echo(f"{settings.myfatoorah_base_url} answers.")
    for one in found:
        charge = f", adds {money.dinars(one.charge_fils)} KWD" if one.charge_fils else ""
        how = "for kept cards, not shown to customers" if one.direct else "on the provider's page"
        click.echo(f"{one.code:<8}{one.name_en} · {one.name_ar}  ({how}{charge})")
    if not any(not one.direct for one in found):
        click.echo("NONE of them has a page: customers can't pay. Have the provider enable one.")
    if settings.myfatoorah_webhook_secret:
        click.echo(f"Webhooks come to {settings.base_url}/webhooks/myfatoorah, signed with MYFATOORAH_WEBHOOK_SECRET.")
    else:
        click.echo("MYFATOORAH_WEBHOOK_SECRET is not set: webhooks are refused, and payments found by asking alone.")


# --- what staff do --------------------------------------------------------------------------------------------------


@group.command()
@payment_argument
def ask(payment: str) -> None:
    """Ask the provider about the payment ID now, and do what follows."""
    with _refusals():
        payment_id = records.find(payment).payment.id
        if not merchant.is_open():
            raise PaymentsClosed
        payments.confirm(payment_id, source=ACTOR, patient=True)
        found = records.find(payment_id)
    click.echo(_told(Line(found.payment, found.owner)))
    if found.payment.due_at is not None:
        click.echo(f"It is asked about again at {_when(found.payment.due_at)}, Kuwait time.")


@group.command()
@payment_argument
@click.option("--remark", required=True, help="What was found and done, for the payment's trail.")
def looked(payment: str, remark: str) -> None:
    """Take the concern of the payment ID off the list: somebody has seen to it."""
    with _refusals():
        found = records.find(payment)
    if not concerns.looked_at(found.payment.id, actor=ACTOR, remark=remark):
        raise click.ClickException("There is no concern on this payment.")
    click.echo("It is off the list.")


@group.command()
@payment_argument
def release(payment: str) -> None:
    """Let the held payment ID count after all: the provider is asked once more, then the credit is given."""
    with _refusals():
        state = held.release(records.find(payment).payment.id, actor=ACTOR)
    click.echo(f"It is {state}.")


@group.command()
@payment_argument
@click.argument("amount")
@click.option("--reason", required=True, help="Why, for the books and the credit note.")
@click.option(
    "--end-period/--keep-period",
    "ends_period",
    default=None,
    help="Whether the time that a plan's payment gave goes back. Default: with a whole refund, not with a part.",
)
def refund(payment: str, amount: str, reason: str, ends_period: bool | None) -> None:
    """Give AMOUNT dinars (such as 2.500, or `all` that is left) of the payment ID back, with the credit of it.

    It is asked for at once; the provider's own people carry it out, in days. Exit code 1 when it is refused.
    """
    with _refusals():
        found = records.find(payment).payment
    payment_id, rest = found.id, found.paid_fils - found.refunded_fils
    fils = rest if amount.strip().lower() == "all" else _fils(amount)
    try:
        with _refusals():
            if not merchant.is_open():
                raise PaymentsClosed
            refund_id = refunds.request(payment_id, fils, reason=reason, actor=ACTOR, ends_period=ends_period)
    except ValueError as error:
        raise click.ClickException("A refund has a reason, and an amount in steps of 0.010 dinars.") from error
    except click.ClickException as refused:
        if not isinstance(refused.__cause__, NotRefundable):
            raise
        raise click.ClickException(f"{refused.message} {_possible(payment_id)}") from refused
    made = next(one for one in refunds.of_payment(payment_id) if one.id == refund_id)
    click.echo(_refund(made))
    if made.state in ("refused", "cancelled"):
        raise click.ClickException("The provider did not take it; the credit is free again.")
    if made.state == "waiting":
        click.echo("It is tried again by itself; its credit is set aside until then.")


# --- in words -------------------------------------------------------------------------------------------------------


def _fils(text: str) -> int:
    try:
        return money.parse_dinars(text)
    except ValueError:
        raise click.ClickException(f"{text!r} is no amount: dinars such as 2.500, or all.") from None


def _possible(payment_id: str) -> str:
    most = refunds.bounds(payments.read(payment_id))
    if not most.fils:
        return "Nothing of it can be given back now."
    return f"Up to {money.dinars(most.fils)} KWD can be given back now, with {money.credits(most.credits)} credits."


def _told(line: Line) -> str:
    one = line.payment
    why = f" ({reasons.words(one.reason)['en']})" if one.reason else ""
    back = f", {money.dinars(one.refunded_fils)} given back or asked back" if one.refunded_fils else ""
    paid = f"{money.dinars(one.amount_fils)} {one.currency}"
    return f"{one.id}  {_when(one.created_at)}  {line.owner}  {one.item}  {paid}  {one.state}{why}{back}"


def _lines(found: Record) -> Iterator[str]:
    one = found.payment
    yield _told(Line(one, found.owner))
    what = f"{one.period_days} days of {one.name_en}" if one.kind == "plan" else one.name_en
    yield f"for: {what}, {money.credits(one.credits)} credits; account {one.account_id}, by {one.actor}"
    card = f", card {one.card_number}" if one.card_number else ""
    yield f"method: {one.gateway or one.method}{card}{', to be kept for renewals' if one.keeps_card else ''}"
    yield f"at the provider: invoice {one.invoice or 'unknown'}, payment {one.provider_payment or 'none'}"
    times = {
        "can be paid until": one.expires_at, "paid": one.paid_at, "over": one.closed_at, "asked": one.asked_at,
        "asked next": one.due_at,
    }  # fmt: skip
    yield ", ".join(f"{name} {_when(at)}" for name, at in times.items() if at is not None)


def _event(event: PaymentEvent) -> str:
    told = [f"{name} {_plain(value)}" for name, value in sorted(event.facts.items()) if value not in (None, "", [])]
    return (
        f"  {_when(event.created_at, '%Y-%m-%d %H:%M:%S')}  {event.what}, by {event.source}: {'; '.join(told) or '-'}"
    )


def _plain(value: Any) -> str:
    """A fact on one line: the provider's attempts as `payment state (code)`, all else as it stands."""
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        return " ".join(str(value[name]) for name in ("payment", "method", "state", "code") if value.get(name))
    return str(value)


def _refund(one: Refund) -> str:
    ends = ", and the period's time" if one.ends_period else ""
    amounts = f"{money.dinars(one.amount_fils)} KWD with {money.credits(one.credits)} credits{ends}"
    at = f" (the provider's {one.provider_refund})" if one.provider_refund else ""
    error = f": {one.error}" if one.error else ""
    return f"{one.id}  {_when(one.created_at)}  {amounts}  {one.state}{at}{error}  [{one.reason}; {one.actor}]"


def _trouble(one: Trouble) -> str:
    known = one.what in ("held", "concern")
    why = reasons.words(one.reason)["en"] if known else one.reason or "the provider tells nothing"
    head = f"{one.what:<11}{one.payment}  {_when(one.since)}  {money.dinars(one.fils)} KWD"
    return f"{head}  {why}  → {WHAT_TO_DO[one.what]}"


def _when(instant: dt.datetime, form: str = "%Y-%m-%d %H:%M") -> str:
    return f"{instant.astimezone(KUWAIT):{form}}"
