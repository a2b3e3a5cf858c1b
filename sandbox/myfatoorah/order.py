"""What ExecutePayment refuses, field by field, with everything that is wrong at once.

The rules are the vendor's where they are published; sandbox/README.md lists those that are guessed.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from . import times
from .knobs import Knobs

CURRENCIES = ("KWD", "SAR", "BHD", "AED", "QAR", "OMR", "JOD", "EGP")
URL_LIMIT, MOBILE_LIMIT, FIELD_LIMIT, CARD_FIELD_LIMIT = 254, 11, 500, 50
MOBILE = re.compile(r"(\+|00|\*)?[0-9]{3,14}#?")
COUNTRY_CODE = re.compile(r"\+?[0-9]{1,4}")
TEXTS = (
    "CustomerName", "CallBackUrl", "ErrorUrl", "DisplayCurrencyIso", "MobileCountryCode", "CustomerMobile", "Language",
    "CustomerEmail", "CustomerReference", "CustomerCivilId", "UserDefinedField", "ExpiryDate", "WebhookUrl",
    "SourceInfo", "SessionId",
)  # fmt: skip

Errors = list[tuple[str, str]]


def numeric(given: Any) -> Decimal | None:
    """A JSON number, exactly as it was written; None for anything else."""
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        return None
    return Decimal(given)


def faults_of(asked: dict[str, Any], knobs: Knobs, now: float) -> Errors:
    """Everything that is wrong with an order; empty: nothing."""
    wrong: Errors = [
        (name, f"{name} must be a string")
        for name in TEXTS
        if asked.get(name) is not None and not isinstance(asked[name], str)
    ]
    if wrong:
        return wrong
    wrong += _value(asked)
    wrong += _method(asked, knobs)
    for name in ("CallBackUrl", "ErrorUrl", "WebhookUrl"):
        wrong += _url(name, asked.get(name), knobs)
    wrong += _customer(asked)
    wrong += _rest(asked, now)
    return wrong


def _value(asked: dict[str, Any]) -> Errors:
    value = numeric(asked.get("InvoiceValue"))
    if value is None or value <= 0:
        return [("InvoiceValue", "Invoice value must be more than 0")]
    if value != value.quantize(Decimal("0.001")):
        return [("InvoiceValue", "Invoice value must have no more than 3 decimals")]
    items = asked.get("InvoiceItems")
    if items is None:
        return []
    total = Decimal(0)
    for item in items if isinstance(items, list) else [None]:
        if not isinstance(item, dict) or not isinstance(item.get("ItemName"), str) or not item["ItemName"]:
            return [("InvoiceItems", "Every item must have an ItemName")]
        quantity, price = item.get("Quantity"), numeric(item.get("UnitPrice"))
        if type(quantity) is not int or quantity < 1 or price is None or price < 0:
            return [("InvoiceItems", "Every item must have a Quantity and a UnitPrice")]
        total += quantity * price
    if total != value:
        return [("InvoiceItems", "The sum of the items must be equal to the invoice value")]
    return []


def _method(asked: dict[str, Any], knobs: Knobs) -> Errors:
    method, session = asked.get("PaymentMethodId"), asked.get("SessionId")
    if (method is None) == (session is None):
        return [("PaymentMethodId", "Exactly one of PaymentMethodId and SessionId is required")]
    if session is not None:
        return [("SessionId", "The session is not valid")]
    if type(method) is not int or method not in [knobs.method_ids[name] for name in knobs.offered]:
        return [("PaymentMethodId", "The payment method is not valid")]
    return []


def _url(name: str, url: str | None, knobs: Knobs) -> Errors:
    if url is None:
        return []
    if len(url) > URL_LIMIT:
        return [(name, f"{name} must not be longer than {URL_LIMIT} characters")]
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        return [(name, f"{name} is not a valid URL")]
    if not knobs.allow_loopback and (host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")):  # noqa: S104
        return [(name, f"{name} must not be localhost")]
    return []


def _customer(asked: dict[str, Any]) -> Errors:
    wrong: Errors = []
    mobile, country, email = asked.get("CustomerMobile"), asked.get("MobileCountryCode"), asked.get("CustomerEmail")
    if mobile and len(mobile) > MOBILE_LIMIT:
        wrong.append(("CustomerMobile", f"Mobile must be between 0 and {MOBILE_LIMIT} characters"))
    elif mobile and not MOBILE.fullmatch(mobile):
        wrong.append(("CustomerMobile", "Mobile is not valid"))
    if country and not COUNTRY_CODE.fullmatch(country):
        wrong.append(("MobileCountryCode", "Country code is not valid"))
    if email is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", email):
        wrong.append(("CustomerEmail", "Email is not valid"))
    field = asked.get("UserDefinedField") or ""
    limit = CARD_FIELD_LIMIT if field.startswith("CK-") else FIELD_LIMIT
    if len(field) > limit:
        wrong.append(("UserDefinedField", f"UserDefinedField must not be longer than {limit} characters"))
    return wrong


def _rest(asked: dict[str, Any], now: float) -> Errors:
    wrong: Errors = []
    currency, language, expiry = asked.get("DisplayCurrencyIso"), asked.get("Language"), asked.get("ExpiryDate")
    if currency and currency not in CURRENCIES:
        wrong.append(("DisplayCurrencyIso", "The currency is not valid"))
    elif currency and currency != "KWD":
        wrong.append(("DisplayCurrencyIso", "This sandbox has an account in KWD and shows KWD only"))
    if language and language.upper() not in ("EN", "AR"):
        wrong.append(("Language", "Language must be EN or AR"))
    if expiry is not None:
        try:
            if times.parse_local(expiry) <= now:
                wrong.append(("ExpiryDate", "ExpiryDate is past (it is read as Kuwait time)"))
        except ValueError:
            wrong.append(("ExpiryDate", "ExpiryDate must look like 2026-11-21T14:30:00, without a zone"))
    if asked.get("RecurringModel") is not None:
        wrong.append(("RecurringModel", "Recurring payments are not activated for this account"))
    return wrong
