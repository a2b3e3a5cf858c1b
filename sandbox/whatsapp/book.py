"""Every message the service has accepted, found by id, phone or reference without looking at the others.

A message is in this book or was never accepted: tests count here. Its way to the phone is in `delivery.py`, its JSON in
`shapes.py`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

QUEUED, SENT, DELIVERED, READ, FAILED = "queued", "sent", "delivered", "read", "failed"


def new_id() -> str:
    """24 hex digits, the first eight of them the second of its making, as Mongo's ids are."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"


@dataclass(slots=True)
class Message:
    """One accepted message. Instants are `time.time()` seconds, `*_ms` are the knobs it was accepted under."""

    phone: str
    message: str
    device: str
    reference: str | None
    priority: str
    at: float
    deliver_at: float
    deliver_ms: float | None
    read_ms: float | None
    fail_with: str | None
    visible_at: float
    id: str = field(default_factory=new_id)
    wa_id: str = field(default_factory=lambda: "3EB0" + secrets.token_hex(9).upper())
    status: str = QUEUED
    delivery: str = QUEUED
    webhook_status: str = "pending"
    sent_at: float | None = None
    delivered_at: float | None = None
    read_at: float | None = None
    failure_reason: str | None = None


class Book:
    """All messages, oldest first, with an index for each way they are asked for."""

    def __init__(self) -> None:
        self.all: list[Message] = []
        self.by_id: dict[str, Message] = {}
        self.by_phone: dict[str, list[Message]] = {}  # the phone written to last is the last one here
        self._by_reference: dict[str, list[Message]] = {}
        self.reached: dict[str, int] = dict.fromkeys((SENT, DELIVERED, READ, FAILED), 0)

    def add(self, message: Message) -> None:
        self.all.append(message)
        self.by_id[message.id] = message
        self.by_phone[message.phone] = thread = self.by_phone.pop(message.phone, [])
        thread.append(message)
        if message.reference is not None:
            self._by_reference.setdefault(message.reference, []).append(message)

    def find(self, phone: str | None, reference: str | None, status: str | None, size: int) -> list[Message]:
        """At most `size` messages that can be seen by now, newest first."""
        found: list[Message] = []
        now = time.time()
        for message in self._candidates(phone, reference):
            wrong = (phone and message.phone != phone) or (status and message.status != status)
            if wrong or message.visible_at > now:
                continue
            found.append(message)
            if len(found) >= size:
                break
        return found

    def _candidates(self, phone: str | None, reference: str | None) -> Iterator[Message]:
        if reference is not None:
            return reversed(self._by_reference.get(reference, []))
        if phone is not None:
            return reversed(self.by_phone.get(phone, []))
        return reversed(self.all)

    def counters(self) -> dict[str, Any]:
        return {"accepted": len(self.all), **self.reached}
