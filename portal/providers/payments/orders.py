"""An order as MyFatoorah takes it: every rule of its ExecutePayment is kept before anything is sent.

What only helps the payer along (name, mobile, e-mail) is tidied or left out: an odd telephone number must not stand
between a customer and paying. What must be right (amount, reference, addresses) is refused here.
"""

import re
import unicodedata
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import phonenumbers

from portal.clock import KUWAIT
from portal.providers.payments import KWD, Order, PaymentsError

STEP_FILS = 10
"""The provider rounds up to two decimals: 2.505 KWD would be charged as 2.510."""
LONGEST_URL, LONGEST_MOBILE, LONGEST_NAME, LONGEST_ITEM = 254, 11, 100, 200
LONGEST_FIELD, LONGEST_CARD_FIELD = 500, 50


def dinars(fils: int) -> Decimal:
    """2500 → 2.500, which is written as it stands. Raises ValueError for what is no positive multiple of 10 fils."""
    if type(fils) is not int or fils <= 0 or fils % STEP_FILS:
        raise ValueError(f"{fils!r} is no amount to pay: it must be a positive multiple of {STEP_FILS} fils")
    return Decimal(fils).scaleb(-3)


def execute_payment(order: Order) -> dict[str, Any]:
    """The body of ExecutePayment. Raises ValueError (an amount, an instant without zone), PaymentsError (permanent)."""
    if order.expires_at.tzinfo is None:
        raise ValueError("expires_at has no zone")
    amount = dinars(order.amount_fils)
    if not order.reference:
        raise PaymentsError("a payment needs a reference of ours", permanent=True)
    country, mobile = mobile_of(order.phone)
    return {
        "PaymentMethodId": order.method_id,
        "InvoiceValue": amount,
        "DisplayCurrencyIso": KWD,
        "InvoiceItems": [{"ItemName": _item(order), "Quantity": 1, "UnitPrice": amount}],
        "CustomerName": name_of(order.name) or None,
        "CustomerEmail": _email(order.email),
        "MobileCountryCode": country,
        "CustomerMobile": mobile,
        "CustomerReference": order.reference,
        "UserDefinedField": _field(order.user_field),
        "Language": "AR" if order.language == "ar" else "EN",
        "ExpiryDate": order.expires_at.astimezone(KUWAIT).strftime("%Y-%m-%dT%H:%M:%S"),
        "CallBackUrl": _url(order.callback),
        "ErrorUrl": _url(order.failure),
        **({"WebhookUrl": _url(order.webhook)} if order.webhook else {}),
    }


def name_of(name: str) -> str:
    """Letters of any script, digits and single spaces: all else is refused or lost there. Empty for nothing left."""
    kept = unicodedata.normalize("NFC", name).replace("'", "").replace("’", "")
    # Marks (vowels of Arabic) leave no gap, signs do: Al-Sabah is two words.
    letters = (_letter(sign) for sign in kept if not unicodedata.category(sign).startswith("M"))
    return " ".join("".join(letters).split())[:LONGEST_NAME].strip()


def mobile_of(phone: str) -> tuple[str | None, str | None]:
    """`+96550001234` → `+965`, `50001234`. Nothing for what is no number, or is longer than they take."""
    try:
        number = phonenumbers.parse(phone, None)
    except phonenumbers.NumberParseException:
        return None, None
    mobile = phonenumbers.national_significant_number(number)
    if not re.fullmatch(rf"[0-9]{{3,{LONGEST_MOBILE}}}", mobile):
        return None, None
    return f"+{number.country_code}", mobile


def _letter(sign: str) -> str:
    return sign if unicodedata.category(sign)[0] in "LN" else " "


def _item(order: Order) -> str:
    plain = re.sub(r"<[^>]*>|[<>]", " ", order.item)
    line = "".join(sign if sign.isprintable() else " " for sign in plain)
    return " ".join(line.split())[:LONGEST_ITEM].strip() or order.reference


def _email(email: str) -> str | None:
    return email if email.isascii() and re.fullmatch(r"[^\s@]+@[^\s@]+\.[^\s@]+", email) else None


def _field(field: str) -> str | None:
    if len(field) > (LONGEST_CARD_FIELD if field.startswith("CK-") else LONGEST_FIELD):
        raise PaymentsError("the field that comes back with the status is too long", permanent=True)
    return field or None


def _url(url: str) -> str:
    if len(url) > LONGEST_URL:
        raise PaymentsError(f"an address to come back to is longer than {LONGEST_URL} characters", permanent=True)
    if urlsplit(url).scheme not in ("http", "https"):
        raise PaymentsError("an address to come back to is none", permanent=True)
    return url
