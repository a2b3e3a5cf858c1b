"""The words in force for a kind, and how staff change them.

Every version of `message_templates` stays; the highest speaks. Version 1 is the release's own text (`texts_*`), whether
it was seeded or not and whatever an older release seeded: a slip that a release mended was told for ever where the seed
had written it down. What could not be sent is refused here, so that no message dies of an editor's slip. How facts
become words is `rendering`.
"""

import datetime as dt
import logging
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from flask_babel import LazyString, lazy_gettext as _l
from sqlalchemy import orm

from portal import clock
from portal.errors import NotFound
from portal.extensions import db
from portal.ids import new_id
from portal.models import MessageTemplate
from portal.services.insertion import insert_missing
from portal.services.notifications import samples
from portal.services.notifications.kinds import KINDS, LANGUAGES
from portal.services.notifications.rendering import (
    PLACEHOLDER,
    Wording,
    known_placeholders,
    placeholders,
    reading_order,
    whatsapp,
    write,
)
from portal.services.notifications.texts_customers import TEXTS as _CUSTOMERS
from portal.services.notifications.texts_staff import TEXTS as _STAFF

log = logging.getLogger("portal.notifications")
TEXTS: Final[dict[str, dict[str, Wording]]] = {**_CUSTOMERS, **_STAFF}
"""The release's own words: kind, language."""
OWN: Final = 1
"""The version that the release's own text has."""
SEED: Final = "seed"
"""The author of what was seeded: whose words are those of this release."""
LONGEST_TITLE: Final = 120
LONGEST_BODY: Final = 1_500
ALONE: Final = ("link", "code")
"""Alone in a line of the body: a tap opens the one and copies the other, and neither takes a full stop along."""
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "subscription_confirmed": ("plan", "credits", "expires"),
    "subscription_expiring": ("expires",),
    "one_time_code": ("minutes",),
    "member_invited": ("account",),
    "account_suspended": ("reason",),
    "cloud_budget_warning": ("used", "limit"),
    "address_banned": ("address",),
    "enterprise_customer": ("name", "email"),
    "provider_down": ("provider",),
    "provider_up": ("provider",),
    "job_stale": ("job",),
    "step_dead": ("run",),
    "codes_exhausted": ("limit",),
    "alerts_muted": ("about",),
}
"""Without which a message of the kind says nothing, beside `{link}` and `{code}` where a kind has them. Staff may leave
out every other fact."""
_TRIES = 100
"""Editors at once, each of whom takes one version."""
_TURNS_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")


class TemplateRefused(Exception):
    """The wording can't be sent as it is. `problems`: a sentence for each fault."""

    def __init__(self, problems: Sequence[LazyString]) -> None:
        super().__init__(f"{len(problems)} faults in a wording")
        self.problems = problems


class Version(NamedTuple):
    """One wording of a kind in one language. created_at: None for a release's own text that was never seeded."""

    number: int
    wording: Wording
    author: str
    created_at: dt.datetime | None


def wording(kind: str, language: str) -> Wording:
    """The words in force. Raises KeyError for an unknown kind or language."""
    return both(kind)[language]


def both(kind: str) -> dict[str, Wording]:
    """The words in force in both languages, by one query. Raises KeyError for an unknown kind."""
    words = dict(TEXTS[kind])
    words |= {row.language: Wording(row.title, row.body) for row in _edited(MessageTemplate.kind == kind)}
    return words


def in_language(kinds: Collection[str], language: str) -> dict[str, Wording]:
    """The words in force of several kinds in one language, by one query. Raises KeyError as `both` does."""
    words = {kind: TEXTS[kind][language] for kind in kinds}
    mine = sa.and_(MessageTemplate.kind.in_(words), MessageTemplate.language == language)
    words |= {row.kind: Wording(row.title, row.body) for row in _edited(mine)}
    return words


def versions() -> dict[tuple[str, str], Version]:
    """What is in force, by kind and language, in the order of `KINDS`: every kind in both languages."""
    rows = {(row.kind, row.language): row for row in _in_force(sa.true())}
    return {
        (kind, language): _version(rows[kind, language]) if (kind, language) in rows else _unseeded(kind, language)
        for kind in KINDS
        for language in LANGUAGES
    }


def history(kind: str, language: str) -> list[Version]:
    """Every version, the newest first; the first of them is in force. Raises KeyError for an unknown kind."""
    mine = (MessageTemplate.kind == kind, MessageTemplate.language == language)
    query = sa.select(MessageTemplate.__table__).where(*mine).order_by(MessageTemplate.version.desc())
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        found = [_version(row) for row in connection.execute(query)]
    own = _unseeded(kind, language)
    return found if found and found[-1].number == OWN else [*found, own]


def problems(kind: str, language: str, title: str, body: str) -> list[LazyString]:
    """What keeps these words from being sent, a sentence each; nothing when they are right.

    Raises KeyError for an unknown kind or language.
    """
    own = TEXTS[kind][language]
    title, body = _tidy(title, body)
    both_parts = f"{title}\n{body}"
    known, used = known_placeholders(kind), placeholders(both_parts)
    found: list[LazyString] = []
    if not title:
        found.append(_l("The title is empty."))
    if not body:
        found.append(_l("The text is empty."))
    if len(title) > LONGEST_TITLE:
        found.append(_l("The title has more than %(most)s characters.", most=LONGEST_TITLE))
    if len(body) > LONGEST_BODY:
        found.append(_l("The text has more than %(most)s characters.", most=LONGEST_BODY))
    if "\n" in title or _unseen(both_parts):
        found.append(_l("There are signs in it that nobody can see: line breaks in the title, or control characters."))
    found += [_l("This message knows nothing called %(name)s.", name=_braced(name)) for name in sorted(used - known)]
    if set(PLACEHOLDER.sub("", both_parts)) & set("{}"):
        found.append(_l("There is a brace that belongs to no placeholder, such as {balance}."))
    needed = {*ALONE, *NEEDED.get(kind, ())} & placeholders(f"{own.title}\n{own.body}")
    found += [
        _l("Without %(name)s this message says too little.", name=_braced(name)) for name in sorted(needed - used)
    ]
    lines = body.split("\n")
    misplaced = [
        name
        for name in sorted(used & known & set(ALONE))
        if both_parts.count(_braced(name)) != 1 or _braced(name) not in lines
    ]
    found += [_l("%(name)s stands once, alone in a line of the text.", name=_braced(name)) for name in misplaced]
    return found


def save(kind: str, language: str, title: str, body: str, author: str) -> int:
    """Put new words in force, in a transaction of its own. Returns their version.

    author: `console` or `user:<id>`. Two editors at once both keep theirs; the later one speaks. Raises TemplateRefused
    with every fault at once, KeyError for an unknown kind or language.
    """
    title, body = _tidy(title, body)
    if faults := problems(kind, language, title, body):
        raise TemplateRefused(faults)
    mine = (MessageTemplate.kind == kind, MessageTemplate.language == language)
    newest = sa.select(sa.func.max(MessageTemplate.version)).where(*mine)
    for _try in range(_TRIES):
        with db.engine.begin() as connection:
            # Where nothing was seeded, the release's own text is version 1 all the same, and the seed still finds room.
            version = max(connection.scalar(newest) or 0, OWN) + 1
            row = {
                "id": new_id(), "kind": kind, "language": language, "version": version, "title": title, "body": body,
                "author": author, "created_at": clock.utcnow(),
            }  # fmt: skip
            new = insert_missing(connection, MessageTemplate, row)
        if new:
            extra = {"kind": kind, "language": language, "version": version, "author": author}
            log.info("wording of a message changed", extra=extra)
            return version
    raise RuntimeError(f"no version of {kind} was free in {_TRIES} tries")


def restore(kind: str, language: str, version: int, author: str) -> int:
    """Put an older version in force again, as a new one. Returns its number.

    Raises NotFound for a version that is none; otherwise as `save`: what was right once may name a fact that is gone.
    """
    for old in history(kind, language):
        if old.number == version:
            return save(kind, language, *old.wording, author=author)
    raise NotFound


def preview(
    kind: str, language_of_reader: str, overrides: Mapping[str, Wording] | None = None, *, base_url: str
) -> str:
    """The WhatsApp text with sample facts, the reader's language first.

    overrides: words not saved yet, by language; they must have no `problems`. base_url: where links lead.
    """
    words = {**both(kind), **(overrides or {})}
    order = reading_order(language_of_reader)
    first, second = (write(KINDS[kind], words[code], samples.FACTS[kind], code, base_url) for code in order)
    return whatsapp(first, second)


def _in_force(condition: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    """The highest version of each kind and language."""
    newer = orm.aliased(MessageTemplate)
    higher = sa.select(sa.func.max(newer.version)).where(
        newer.kind == MessageTemplate.kind, newer.language == MessageTemplate.language
    )
    query = sa.select(MessageTemplate.__table__).where(condition, MessageTemplate.version == higher.scalar_subquery())
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        return list(connection.execute(query))


def _edited(condition: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    """What of it people wrote, and can still be filled in; for all else the release speaks."""
    return [row for row in _in_force(condition) if row.author != SEED and _fits(row)]


def _fits(row: sa.Row[Any]) -> bool:
    """Whether the kind has every fact that the words name.

    A release took a fact away: the edited words can't be filled in any more, and silence is worse than ours.
    """
    unknown = placeholders(f"{row.title} {row.body}") - known_placeholders(row.kind)
    if unknown:
        extra = {"kind": row.kind, "language": row.language, "version": row.version, "unknown": sorted(unknown)}
        log.error("a wording names what its kind does not have: the release's own is used", extra=extra)
    return not unknown


def _version(row: sa.Row[Any]) -> Version:
    words = TEXTS[row.kind][row.language] if row.author == SEED else Wording(row.title, row.body)
    return Version(row.version, words, row.author, row.created_at)


def _unseeded(kind: str, language: str) -> Version:
    return Version(OWN, TEXTS[kind][language], "release", None)


def _tidy(title: str, body: str) -> tuple[str, str]:
    """As browsers and editors leave it, made ours: line feeds alone, no space at the ends of lines."""
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return title.strip(), "\n".join(line.rstrip(" ") for line in lines).strip("\n ")


def _braced(name: str) -> str:
    return "{" + name + "}"


def _unseen(text: str) -> bool:
    """Control characters, halves of characters, and marks that would turn the rest of the message round."""
    odd = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
    return any(
        (unicodedata.category(sign) in odd and sign != "\n") or _TURNS_DIRECTION.match(sign) is not None
        for sign in text
    )
