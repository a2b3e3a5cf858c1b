"""The API under `/v2`: who may ask, what each endpoint answers, what is refused and in which words."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sandbox.journal import Entry
from sandbox.wire import Exchange, PeerLeft

from . import events, faults, order, shapes, times
from .book import FAILED, REFUND_PENDING, Invoice
from .faults import BAD_TOKEN, JSON, dumps, envelope
from .knobs import ENDPOINTS, ERRORS, FAULTS_AFTER, Plan
from .server import MyFatoorah

Said = tuple[str | None, Any]
"""Message and Data of an answer."""
NOT_FOUND = "No data match the provided value!"


class Refused(Exception):
    """An answer in the service's own shape that is no success."""

    def __init__(
        self, message: str | None, errors: list[tuple[str, str]] | None = None, status: int = 400, data: Any = None
    ) -> None:
        super().__init__(message)
        self.status, self.body = status, envelope(message, data, errors)


def invalid(*errors: tuple[str, str]) -> Refused:
    return Refused("Invalid data", list(errors))


def endpoint_of(path: str) -> str:
    """The endpoint's name; empty when there is none at this path. What follows DirectPayment says what is paid."""
    parts = path.split("/")
    good = len(parts) >= 3 and parts[1] == "v2" and parts[2] in ENDPOINTS
    return parts[2] if good and (len(parts) == 3 or (parts[2] == "DirectPayment" and len(parts) == 5)) else ""


def dispatch(server: MyFatoorah, exchange: Exchange, entry: Entry, endpoint: str) -> None:
    """Find the endpoint, do what it does, answer; or play the fault that was asked for."""
    request = exchange.request
    try:
        entry.body = json.loads(request.body) if request.body else None
    except ValueError:
        entry.body = request.body.decode("utf-8", "replace")[:100_000]
    plan = server.board.draw(endpoint)
    _pause(exchange, plan.delay_ms)
    if plan.fault is not None and plan.fault not in FAULTS_AFTER:
        _fault(exchange, entry, plan)
        return
    status, body = _answer(server, exchange, endpoint)
    entry.outcome = "done" if status == 200 else "refused"
    honest = dumps(body)
    _pause(exchange, plan.answer_delay_ms)
    if plan.fault is not None:
        _fault(exchange, entry, plan, honest)
        return
    exchange.answer(status, honest, JSON)


def _answer(server: MyFatoorah, exchange: Exchange, endpoint: str) -> tuple[int, Any]:
    request = exchange.request
    if not endpoint:
        return 404, faults.no_route(request.path)
    if request.method != "POST":
        return 405, {"Message": f"The requested resource does not support http method '{request.method}'."}
    try:
        if request.headers.get("authorization") != f"Bearer {server.board.now.key}":
            raise Refused(BAD_TOKEN, status=401)
        message, data = DOORS[endpoint](server, exchange)
    except Refused as refusal:
        return refusal.status, refusal.body
    body = envelope(message, data, success=True)
    if server.board.now.success_as_text:
        body["IsSuccess"] = "true"
    return 200, body


def _fault(exchange: Exchange, entry: Entry, plan: Plan, honest: bytes = b"") -> None:
    entry.fault, entry.outcome = plan.fault, "fault"
    faults.play(exchange, plan, honest)


def _pause(exchange: Exchange, milliseconds: float) -> None:
    """Raises PeerLeft when the client does not wait so long."""
    if milliseconds and exchange.peer.left.wait(milliseconds / 1000):
        raise PeerLeft


def _object(exchange: Exchange) -> dict[str, Any]:
    """The body, its numbers exactly as they were written."""
    try:
        body = json.loads(exchange.request.body, parse_float=Decimal)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused("The request is invalid.")
    return body


def _find(server: MyFatoorah, asked: dict[str, Any], *types: str) -> Invoice:
    key, key_type = asked.get("Key"), asked.get("KeyType")
    if not isinstance(key_type, str) or key_type.lower() not in {one.lower() for one in types}:
        raise invalid(("KeyType", f"KeyType must be one of {', '.join(types)}"))
    if not isinstance(key, str) or not key:
        raise invalid(("Key", "Key is required"))
    invoice = server.book.find(key, key_type)
    if invoice is None:
        raise invalid(("Key", NOT_FOUND))
    return invoice


# -- paying ------------------------------------------------------------------------------------------------------------


def _initiate(server: MyFatoorah, exchange: Exchange) -> Said:
    asked = _object(exchange)
    amount, currency = order.numeric(asked.get("InvoiceAmount")), asked.get("CurrencyIso")
    if amount is None or amount < 0:
        raise invalid(("InvoiceAmount", "InvoiceAmount must be a number"))
    if currency not in ("", None, *order.CURRENCIES):
        raise invalid(("CurrencyIso", "The currency is not valid"))
    listed = shapes.methods_json(server.board.now, amount, currency or "KWD")
    return "Initiated Successfully!", {"PaymentMethods": listed}


def _execute(server: MyFatoorah, exchange: Exchange) -> Said:
    asked = _object(exchange)
    if wrong := order.faults_of(asked, server.board.now, server.board.time()):
        raise invalid(*wrong)
    value = order.numeric(asked["InvoiceValue"])
    assert value is not None
    plain = json.loads(exchange.request.body)  # what is shown again: no Decimal there, JSON cannot write it
    invoice = server.open_invoice(plain, value, "http://" + exchange.request.headers.get("host", "127.0.0.1"))
    return "Invoice Created Successfully!", {
        "InvoiceId": invoice.id, "IsDirectPayment": invoice.method == "direct", "PaymentURL": invoice.url,
        "CustomerReference": invoice.text("CustomerReference"), "UserDefinedField": invoice.text("UserDefinedField"),
        "RecurringId": "",
    }  # fmt: skip


def _status(server: MyFatoorah, exchange: Exchange) -> Said:
    limit, asked_at, now = server.board.now.status_per_minute, server.status_asked, time.time()
    while asked_at and asked_at[0] < now - 60:
        asked_at.popleft()
    if limit is not None and len(asked_at) >= limit:
        raise Refused("Too many requests", status=429)
    asked_at.append(now)
    invoice = _find(server, _object(exchange), "InvoiceId", "PaymentId", "CustomerReference")
    return None, shapes.status_json(invoice, server.board.now, server.board.time())


def _direct(server: MyFatoorah, exchange: Exchange) -> Said:
    """A kept card is charged. Whatever goes wrong with the card is told in Data.ErrorMessage."""
    asked, knobs = _object(exchange), server.board.now
    invoice = server.book.by_page(exchange.request.path.split("/")[-2])
    if invoice is None or invoice.method != "direct":
        raise Refused("The invoice is not valid")
    if asked.get("PaymentType") != "token":
        raise invalid(("PaymentType", "This sandbox takes no card numbers: only token"))
    token = asked.get("Token", asked.get("token"))
    card = server.book.cards.get(token) if isinstance(token, str) else None
    if card is None or card.canceled:
        raise _uncharged("The token is not valid or it is canceled")
    if invoice.paid or invoice.status != "Pending" or server.expired(invoice):
        raise _uncharged("The invoice is already paid or it is expired")
    if asked.get("Bypass3DS") is not True:
        attempt = server.begin(invoice)
        return None, _charged_json("", attempt.payment_id, None)
    attempt = server.settle(invoice, knobs.token_outcome, error_code=knobs.token_error, card=card)
    if attempt.status == FAILED:
        raise _uncharged(ERRORS[attempt.error_code], attempt.payment_id)
    return None, _charged_json("SUCCESS", attempt.payment_id, card.token, card_info=shapes.card_json(card))


def _uncharged(why: str, payment: str | None = None) -> Refused:
    return Refused(None, None, 400, {**_charged_json("FAILED", payment, None), "ErrorMessage": why})


def _charged_json(status: str, payment: str | None, token: str | None, card_info: Any = None) -> dict[str, Any]:
    return {
        "Status": status, "ErrorMessage": "", "PaymentId": payment, "Token": token, "RecurringId": None,
        "PaymentURL": None, "CardInfo": card_info,
    }  # fmt: skip


def _cancel_token(server: MyFatoorah, exchange: Exchange) -> Said:
    card = server.book.cards.get(exchange.request.query.get("token", ""))
    if card is None or card.canceled:
        raise invalid(("token", "The token is not valid"))
    card.canceled = True
    return "Canceled successfully", True


# -- refunds -----------------------------------------------------------------------------------------------------------


def _refund(server: MyFatoorah, exchange: Exchange) -> Said:
    asked, knobs = _object(exchange), server.board.now
    invoice = _find(server, asked, "InvoiceId", "PaymentId")
    amount = order.numeric(asked.get("Amount"))
    pending = any(one.status == REFUND_PENDING for one in server.book.refunds_of(invoice))
    for name in ("Comment", "ExternalIdentifier"):
        if asked.get(name) is not None and not isinstance(asked[name], str):
            raise invalid((name, f"{name} must be a string"))
    if knobs.refund_refusal == "processing" or (knobs.refund_one_at_a_time and pending):
        raise invalid(("Key", "The transaction is already under processing!"))
    if knobs.refund_refusal == "balance":
        raise invalid(("Amount", "Insufficient balance for vendor"))
    if not invoice.paid:
        raise invalid(("Key", "The invoice is not paid"))
    if amount is None or amount <= 0 or amount != amount.quantize(Decimal("0.001")):
        raise invalid(("Amount", "Amount must be more than 0, with no more than 3 decimals"))
    if amount > server.book.rest(invoice):
        raise invalid(("Amount", "Amount must not be more than what is left of the transaction"))
    refund = server.file_refund(invoice, amount, asked)
    return "Refund Created Successfully!", shapes.refund_made_json(refund, asked["Key"])


def _refund_status(server: MyFatoorah, exchange: Exchange) -> Said:
    asked = _object(exchange)
    key, kind = asked.get("Key"), str(asked.get("KeyType")).lower()
    book = server.book
    if kind == "invoiceid":
        invoice = _find(server, asked, "InvoiceId")
        found = book.refunds_of(invoice)
        if not found and server.board.now.no_refunds_400:
            raise invalid(("Key", NOT_FOUND))
    elif kind in ("refundid", "refundreference"):
        found = [one for one in book.refunds.values() if key in (str(one.id), one.reference)]
        if not found:
            raise invalid(("Key", NOT_FOUND))
    else:
        raise invalid(("KeyType", "KeyType must be one of InvoiceId, RefundReference, RefundId"))
    return None, {"RefundStatusResult": [shapes.refund_json(one) for one in found]}


# -- what was told -----------------------------------------------------------------------------------------------------


def _webhooks(server: MyFatoorah, exchange: Exchange) -> Said:
    asked, knobs = _object(exchange), server.board.now
    page, code, status = asked.get("Page", 1), asked.get("EventType"), asked.get("Status")
    codes = {name: number for number, name in events.V2_NAMES.items()}
    if type(page) is not int or page < 1:
        raise invalid(("Page", "Page must be 1 or more"))
    if code is not None and codes.get(code, code) not in events.V2_NAMES:
        raise invalid(("EventType", "EventType is not valid"))
    if status not in (None, "Waiting", "Running", "Succeeded", "Failed"):
        raise invalid(("Status", "Status is not valid"))
    found = [
        one
        for one in server.webhooks.log
        if _edge(asked, "Start", 0.0) <= one.at <= _edge(asked, "End", float("inf"))
        and code in (None, one.code, events.V2_NAMES[one.code])
        and status in (None, one.status)
        and _by_key(one, asked)
    ]
    size = knobs.page_size
    return None, {
        "Items": [
            events.told(one, as_text=knobs.webhooks_data_as_text) for one in found[(page - 1) * size : page * size]
        ],
        "Pagination": {
            "Page": page, "PageSize": size, "TotalCount": len(found), "TotalPages": (len(found) + size - 1) // size,
        },
    }  # fmt: skip


def _edge(asked: dict[str, Any], name: str, default: float) -> float:
    if asked.get(name) is None:
        return default
    try:
        return times.parse_utc(asked[name])
    except (TypeError, ValueError):
        raise invalid((name, f"{name} must be an ISO date")) from None


def _by_key(one: events.Event, asked: dict[str, Any]) -> bool:
    keys, kind = asked.get("Key"), str(asked.get("KeyType")).lower()
    if not keys:
        return True
    own = {
        "invoiceid": str(one.invoice.id), "customerreference": one.invoice.text("CustomerReference"),
        "webhookreference": one.reference,
    }  # fmt: skip
    if not isinstance(keys, list) or kind not in own:
        raise invalid(("KeyType", "KeyType must be one of InvoiceId, CustomerReference, WebhookReference"))
    return own[kind] in [str(key) for key in keys]


DOORS: dict[str, Callable[[MyFatoorah, Exchange], Said]] = {
    "InitiatePayment": _initiate, "ExecutePayment": _execute, "GetPaymentStatus": _status, "MakeRefund": _refund,
    "GetRefundStatus": _refund_status, "GetWebhooks": _webhooks, "CancelToken": _cancel_token,
    "DirectPayment": _direct,
}  # fmt: skip
