"""What the wire shows when something goes wrong, and the envelope of every honest answer. Names: `knobs.py`."""

from __future__ import annotations

import json
from typing import Any

from sandbox.wire import Exchange

from .knobs import Plan

JSON = "application/json; charset=utf-8"
_PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>Microsoft-Azure-Application-Gateway/v2</center>\r\n</body>\r\n</html>\r\n"
)
NO_PERMISSION = "The token does not have the required permissions!"
BAD_TOKEN = "The token is not valid or it is expired!"  # noqa: S105
OTHER_COUNTRY = "Exception: You are not Authorized to use API."
NO_SUCCESS = {"Message": "An error has occurred.", "MessageDetail": "The service is not available."}


def dumps(value: Any) -> bytes:
    """Compact, Arabic raw."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(
    message: str | None, data: Any = None, errors: list[tuple[str, str]] | None = None, *, success: bool = False
) -> dict[str, Any]:
    """The one outer shape of every answer."""
    listed = None if errors is None else [{"Name": name, "Error": text} for name, text in errors]
    return {"IsSuccess": success, "Message": message, "ValidationErrors": listed, "Data": data}


def no_route(target: str) -> dict[str, Any]:
    name = target.rstrip("/").rpartition("/")[2]
    return {
        "Message": f"No HTTP resource was found that matches the request URI '{target}'.",
        "MessageDetail": f"No type was found that matches the controller named '{name}'.",
    }


_VALUE = ("InvoiceValue", "Invoice value must be more than 0")
_TOLD: dict[str, tuple[int, Any]] = {
    "400": (400, envelope("Invalid data", None, [_VALUE])),
    "400_fields": (400, {
        "IsSuccess": False, "Message": "Invalid data", "FieldsErrors": [{"Name": "InvoiceValue", "Error": ""}],
        "Data": None,
    }),
    "200_false": (200, envelope("The request cannot be processed now")),
    "401_permission": (401, envelope(NO_PERMISSION)),
    "401_token": (401, envelope(BAD_TOKEN)),
    "401_country": (401, envelope(OTHER_COUNTRY)),
    "404_route": (404, no_route("/v2/Nowhere")),
    "429": (429, envelope("Too many requests")),
    "429_retry_after": (429, envelope("Too many requests")),
    "500": (500, {"Message": "An error has occurred."}),
    "500_after": (500, {"Message": "An error has occurred."}),
    "json_string": (200, "The service is not available now, please try again later"),
    "no_success": (200, NO_SUCCESS),
}  # fmt: skip
_BODIES = {
    "401_empty": (401, ""), "empty": (200, ""), "empty_after": (200, ""),
    "403_html": (403, _PAGE.format("403 Forbidden")), "502_html": (502, _PAGE.format("502 Bad Gateway")),
    "502_after": (502, _PAGE.format("502 Bad Gateway")), "html": (200, _PAGE.format("MyFatoorah")),
}  # fmt: skip


def play(exchange: Exchange, plan: Plan, honest: bytes = b"") -> None:
    """Answer with the plan's fault, or leave without an answer. `honest` is the answer it would have been.

    For the faults after, what was asked for must have been done already.
    """
    name = plan.fault or ""
    if name in _TOLD:
        status, value = _TOLD[name]
        headers = [("Retry-After", str(plan.retry_after_s))] if name == "429_retry_after" else []
        exchange.answer(status, dumps(value), JSON, headers)
    elif name in _BODIES:
        status, text = _BODIES[name]
        exchange.answer(status, text.encode(), "text/html" if text else JSON)
    elif name == "cut_after":
        exchange.start(200, [("Content-Type", JSON)], len(honest))
        exchange.send(honest[: len(honest) // 2])
        exchange.cut()
    elif name in ("reset_before", "reset_after"):
        exchange.reset()
    elif name in ("stall_before", "stall_after"):
        exchange.peer.left.wait()
    else:
        raise LookupError(name)
