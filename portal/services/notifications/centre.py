"""The notification centre: what an account was told, in its reader's language, with the fate of each message; and which
messages its owner does without.

The words are those in force today, as a page is read today; what was sent is kept with its delivery. Whoever asks names
the account: whether it is theirs was decided at the door. Whether a link leads somewhere is the page's business.
"""

import datetime as dt
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import InstrumentedAttribute

from portal import clock
from portal.errors import NotFound
from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery, Notification, OptOut
from portal.services.insertion import insert_missing
from portal.services.notifications import delivery, receipts, wording
from portal.services.notifications.kinds import CUSTOMER, KINDS, STAFF
from portal.services.notifications.outbox import STAFF_RECIPIENT
from portal.services.notifications.rendering import Wording, write
from portal.services.notifications.sent import masked

log = logging.getLogger("portal.notifications")
A_PAGE: Final = 20
OPTIONAL: Final = tuple(kind.name for kind in KINDS.values() if kind.optional and kind.audience == CUSTOMER)
"""What a customer may do without, by WhatsApp or by e-mail. The centre has it all the same."""
SENT, DELIVERED, READ, UNDER_WAY, LATER, TRIED_AGAIN, UNDELIVERED, STOPPED = (
    "sent", "delivered", "read", "under_way", "later", "tried_again", "undelivered", "stopped",
)  # fmt: skip
NO_SUCH_NUMBER, NO_SUCH_ADDRESS, TOO_LATE, UNPROVED = "number", "address", "late", "unproved"
_WHY: Final = {
    "the carrier can't send to this number": NO_SUCH_NUMBER,
    "the number is not in international form (+ and digits)": NO_SUCH_NUMBER,
    receipts.NOT_ON_WHATSAPP: NO_SUCH_NUMBER,
    "that is no e-mail address": NO_SUCH_ADDRESS,
    "the mail server can't write to an address with such letters": NO_SUCH_ADDRESS,
}
"""Reasons that its reader can do something about. All others are ours, and theirs to know no further."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_PLACE = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})", re.ASCII)


class Fate(NamedTuple):
    """What became of one message. to: masked. at: when, where there is something to tell. why: for UNDELIVERED.

    error: in our own words, for staff alone.
    """

    channel: str
    to: str
    state: str
    at: dt.datetime | None
    why: str
    error: str


class Note(NamedTuple):
    """One notification. title: empty when its words can't be written any more. link: a path, or empty; it stands
    between the two parts of the body."""

    id: str
    kind: str
    title: str
    body: str
    link: str
    rest: str
    created_at: dt.datetime
    unread: bool
    fates: tuple[Fate, ...]


class Page(NamedTuple):
    """The newest first. before: what the next page is asked for with, None at the end. newest: the place of the first
    line, None where there is none."""

    notes: tuple[Note, ...]
    before: str | None
    newest: str | None


class Preference(NamedTuple):
    """Whether an account wants a kind by each channel. email: None where there is no e-mail."""

    kind: str
    whatsapp: bool
    email: bool | None


class NotOptional(ValueError):
    """Nobody does without this kind, or not by this channel."""


def page(account_id: str, language: str, before: str | None = None, limit: int = A_PAGE) -> Page:
    """What an account was told. language: the reader's. before: the `before` of the page above.

    Three queries, however much there is. Raises NotFound for a `before` that is none.
    """
    return _page(Notification.account_id == account_id, _shown(CUSTOMER), language, before, limit)


def staff_page(language: str, before: str | None = None, limit: int = A_PAGE) -> Page:
    """What the operator's people were told. Otherwise as `page`; that its reader is one of them, the door sees to."""
    return _page(Notification.recipient == STAFF_RECIPIENT, _shown(STAFF), language, before, limit)


def unread_of(account: str | InstrumentedAttribute[str]) -> sa.ScalarSelect[int]:
    """How many an account has not read, as a part of a larger query."""
    mine = (Notification.account_id == account, Notification.read_at.is_(None), Notification.kind.in_(_shown(CUSTOMER)))
    return sa.select(sa.func.count()).select_from(Notification).where(*mine).scalar_subquery()


def unread(account_id: str) -> int:
    """How many an account has not read."""
    return db.session.scalar(sa.select(unread_of(account_id))) or 0


def mark_read(account_id: str, until: str | None = None) -> int:
    """Mark what an account was told as read. Returns how many were not. Commits.

    until: the `newest` of the page that was read, so that what came after it stays new. Raises NotFound for none.
    """
    mine = [Notification.account_id == account_id, Notification.read_at.is_(None)]
    if until is not None:
        at, last = _place(until)
        mine += _from(at, Notification.id <= last)
    marked = sa.update(Notification).where(*mine).values(read_at=clock.utcnow())
    result = db.session.execute(marked.execution_options(synchronize_session=False))
    db.session.commit()
    return int(result.rowcount)  # type: ignore[attr-defined]


def preferences(account_id: str) -> list[Preference]:
    """What an account may do without, and does; in the order of `KINDS`."""
    query = sa.select(OptOut.kind, OptOut.channel).where(OptOut.account_id == account_id)
    out = {(row.kind, row.channel) for row in db.session.execute(query)}
    mail = bool(current_app.config["PORTAL"].smtp_url)
    return [
        Preference(
            kind, (kind, "whatsapp") not in out,
            (kind, "email") not in out if mail and KINDS[kind].by_email else None,
        )
        for kind in OPTIONAL
    ]  # fmt: skip


def set_preference(account_id: str, kind: str, channel: str, wanted: bool) -> None:
    """Have an optional kind sent by a channel, or not. Raises NotOptional. Commits."""
    set_preferences(account_id, {(kind, channel): wanted})


def set_preferences(account_id: str, wanted: Mapping[tuple[str, str], bool]) -> None:
    """The same for several at once, by kind and channel: all of them or, with NotOptional, none."""
    for kind, channel in wanted:
        if kind not in OPTIONAL or not (channel == "whatsapp" or (channel == "email" and KINDS[kind].by_email)):
            raise NotOptional(f"{kind} by {channel}")
    for (kind, channel), yes in wanted.items():
        row = {"account_id": account_id, "kind": kind, "channel": channel}
        if yes:
            db.session.execute(sa.delete(OptOut).filter_by(**row).execution_options(synchronize_session=False))
        else:
            now = {"id": new_id(), "created_at": clock.utcnow()}
            insert_missing(db.session.connection(), OptOut, row | now)
    db.session.commit()


def _page(whose: sa.ColumnElement[bool], kinds: Sequence[str], language: str, before: str | None, limit: int) -> Page:
    columns = (Notification.id, Notification.kind, Notification.facts, Notification.created_at, Notification.read_at)
    query = sa.select(*columns).where(whose, Notification.kind.in_(kinds))
    if before is not None:
        at, last = _place(before)
        query = query.where(*_from(at, Notification.id < last))
    newest_first = (Notification.created_at.desc(), Notification.id.desc())
    rows = db.session.execute(query.order_by(*newest_first).limit(limit + 1)).all()
    shown = rows[:limit]
    if not shown:
        return Page((), None, None)
    fates = _fates([row.id for row in shown])
    db.session.commit()  # gives the connection back: the words are read on one of their own
    words = wording.in_language({row.kind for row in shown}, language)
    notes = tuple(_note(row, words[row.kind], language, fates.get(row.id, ())) for row in shown)
    return Page(notes, _cursor(shown[-1]) if len(rows) > limit else None, _cursor(shown[0]))


def _note(row: sa.Row[Any], words: Wording, language: str, fates: Sequence[Fate]) -> Note:
    kind = KINDS[row.kind]
    link = str(row.facts.get("link") or kind.link)
    try:
        written = write(kind, words, row.facts, language, "")
    except Exception:
        # One row of an older release must not take the whole page from its reader.
        log.exception("a notification can't be written any more", extra={"notification": row.id, "kind": row.kind})
        return Note(row.id, row.kind, "", "", "", "", row.created_at, row.read_at is None, tuple(fates))
    lines = [line.rstrip() for line in written.body.split("\n")]
    at = lines.index(link) if link and link in lines else len(lines)
    body, rest = ("\n".join(part).strip("\n") for part in (lines[:at], lines[at + 1 :]))
    link = link if at < len(lines) else ""
    return Note(row.id, row.kind, written.title, body, link, rest, row.created_at, row.read_at is None, tuple(fates))


def _fates(notifications: Sequence[str]) -> dict[str, list[Fate]]:
    columns = (
        Delivery.notification_id, Delivery.channel, Delivery.address, Delivery.state, Delivery.due_at, Delivery.error,
        Delivery.accepted_at, Delivery.delivered_at, Delivery.read_at,
    )  # fmt: skip
    query = sa.select(*columns).where(Delivery.notification_id.in_(notifications))
    now = clock.utcnow()
    found: dict[str, list[Fate]] = {}
    for row in db.session.execute(query.order_by(Delivery.channel.desc(), Delivery.id)):
        found.setdefault(row.notification_id, []).append(_fate(row, now))
    return found


def _fate(row: sa.Row[*tuple[Any, ...]], now: dt.datetime) -> Fate:
    state, at, why = UNDER_WAY, None, ""
    match row.state:
        case "done" if row.read_at:
            state, at = READ, row.read_at
        case "done" if row.delivered_at:
            state, at = DELIVERED, row.delivered_at
        case "done":
            state, at = SENT, row.accepted_at
        case "waiting" if row.error:
            state, at = TRIED_AGAIN, row.due_at
        case "waiting" if row.due_at > now:
            state, at = LATER, row.due_at
        case "dead":
            state, why = UNDELIVERED, _WHY.get(row.error, "")
        case "expired":
            state, why = UNDELIVERED, TOO_LATE
        case "cancelled" if row.error == delivery.TOO_MANY:
            state, why = UNDELIVERED, UNPROVED
        case "cancelled":
            state = STOPPED
    return Fate(row.channel, masked(row.address), state, at, why, row.error)


def _shown(audience: str) -> list[str]:
    return [kind.name for kind in KINDS.values() if kind.audience == audience and kind.in_centre]


def _from(at: dt.datetime, among_equals: sa.ColumnElement[bool]) -> tuple[sa.ColumnElement[bool], ...]:
    """From a place downwards; several may be of one instant. Two conditions: the index can use the first."""
    return (Notification.created_at <= at, sa.or_(Notification.created_at < at, among_equals))


def _cursor(row: sa.Row[Any]) -> str:
    return f"{(row.created_at - _EPOCH) // dt.timedelta(microseconds=1)}-{row.id}"


def _place(cursor: str) -> tuple[dt.datetime, str]:
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise NotFound
    return _EPOCH + dt.timedelta(microseconds=int(found[1])), found[2]
