"""The JSON that the service speaks: a message, a device, an error, a webhook's event, and the tests' own short form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from .book import DELIVERED, FAILED, READ, SENT, Message, new_id
from .knobs import Knobs

EVENTS = {
    "code": {"new": "message:out:new", SENT: "message:out:sent", DELIVERED: "message:out:ack", READ: "message:out:ack",
             FAILED: "message:out:failed"},
    "skills": {"new": "message:out:new", SENT: "message:out:sent", DELIVERED: "message:out:delivered",
               READ: "message:out:read", FAILED: "message:out:failed"},
}  # fmt: skip
"""What happened, by the two sets of names in circulation; the knob `vintage` chooses."""
SUBSCRIBABLE = frozenset({
    *EVENTS["code"].values(), *EVENTS["skills"].values(),
    "message:in:new", "message:update", "message:reaction", "chat:update", "contact:update", "number:session",
    "group:update", "status:update", "channel:in", "chat:assigned", "device:status:changed",
})  # fmt: skip
"""Every name a webhook may ask for. Only those of messages going out ever happen here."""


def dumps(value: Any) -> bytes:
    """Compact: ten thousand messages indented took a second in which nothing else was answered."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def iso(instant: float | None) -> str | None:
    """`2026-11-21T14:29:05.123Z`."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message_json(message: Message, knobs: Knobs) -> dict[str, Any]:
    """A message as the API and the webhooks show it."""
    told: dict[str, Any] = {
        "id": message.id,
        "waId": message.wa_id,
        "phone": message.phone,
        "type": "text",
        "message": message.message,
        "status": message.status,
        "deliveryStatus": message.delivery,
        "webhookStatus": message.webhook_status,
        "device": message.device,
        "priority": message.priority,
        "retry": {"count": 0},
        "deliverAt": iso(message.deliver_at),
        "createdAt": iso(message.at),
        "sentAt": iso(message.sent_at),
    }
    if message.reference is not None and not knobs.drop_reference:
        told["reference"] = message.reference
    if message.failure_reason is not None:
        told["failureReason"] = message.failure_reason
    return told


def device_json(device: str, knobs: Knobs) -> dict[str, Any]:
    at = knobs.devices.index(device)
    return {
        "id": device,
        "phone": f"+965220000{at:02d}",
        "alias": f"Sandbox {at + 1}",
        "status": knobs.device_status,
        "session": {"status": knobs.session},
    }


def error_json(
    status: int, message: str, error_code: str | None = None, errors: list[tuple[str, str]] | None = None
) -> dict[str, Any]:
    told: dict[str, Any] = {"status": status, "message": message}
    if error_code is not None:
        told["errorCode"] = error_code
    if errors:
        told["errors"] = [{"path": path, "message": text} for path, text in errors]
    return told


def event_json(message: Message, happened: str, knobs: Knobs) -> dict[str, Any]:
    """A webhook's body. The id is the event's own; the message's is in data."""
    data = message_json(message, knobs)
    device = {"id": message.device}
    if message.device in knobs.devices:
        told = device_json(message.device, knobs)
        device = {name: told[name] for name in ("id", "phone", "alias")}
    return {
        "id": new_id(),
        "event": EVENTS[knobs.vintage][happened],
        "device": device,
        "data": {"message": data} if knobs.nested else data,
    }


def ledger_line(message: Message) -> dict[str, Any]:
    """A line of `/__messages`: always everything, whatever the knobs keep from the API."""
    return {
        "id": message.id, "phone": message.phone, "message": message.message, "reference": message.reference,
        "at": message.at, "status": message.status, "deliveryStatus": message.delivery, "device": message.device,
        "webhookStatus": message.webhook_status, "failureReason": message.failure_reason,
        "sent_at": message.sent_at, "delivered_at": message.delivered_at, "read_at": message.read_at,
    }  # fmt: skip
