"""What MyFatoorah tells of methods, invoices and refunds, as the plain data of this folder.

Told as it stands, with its misspellings (`Succss`, `TransationValue`) and its two amounts; nothing is believed yet. Any
field may be missing, null or of another type: it is empty then, and an invoice that says too little is pending.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from portal.providers.payments import KWD, Attempt, Card, Method, Refunded, Status, answers, wire

log = logging.getLogger("portal.payments")

SYMBOLS: Final = {"KD": KWD, "SR": "SAR", "BD": "BHD", "DH": "AED", "DHS": "AED", "QR": "QAR", "OR": "OMR", "RO": "OMR",
                  "JD": "JOD", "LE": "EGP", "EP": "EGP"}  # fmt: skip
"""The eight currencies as `InvoiceDisplayValue` may write them. What is not here stays as it is."""
_DISPLAYED = re.compile(r"(?P<before>[^\d\s.,-]*)\s*(?P<number>-?[0-9][0-9,]*(?:\.[0-9]+)?)\s*(?P<after>[^\d\s,-]*)")

AttemptState = Literal["waiting", "paid", "failed", "released", "held"]
_ATTEMPTS: Final[Mapping[str, AttemptState]] = {
    "succss": "paid",  # as the API writes it; the others are for the day when it learns to spell
    "success": "paid",
    "inprogress": "waiting",
    "failed": "failed",
    "canceled": "released",
    "cancelled": "released",
    "authorize": "held",
    "authorized": "held",
}
_REFUNDS: Final[Mapping[str, Literal["pending", "refunded", "canceled"]]] = {
    "refunded": "refunded",
    "canceled": "canceled",
    "cancelled": "canceled",
    "pending": "pending",
}


def methods(data: Any) -> tuple[Method, ...] | None:
    """InitiatePayment's list, in its order; None where there is none."""
    listed = wire.member(data, "PaymentMethods")
    if not isinstance(listed, list):
        return None
    found = []
    for one in wire.objects(listed):
        number, code = wire.identity(one.get("PaymentMethodId")), wire.identity(one.get("PaymentMethodCode"))
        if not re.fullmatch(r"[0-9]{1,9}", number) or not code:
            continue
        english, arabic = wire.text(one.get("PaymentMethodEn"), 100), wire.text(one.get("PaymentMethodAr"), 100)
        charge = wire.number(one.get("ServiceCharge")) or 0
        found.append(
            Method(
                id=int(number),
                code=code,
                name_ar=arabic or english or code,
                name_en=english or code,
                direct=one.get("IsDirectPayment") is True,
                charge_fils=max(0, -(-int(charge * 1_000_000) // 1000)),
            )
        )
    return tuple(found)


def status(data: Any) -> Status | None:
    """GetPaymentStatus's invoice; None where it names none."""
    invoice = wire.identity(wire.member(data, "InvoiceId"))
    if not invoice:
        return None
    attempts = _attempts(data.get("InvoiceTransactions"))
    value, currency = _value(data, invoice)
    return Status(
        invoice=invoice,
        state=_state(data, invoice, attempts),
        reference=wire.text(data.get("CustomerReference")),
        user_field=wire.text(data.get("UserDefinedField")),
        value_fils=value,
        currency=currency,
        expires_at=wire.long_date(data.get("ExpiryDate"), data.get("ExpiryTime")),
        attempts=attempts,
    )


def refunds(data: Any) -> tuple[Refunded, ...] | None:
    """GetRefundStatus's list; None where there is none."""
    listed = wire.member(data, "RefundStatusResult")
    if not isinstance(listed, list):
        return None
    found = []
    for one in wire.objects(listed):
        word = wire.text(one.get("RefundStatus"), 40)
        state = _REFUNDS.get(word.lower())
        if state is None:
            log.warning("the payment provider knows a state of refunds that we don't", extra={"state": word})
        amount = wire.fils(one.get("Amount"))
        found.append(
            Refunded(
                id=wire.identity(one.get("RefundId")) or wire.identity(one.get("RefundReference")),
                state=state or "pending",
                amount_fils=wire.fils(one.get("RefundAmount")) if amount is None else amount,
                reference=wire.text(one.get("ExternalIdentifier")),
            )
        )
    return tuple(found)


def refund_made(data: Any) -> Refunded | None:
    """MakeRefund's answer: asked for, not done. None where it has no id."""
    made = wire.identity(wire.member(data, "RefundId")) or wire.identity(wire.member(data, "RefundReference"))
    if not made:
        return None
    return Refunded(made, "pending", wire.fils(data.get("Amount")), wire.text(data.get("ExternalIdentifier")))


def _state(data: dict[str, Any], invoice: str, attempts: tuple[Attempt, ...]) -> Literal["pending", "paid", "canceled"]:
    word = wire.text(data.get("InvoiceStatus"), 40).lower()
    captured = any(one.state == "paid" for one in attempts)
    if word in ("paid", "duplicatepayment") and captured:
        return "paid"
    if word in ("canceled", "cancelled") and not captured:
        return "canceled"
    if captured or word != "pending":
        # Neither credited nor given up: it is asked for again, and staff see it when it stays so.
        extra = {"invoice": invoice, "state": word, "captured": captured}
        log.warning("the payment provider contradicts itself about an invoice", extra=extra)
    return "pending"


def _value(data: dict[str, Any], invoice: str) -> tuple[int | None, str]:
    """The amount in thousandths, and its currency.

    InvoiceValue has no currency of its own (it is the account's), so it counts only where InvoiceDisplayValue says the
    same number in KD. Says it another number in KD, there is no amount; says it another currency, it is that amount in
    that currency, for the rule to refuse; says it nothing, there is neither.
    """
    shown = _DISPLAYED.fullmatch(wire.text(data.get("InvoiceDisplayValue"), 60))
    number = wire.number(shown["number"]) if shown else None
    if shown is None or number is None or bool(shown["before"]) == bool(shown["after"]):
        log.warning("the payment provider does not say what an invoice is worth", extra={"invoice": invoice})
        return None, ""
    symbol = (shown["before"] or shown["after"]).strip(".").upper()
    currency = SYMBOLS.get(symbol, symbol)
    if currency != KWD:
        return wire.fils(number), currency
    value = wire.number(data.get("InvoiceValue"))
    if value != number:
        log.warning("the payment provider tells two amounts of an invoice", extra={"invoice": invoice})
        return None, currency
    return wire.fils(value), currency


def _attempts(listed: Any) -> tuple[Attempt, ...]:
    found = [_attempt(one) for one in wire.objects(listed)]
    dated = [(one.at, place) for place, one in enumerate(found) if one.at]
    return tuple(found[place] for _, place in sorted(dated)) if len(dated) == len(found) else tuple(found)


def _attempt(one: dict[str, Any]) -> Attempt:
    word = wire.text(one.get("TransactionStatus"), 40)
    state = _ATTEMPTS.get(word.lower())
    if state is None:
        log.warning("the payment provider knows a state of attempts that we don't", extra={"state": word})
    said = one.get("Error")
    code = wire.identity(one.get("ErrorCode"))
    return Attempt(
        payment=wire.identity(one.get("PaymentId")),
        state=state or "waiting",
        method=wire.text(one.get("PaymentGateway"), 60),
        reference=wire.identity(one.get("ReferenceId")),
        error_code=code if re.fullmatch(r"MF[0-9]{3}", code) else "",
        error=answers.cleaned(said) if isinstance(said, str) else "",
        card=_card(one),
        at=wire.instant(one.get("TransactionDate")),
    )


def _card(one: dict[str, Any]) -> Card | None:
    told = one.get("Card")
    number = wire.text(wire.member(told, "Number"), 40) or wire.text(one.get("CardNumber"), 40)
    token = wire.text(wire.member(told, "Token"), 200)
    if not number and not token:
        return None
    return Card(
        token=token,
        number=_masked(number),
        brand=wire.text(wire.member(told, "Brand"), 40),
        expiry_month=wire.text(wire.member(told, "ExpiryMonth"), 4),
        expiry_year=wire.text(wire.member(told, "ExpiryYear"), 4),
    )


def _masked(number: str) -> str:
    """A number that they masked, as it stands; one that they did not, with its last four digits alone: never ours."""
    digits = re.sub(r"\D", "", number)
    return f"{'*' * (len(digits) - 4)}{digits[-4:]}" if len(digits) > 10 else number
