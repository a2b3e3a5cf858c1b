"""Messages as the outbox and the worker leave them, and what a carrier's webhook says of them."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery, Notification
from portal.services.notifications.samples import FACTS

PHONE = "+96550001234"
CARRIERS = "6571f0c2b7d3e95f08c4a1b2"
LONG_AGO = dt.datetime(2026, 11, 1, 9, 0, tzinfo=dt.UTC)


def letter(app: Flask, kind: str = "credit_low", **values: Any) -> str:
    """A WhatsApp message that waits, with these columns as told. Returns its id."""
    note = {"recipient": f"phone:{PHONE}", "kind": kind, "occasion": new_id(), "facts": FACTS[kind], "language": "ar"}
    row = {"id": new_id(), "channel": "whatsapp", "address": PHONE, "due_at": LONG_AGO, **values}
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.insert(Notification).values(id=row["id"], **note))
        connection.execute(sa.insert(Delivery).values(notification_id=row["id"], **row))
    return str(row["id"])


def accepted(app: Flask, **values: Any) -> str:
    """One that the carrier has taken."""
    taken: dict[str, Any] = {"state": "done", "attempts": 1, "provider_id": CARRIERS, "accepted_at": LONG_AGO}
    return letter(app, **(taken | values))


def now(app: Flask, delivery: str) -> sa.Row[*tuple[Any, ...]]:
    """How the message stands."""
    with app.app_context(), db.engine.connect() as connection:
        return connection.execute(sa.select(Delivery.__table__).where(Delivery.id == delivery)).one()


def fate(app: Flask, delivery: str) -> tuple[str, bool, bool]:
    """(state, delivered?, read?)"""
    row = now(app, delivery)
    return row.state, row.delivered_at is not None, row.read_at is not None


def event(name: str, *, nested: bool = False, **data: Any) -> dict[str, Any]:
    """A webhook's body, in either nesting."""
    told = {"phone": PHONE, "message": "the text, which names 123456", **data}
    return {"id": "e1", "event": name, "device": {"id": "d1"}, "data": {"message": told} if nested else told}
