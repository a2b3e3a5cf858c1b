"""The JSON that the API answers with: methods, an invoice's status, refunds. Misspelt where the real one is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from . import times
from .book import CAPTURED, IN_PROGRESS, Attempt, Card, Invoice, Refund
from .knobs import ERRORS, Knobs
from .money import charged, commas, number

WIRE_CODE = {"kn": "kn", "vm": "vm", "ap": "ap", "direct": "vm"}
GATEWAY = {"kn": "KNET", "vm": "VISA/MASTER", "ap": "Apple Pay", "direct": "VISA/MASTER"}
_NAMES = {
    "kn": ("كي نت", "KNET"), "vm": ("فيزا / ماستر", "VISA/MASTER"), "ap": ("أبل باي", "Apple Pay"),
    "direct": ("فيزا / ماستر مباشر", "VISA/MASTER Direct"),
}  # fmt: skip
PAGE_NAMES = {name: {"ar": ar, "en": en} for name, (ar, en) in _NAMES.items()}


def methods_json(knobs: Knobs, amount: Decimal, currency: str) -> list[dict[str, Any]]:
    return [
        {
            "PaymentMethodId": knobs.method_ids[name],
            "PaymentMethodAr": _NAMES[name][0],
            "PaymentMethodEn": _NAMES[name][1],
            "PaymentMethodCode": WIRE_CODE[name],
            "IsDirectPayment": name == "direct",
            "ServiceCharge": number(Decimal(knobs.charges[name])),
            "TotalAmount": number(amount + Decimal(knobs.charges[name])),
            "CurrencyIso": currency,
            "ImageUrl": f"https://demo.myfatoorah.com/imgs/payment-methods/{WIRE_CODE[name]}.png",
            "IsEmbeddedSupported": name != "kn",
            "PaymentCurrencyIso": "KWD",
        }
        for name in knobs.offered
    ]


def display(amount: Decimal, currency: str = "KD") -> str:
    """`12,345.000 KD`."""
    return f"{commas(amount)} {currency}"


def status_json(invoice: Invoice, knobs: Knobs, now: float) -> dict[str, Any]:
    """`Data` of GetPaymentStatus, with the lies that were asked for."""
    value = invoice.value if knobs.status_value is None else Decimal(knobs.status_value)
    expires = now - 86_400 if knobs.status_expired else invoice.expires_at
    reference, user_field = invoice.text("CustomerReference"), invoice.text("UserDefinedField")
    told: dict[str, Any] = {
        "InvoiceId": knobs.status_invoice or invoice.id,
        "InvoiceStatus": invoice.status,
        "InvoiceReference": invoice.reference,
        "CustomerReference": reference if knobs.status_reference is None else knobs.status_reference,
        "CreatedDate": times.local(invoice.at),
        "ExpiryDate": times.long_date(expires),
        "ExpiryTime": times.clock(expires),
        "InvoiceValue": number(value),
        "Comments": None,
        "CustomerName": invoice.text("CustomerName") or "Anonymous",
        "CustomerMobile": customer_mobile(invoice),
        "CustomerEmail": invoice.text("CustomerEmail"),
        "UserDefinedField": user_field if knobs.status_user_field is None else knobs.status_user_field,
        "InvoiceDisplayValue": display(value, knobs.status_currency),
        "DueDeposit": number(value) if invoice.paid else 0.0,
        "DepositStatus": "Not Deposited",
        "InvoiceItems": invoice.asked.get("InvoiceItems") or [],
        "InvoiceTransactions": [_attempt_json(invoice, attempt, knobs) for attempt in invoice.attempts],
        "Suppliers": [],
    }
    if knobs.status_nulls:
        told |= dict.fromkeys(("CustomerReference", "UserDefinedField", "Comments", "CustomerEmail", "InvoiceItems"))
    return told


def customer_mobile(invoice: Invoice) -> str:
    return (invoice.text("MobileCountryCode") or "+965") + (invoice.text("CustomerMobile") or "")


def _attempt_json(invoice: Invoice, attempt: Attempt, knobs: Knobs) -> dict[str, Any]:
    value = invoice.value if knobs.status_value is None else Decimal(knobs.status_value)
    due = value + invoice.charge
    card = attempt.card
    return {
        "TransactionDate": times.local(attempt.at),
        "PaymentGateway": GATEWAY[attempt.method],
        "ReferenceId": attempt.reference_id,
        "TrackId": attempt.track_id,
        "TransactionId": attempt.transaction_id,
        "PaymentId": attempt.payment_id,
        "AuthorizationId": attempt.authorization_id if attempt.status == CAPTURED else "",
        "TransactionStatus": attempt.status,
        "TransationValue": commas(value),
        "CustomerServiceCharge": commas(invoice.charge),
        "TotalServiceCharge": commas(invoice.charge + Decimal("0.100")),
        "DueValue": commas(due),
        "PaidCurrency": knobs.status_currency,
        "PaidCurrencyValue": commas(charged(due)),
        "VatAmount": commas(Decimal(0)),
        "IpAddress": "127.0.0.1",
        "Country": "Kuwait",
        "Currency": knobs.status_currency,
        "Error": ERRORS.get(attempt.error_code),
        "CardNumber": card.number if card else None,
        "ErrorCode": attempt.error_code,
        "ECI": "" if attempt.method == "kn" or attempt.status == IN_PROGRESS else "05",
        "Card": card_json(card) if card else None,
    }


def card_json(card: Card) -> dict[str, Any]:
    return {
        "NameOnCard": card.name, "Number": card.number, "Token": card.token or None, "PanHash": "",
        "ExpiryMonth": card.month, "ExpiryYear": card.year, "Brand": card.brand, "Issuer": "Sandbox Bank",
        "IssuerCountry": "KWT", "FundingMethod": "credit",
    }  # fmt: skip


def refund_json(refund: Refund) -> dict[str, Any]:
    """One line of GetRefundStatus."""
    return {
        "RefundId": refund.id, "RefundStatus": refund.status, "InvoiceId": refund.original.id,
        "Amount": number(refund.amount), "RefundReference": refund.reference, "ExternalIdentifier": refund.external,
        "RefundAmount": number(refund.amount), "RRN": refund.rrn, "BaseCurrency": "KWD",
    }  # fmt: skip


def refund_made_json(refund: Refund, key: str) -> dict[str, Any]:
    """`Data` of MakeRefund."""
    return {
        "Key": key, "RefundId": refund.id, "RefundReference": refund.reference, "RefundInvoiceId": refund.invoice_id,
        "ExternalIdentifier": refund.external, "Amount": number(refund.amount), "Comment": refund.comment,
    }  # fmt: skip


def invoice_line(invoice: Invoice) -> dict[str, Any]:
    """A line of `/__invoices`, the tests' own: amounts as text, times as epoch seconds."""
    return {
        "id": invoice.id, "reference": invoice.text("CustomerReference"), "status": invoice.status,
        "value": commas(invoice.value), "charge": commas(invoice.charge), "method": invoice.method, "url": invoice.url,
        "at": invoice.at, "expires_at": invoice.expires_at, "asked": invoice.asked,
        "attempts": [
            {"payment": one.payment_id, "status": one.status, "error_code": one.error_code, "method": one.method,
             "token": one.card.token if one.card else "", "at": one.at} for one in invoice.attempts
        ],
    }  # fmt: skip


def refund_line(refund: Refund) -> dict[str, Any]:
    """A line of `/__refunds`."""
    return {
        "id": refund.id, "status": refund.status, "amount": commas(refund.amount), "invoice": refund.original.id,
        "reference": refund.external, "comment": refund.comment, "at": refund.at, "done_at": refund.done_at,
    }  # fmt: skip
