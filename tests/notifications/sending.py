"""A portal that sends through the sandbox, for the tests of each message's fate."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery
from portal.services.notifications import delivery as delivering, notify_number
from sandbox.process import SandboxProcess
from tests.notifications.outside import Clock, Line, deliveries, delivery

PHONE = "+96550000777"


class Office:
    """A portal that sends through the sandbox."""

    def __init__(self, app: Flask, sandbox: SandboxProcess, clock: Clock) -> None:
        self.app, self.sandbox, self.clock = app, sandbox, clock

    def tell(self, kind: str = "credit_exhausted", **facts: Any) -> str:
        """A message that is due now. Returns its delivery's id."""
        with self.app.app_context():
            notify_number(PHONE, "en", kind, new_id(), **(facts or {"balance": 12}))
            db.session.commit()
            return str(deliveries()[-1].id)

    def send(self, delivery_id: str) -> str | None:
        with self.app.app_context():
            return delivering.deliver_one(delivery_id)

    def row(self, delivery_id: str) -> Line:
        with self.app.app_context():
            return delivery(delivery_id)

    def set(self, delivery_id: str, **values: Any) -> None:
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.update(Delivery).where(Delivery.id == delivery_id).values(**values))

    def pause(self, delivery_id: str) -> float:
        """Seconds until it is due."""
        due: dt.datetime = self.row(delivery_id).due_at
        return (due - self.clock.now).total_seconds()

    def faults(self, *names: str, **knobs: Any) -> None:
        self.sandbox.next(*({"fault": name, **knobs} for name in names), server="whatsapp")

    @property
    def wire(self) -> list[str]:
        """What the carrier was asked, oldest first: POST sends, GET looks."""
        return [entry["method"] for entry in self.sandbox.requests(server="whatsapp") if entry["path"] == "/messages"]

    @property
    def arrived(self) -> list[str]:
        """The texts on the telephone."""
        return [str(message["message"]) for message in self.sandbox.messages(PHONE)]
