"""`flask messages …`: the words of every message, what was sent to whom and its fate, once more or not at all."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click
from flask import current_app
from flask.cli import AppGroup
from flask_babel import force_locale

from portal.clock import KUWAIT
from portal.commands import listing
from portal.errors import NotFound
from portal.services.notifications import receipts, sent, wording
from portal.services.notifications.kinds import KINDS, LANGUAGES
from portal.services.notifications.rendering import Wording, known_placeholders
from portal.services.notifications.sent import Line, NotPossible
from portal.services.notifications.wording import TemplateRefused, Version

group = AppGroup("messages", help="The words of every message, and what became of those that were sent.")
ACTOR = "console"
kind_argument = click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
language_argument = click.argument("language", type=click.Choice(LANGUAGES))


@contextmanager
def _refusals(asked: str = "") -> Iterator[None]:
    try:
        yield
    except TemplateRefused as refused:
        with force_locale("en"):  # a terminal is no place for right-to-left sentences
            faults = "\n".join(f"  {problem}" for problem in refused.problems)
        raise click.ClickException(f"Nothing was changed:\n{faults}") from refused
    except NotFound as error:
        raise click.ClickException(f"There is no {asked}.") from error
    except NotPossible as error:
        raise click.ClickException(f"{asked} stays as it is: {error}.") from error


# --- words ----------------------------------------------------------------------------------------------------------


@group.command()
def templates() -> None:
    """Every message: its kind, for whom it is, and the version of its words in each language."""
    found = wording.versions()
    for kind, spec in KINDS.items():
        told = ", ".join(f"{language} {_version(found[kind, language])}" for language in LANGUAGES)
        click.echo(f"{kind:<24}{spec.audience:<10}{told}")


@group.command()
@kind_argument
@click.option("--language", type=click.Choice(LANGUAGES), help="Only the words of this language, and its preview.")
def template(kind: str, language: str | None) -> None:
    """The words of KIND, what they may name, their versions, and how the message looks."""
    click.echo("Placeholders: " + (" ".join(sorted(f"{{{name}}}" for name in known_placeholders(kind))) or "none"))
    for code in (language,) if language else LANGUAGES:
        versions = wording.history(kind, code)
        click.echo(f"\n--- {code}: {', '.join(_version(version) for version in versions)}")
        words = wording.wording(kind, code)
        click.echo(f"{words.title}\n\n{words.body}")
    click.echo("\n--- preview\n" + _preview(kind, language or LANGUAGES[0]))


@group.command("set-template")
@kind_argument
@language_argument
@click.option("--title", help="The first line. Default: the one in force.")
@click.option(
    "--body-file", type=click.File(encoding="utf-8"), help="The text, in UTF-8; - reads it from the terminal."
)
@click.option("--preview", "only_show", is_flag=True, help="Show the message, and change nothing.")
def set_template(kind: str, language: str, title: str | None, body_file: TextIO | None, only_show: bool) -> None:
    """Put new words for KIND in LANGUAGE in force, from the next message on."""
    if title is None and body_file is None:
        raise click.UsageError("Give --title, --body-file or both.")
    now = wording.wording(kind, language)
    words = Wording(now.title if title is None else title, now.body if body_file is None else body_file.read())
    with _refusals():
        if only_show:
            if faults := wording.problems(kind, language, *words):
                raise TemplateRefused(faults)
            click.echo(_preview(kind, language, {language: words}))
            return
        version = wording.save(kind, language, *words, author=ACTOR)
    click.echo(f"Version {version} is in force.\n\n{_preview(kind, language)}")


@group.command("restore-template")
@kind_argument
@language_argument
@click.argument("version", type=int)
def restore_template(kind: str, language: str, version: int) -> None:
    """Put an older VERSION of KIND's words in LANGUAGE in force again, as a new one."""
    with _refusals(f"version {version}"):
        new = wording.restore(kind, language, version, ACTOR)
    click.echo(f"Version {new} is in force, with the words of version {version}.")


# --- what was sent --------------------------------------------------------------------------------------------------


@group.command("list")
@click.option("--state", type=click.Choice(sent.STATES))
@click.option("--kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.option("--phone", help="A number in any spelling, or an e-mail address.")
@click.option("--limit", type=click.IntRange(1, sent.MOST), default=20, show_default=True)
@click.option("--before", help="Those before this one: the last ID of the list above.")
def list_messages(state: str | None, kind: str | None, phone: str | None, limit: int, before: str | None) -> None:
    """Messages and their fate, the newest first."""
    found = sent.page(state=state, kind=kind, to=phone, before=before, limit=limit)
    listing.tell(found.lines, found.before, _told)


@group.command()
@click.argument("delivery", metavar="ID")
def show(delivery: str) -> None:
    """What became of the message ID, and its text where that is kept."""
    with _refusals(delivery):
        found = sent.find(delivery)
    line = found.line
    click.echo(_told(line))
    click.echo(f"for {line.whom}, in {' and '.join((found.language, *({*LANGUAGES} - {found.language})))}")
    times = {
        "due": line.due_at, "of no use after": found.expires_at, "accepted": line.accepted_at,
        "delivered": line.delivered_at, "read": line.read_at,
    }  # fmt: skip
    for name, instant in times.items():
        if instant is not None:
            click.echo(f"{name}: {_when(instant)}")
    if found.provider_id:
        click.echo(f"at the carrier: {found.provider_id}")
    if found.in_doubt:
        click.echo("The carrier may have it: it is looked for there before it is sent again.")
    if found.secret:
        click.echo("\nIts text is a secret and is kept nowhere.")
    else:
        click.echo("\n" + (found.text or "Its text is written when it is sent."))


@group.command()
@click.argument("delivery", metavar="ID")
def resend(delivery: str) -> None:
    """Send the message ID now, after it was given up, came too late or was cancelled."""
    with _refusals(delivery):
        sent.resend(delivery, ACTOR)
    click.echo(f"{delivery} is due now.")


@group.command()
@click.argument("delivery", metavar="ID")
def cancel(delivery: str) -> None:
    """Stop the message ID, which waits."""
    with _refusals(delivery):
        sent.cancel(delivery, ACTOR)
    click.echo(f"{delivery} is cancelled.")


@group.command("connect-receipts")
def connect_receipts() -> None:
    """Have the WhatsApp carrier tell this portal (BASE_URL) what becomes of messages. Safe to repeat."""
    settings = current_app.config["PORTAL"]
    try:
        new = receipts.connect(settings)
    except receipts.NotConnected as error:
        raise click.ClickException(f"{error}.") from error
    click.echo(f"The carrier {'tells' if new else 'told already'} {settings.base_url} of receipts.")


def _preview(kind: str, language: str, overrides: dict[str, Wording] | None = None) -> str:
    return wording.preview(kind, language, overrides, base_url=current_app.config["PORTAL"].base_url)


def _version(version: Version) -> str:
    when = f", {_when(version.created_at)}" if version.created_at else ""
    return f"v{version.number} ({version.author}{when})"


def _told(line: Line) -> str:
    tries = f"{line.tries} {'try' if line.tries == 1 else 'tries'}"
    fate = next((f", {name}" for name, at in (("read", line.read_at), ("delivered", line.delivered_at)) if at), "")
    error = f": {line.error}" if line.error else ""
    head = f"{line.id}  {_when(line.created_at)}  {line.kind}  {line.channel} {line.to}"
    return f"{head}  {line.state}{fate}, {tries}{error}"


def _when(instant: dt.datetime) -> str:
    return f"{instant.astimezone(KUWAIT):%Y-%m-%d %H:%M}"
