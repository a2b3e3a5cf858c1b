"""A plain client of the simulated MyFatoorah: API calls, an order that is right, a browser without a script."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from sandbox.process import SandboxProcess
from tests.sandbox.client import Reply

SERVER = "myfatoorah"
CALLBACK = "http://127.0.0.1:9/payments/return/abc?lang=ar&x=%D8%A7"
FAILURE = "http://127.0.0.1:9/payments/failed"


def request(
    method: str, url: str, data: bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 5
) -> Reply:
    """One request; no redirect is followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), data, headers or {})
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def api(
    sandbox: SandboxProcess, endpoint: str, asked: Any = None, *, key: str = "sandbox", timeout: float = 5
) -> Reply:
    """POST to an endpoint of /v2, or to a whole address."""
    url = endpoint if endpoint.startswith("http") else f"{sandbox.myfatoorah_url}/v2/{endpoint}"
    data = asked if isinstance(asked, bytes | None) else json.dumps(asked).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return request("POST", url, data, headers, timeout)


def data(reply: Reply) -> Any:
    """What a success holds."""
    assert (reply.status, reply.json["IsSuccess"], reply.json["ValidationErrors"]) == (200, True, None), reply.raw
    return reply.json["Data"]


def wrong(reply: Reply) -> list[str]:
    """The names of the fields that are refused."""
    assert (reply.status, reply.json["IsSuccess"], reply.json["Message"]) == (400, False, "Invalid data"), reply.raw
    assert all(error["Error"] for error in reply.json["ValidationErrors"])
    return [error["Name"] for error in reply.json["ValidationErrors"]]


def order(**changed: Any) -> dict[str, Any]:
    """An order without a fault."""
    whole = {
        "InvoiceValue": 2.5, "PaymentMethodId": 1, "CustomerName": "نورة الصباح", "CallBackUrl": CALLBACK,
        "ErrorUrl": FAILURE, "DisplayCurrencyIso": "KWD", "MobileCountryCode": "+965", "CustomerMobile": "50000001",
        "CustomerEmail": None, "Language": "ar", "CustomerReference": "ref-1", "UserDefinedField": "CK-7",
        "InvoiceItems": [{"ItemName": "باقة 2,500 وحدة", "Quantity": 1, "UnitPrice": 2.5}],
    }  # fmt: skip
    return {name: value for name, value in {**whole, **changed}.items() if value != "absent"}


def opened(sandbox: SandboxProcess, **changed: Any) -> dict[str, Any]:
    """Data of ExecutePayment."""
    found: dict[str, Any] = data(api(sandbox, "ExecutePayment", order(**changed)))
    return found


def status(sandbox: SandboxProcess, key: Any, key_type: str = "InvoiceId") -> dict[str, Any]:
    """Data of GetPaymentStatus."""
    found: dict[str, Any] = data(api(sandbox, "GetPaymentStatus", {"Key": str(key), "KeyType": key_type}))
    return found


def press(url: str, **fields: str) -> Reply:
    """A form is sent, as a browser does it."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return request("POST", url, urlencode(fields).encode(), headers)
