"""Writing down who is told what, in the transaction of what happened: with it or not at all, and once an occasion.

A row that is there already is left alone, so whoever repeats a step tells nobody twice. Nothing is sent here: after the
commit the workers are woken, and should that be lost, a sweep finds what is due.
"""

import datetime as dt
from typing import Any, Final

import sqlalchemy as sa
from flask import current_app

from portal import clock, queue
from portal.config import Settings
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Delivery, Notification, OptOut, User
from portal.services import tunables
from portal.services.insertion import insert_missing
from portal.services.notifications.kinds import CUSTOMER, KINDS, LANGUAGES, STAFF, Kind
from portal.services.notifications.rendering import Wording, write
from portal.services.notifications.wording import TEXTS

STAFF_RECIPIENT: Final = "staff"
LONGEST: Final = 120
"""Characters of an occasion."""
AN_HOUR: Final = 5
"""Messages of one kind to staff within an hour. Whoever has a network of IPv6 is banned a thousand times an hour, and
each ban was a message to each administrator, at night too."""
MUTED: Final = "alerts_muted"


def notify(account_id: str, kind: str, occasion: str, *, also_to: tuple[str, ...] = (), **facts: Any) -> bool:
    """Tell an account's owner, in the transaction of the session. The caller commits.

    kind: a customer's kind (`kinds.KINDS`). occasion: what makes it be told once, at most 120 characters. also_to:
    further numbers that must hear of it (the one that was theirs until now). facts: every fact of the kind, plain.
    Returns False, and writes nothing, when this occasion was told. Raises LookupError for an unknown account,
    ValueError for a kind, facts or an occasion that are wrong.
    """
    spec = _checked(kind, CUSTOMER, occasion, facts)
    owner = db.session.execute(
        sa.select(User.phone, User.email, User.language)
        .join(Account, Account.owner_id == User.id)
        .where(Account.id == account_id)
    ).one_or_none()
    if owner is None:
        raise LookupError(f"there is no account {account_id}")
    unwanted = _opted_out(account_id, kind) if spec.optional else frozenset()
    ways = [("whatsapp", phone) for phone in dict.fromkeys((owner.phone, *also_to)) if "whatsapp" not in unwanted]
    if "email" not in unwanted:
        ways += _by_email(spec, owner.email)
    row = _row(f"account:{account_id}", spec, occasion, facts, owner.language)
    return _write(spec, row | {"account_id": account_id}, ways)


def notify_number(phone: str, language: str, kind: str, occasion: str, **facts: Any) -> bool:
    """Tell whoever has this number: a code to prove it, an invitation to somebody without an account.

    phone: E.164. language: `ar` or `en`. Otherwise as `notify`.
    """
    spec = _checked(kind, CUSTOMER, occasion, facts)
    return _write(spec, _row(f"phone:{phone}", spec, occasion, facts, language), [("whatsapp", phone)])


def notify_staff(kind: str, occasion: str, **facts: Any) -> bool:
    """Tell the operator's people: every number of ADMIN_PHONES, and ADMIN_EMAIL. Otherwise as `notify`.

    What comes often within an hour is only in the notification centre; that it is, they are told once an hour.
    """
    spec = _checked(kind, STAFF, occasion, facts)
    now = clock.utcnow()
    earlier = 0 if kind == MUTED else _told_staff(kind, now - dt.timedelta(hours=1))
    if earlier >= AN_HOUR:
        new = _write(spec, _row(STAFF_RECIPIENT, spec, occasion, facts, "ar"), [])
        if new:
            about = {one: write(spec, Wording(TEXTS[kind][one].title, ""), facts, one, "").title for one in LANGUAGES}
            notify_staff(MUTED, f"{kind}:{now:%Y-%m-%dT%H}", about=about, count=earlier + 1)
        return new
    settings: Settings = current_app.config["PORTAL"]
    ways = [("whatsapp", phone) for phone in dict.fromkeys(settings.admin_phones)]
    if settings.admin_email:
        ways += _by_email(spec, settings.admin_email)
    return _write(spec, _row(STAFF_RECIPIENT, spec, occasion, facts, "ar"), ways)


def quiet_until(now: dt.datetime) -> dt.datetime:
    """When what can wait may be told: now, or the end of the quiet hours (settings `quiet_from`, `quiet_until`)."""
    begins, ends = tunables.get("quiet_from"), tunables.get("quiet_until")
    local = now.astimezone(clock.KUWAIT)
    quiet = begins <= local.hour < ends if begins <= ends else local.hour >= begins or local.hour < ends
    if not quiet:
        return now
    morning = local.replace(hour=ends, minute=0, second=0, microsecond=0)
    return (morning if morning > local else morning + dt.timedelta(days=1)).astimezone(dt.UTC)


def _checked(kind: str, audience: str, occasion: str, facts: dict[str, Any]) -> Kind:
    spec = KINDS.get(kind)
    if spec is None or spec.audience != audience:
        raise ValueError(f"no message to {audience} is called {kind}")
    if set(facts) - {"link"} != set(spec.facts):
        raise ValueError(f"{kind} needs the facts {sorted(spec.facts)}, not {sorted(facts)}")
    if not 0 < len(occasion) <= LONGEST:
        raise ValueError(f"an occasion has 1 to {LONGEST} characters")
    return spec


def _told_staff(kind: str, since: dt.datetime) -> int:
    """How often staff were told of this kind, by the index of recipient and time."""
    mine = (Notification.recipient == STAFF_RECIPIENT, Notification.created_at > since, Notification.kind == kind)
    return db.session.scalar(sa.select(sa.func.count()).select_from(Notification).where(*mine)) or 0


def _opted_out(account_id: str, kind: str) -> frozenset[str]:
    query = sa.select(OptOut.channel).where(OptOut.account_id == account_id, OptOut.kind == kind)
    return frozenset(db.session.scalars(query))


def _by_email(spec: Kind, address: str) -> list[tuple[str, str]]:
    return [("email", address)] if spec.by_email and current_app.config["PORTAL"].smtp_url else []


def _row(recipient: str, spec: Kind, occasion: str, facts: dict[str, Any], language: str) -> dict[str, Any]:
    return {
        "id": new_id(), "recipient": recipient, "account_id": None, "kind": spec.name, "occasion": occasion,
        "facts": facts, "language": language, "created_at": clock.utcnow(), "read_at": None,
    }  # fmt: skip


def _write(spec: Kind, row: dict[str, Any], ways: list[tuple[str, str]]) -> bool:
    if not insert_missing(db.session.connection(), Notification, row):
        return False
    now: dt.datetime = row["created_at"]
    due = now if spec.urgent else quiet_until(now)
    expires = None if spec.minutes is None else due + dt.timedelta(minutes=spec.minutes)
    deliveries = [
        {
            "id": new_id(), "notification_id": row["id"], "channel": channel, "address": address, "due_at": due,
            "handed_at": now if due == now else None, "created_at": now, "expires_at": expires,
        }
        for channel, address in ways
    ]  # fmt: skip
    if deliveries:
        db.session.execute(sa.insert(Delivery), deliveries)
        if due == now:
            queue.enqueue("deliver code" if spec.secret else "deliver", *(d["id"] for d in deliveries))
    return True
