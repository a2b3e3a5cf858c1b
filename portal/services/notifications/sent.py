"""What was told to whom and what became of it, as staff read it; and what they may do about a message.

Numbers and addresses are masked, and a secret's text was never kept. Sending again and stopping are conditional updates
on the state that allows them: whoever was quicker, a worker or a colleague, is not overruled.
"""

import datetime as dt
import logging
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from portal import clock, queue
from portal.errors import NotFound
from portal.extensions import db
from portal.models import Delivery, Notification
from portal.services import phones
from portal.services.notifications.delivery import TRIES
from portal.services.notifications.kinds import KINDS

log = logging.getLogger("portal.notifications")
STATES: Final = ("waiting", "running", "done", "dead", "expired", "cancelled")
OVER: Final = ("dead", "expired", "cancelled")
"""Never sent, as far as we know, and sent again on staff's word."""
MOST: Final = 200
"""Lines of a page."""


class NotPossible(Exception):
    """Its state, or what it is, does not allow that. state: the one it is in. secret: it held a code, not repeated."""

    def __init__(self, state: str, *, secret: bool = False) -> None:
        super().__init__(f"it holds a one-time code ({state})" if secret else f"it is {state}")
        self.state, self.secret = state, secret


class Line(NamedTuple):
    """A delivery in a list. to: masked. whom: `account:<id>`, `user:<id>`, `staff`, or `number`."""

    id: str
    created_at: dt.datetime
    kind: str
    whom: str
    channel: str
    to: str
    state: str
    tries: int
    error: str
    due_at: dt.datetime
    accepted_at: dt.datetime | None
    delivered_at: dt.datetime | None
    read_at: dt.datetime | None

    @property
    def may_be_sent_again(self) -> bool:
        """Whether `resend` would take it, as it was when it was read."""
        return self.state in OVER and not _secret(self.kind)


class Page(NamedTuple):
    """Lines, the newest first. before: what the next page is asked for with; None at the end."""

    lines: tuple[Line, ...]
    before: str | None


class Message(NamedTuple):
    """One delivery with all that is kept of it.

    text: as it was sent; None where it must not be kept or was not written yet. in_doubt: the carrier may have it.
    """

    line: Line
    language: str
    text: str | None
    secret: bool
    in_doubt: bool
    provider_id: str
    expires_at: dt.datetime | None


def page(
    *,
    state: str | None = None,
    kind: str | None = None,
    to: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> Page:
    """Deliveries, the newest first, by any of these.

    to: a number in any way a person writes one, or an e-mail address. before: the `before` of the page above. limit: 1
    to MOST.
    """
    limit = max(1, min(limit, MOST))
    query = _lines.order_by(Delivery.id.desc()).limit(limit + 1)  # an id tells when it was made
    if state is not None:
        query = query.where(Delivery.state == state)
    if kind is not None:
        query = query.where(Notification.kind == kind)
    if to is not None:
        query = query.where(Delivery.address.in_([to.strip().lower()] if "@" in to else phones.readings(to)))
    if before is not None:
        query = query.where(Delivery.id < before)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        rows = connection.execute(query).all()
    lines = tuple(_line(row) for row in rows[:limit])
    return Page(lines, lines[-1].id if len(rows) > limit else None)


def find(delivery_id: str) -> Message:
    """One delivery and its fate. Raises NotFound."""
    also = (
        Delivery.text, Delivery.in_doubt, Delivery.provider_id, Delivery.expires_at, Notification.language,
    )  # fmt: skip
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        row = connection.execute(_lines.add_columns(*also).where(Delivery.id == delivery_id)).one_or_none()
    if row is None:
        raise NotFound
    secret = _secret(row.kind)
    text = None if secret or not row.text else row.text
    return Message(_line(row), row.language, text, secret, row.in_doubt, row.provider_id, row.expires_at)


def resend(delivery_id: str, actor: str) -> None:
    """Have a message that was given up, came too late or was stopped sent now, quiet hours or not. Commits.

    actor: `console` or `user:<id>`, for the log. All tries anew. What the carrier may have already is still looked for
    there first; an e-mail, which nobody can look for, goes out once more: that is what a person decided here.
    Raises NotFound; NotPossible for one that is under way or done, and for a code, which is of no use any more.
    """
    found = find(delivery_id)
    if not found.line.may_be_sent_again:
        raise NotPossible(found.line.state, secret=found.secret)
    now = clock.utcnow()
    spec = KINDS.get(found.line.kind)
    # Its tries are counted on, not anew (`work`): a number that came twice would let somebody long gone write a result.
    counted = Delivery.attempts + (TRIES - Delivery.attempts % TRIES) % TRIES
    values = {
        "state": "waiting", "due_at": now, "handed_at": now, "lease_until": None, "attempts": counted,
        # What was accepted and failed is over. Its id stays: the carrier still lists it under the same reference.
        "accepted_at": sa.case((Delivery.in_doubt, Delivery.accepted_at), else_=None),
        "expires_at": now + dt.timedelta(minutes=spec.minutes) if spec and spec.minutes else None,
    }  # fmt: skip
    if found.line.channel == "email":
        values |= {"in_doubt": False, "accepted_at": None}
    _change(delivery_id, OVER, values)
    queue.enqueue("deliver", delivery_id)
    db.session.commit()
    log.info("message sent again by staff", extra=_told(found, actor))


def cancel(delivery_id: str, actor: str) -> None:
    """Stop a message that waits. Commits. actor: as for `resend`.

    Raises NotFound; NotPossible for one that is being sent at this moment, or over.
    """
    found = find(delivery_id)
    _change(delivery_id, ("waiting",), {"state": "cancelled"})
    db.session.commit()
    log.info("message cancelled by staff", extra=_told(found, actor))


_lines = sa.select(
    Delivery.id, Delivery.created_at, Notification.kind, Notification.recipient, Delivery.channel, Delivery.address,
    Delivery.state, Delivery.attempts, Delivery.error, Delivery.due_at, Delivery.accepted_at, Delivery.delivered_at,
    Delivery.read_at,
).join(Notification, Notification.id == Delivery.notification_id)  # fmt: skip


def _change(delivery_id: str, states: tuple[str, ...], values: dict[str, object]) -> None:
    """Only out of one of these states; else NotPossible with the state it is in by now."""
    changed = db.session.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.state.in_(states))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        db.session.rollback()
        raise NotPossible(find(delivery_id).line.state)


def _line(row: sa.Row[*tuple[Any, ...]]) -> Line:
    whom = "number" if row.recipient.startswith("phone:") else row.recipient
    return Line(
        row.id, row.created_at, row.kind, whom, row.channel, masked(row.address), row.state, row.attempts, row.error,
        row.due_at, row.accepted_at, row.delivered_at, row.read_at,
    )  # fmt: skip


def masked(address: str) -> str:
    """`+96550001234` → `•••• 234`, `layla@example.com` → `l•••@example.com`."""
    name, at, host = address.rpartition("@")
    return f"{name[:1]}•••@{host}" if at else f"•••• {address[-3:]}"


def _secret(kind: str) -> bool:
    spec = KINDS.get(kind)  # rows outlive the kinds of their release
    return spec is not None and spec.secret


def _told(message: Message, actor: str) -> dict[str, str]:
    return {"delivery": message.line.id, "kind": message.line.kind, "was": message.line.state, "actor": actor}
