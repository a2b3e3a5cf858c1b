"""The tests' own door: no real service has it.

POST /__control  {knob: value, …}              for the server
                 {"next": [{…}, {…}]}          for the next sends, one object each
                 {"webhook": url | null}       the one address that hears of everything; null: nobody
                 {"reset": true}               as at the start (DELETE /__control does the same)
GET  /__control  knobs, counters, the faults and what they do
GET  /__requests?path=&last=    /__messages?phone=&last=    /__webhooks?last=    what arrived, was accepted, was posted
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from sandbox.posting import possible
from sandbox.wire import Exchange

from .faults import JSON
from .knobs import FAULTS_ACCEPTED, FAULTS_BEFORE, FAULTS_LOOKUP, KnobError
from .phones import from_query
from .shapes import dumps, ledger_line

if TYPE_CHECKING:
    from .server import WhatsApp


def handle(server: WhatsApp, exchange: Exchange, path: str) -> None:
    """Answer one of the doors that begin with two underscores."""
    doors = {"/__control": _control, "/__requests": _requests, "/__messages": _messages, "/__webhooks": _posts}
    door = doors.get(path)
    try:
        if door is None:
            _say(exchange, {"error": f"there are {', '.join(doors)}"}, 404)
        else:
            _say(exchange, door(server, exchange))
    except (KnobError, ValueError, TypeError) as error:
        _say(exchange, {"error": str(error)}, 400)


def _say(exchange: Exchange, value: Any, status: int = 200) -> None:
    exchange.answer(status, dumps(value) + b"\n", JSON)


def _control(server: WhatsApp, exchange: Exchange) -> dict[str, Any]:
    if exchange.request.method == "POST":
        turn(server, json.loads(exchange.request.body or b"{}"))
    elif exchange.request.method == "DELETE":
        server.reset()
    return state(server)


def turn(server: WhatsApp, wish: dict[str, Any]) -> None:
    """Carry out one wish. Raises KnobError or ValueError with a sentence."""
    if not isinstance(wish, dict):
        raise KnobError("send a JSON object")
    wish = dict(wish)
    if wish.pop("reset", False):
        server.reset()
    if "webhook" in wish:
        url = wish.pop("webhook")
        if url is not None and not possible(url):
            raise KnobError("webhook must be null or an address that begins with http://")
        server.only_webhook(url)
    if (queued := wish.pop("next", None)) is not None:
        server.board.queue(list(queued))
    server.turn(wish)


def state(server: WhatsApp) -> dict[str, Any]:
    """Everything a test may want to read."""
    return {
        "server": server.prefix,
        "kind": server.kind,
        "knobs": dataclasses.asdict(server.board.now),
        "next": list(server.board.queued),
        "webhooks": [webhook.told() for webhook in server.webhooks.registered.values()],
        "counters": server.counters(),
        "faults": {**FAULTS_BEFORE, **FAULTS_ACCEPTED},
        "lookup_faults": FAULTS_LOOKUP,
    }


def _requests(server: WhatsApp, exchange: Exchange) -> dict[str, Any]:
    query = exchange.request.query
    if exchange.request.method == "DELETE":
        server.journal.clear()
    found = server.journal.entries(query.get("model"), query.get("path"), _last(query))
    return {"requests": [dataclasses.asdict(entry) for entry in found], "counters": server.counters()}


def _messages(server: WhatsApp, exchange: Exchange) -> list[dict[str, Any]]:
    query = exchange.request.query
    book, last = server.book, _last(query)
    found = book.by_phone.get(from_query(query["phone"]), []) if query.get("phone") else book.all
    return [ledger_line(message) for message in (found[-last:] if last else found)]


def _posts(server: WhatsApp, exchange: Exchange) -> list[dict[str, Any]]:
    found, last = list(server.webhooks.posts), _last(exchange.request.query)
    return found[-last:] if last else found


def _last(query: dict[str, str]) -> int | None:
    return int(query["last"]) if query.get("last") else None
