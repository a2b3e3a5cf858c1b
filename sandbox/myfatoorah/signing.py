"""How a webhook is signed, V1 and V2: the sandbox's own reading of the vendor's rules.

Not shared with the product, which checks signatures by code of its own: two readings that agree prove something.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

_V2_FIELDS = {
    1: "Invoice.Id Invoice.Status Transaction.Status Transaction.PaymentId Invoice.ExternalIdentifier",
    2: "Refund.Id Refund.Status Amount.ValueInBaseCurrency ReferencedInvoice.Id",
}
_V1_LEFT_OUT = {2: "GatewayReference"}


def string_v1(event_type: int, data: dict[str, Any]) -> str:
    """Every field of Data, sorted without regard to case."""
    names = sorted((name for name in data if name != _V1_LEFT_OUT.get(event_type)), key=str.casefold)
    return ",".join(f"{name}={_text(data[name])}" for name in names)


def string_v2(code: int, data: dict[str, Any]) -> str:
    """The few fields of this event, in the vendor's order."""
    pairs = []
    for path in _V2_FIELDS[code].split():
        value: Any = data
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        pairs.append(f"{path}={_text(value)}")
    return ",".join(pairs)


def signature(string: str, secret: str) -> str:
    """HMAC-SHA256 in base64. The secret looks like base64 and is not decoded."""
    return base64.b64encode(hmac.digest(secret.encode(), string.encode(), hashlib.sha256)).decode()


def signed(version: str, body: dict[str, Any], secret: str) -> str:
    """The signature of a whole body. version: `v1` or `v2`."""
    if version == "v1":
        return signature(string_v1(body["EventType"], body["Data"]), secret)
    return signature(string_v2(body["Event"]["Code"], body["Data"]), secret)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
