"""The service's API, with and without `/v1`: who may ask, which path is answered by what, and what is refused why."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox.journal import Entry
from sandbox.posting import possible
from sandbox.wire import Exchange, PeerLeft

from . import faults, phones
from .book import Message
from .faults import JSON
from .knobs import FAULTS_ACCEPTED, Knobs
from .server import WhatsApp
from .shapes import SUBSCRIBABLE, device_json, dumps, error_json, message_json
from .webhooks import Webhook

Route = Callable[["WhatsApp", Exchange, Entry, str], None]
SIZE, MAX_SIZE = 20, 100
BAD_PHONE = "Phone number is not a valid international mobile number: it must be in E.164 format, such as +96550000001"


class Refused(Exception):
    """An error in the service's own shape."""

    def __init__(
        self, status: int, text: str, error_code: str | None = None, errors: list[tuple[str, str]] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.body = error_json(status, text, error_code, errors)


def dispatch(server: WhatsApp, exchange: Exchange, entry: Entry, path: str) -> None:
    """Find the route and answer."""
    request, knobs = exchange.request, server.board.now
    if request.body:
        try:
            entry.body = json.loads(request.body)
        except ValueError:
            entry.body = request.body.decode("utf-8", "replace")[:100_000]
    if knobs.down is not None:
        _fault(exchange, entry, knobs.down, knobs)
        return
    try:
        if request.headers.get("token") != knobs.key:
            raise Refused(403, "Forbidden: API key is missing, not valid or not authorized")
        for pattern, methods in TABLE:
            if (match := pattern.fullmatch(path)) is None:
                continue
            route = methods.get(request.method)
            if route is None:
                raise Refused(405, f"Method {request.method} is not allowed here")
            route(server, exchange, entry, match.group(1) if pattern.groups else "")
            break
        else:
            raise Refused(404, f"There is nothing at {path}")
    except Refused as refusal:
        entry.outcome = "refused"
        exchange.answer(refusal.status, dumps(refusal.body), JSON)
        return
    if entry.outcome == "running":
        entry.outcome = "done"


def _say(exchange: Exchange, value: Any, status: int = 200) -> None:
    exchange.answer(status, dumps(value), JSON)


def _fault(exchange: Exchange, entry: Entry, name: str, knobs: Knobs, honest: bytes = b"") -> None:
    entry.fault, entry.outcome = name, "fault"
    faults.play(exchange, name, knobs, honest)


def _pause(exchange: Exchange, milliseconds: float) -> None:
    """Raises PeerLeft when the client does not wait so long."""
    if milliseconds and exchange.peer.left.wait(milliseconds / 1000):
        raise PeerLeft


def _object(entry: Entry) -> dict[str, Any]:
    if not isinstance(entry.body, dict):
        raise Refused(400, "Request body must be a JSON object")
    return entry.body


# -- sending -----------------------------------------------------------------------------------------------------------


def _send(server: WhatsApp, exchange: Exchange, entry: Entry, _: str) -> None:
    knobs = server.board.draw()
    _pause(exchange, knobs.delay_ms)
    if knobs.fault is not None and knobs.fault not in FAULTS_ACCEPTED:
        _fault(exchange, entry, knobs.fault, knobs)
        return
    wanted = _object(entry)
    device, deliver_at = _checked(wanted, knobs)
    message = server.accept(wanted, device, deliver_at, knobs)
    entry.notes["message"] = message.id
    honest = dumps(message_json(message, knobs))  # as it is now: queued
    _pause(exchange, knobs.answer_delay_ms)
    if knobs.fault is not None:
        _fault(exchange, entry, knobs.fault, knobs, honest)
        return
    exchange.answer(201, honest, JSON)


def _checked(wanted: dict[str, Any], knobs: Knobs) -> tuple[str, float | None]:
    """The device it goes out by and the instant it may; raises Refused."""
    _check_phone(wanted)
    text = wanted.get("message")
    if not isinstance(text, str) or not text.strip():
        raise _invalid("message", "message is required and must be a non-empty string")
    for name in ("reference", "priority"):
        if wanted.get(name) is not None and not isinstance(wanted[name], str):
            raise _invalid(name, f"{name} must be a string")
    device = wanted.get("device")
    if device is None and len(knobs.devices) > 1:
        raise _invalid("device", "device is required: the account has several numbers")
    if device is not None and device not in knobs.devices:
        raise _invalid("device", f"device {device!r} does not exist or is not accessible")
    if wanted["phone"] in knobs.unreachable and knobs.unreachable_refused:
        raise Refused(400, "Phone number is not registered on WhatsApp", "phone:unreachable")
    return device or knobs.devices[0], _instant(wanted.get("deliverAt"))


def _check_phone(wanted: dict[str, Any]) -> None:
    if not phones.valid(wanted.get("phone")):
        raise Refused(400, BAD_PHONE, "phone:invalid", [("phone", BAD_PHONE)])


def _invalid(path: str, text: str) -> Refused:
    return Refused(400, f"Invalid request: {text}", None, [(path, text)])


def _instant(given: Any) -> float | None:
    if given is None:
        return None
    try:
        instant = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise _invalid("deliverAt", "deliverAt must be an ISO 8601 date") from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


# -- looking up --------------------------------------------------------------------------------------------------------


def _stopped(server: WhatsApp, exchange: Exchange, entry: Entry) -> Knobs | None:
    """The knobs of this lookup; None when its fault has been played."""
    knobs = server.board.draw_lookup()
    _pause(exchange, knobs.lookup_delay_ms)
    if knobs.lookup_fault in (None, "empty"):
        entry.fault = knobs.lookup_fault
        return knobs
    assert knobs.lookup_fault is not None
    _fault(exchange, entry, knobs.lookup_fault, knobs)
    return None


def _list(server: WhatsApp, exchange: Exchange, entry: Entry, _: str) -> None:
    knobs = _stopped(server, exchange, entry)
    if knobs is None:
        return
    query = exchange.request.query
    size = query.get("size") or str(SIZE)
    if not size.isdecimal() or not 1 <= int(size) <= MAX_SIZE:
        raise _invalid("size", f"size must be a number from 1 to {MAX_SIZE}")
    phone = phones.from_query(query["phone"]) if query.get("phone") else None
    reference = query.get("reference") if knobs.reference_filter else None
    if reference and knobs.drop_reference:
        found: list[Message] = []  # what was never kept is not found
    else:
        found = server.book.find(phone, reference or None, query.get("status") or None, int(size))
    if knobs.lookup_fault == "empty":
        found = []
    _say(exchange, [message_json(message, knobs) for message in found])


def _one(server: WhatsApp, exchange: Exchange, entry: Entry, wanted: str) -> None:
    knobs = _stopped(server, exchange, entry)
    if knobs is None:
        return
    message = server.book.by_id.get(wanted)
    if message is None or message.visible_at > time.time() or knobs.lookup_fault == "empty":
        raise Refused(404, f"Message {wanted} does not exist")
    _say(exchange, message_json(message, knobs))


# -- the rest ----------------------------------------------------------------------------------------------------------


def _exists(server: WhatsApp, exchange: Exchange, entry: Entry, _: str) -> None:
    wanted = _object(entry)
    _check_phone(wanted)
    phone = wanted["phone"]
    _say(exchange, {"phone": phone, "exists": phone not in server.board.now.unreachable})


def _devices(server: WhatsApp, exchange: Exchange, entry: Entry, _: str) -> None:
    knobs = server.board.now
    _say(exchange, [device_json(device, knobs) for device in knobs.devices])


def _webhooks(server: WhatsApp, exchange: Exchange, entry: Entry, _: str) -> None:
    _say(exchange, [webhook.told() for webhook in server.webhooks.registered.values()])


def _register(server: WhatsApp, exchange: Exchange, entry: Entry, _: str) -> None:
    wanted = _object(entry)
    name, url, events, device = (wanted.get(part) for part in ("name", "url", "events", "device"))
    if not isinstance(name, str) or not name:
        raise _invalid("name", "name is required")
    if not isinstance(url, str) or not possible(url):
        raise _invalid("url", "url must be an address; this one posts to http:// only")
    if not isinstance(events, list) or not events or not all(isinstance(event, str) for event in events):
        raise _invalid("events", "events must be a list of event names")
    if unknown := sorted(set(events) - SUBSCRIBABLE):
        raise _invalid("events", f"unknown events: {', '.join(unknown)}")
    if device is not None and device not in server.board.now.devices:
        raise _invalid("device", f"device {device!r} does not exist or is not accessible")
    webhook = Webhook(name, url, frozenset(events), device)
    server.webhooks.add(webhook)
    _say(exchange, webhook.told(), 201)


def _forget(server: WhatsApp, exchange: Exchange, entry: Entry, wanted: str) -> None:
    webhook = server.webhooks.registered.pop(wanted, None)
    if webhook is None:
        raise Refused(404, f"Webhook {wanted} does not exist")
    _say(exchange, webhook.told())


TABLE: tuple[tuple[re.Pattern[str], dict[str, Route]], ...] = (
    (re.compile(r"/messages"), {"POST": _send, "GET": _list}),
    (re.compile(r"/messages/([^/]+)"), {"GET": _one}),
    (re.compile(r"/numbers/exists"), {"POST": _exists}),
    (re.compile(r"/devices"), {"GET": _devices}),
    (re.compile(r"/webhooks"), {"GET": _webhooks, "POST": _register}),
    (re.compile(r"/webhooks/([^/]+)"), {"DELETE": _forget}),
)
