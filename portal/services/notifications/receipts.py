"""What became of a message at the carrier, as its webhook tells: sent, delivered, read, or failed after all.

A receipt may come twice, out of order, and before the carrier's own answer to our sending. So each is one conditional
UPDATE that only ever moves forward: read implies delivered, and whoever had the message once has it for good. The
names of the events exist in two vintages and two nestings that contradict each other (Wassenger's); both are read.
"""

import hashlib
import hmac
import logging
import re
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from portal import clock
from portal.config import Settings
from portal.extensions import db
from portal.models import Delivery
from portal.models.base import UtcDateTime
from portal.providers.messaging import MessagingError
from portal.providers.messaging.resayil import Resayil

log = logging.getLogger("portal.notifications")
SENT, DELIVERED, READ, FAILED = "sent", "delivered", "read", "failed"
LARGEST: Final = 256 * 1024
"""Bytes of a receipt: what is told of incoming messages with media comes to the same door."""
_EVENTS: Final = {
    "message:out:sent": SENT, "message:out:delivered": DELIVERED, "message:out:read": READ,
    "message:out:failed": FAILED,
}  # fmt: skip
_STATUSES: Final = {status: status for status in (SENT, DELIVERED, READ, FAILED)}
_OURS = re.compile(r"[0-9a-f]{32}")
_THEIRS = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")
UNKNOWN_NUMBER: Final = "the number is not on WhatsApp"
_ACCEPTED: Final = "accepted, and not delivered: "
NOT_ON_WHATSAPP: Final = _ACCEPTED + UNKNOWN_NUMBER
"""What a delivery to such a number has for its error."""
_REASONS: Final = (
    (re.compile(r"(?i)131047|24[ -]?h|re-?engagement"), "WhatsApp wants an approved template after a day of silence"),
    (re.compile(r"(?i)not (?:\w+ ){0,3}(?:registered|exist)|no whatsapp|invalid (?:number|phone|wid)"),
     UNKNOWN_NUMBER),
)  # fmt: skip


_WANTED: Final = (
    ["message:out:sent", "message:out:ack", "message:out:failed"],
    ["message:out:sent", "message:out:delivered", "message:out:read", "message:out:failed"],
)


class NotConnected(Exception):
    """The carrier can't be told where receipts go. `str()` says why."""


class NoReceipt(ValueError):
    """The body is no JSON object at all."""


class Receipt(NamedTuple):
    """One step of one message. reference: our id of it, empty where the carrier does not give it back. provider_id:
    the carrier's. reason: of a failure, the carrier's own words, which nobody is shown unread."""

    happened: str
    reference: str
    provider_id: str
    reason: str = ""


def token(settings: Settings) -> str:
    """What the last part of the door's address must be; empty where the door is shut."""
    return settings.resayil_webhook_token or settings.hook_token


def connect(settings: Settings) -> bool:
    """Have the carrier tell this portal of receipts. False when it does already. Raises NotConnected."""
    if not settings.resayil_api_key or not token(settings):
        raise NotConnected("RESAYIL_API_KEY and RESAYIL_WEBHOOK_TOKEN must be set")
    carrier = Resayil(settings.resayil_api_url, settings.resayil_api_key, settings.resayil_device)
    url = f"{settings.base_url}/webhooks/resayil/{quote(token(settings), safe='')}"
    first, second = _WANTED
    try:
        try:
            return carrier.connect_webhook(url, first)
        except MessagingError as fault:
            if not fault.permanent:
                raise
            return carrier.connect_webhook(url, second)  # a carrier that goes by the other names refuses the first
    except MessagingError as fault:
        raise NotConnected(fault.reason) from fault


def signed(secret: str, body: bytes, header: str) -> bool:
    """Whether `X-Wassenger-Signature` is the raw body's with our secret: `sha256=` and 64 hex digits."""
    right = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(right.encode(), header.strip().lower().encode())


def read(body: bytes) -> Receipt | None:
    """What a webhook tells of a message that went out; None for everything else it may tell. Raises NoReceipt."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NoReceipt from error
    if not isinstance(told, dict):
        raise NoReceipt
    data = _object(told.get("data"))
    message = {**data, **_object(data.get("message"))}  # in the other vintage the text stands under that name
    event = _text(told.get("event"))
    happened = _EVENTS.get(event)
    if event == "message:out:ack":
        happened = _STATUSES.get(_text(message.get("deliveryStatus")).lower())
    reference, provider_id = _text(message.get("reference")), _text(message.get("id"))
    if happened is None:
        return None
    receipt = Receipt(
        happened,
        reference if _OURS.fullmatch(reference) else "",
        provider_id if _THEIRS.fullmatch(provider_id) else "",
        _text(message.get("failureReason")) or _text(data.get("failureReason")),
    )
    return receipt if receipt.reference or receipt.provider_id else None


def note(receipt: Receipt) -> bool:
    """Write down what became of the message: one statement. Commits. False when it changes nothing.

    What is unknown here, or was told before, changes nothing. A message that was given up, stopped or in doubt and is
    delivered all the same is done; one that failed after it was accepted is dead, unless somebody had it already.
    """
    if receipt.happened == SENT and not receipt.provider_id:
        return False
    which = (
        Delivery.id == receipt.reference
        if receipt.reference
        # The account may be another system's too: an empty id would be everybody's who has none yet.
        else sa.and_(Delivery.provider_id == receipt.provider_id, Delivery.provider_id != "")
    )
    step = _failed if receipt.happened == FAILED else _sent if receipt.happened == SENT else _arrived
    with db.engine.begin() as connection:
        noted = connection.execute(step(sa.update(Delivery).where(which, Delivery.channel == "whatsapp"), receipt))
    if noted.rowcount and receipt.happened == FAILED:
        extra = {"delivery": receipt.reference, "at_carrier": receipt.provider_id, "said": _digitless(receipt.reason)}
        log.warning("message failed after it was accepted", extra=extra)
    return bool(noted.rowcount)


def why(reason: str) -> str:
    """A failure in our own words."""
    known = (ours for pattern, ours in _REASONS if pattern.search(reason))
    return _ACCEPTED + next(known, "the log has what the carrier said")


def _sent(update: sa.Update, receipt: Receipt) -> sa.Update:
    """The carrier has it. An id without `accepted_at` is that of an earlier sending, which failed before staff sent the
    message again (`sent.resend`)."""
    new = sa.or_(
        Delivery.provider_id == "",
        sa.and_(Delivery.accepted_at.is_(None), Delivery.provider_id != receipt.provider_id),
    )
    accepted = sa.func.coalesce(Delivery.accepted_at, sa.literal(clock.utcnow(), UtcDateTime()))
    return update.where(new).values(provider_id=receipt.provider_id, accepted_at=accepted)


def _arrived(update: sa.Update, receipt: Receipt) -> sa.Update:
    now = sa.literal(clock.utcnow(), UtcDateTime())
    fresh = [Delivery.delivered_at.is_(None)]
    if receipt.happened == READ:
        fresh.append(Delivery.read_at.is_(None))
    # Somebody has it: what we took for unsent was sent. Only a worker that is at it writes its own end.
    at_it = Delivery.state == "running"
    values: list[tuple[Any, Any]] = [
        (Delivery.error, sa.case((at_it, Delivery.error), else_="")),
        (Delivery.in_doubt, sa.case((at_it, Delivery.in_doubt), else_=False)),
        (Delivery.state, sa.case((at_it, Delivery.state), else_="done")),
        (Delivery.accepted_at, sa.func.coalesce(Delivery.accepted_at, now)),
        (Delivery.delivered_at, sa.func.coalesce(Delivery.delivered_at, now)),
    ]
    if receipt.happened == READ:
        values.append((Delivery.read_at, sa.func.coalesce(Delivery.read_at, now)))
    if receipt.provider_id:
        values.append((Delivery.provider_id, _first(receipt.provider_id)))
    return update.where(sa.or_(*fresh)).ordered_values(*values)


def _failed(update: sa.Update, receipt: Receipt) -> sa.Update:
    theirs = receipt.provider_id
    same = sa.or_(Delivery.provider_id == "", Delivery.provider_id == theirs)
    # What staff sent once more is another message to the carrier: the failure of the first is no news of it.
    open_ends = (
        sa.and_(Delivery.state == "done", same),
        sa.and_(Delivery.state == "running", Delivery.provider_id != theirs if theirs else sa.true()),
        sa.and_(Delivery.state == "waiting", Delivery.in_doubt, _latest(theirs)),
    )
    values: dict[str, Any] = {"state": "dead", "error": why(receipt.reason), "in_doubt": False, "lease_until": None}
    if theirs:
        values["provider_id"] = theirs
    return update.where(Delivery.delivered_at.is_(None), sa.or_(*open_ends)).values(**values)


def _latest(theirs: str) -> sa.ColumnElement[bool]:
    """Whether an id is that of the latest sending, for all that the row knows: not of one before it (see `_sent`)."""
    nothing, earlier = Delivery.provider_id == "", Delivery.accepted_at.is_(None)
    if not theirs:
        return nothing
    return sa.or_(nothing, sa.case((earlier, Delivery.provider_id != theirs), else_=Delivery.provider_id == theirs))


def _first(provider_id: str) -> sa.ColumnElement[str]:
    return sa.case((Delivery.provider_id == "", provider_id), else_=Delivery.provider_id)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _digitless(said: str) -> str:
    return re.sub(r"[0-9]{4,}", "[digits]", said[:200])
