"""The tests' own door: no real service has it.

POST /__control  {knob: value, …}                       for the server
                 {"endpoint": name, fault: …, times: …}   what goes wrong there; without `endpoint`: everywhere
                 {"endpoint": name, "next": [{…}, {…}]}   for the next requests, one object each
                 {"webhook": url | null}                the address that hears of everything
                 {"now": iso | null}                    the hour it believes it is
                 {"reset": true}                        as at the start (DELETE /__control does the same)
GET  /__control  knobs, plans, counters, the faults and what they do
POST /__pay /__settle_refund /__send_webhook /__cancel /__expire /__keep_card     what people and staff do
GET  /__invoices /__refunds /__cards /__webhooks /__requests?path=&last=          what there is and what arrived
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from sandbox.posting import possible
from sandbox.wire import Exchange

from . import events, shapes, times
from .book import Invoice, Refund
from .faults import JSON, dumps
from .knobs import FAULTS_AFTER, FAULTS_BEFORE, METHODS, KnobError, amount
from .server import MyFatoorah


def handle(server: MyFatoorah, exchange: Exchange, path: str) -> None:
    """Answer one of the doors that begin with two underscores."""
    door, deed = _DOORS.get(path), _DEEDS.get(path)
    try:
        if door is not None:
            _say(exchange, door(server, exchange))
        elif deed is not None:
            if exchange.request.method != "POST":
                raise KnobError("POST a JSON object")
            _say(exchange, deed(server, _wish(exchange)))
        else:
            _say(exchange, {"error": f"there are {', '.join((*_DOORS, *_DEEDS))}"}, 404)
    except (KnobError, ValueError, TypeError) as error:
        _say(exchange, {"error": str(error)}, 400)


def _say(exchange: Exchange, value: Any, status: int = 200) -> None:
    exchange.answer(status, dumps(value) + b"\n", JSON)


def _wish(exchange: Exchange) -> dict[str, Any]:
    wish = json.loads(exchange.request.body or b"{}")
    if not isinstance(wish, dict):
        raise KnobError("send a JSON object")
    return wish


# -- knobs -------------------------------------------------------------------------------------------------------------


def _control(server: MyFatoorah, exchange: Exchange) -> dict[str, Any]:
    if exchange.request.method == "POST":
        turn(server, _wish(exchange))
    elif exchange.request.method == "DELETE":
        server.reset()
    return state(server)


def turn(server: MyFatoorah, wish: dict[str, Any]) -> None:
    """Carry out one wish. Raises KnobError or ValueError with a sentence."""
    if wish.pop("reset", False):
        server.reset()
    if "webhook" in wish:
        url = wish.pop("webhook")
        if url is not None and not possible(url):
            raise KnobError("webhook must be null or an address that begins with http://")
        server.webhook = url
    if "now" in wish:
        instant = wish.pop("now")
        server.board.move_clock(None if instant is None else times.parse_utc(instant))
    endpoint = wish.pop("endpoint", None)
    if (queued := wish.pop("next", None)) is not None:
        server.board.queue(list(queued), endpoint)
    server.board.turn(wish, endpoint)


def state(server: MyFatoorah) -> dict[str, Any]:
    """Everything a test may want to read. The secret is not among it."""
    board = server.board
    return {
        "server": server.prefix,
        "kind": server.kind,
        "knobs": dataclasses.asdict(board.now),
        "plans": {name: dataclasses.asdict(plan) for name, plan in board.plans.items()},
        "next": {name: [dataclasses.asdict(plan) for plan in plans] for name, plans in board.queued.items() if plans},
        "webhook": server.webhook,
        "signs": server.secret is not None,
        "now": board.time(),
        "counters": server.counters(),
        "faults": {**FAULTS_BEFORE, **FAULTS_AFTER},
    }


# -- deeds -------------------------------------------------------------------------------------------------------------


def _invoice(server: MyFatoorah, wish: dict[str, Any]) -> Invoice:
    """By id or by CustomerReference, whichever fits."""
    wanted = str(wish.pop("invoice", ""))
    found = server.book.find(wanted, "InvoiceId") or server.book.find(wanted, "CustomerReference")
    if found is None:
        raise KnobError(f"there is no invoice {wanted!r}")
    return found


def _refund(server: MyFatoorah, wish: dict[str, Any]) -> Refund:
    """By id or by ExternalIdentifier."""
    wanted = str(wish.pop("refund", ""))
    found = next((one for one in server.book.refunds.values() if wanted in (str(one.id), one.external)), None)
    if found is None:
        raise KnobError(f"there is no refund {wanted!r}")
    return found


def _pay(server: MyFatoorah, wish: dict[str, Any]) -> dict[str, Any]:
    """{invoice, outcome, error_code, method, keep_card, anyway} → {redirect, payment}."""
    invoice = _invoice(server, wish)
    if wish.get("method") not in (None, *METHODS):
        raise KnobError(f"method must be one of {', '.join(METHODS)}")
    attempt = server.settle(invoice, wish.pop("outcome", "paid"), **wish)
    return {"redirect": server.way_back(invoice, attempt), "payment": attempt.payment_id}


def _settle_refund(server: MyFatoorah, wish: dict[str, Any]) -> dict[str, Any]:
    refund = _refund(server, wish)
    server.settle_refund(refund, wish.pop("outcome", "refunded"), **wish)
    return shapes.refund_line(refund)


def _send_webhook(server: MyFatoorah, wish: dict[str, Any]) -> dict[str, Any]:
    """{invoice | refund, state, version, times, signature, reference, payment, value}: a new event, posted so many
    times, whatever it says. The answers' statuses."""
    copies = wish.pop("times", 1)
    refund = _refund(server, wish) if "refund" in wish else None
    invoice = refund.original if refund else _invoice(server, wish)
    attempt = invoice.captured or (invoice.attempts[-1] if invoice.attempts else None)
    state_told = wish.pop("state", None) or (refund.status.upper() if refund else events.state_of(invoice))
    version, signature = wish.pop("version", None), wish.pop("signature", None)
    if version not in (None, "v1", "v2") or signature not in (None, "right", "wrong", "none"):
        raise KnobError("version is v1 or v2, signature is right, wrong or none")
    value = wish.pop("value", None)
    news = events.News(invoice, state_told, attempt, refund, value=None if value is None else amount(value), **wish)
    one = server.word(news, version=version, signature=signature)
    if not one.url:
        raise KnobError("nobody wants to hear: there is no webhook address")
    one.copies = int(copies)
    server.webhooks.record([one])
    return {"reference": one.reference, "statuses": server.webhooks.deliver([one])}


def _cancel(server: MyFatoorah, wish: dict[str, Any]) -> dict[str, Any]:
    invoice = _invoice(server, wish)
    server.cancel(invoice)
    return shapes.invoice_line(invoice)


def _expire(server: MyFatoorah, wish: dict[str, Any]) -> dict[str, Any]:
    """Its time is up, a second ago."""
    invoice = _invoice(server, wish)
    invoice.expires_at = server.board.time() - 1
    return shapes.invoice_line(invoice)


def _keep_card(server: MyFatoorah, wish: dict[str, Any]) -> dict[str, Any]:
    """{customer}: a card of this customer key (what follows `CK-`) without a payment before it."""
    return dataclasses.asdict(server.book.keep_card(str(wish["customer"])))


# -- lists -------------------------------------------------------------------------------------------------------------


def _requests(server: MyFatoorah, exchange: Exchange) -> dict[str, Any]:
    query = exchange.request.query
    if exchange.request.method == "DELETE":
        server.journal.clear()
    found = server.journal.entries(query.get("model"), query.get("path"), int(query.get("last") or 0) or None)
    return {"requests": [dataclasses.asdict(entry) for entry in found], "counters": server.counters()}


_DOORS: dict[str, Callable[[MyFatoorah, Exchange], Any]] = {
    "/__control": _control,
    "/__requests": _requests,
    "/__invoices": lambda server, _: [shapes.invoice_line(one) for one in server.book.invoices.values()],
    "/__refunds": lambda server, _: [shapes.refund_line(one) for one in server.book.refunds.values()],
    "/__cards": lambda server, _: [dataclasses.asdict(card) for card in server.book.cards.values()],
    "/__webhooks": lambda server, _: [events.line(one) for one in server.webhooks.log],
}
_DEEDS: dict[str, Callable[[MyFatoorah, dict[str, Any]], dict[str, Any]]] = {
    "/__pay": _pay, "/__settle_refund": _settle_refund, "/__send_webhook": _send_webhook, "/__cancel": _cancel,
    "/__expire": _expire, "/__keep_card": _keep_card,
}  # fmt: skip
