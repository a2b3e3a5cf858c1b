"""What a webhook says: the bodies of both versions, for payments and refunds, and what lies can be put into them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from . import times
from .book import PENDING, REFUNDED, Attempt, Invoice, Refund
from .faults import dumps
from .knobs import ERRORS, Knobs
from .money import charged, plain
from .shapes import GATEWAY, card_json, customer_mobile
from .signing import signed

PAYMENT, REFUND = 1, 2
V1_NAMES = {PAYMENT: "TransactionsStatusChanged", REFUND: "RefundStatusChanged"}
V2_NAMES = {
    1: "PAYMENT_STATUS_CHANGED", 2: "REFUND_STATUS_CHANGED", 3: "BALANCE_TRANSFERED", 4: "SUPLIER_STATUS_CHANGED",
    5: "RECURRING_UPDATES", 6: "DISPUTE_STATUS_CHANGED", 7: "SUPPLIER_UPDATE_REQUEST_CHANGED",
}  # fmt: skip
"""As GetWebhooks knows them: 3 and 4 are misspelt there, and nowhere else."""
_V1_NULLS = (
    "CustomerReference", "CustomerName", "CustomerMobile", "CustomerEmail", "UserDefinedField", "ReferenceId",
    "TrackId", "AuthorizationId",
)  # fmt: skip
WRONG_SECRET = "not-the-secret"  # noqa: S105


@dataclass
class Event:
    """One event, posted any number of times under the same reference."""

    reference: str
    code: int
    version: str
    url: str
    body: dict[str, Any]
    signature: str | None
    headers: dict[str, str]
    invoice: Invoice
    entity: str
    at: float
    status: str = "Waiting"
    copies: int = 1
    attempts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        return dumps(self.body)


@dataclass
class News:
    """What happened, before it is put into words. The overrides are lies a test wants told."""

    invoice: Invoice
    state: str
    attempt: Attempt | None = None
    refund: Refund | None = None
    reference: str | None = None
    payment: str | None = None
    value: Decimal | None = None
    given_back: Decimal = Decimal(0)

    @property
    def code(self) -> int:
        return PAYMENT if self.refund is None else REFUND


def event(
    news: News, *, number: int, url: str, secret: str | None, knobs: Knobs, now: float, version: str, signature: str
) -> Event:
    """Put it into the words of this version and sign it. secret None: unsigned, whatever `signature` says."""
    reference = f"WH-{number}"
    body = _v1(news, now) if version == "v1" else _v2(news, now, reference)
    if knobs.webhook_nulls:
        _empty(body, version, news.code)
    if secret is None or signature == "none":
        sign = None
    else:
        sign = signed(version, body, secret if signature == "right" else WRONG_SECRET)
    if knobs.webhook_reordered:
        body = _backwards(body)
    headers = {} if sign is None else {"MyFatoorah-Signature": sign}
    if knobs.webhook_version_header:
        headers["MyFatoorah-Webhook-Version"] = version
    entity = str(news.invoice.id if news.refund is None else news.refund.id)
    return Event(reference, news.code, version, url, body, sign, headers, news.invoice, entity, now)


def _v1(news: News, now: float) -> dict[str, Any]:
    data = _v1_payment(news) if news.refund is None else _v1_refund(news, news.refund)
    return {
        "EventType": news.code, "Event": V1_NAMES[news.code], "DateTime": times.packed(now), "CountryIsoCode": "KWT",
        "Data": data,
    }  # fmt: skip


def _amounts(news: News) -> tuple[str, str]:
    """The invoice's value, and what was charged for it."""
    value = news.invoice.value if news.value is None else news.value
    return plain(value), plain(charged(value + news.invoice.charge))


def _v1_payment(news: News) -> dict[str, Any]:
    invoice, attempt = news.invoice, news.attempt
    value, paid = _amounts(news)
    return {
        "InvoiceId": invoice.id,
        "InvoiceReference": invoice.reference,
        "CreatedDate": times.packed(invoice.at),
        "CustomerReference": _reference(news),
        "CustomerName": invoice.text("CustomerName") or "Anonymous",
        "CustomerMobile": customer_mobile(invoice).lstrip("+"),
        "CustomerEmail": invoice.text("CustomerEmail"),
        "TransactionStatus": news.state,
        "PaymentMethod": GATEWAY[attempt.method if attempt else invoice.method],
        "UserDefinedField": invoice.text("UserDefinedField"),
        "ReferenceId": attempt.reference_id if attempt else None,
        "TrackId": attempt.track_id if attempt else None,
        "PaymentId": _payment(news),
        "AuthorizationId": attempt.authorization_id if attempt else None,
        "InvoiceValueInBaseCurrency": value,
        "BaseCurrency": "KWD",
        "InvoiceValueInDisplayCurreny": value,
        "DisplayCurrency": "KWD",
        "InvoiceValueInPayCurrency": paid,
        "PayCurrency": "KWD",
    }


def _v1_refund(news: News, refund: Refund) -> dict[str, Any]:
    return {
        "RefundId": refund.id, "RefundReference": refund.reference, "CreatedDate": times.packed(refund.at),
        "RefundStatus": news.state, "Amount": plain(refund.amount if news.value is None else news.value),
        "Comments": refund.comment, "InvoiceId": str(news.invoice.id), "InvoiceRefernce": news.invoice.reference,
        "GatewayReference": {"PaymentId": _payment(news), "RRN": refund.rrn},
    }  # fmt: skip


def _v2(news: News, now: float, reference: str) -> dict[str, Any]:
    head = {
        "Code": news.code, "Name": V2_NAMES[news.code], "CountryIsoCode": "KWT", "CreationDate": times.utc(now),
        "Reference": reference,
    }  # fmt: skip
    data = _v2_payment(news) if news.refund is None else _v2_refund(news, news.refund)
    return {"Event": head, "Data": data}


def _v2_payment(news: News) -> dict[str, Any]:
    invoice, attempt = news.invoice, news.attempt
    value, paid = _amounts(news)
    code = attempt.error_code if attempt else ""
    card = attempt.card if attempt else None
    return {
        "Invoice": {
            "Id": str(invoice.id), "Status": "PAID" if invoice.paid or news.state == "SUCCESS" else "PENDING",
            "Reference": invoice.reference, "CreationDate": times.utc(invoice.at),
            "ExpirationDate": times.utc(invoice.expires_at), "UserDefinedField": invoice.text("UserDefinedField"),
            "ExternalIdentifier": _reference(news), "MetaData": dict.fromkeys(f"UDF{at}" for at in range(1, 6)),
        },
        "Transaction": {
            "Id": attempt.transaction_id if attempt else None, "Status": news.state,
            "PaymentMethod": GATEWAY[attempt.method if attempt else invoice.method], "PaymentId": _payment(news),
            "ReferenceId": attempt.reference_id if attempt else None, "TrackId": attempt.track_id if attempt else None,
            "AuthorizationId": attempt.authorization_id if attempt else None,
            "TransactionDate": times.utc(attempt.at if attempt else invoice.at), "ECI": "",
            "IP": {"Address": "127.0.0.1", "Country": "KWT"},
            "Error": {"Code": code or None, "Message": ERRORS.get(code)}, "Card": card_json(card) if card else None,
        },
        "Customer": {
            "Name": invoice.text("CustomerName") or "Anonymous", "Mobile": customer_mobile(invoice),
            "Email": invoice.text("CustomerEmail"),
        },
        "Amount": {
            "BaseCurrency": "KWD", "ValueInBaseCurrency": value, "ServiceCharge": plain(invoice.charge),
            "ServiceChargeVAT": "0", "ReceivableAmount": value, "DisplayCurrency": "KWD",
            "ValueInDisplayCurrency": value, "PayCurrency": "KWD", "ValueInPayCurrency": paid,
        },
        "Suppliers": [],
    }  # fmt: skip


def _v2_refund(news: News, refund: Refund) -> dict[str, Any]:
    invoice, value = news.invoice, plain(refund.amount if news.value is None else news.value)
    return {
        "Refund": {
            "Id": str(refund.id), "Reference": refund.reference, "Status": news.state,
            "InvoiceId": str(refund.invoice_id), "CreationDate": times.utc(refund.at),
            "RefundDate": times.utc(refund.done_at) if refund.done_at and refund.status == REFUNDED else None,
            "RRN": refund.rrn, "Comment": refund.comment, "VendorComment": None,
        },
        "Amount": {
            "BaseCurrency": "KWD", "ValueInBaseCurrency": value, "Distribution": {"Vendor": value, "Suppliers": []},
        },
        "ReferencedInvoice": {
            "Id": str(invoice.id), "Reference": invoice.reference, "ExternalIdentifier": _reference(news),
            "PaymentMethod": GATEWAY[invoice.method], "BaseCurrency": "KWD",
            "ValueInBaseCurrency": plain(invoice.value),
            "RemainingValueInBaseCurrency": plain(invoice.value - news.given_back),
        },
    }  # fmt: skip


def _reference(news: News) -> str | None:
    return news.invoice.text("CustomerReference") if news.reference is None else news.reference


def _payment(news: News) -> str | None:
    if news.payment is not None:
        return news.payment
    return news.attempt.payment_id if news.attempt else None


def _empty(body: dict[str, Any], version: str, code: int) -> None:
    """Everything null that may be null."""
    data = body["Data"]
    if version == "v1":
        data |= dict.fromkeys(name for name in (*_V1_NULLS, "Comments", "GatewayReference") if name in data)
    elif code == PAYMENT:
        data["Invoice"] |= dict.fromkeys(("UserDefinedField", "ExternalIdentifier", "MetaData"))
        data["Transaction"] |= dict.fromkeys(("ReferenceId", "TrackId", "AuthorizationId", "IP", "Error", "Card"))
        data |= dict.fromkeys(("Customer", "Suppliers"))
    else:
        data["Refund"] |= dict.fromkeys(("RRN", "Comment", "RefundDate"))
        data["ReferencedInvoice"]["ExternalIdentifier"] = None
        data["Amount"]["Distribution"] = None


def _backwards(value: Any) -> Any:
    """The same object with its keys in another order, all the way down: the signature is not of the text."""
    if isinstance(value, dict):
        return {name: _backwards(value[name]) for name in reversed(value)}
    return value


def told(one: Event, *, as_text: bool = False) -> dict[str, Any]:
    """An item of GetWebhooks."""
    data = one.body["Data"]
    return {
        "EndPoint": one.url, "Signature": one.signature, "EventCode": one.code, "EventName": V2_NAMES[one.code],
        "EventEntityId": one.entity, "WebhookReference": one.reference,
        "Data": dumps(data).decode() if as_text else data, "Status": one.status,
        "Attempts": [{name: attempt[name] for name in ("Date", "Status", "ResponseMessage", "Duration")}
                     for attempt in one.attempts],
    }  # fmt: skip


def line(one: Event) -> dict[str, Any]:
    """A line of `/__webhooks`, the tests' own."""
    return {
        "reference": one.reference, "code": one.code, "version": one.version, "url": one.url, "body": one.body,
        "headers": one.headers, "invoice": one.invoice.id, "entity": one.entity, "status": one.status, "at": one.at,
        "posts": [{name: attempt[name] for name in ("at", "status", "error", "ms")} for attempt in one.attempts],
    }  # fmt: skip


def state_of(invoice: Invoice) -> str:
    """What an event sent by hand says of the invoice as it is now."""
    if invoice.paid:
        return "SUCCESS"
    return "FAILED" if invoice.status == PENDING else "CANCELED"
