"""What goes wrong before the first byte, with the very bodies that real servers and the proxies before them send.

Faults in the middle of an answer belong to the flow and live in `answering.py`; their list is in `knobs.py`.
"""

from __future__ import annotations

from typing import Any

from sandbox.wire import Exchange

from .gojson import dumps
from .job import Job
from .runners import BUSY

RUNNER_DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama"
    " server logs for details"
)
CRASHED = "an error was encountered while running the model: unexpected EOF"
REF = "(ref: 5f2b9c9e-1f7c-4f0e-9d4e-3b1a0c6f7d21)"
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


def native_fault(name: str, account: str) -> tuple[int, dict[str, Any]] | None:
    """Errors that come in native shape even on /v1, as the cloud pass-through sends them."""
    known: dict[str, tuple[int, dict[str, Any]]] = {
        "401_native": (401, {"error": "unauthorized", "signin_url": f"https://ollama.com/connect?name={account}&key=c3No"}),
        "402_native": (402, {"error": f"this model uses extra usage only and your extra usage balance is empty {REF}"}),
        "403_native": (403, {
            "error": f"this model requires a subscription, upgrade for access: https://ollama.com/upgrade {REF}",
        }),
        "429_native": (429, {
            "error": f"you ({account}) have reached your session usage limit, please wait or upgrade to continue {REF}",
        }),
        "503_native": (503, {"error": f"Server overloaded, please retry shortly {REF}"}),
    }  # fmt: skip
    return known.get(name)


def answer_before(exchange: Exchange, job: Job, shape: Any) -> bool:
    """Play a fault that comes before any byte; False when the knobs hold none of that kind."""
    name = job.knobs.fault or ""
    headers = list((job.knobs.headers or {}).items())
    if name in IN_SHAPE or name == "404":
        status, text = IN_SHAPE.get(name) or (404, f"model '{job.requested}' not found")
        body, content_type = shape(status, text)
        exchange.answer(status, body, content_type, headers)
    elif (native := native_fault(name, job.knobs.account)) is not None:
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
