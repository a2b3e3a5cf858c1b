"""What the wire shows when something goes wrong, before a message is accepted and after. Names: `knobs.py`."""

from __future__ import annotations

from sandbox.wire import Exchange

from .knobs import Knobs
from .shapes import dumps, error_json

JSON = "application/json; charset=utf-8"
HTML = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>cloudflare</center></body></html>\n"
)
PARKED = b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"

_TOLD = {
    "400": (400, "Bad request: the message cannot be processed"),
    "401": (401, "Unauthorized: API key is missing or not known"),
    "403": (403, "Forbidden: API key is not allowed to do this"),
    "404": (404, "Not found"),
    "409": (409, "Conflict"),
    "429": (429, "Too many requests: please wait a minute and try again"),
    "429_retry_after": (429, "Too many requests: please wait a minute and try again"),
    "500": (500, "Internal server error"),
    "500_accepted": (500, "Internal server error"),
}


def play(exchange: Exchange, name: str, knobs: Knobs, honest: bytes = b"") -> None:
    """Answer with the fault of this name, or leave without an answer. `honest` is the 201 it would have been.

    For the faults after accepting the message must be in the book already.
    """
    if name in _TOLD:
        status, text = _TOLD[name]
        headers = [("Retry-After", str(knobs.retry_after_s))] if name == "429_retry_after" else []
        exchange.answer(status, dumps(error_json(status, text)), JSON, headers)
    elif name in ("502", "502_accepted"):
        exchange.answer(502, HTML, "text/html")
    elif name == "503":
        exchange.answer(503, b"upstream connect error or disconnect/reset before headers\n", "text/plain")
    elif name == "200_error":
        exchange.answer(200, dumps({"error": "device session is not ready"}), JSON)
    elif name == "200_html":
        exchange.answer(200, PARKED, "text/html")
    elif name == "201_no_id":
        exchange.answer(201, dumps({"status": "queued"}), JSON)
    elif name == "cut_accepted":
        exchange.start(201, [("Content-Type", JSON)], len(honest))
        exchange.send(honest[: len(honest) // 2])
        exchange.cut()
    elif name in ("reset_before", "reset_accepted"):
        exchange.reset()
    elif name in ("stall_before", "stall_accepted"):
        exchange.peer.left.wait()
    else:
        raise LookupError(name)
