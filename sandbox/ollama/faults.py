"""What goes wrong before the first byte, with the very bodies that real servers and the proxies before them send.

Faults in the middle of an answer belong to the flow and live in `answering.py`; their list is in `knobs.py`.
"""

from __future__ import annotations

import uuid
from typing import Any

from sandbox.wire import Exchange

from .gojson import dumps
from .knobs import Knobs
from .runners import BUSY

RUNNER_DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama"
    " server logs for details"
)
CRASHED = "an error was encountered while running the model: unexpected EOF"
SLOT_TIMEOUT = "timed out waiting for a concurrent request slot"
CONTEXT = (
    '{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it",'
    '"type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":4096}}'
)
HTML = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    b"<body><center><h1>502 Bad Gateway</h1></center>"
    b"<hr><center>proxy in front of operator-host.internal</center></body></html>\n"
)

# Told in the shape of whichever door was used.
IN_SHAPE: dict[str, tuple[int, str]] = {
    "crash_before": (500, RUNNER_DIED),
    "load_failed": (500, "timed out waiting for llama-server to start: "),
    "400": (400, "invalid options: num_ctx"),
    "400_context": (400, CONTEXT),
    "503_busy": (503, BUSY),
    "499": (499, "request canceled"),
}


def native_fault(name: str, account: str) -> tuple[int, dict[str, str]] | None:
    """Errors in native shape even on /v1, as the cloud and the pass-through to it send them.

    Each holds what must never reach a customer: the operator's account name, a reference into their account, or both.
    """
    ref = f"(ref: {uuid.uuid4()})"
    upgrade = f"https://ollama.com/upgrade?account={account}"
    known: dict[str, tuple[int, str]] = {
        "401_native": (401, f"unauthorized {ref}"),
        "402_native": (402, f"this model uses extra usage only and your extra usage balance is empty, {account} {ref}"),
        "403_native": (403, f"this model requires a subscription, upgrade for access: {upgrade} {ref}"),
        "429_native": (
            429, f"you ({account}) have reached your session usage limit, please wait or upgrade to continue {ref}",
        ),
        "429_slots": (429, f"{SLOT_TIMEOUT} {ref}"),
        "500_native": (500, f"Internal Server Error {ref}"),
        "503_native": (503, f"Server overloaded, please retry shortly {ref}"),
    }  # fmt: skip
    if name not in known:
        return None
    status, text = known[name]
    sign_in = {"signin_url": f"https://ollama.com/connect?name={account}&key=c3No"} if name == "401_native" else {}
    return status, {"error": text, **sign_in}


def answer_before(exchange: Exchange, name: str, knobs: Knobs, requested: str, shape: Any) -> bool:
    """Play the fault of this name if it is one that comes before any byte; False when it is none of that kind.

    `shape(status, text)` gives the body and the content type of the door that was used.
    """
    headers = list((knobs.headers or {}).items())
    if name in IN_SHAPE or name == "404":
        status, text = IN_SHAPE.get(name) or (404, f"model '{requested}' not found")
        body, content_type = shape(status, text)
        exchange.answer(status, body, content_type, headers)
    elif (native := native_fault(name, knobs.account)) is not None:
        exchange.answer(native[0], dumps(native[1]).encode(), "application/json; charset=utf-8", headers)
    elif name == "503_text":
        exchange.answer(503, b"upstream connect error or disconnect/reset before headers\n", "text/plain", headers)
    elif name == "502_html":
        exchange.answer(502, HTML, "text/html", headers)
    elif name == "empty":
        exchange.answer(200, b"", "application/json", headers)
    elif name == "reset_before":
        exchange.reset()
    elif name == "cut_before":
        exchange.cut()
    elif name == "stall_before":
        exchange.peer.left.wait()
    else:
        return False
    return True
