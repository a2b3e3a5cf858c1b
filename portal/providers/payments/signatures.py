"""MyFatoorah's webhooks: is it from them, and what is it about.

V1 signs every field of `Data`, sorted without case; V2 signs a few, in an order of its own, and neither amount nor
time: what was caught once can be sent again for ever. So a notice is a hint of what to ask about (`services/payments`
asks), and nothing in it is read before its signature was found right.
"""

import base64
import hashlib
import hmac
import logging
from typing import Any, Final

from portal.providers.payments import Notice, wire

log = logging.getLogger("portal.payments")

EVENTS: Final = {
    1: "payment", 2: "refund", 3: "BALANCE_TRANSFERRED", 4: "SUPPLIER_STATUS_CHANGED", 5: "RECURRING_UPDATES",
    6: "dispute", 7: "SUPPLIER_UPDATE_REQUEST_CHANGED",
}  # fmt: skip
_OF_AN_INVOICE = ("Invoice.Id", "Invoice.Status", "Transaction.Status", "Transaction.PaymentId",
                  "Invoice.ExternalIdentifier")  # fmt: skip
V2_SIGNED: Final = {
    1: _OF_AN_INVOICE,
    2: ("Refund.Id", "Refund.Status", "Amount.ValueInBaseCurrency", "ReferencedInvoice.Id"),
    3: ("Deposit.Reference", "Deposit.ValueInBaseCurrency", "Deposit.NumberOfTransactions"),
    4: ("Supplier.Code", "KycDecision.Status"),
    5: ("Recurring.Id", "Recurring.Status", "Recurring.InitialInvoiceId"),
    6: ("Dispute.DisputeTransactionId", "Dispute.Status", *_OF_AN_INVOICE),
    7: ("Supplier.Code", "RequestStatus.Status"),
}
V1_UNSIGNED: Final = {2: "GatewayReference", 4: "KycFeedback"}
_PAYMENT_NAMES = ("TRANSACTIONSSTATUSCHANGED", "PAYMENT_STATUS_CHANGED")
_REFUND_NAMES = ("REFUNDSTATUSCHANGED", "REFUND_STATUS_CHANGED")


class BadSignature(Exception):
    """Not from the provider, or not as it was sent: nothing in it counts."""


class NotANotice(Exception):
    """Rightly signed, but it names nothing that could be asked about."""


def verify(raw_body: bytes, signature: str, secret: str, version: str | None) -> Notice:
    """The notice of a webhook.

    raw_body: exactly as it came. signature: the header `MyFatoorah-Signature`, empty for none. secret: as the portal
    of the provider shows it. version: the header `MyFatoorah-Webhook-Version`, None for none: then the body tells.
    Raises BadSignature, also for what can't be signed at all; NotANotice.
    """
    if not secret:  # anybody can sign with an empty one
        raise BadSignature
    try:
        body = wire.parsed(raw_body)
    except wire.NotJSON:
        raise BadSignature from None
    data = wire.member(body, "Data")
    second = _is_second(body, version)
    event = _number(wire.member(body, "Event", "Code") if second else wire.member(body, "EventType"))
    if not isinstance(data, dict) or event is None:
        raise BadSignature
    message = _second(event, data) if second else _first(event, data)
    if not hmac.compare_digest(sign(message, secret).encode(), signature.strip().encode("utf-8", "replace")):
        raise BadSignature
    reference = wire.identity(wire.member(body, "Event", "Reference")) if second else ""
    notice = _notice(event, data, reference or _key(event, message), second=second)
    if event in (1, 2) and not (notice.invoice or notice.reference):
        raise NotANotice
    return notice


def sign(message: str, secret: str) -> str:
    """The signature of a signed string: HMAC-SHA256 in base64. The secret looks like base64 and is not decoded."""
    digest = hmac.new(_bytes(secret), _bytes(message), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def notices(items: Any) -> tuple[Notice, ...]:
    """What GetWebhooks lists, of payments and refunds alone. Unsigned: it came over the API, with our key.

    items: as `wire.parsed` reads them, numbers as text. A key is the same as that of the webhook itself. An item that
    names nothing is left out, with a line in the log.
    """
    found = []
    for item in wire.objects(items):
        event = _listed_event(item)
        if event not in (1, 2):
            continue
        data = item.get("Data")
        if isinstance(data, str):
            try:
                data = wire.parsed(data.encode("utf-8", "replace"))
            except wire.NotJSON:
                data = None
        if isinstance(inner := wire.member(data, "Data"), dict):  # the whole body
            data = inner
        if not isinstance(data, dict):
            data = {}
        reference, second = wire.identity(item.get("WebhookReference")), _has_parts(data)
        try:
            key = reference if reference and second else _key(event, (_second if second else _first)(event, data))
        except BadSignature:
            key = reference
        notice = _notice(event, data, key, second=second)
        if key and (notice.invoice or notice.reference):
            found.append(notice)
        else:
            log.warning("a listed webhook names no invoice", extra={"reference": reference})
    return tuple(found)


# --- the signed string ------------------------------------------------------------------------------------------------


def _first(event: int, data: dict[str, Any]) -> str:
    # Without case: a plain sort puts DepositReference before DepositedAmount, for that one event alone.
    names = sorted((name for name in data if name != V1_UNSIGNED.get(event)), key=str.lower)
    return ",".join(f"{name}={_plain(data[name])}" for name in names)


def _second(event: int, data: dict[str, Any]) -> str:
    if event not in V2_SIGNED:
        raise BadSignature
    return ",".join(f"{path}={_plain(wire.member(data, *path.split('.')))}" for path in V2_SIGNED[event])


def _plain(value: Any) -> str:
    """A value as it stands in the JSON; numbers are still the text they were written as."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):  # an object or a list: no signature covers one
        raise BadSignature
    return value


def _bytes(said: str) -> bytes:
    # Half of a character, which JSON can hold and UTF-8 can't: no reason for a crash at a public door.
    return said.encode("utf-8", "surrogatepass")


def _key(event: int, message: str) -> str:
    return hashlib.sha256(_bytes(f"{event}:{message}")).hexdigest()[:40]


# --- what it is about -------------------------------------------------------------------------------------------------


def _is_second(body: Any, version: str | None) -> bool:
    match (version or "").strip().lower():
        case "v1" | "1":
            return False
        case "v2" | "2":
            return True
    return isinstance(wire.member(body, "Event"), dict)


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 4 else None


def _listed_event(item: dict[str, Any]) -> int | None:
    name = wire.text(item.get("EventName"), 60).upper()
    by_name = 1 if name in _PAYMENT_NAMES else 2 if name in _REFUND_NAMES else None
    return _number(item.get("EventCode")) or by_name


def _has_parts(data: dict[str, Any]) -> bool:
    """Whether it is a V2 `Data`: that one has parts, V1's is flat."""
    return any(isinstance(data.get(part), dict) for part in ("Invoice", "Refund", "ReferencedInvoice"))


def _notice(event: int, data: dict[str, Any], key: str, *, second: bool) -> Notice:
    if not second:
        status = {2: "RefundStatus", 5: "RecurringStatus"}.get(event, "TransactionStatus")
        paths = ["InvoiceId", "CustomerReference", status, "RefundId" if event == 2 else "PaymentId"]
    elif event == 2:  # Refund.InvoiceId is the refund's own invoice
        paths = ["ReferencedInvoice.Id", "ReferencedInvoice.ExternalIdentifier", "Refund.Status", "Refund.Id"]
    else:
        paths = ["Invoice.Id", "Invoice.ExternalIdentifier", "Transaction.Status", "Transaction.PaymentId"]
    invoice, reference, state, about = (wire.member(data, *path.split(".")) for path in paths)
    return Notice(
        kind=EVENTS.get(event, f"event {event}"),
        key=key,
        invoice=wire.identity(invoice),
        reference=wire.text(reference),
        state=wire.text(state, 40),
        about=wire.identity(about),
    )
