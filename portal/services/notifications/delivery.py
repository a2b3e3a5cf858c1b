"""Sending what is due: claimed, written in both languages, given to the carrier, and its fate noted.

The rule against sending twice: whatever may have reached the carrier (a time-out, a 502, a worker that died in between)
is looked for there before anything is sent again, and not at once, as what was just accepted may not be listed yet.
A passing fault is tried again by `PAUSES`, a final one ends it. No database line is held while the carrier is asked.
"""

import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from flask import current_app

from portal import clock, queue
from portal.config import Settings
from portal.extensions import db
from portal.models import Delivery, Notification, User
from portal.providers.messaging import Mail, MessagingError, Sent, WhatsApp
from portal.services import allowances, codes, tunables, work
from portal.services.notifications import carriers, rendering, wording
from portal.services.notifications.kinds import KINDS, STAFF, Fact, Kind

log = logging.getLogger("portal.notifications")
LEASE_SECONDS = 90
"""Above the longest that looking, sending and noting can take: the carrier's time-outs are 20 s a call."""
PAUSES = (10, 60, 300, 1800, 7200, 21_600, 43_200)
"""Seconds after each failed try: about a day in all."""
TRIES = len(PAUSES) + 1
URGENT_PAUSES = (5, 10, 20, 40)
"""For what is of no use after minutes."""
ENOUGH = dt.timedelta(seconds=20)
"""After so long a job begins no other message: with one worker, codes and sweeps wait for its end."""
UNPROVED = 20
"""Messages a day to one number that nobody has proved: anybody can sign up with a stranger's. More than a customer's
busiest day brings, who has not come round to proving it."""
TOO_MANY = "the number was not verified, and had its messages for today"
UNKNOWN = "unknown"
"""The audience of a kind that only another release knows."""
Result = TypeVar("Result")
LOOK_AFTER = 20
"""Seconds before a message in doubt is looked for: what the carrier has just accepted may not be listed yet."""


class _Fate(NamedTuple):
    """What came of a try. state: as `deliver_one` returns it. unreachable: its carrier let us wait for nothing."""

    state: str | None
    unreachable: bool = False


class _Letter(NamedTuple):
    """What a delivery needs to know, read in one query."""

    id: str
    channel: str
    address: str
    text: str
    in_doubt: bool
    provider_id: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    accepted_at: dt.datetime | None
    delivered_at: dt.datetime | None
    proved: bool
    kind: Kind
    facts: Mapping[str, Any]
    language: str


def deliver(ids: Sequence[str]) -> dict[str, int]:
    """Send the deliveries that are due among these. Returns how many came to which state.

    Ends early where the carrier is slow, and at the first message for which it can't be reached: fifty time-outs in a
    row kept codes, sweeps and settlements waiting for a quarter of an hour. The sweep hands over again what is left.
    """
    fates: dict[str, int] = {}
    until = clock.utcnow() + ENOUGH
    for delivery_id in ids:
        if clock.utcnow() > until:
            break
        fate = _try(delivery_id)
        if fate.state is not None:
            fates[fate.state] = fates.get(fate.state, 0) + 1
        if fate.unreachable:
            break
    return fates


def deliver_one(delivery_id: str) -> str | None:
    """Send one. Returns its new state (`models/notification`); None when it is not due, or somebody else has it."""
    return _try(delivery_id).state


def _try(delivery_id: str) -> _Fate:
    held = work.claim(Delivery, delivery_id, LEASE_SECONDS)
    if held is None:
        return _Fate(None)
    letter = _read(delivery_id)
    try:
        return _Fate(_send(held, letter))
    except MessagingError as fault:
        return _Fate(_fault(held, letter, fault, letter.in_doubt or held.crashed), fault.unreachable)


def _send(held: work.Claim, letter: _Letter) -> str | None:
    """The new state. Raises MessagingError for what is to be tried again, or final."""
    settings: Settings = current_app.config["PORTAL"]
    if letter.delivered_at is not None or letter.accepted_at is not None:
        # Its receipt came, and the carrier's answer to our sending was lost.
        return _note(held, letter, state="done", error="", in_doubt=False)
    if letter.expires_at is not None and letter.expires_at <= clock.utcnow():
        return _note(held, letter, state="expired", error="it would have come too late")
    doubt = letter.in_doubt or held.crashed
    if letter.kind.audience == UNKNOWN:  # of a newer release: a worker of that one will know it
        raise MessagingError("this worker's release knows no such message")
    if held.crashed and held.attempt % TRIES == 1:
        log.error("message given up", extra={"delivery": letter.id, "kind": letter.kind.name})
        return _note(held, letter, state="dead", error="its worker died with each try", in_doubt=True)
    try:
        if held.attempt == 1 and not _allowed(letter):
            return _note(held, letter, state="cancelled", error=TOO_MANY)
        if letter.channel == "email":
            if doubt:  # a mail server can't be asked, and a second copy is worse than a lost one
                lost = "it may have been sent before a connection or a worker died"
                raise MessagingError(lost, permanent=True, in_doubt=True)
            sent, text = _by_mail(carriers.mail(settings), letter, settings)
        else:
            sent, text = _by_whatsapp(carriers.whatsapp(settings), letter, settings, doubt)
    except MessagingError:
        raise
    except sa.exc.DBAPIError as error:  # the rows are asked before anything leaves, so nothing has
        raise MessagingError("the database did not answer") from error
    except Exception as error:
        # Our own fault, such as a wording that can't be filled in: staff see it, mend it and send again.
        log.exception("message could not be written", extra={"delivery": letter.id, "kind": letter.kind.name})
        raise MessagingError(f"{type(error).__name__}: {error}", permanent=True) from error
    told = {"accepted_at": clock.utcnow(), "provider_id": sent.id[:64], "in_doubt": False, "error": ""}
    return _note(held, letter, state="done", text="" if letter.kind.secret else text, **told)


def sweep() -> int:
    """Hand over what is due. Returns how many."""
    due = work.hand_out(Delivery)
    for (name, _), ids in _sorted(due).items():
        queue.enqueue_now(name, work.batches(ids))
    return len(due)


def _sorted(ids: list[str]) -> dict[tuple[str, str], list[str]]:
    """By what hands them over (a code that is tried again stays urgent) and by channel: a mail server that lets
    everybody wait must not keep WhatsApp waiting. Each in the order given."""
    secret = [kind.name for kind in KINDS.values() if kind.secret]
    ways: dict[str, tuple[str, str]] = {}
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        for batch in work.batches(ids, 500):
            query = sa.select(Delivery.id, Delivery.channel, Notification.kind.in_(secret).label("secret"))
            query = query.join(Notification, Notification.id == Delivery.notification_id)
            for row in connection.execute(query.where(Delivery.id.in_(batch))):
                ways[row.id] = ("deliver code" if row.secret else "deliver", row.channel)
    parted: dict[tuple[str, str], list[str]] = {}
    for one in ids:
        if one in ways:
            parted.setdefault(ways[one], []).append(one)
    return parted


def text_of(letter_facts: Mapping[str, Any], kind: Kind, language: str, base_url: str) -> str:
    """The WhatsApp text of these facts, by the wording in force."""
    words = wording.both(kind.name)
    first, second = (
        rendering.write(kind, words[code], letter_facts, code, base_url) for code in rendering.reading_order(language)
    )
    return rendering.whatsapp(first, second)


def _by_whatsapp(carrier: WhatsApp, letter: _Letter, settings: Settings, doubt: bool) -> tuple[Sent, str]:
    text = letter.text or text_of(_with_codes(letter), letter.kind, letter.language, settings.base_url)
    if doubt:
        sought = (letter.address, text, letter.id, letter.created_at, letter.provider_id)
        found = _in_its_hands(letter, carrier.find, *sought)
        if found is not None:
            log.info("message found at the carrier: not sent again", extra={"delivery": letter.id})
            return found, text
    if not letter.text and not letter.kind.secret:
        _keep_text(letter.id, text)  # before it leaves: every try says the same, whatever staff edit meanwhile
    return _in_its_hands(letter, carrier.send, letter.address, text, letter.id), text


def _by_mail(carrier: Mail, letter: _Letter, settings: Settings) -> tuple[Sent, str]:
    words = wording.both(letter.kind.name)
    facts = _with_codes(letter)
    order = rendering.reading_order(letter.language)
    written = [rendering.write(letter.kind, words[code], facts, code, settings.base_url) for code in order]
    text = rendering.PARTED.join(f"{one.title}\n\n{one.body}" for one in written)
    return _in_its_hands(letter, carrier.send, letter.address, written[0].title, text, letter.id), text


def _in_its_hands(letter: _Letter, call: Callable[..., Result], *values: Any) -> Result:
    """Ask the carrier. Whatever else breaks there (a job broken off by its queue, a fault of ours) may come after the
    message has left: taken for unsent, it went out a second time when staff sent it again."""
    try:
        return call(*values)
    except MessagingError:
        raise
    except Exception as error:
        log.exception("broken off at the carrier", extra={"delivery": letter.id, "kind": letter.kind.name})
        raise MessagingError(f"broken off at the carrier: {type(error).__name__}", in_doubt=True) from error


def _allowed(letter: _Letter) -> bool:
    """Whether a number that nobody has proved may have one more today; asked once a message. Codes have a count of
    their own (`codes`); an e-mail costs nothing."""
    if letter.channel != "whatsapp" or letter.kind.secret or letter.kind.audience == STAFF or letter.proved:
        return True
    try:
        a_day = tunables.get("unproved_a_day")
    finally:
        db.session.rollback()  # no transaction is held while the carrier is asked
    number = hashlib.sha256(letter.address.encode()).hexdigest()[:32]
    return allowances.take(f"unproved:{number}", UNPROVED) and allowances.take("unproved", a_day)


def _with_codes(letter: _Letter) -> Mapping[str, Any]:
    """The facts, with the digits of codes in place of the ids they are computed from."""
    written = {
        name: codes.digits(str(letter.facts[name])) for name, fact in letter.kind.facts.items() if fact is Fact.CODE
    }
    return {**letter.facts, **written}


def _read(delivery_id: str) -> _Letter:
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        row = connection.execute(
            sa.select(
                Delivery.channel, Delivery.address, Delivery.text, Delivery.in_doubt, Delivery.provider_id,
                Delivery.created_at, Delivery.expires_at, Delivery.accepted_at, Delivery.delivered_at,
                Notification.kind, Notification.facts, Notification.language,
                sa.exists().where(User.phone == Delivery.address, User.phone_verified_at.is_not(None)).label("proved"),
            )
            .join(Notification, Notification.id == Delivery.notification_id)
            .where(Delivery.id == delivery_id)
        ).one()  # fmt: skip
    kind = KINDS.get(row.kind) or Kind(row.kind, UNKNOWN, {})
    return _Letter(
        delivery_id, row.channel, row.address, row.text, row.in_doubt, row.provider_id, row.created_at, row.expires_at,
        row.accepted_at, row.delivered_at, bool(row.proved), kind, row.facts, row.language,
    )  # fmt: skip


def _keep_text(delivery_id: str, text: str) -> None:
    with db.engine.begin() as connection:
        connection.execute(sa.update(Delivery).where(Delivery.id == delivery_id).values(text=text))


def _fault(held: work.Claim, letter: _Letter, fault: MessagingError, was_in_doubt: bool) -> str | None:
    pauses = URGENT_PAUSES if letter.kind.secret else PAUSES
    tries = len(pauses) + 1
    tried = held.attempt % TRIES or TRIES
    # What a lookup could not tell stays in doubt; a definite refusal of a second sending ends the doubt.
    doubt = fault.in_doubt or (was_in_doubt and not fault.permanent)
    extra = {"delivery": letter.id, "kind": letter.kind.name, "reason": fault.reason, "tries": held.attempt}
    if fault.permanent or tried >= tries:
        log.error("message given up", extra=extra)
        return _note(held, letter, state="dead", error=fault.reason, in_doubt=doubt)
    log.warning("message not sent yet", extra=extra)
    pause = max(pauses[tried - 1], LOOK_AFTER if doubt else 0, fault.retry_after or 0)
    due = clock.utcnow() + dt.timedelta(seconds=pause)
    return _note(held, letter, state="waiting", error=fault.reason, in_doubt=doubt, due_at=due)


def _note(held: work.Claim, letter: _Letter, *, state: str, **values: Any) -> str | None:
    with db.engine.begin() as connection:
        if not work.write(connection, Delivery, held, state=state, **values):
            log.warning("a delivery ended after its lease: somebody else has it", extra={"delivery": letter.id})
            return None
    return state
