"""What a test can turn: how a simulated server speaks, how slow it is, and what goes wrong.

Knobs live here and nowhere in a request, so the product can never become aware of them. Layers, later ones win:
built-in defaults, the server's, the model's, and those queued for single requests (`next`). `control.py` is the door.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any

DEFAULT_NUM_CTX = 4096
NEW, OLD = ">=0.32.6", "<=0.32.5"
_DIALECTS = {"new": NEW, "old": OLD, NEW: NEW, OLD: OLD, "≥0.32.6": NEW, "≤0.32.5": OLD, "0.32.6": NEW, "0.32.5": OLD}

FAULTS_BEFORE = {
    "crash_before": "500, Ollama's text of a runner that died",
    "load_failed": "500, llama-server did not start",
    "reset_before": "TCP reset before any byte",
    "cut_before": "FIN before any byte",
    "stall_before": "no byte, for ever",
    "empty": "200 without a body",
    "404": "model not found, though it is listed",
    "400": "a bad request, Ollama's text",
    "400_context": "400, llama-server's raw JSON as the message: prompt too long",
    "401_native": "401 native, operator not signed in",
    "402_native": "402 native, operator's balance is empty",
    "403_native": "403 native, operator's plan lacks the model",
    "429_native": "429 native, holds the operator's account name",
    "429_slots": "429 native, the account's requests at once are all taken",
    "500_native": "500 native, the cloud fell over",
    "503_native": "503 native, overloaded",
    "503_busy": "503, the load queue is full (two spaces)",
    "503_text": "503, plain text of a proxy in front",
    "502_html": "502, an HTML page of a proxy in front",
    "499": "499 request canceled",
}
FAULTS_MID = {
    "crash_mid": 'runner dies: /v1 sends an empty chunk with model "" and ends cleanly; native sends an error line',
    "reset_mid": "TCP reset",
    "cut_mid": "FIN inside the chunked body",
    "stall_mid": "silence for ever, connection open",
    "silent_end": "clean end: no finish_reason, no usage, no [DONE]; buffered: finish_reason null, usage zeros",
    "repeat_guard": "the same token 31 times, then silent_end",
    "error_event": 'a `data: {"error": …}` event, then the end (other servers do this)',
    "error_line": "a native error line inside the SSE stream, then the end",
    "bad_json": "a data line that is no JSON, then the stream goes on",
    "no_done": "complete stream, [DONE] missing",
    "no_finish": "complete stream with [DONE], finish_reason never told",
}
_ALIASES = {
    "html_502": "502_html", "not_found": "404", "bad_request": "400", "buffered_repeat_guard": "silent_end",
    "500": "crash_before", "reset": "reset_before", "stall": "stall_before",
}  # fmt: skip
FRAMINGS = ("event", "split", "batch", "drip")


class KnobError(ValueError):
    """A knob that does not exist or a value it cannot take; the text says which would be right."""


@dataclass(frozen=True)
class Knobs:
    """All knobs with their defaults. Times are milliseconds."""

    dialect: str = NEW
    version: str = "0.33.0"
    # speed and queueing
    slots: int = 1
    server_slots: int = 0
    slot_wait_ms: float = 0
    slot_refusal: int = 429
    max_queue: int = 512
    max_loaded: int = 0
    load_ms: float = 0
    keep_alive_ms: float = 300_000
    delay_first_ms: float = 0
    delay_chunk_ms: float = 0
    prefill_blind: bool = False
    hold_after: int | None = None
    # what is said
    text: str | None = None
    tokens: int | None = None
    reasoning: str | int | None = None
    tool_calls: Any = None
    done_reason: str | None = None
    model_echo: str | None = None
    num_ctx: int = 0
    shift: bool = True
    # what goes wrong
    fault: str | None = None
    fault_after: int = 3
    times: int | None = None
    account: str = "operator-account-name"
    # at the door, before anything else
    down: str | None = None
    key: str | None = None
    open_lists: bool = False
    # counts
    usage: Any = None
    cached_tokens: int | None = None
    # bytes on the wire
    framing: str = "event"
    batch_size: int = 4
    pause_ms: float = 2
    crlf: bool = False
    big_line: int = 0
    headers: Any = None

    def window(self, modelfile: int | None, trained: int, asked: object = None) -> int:
        """Tokens of context a model is loaded with: the request's own wish (native API only), the knob, the Modelfile,
        Ollama's default; never more than it was trained for."""
        wish = asked if isinstance(asked, int) and asked > 0 else self.num_ctx or modelfile or DEFAULT_NUM_CTX
        return min(wish, trained)


FIELDS = {field.name: field for field in dataclasses.fields(Knobs)}
_NUMBERS = ("load_ms", "keep_alive_ms", "slot_wait_ms", "delay_first_ms", "delay_chunk_ms", "pause_ms")
_COUNTS = ("slots", "server_slots", "max_queue", "max_loaded", "num_ctx", "fault_after", "batch_size", "big_line")
_OPTIONAL_COUNTS = ("hold_after", "tokens", "times", "cached_tokens")


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """The same knobs with aliases resolved; raises `KnobError`."""
    clean: dict[str, Any] = {}
    for name, given in values.items():
        if name not in FIELDS:
            raise KnobError(f"no knob {name!r}; there are: {', '.join(sorted(FIELDS))}")
        clean[name] = _check_one(name, given)
    if clean.get("fault") == "slow_drip":
        clean.update(fault=None, framing="drip")
    return clean


def _check_one(name: str, given: Any) -> Any:
    if name in _NUMBERS:
        _expect(isinstance(given, int | float) and not isinstance(given, bool) and given >= 0, name, "a number ≥ 0")
    elif name in _COUNTS or name in _OPTIONAL_COUNTS:
        optional = name in _OPTIONAL_COUNTS and given is None
        _expect(
            optional or (type(given) is int and given >= (1 if name in ("slots", "batch_size") else 0)), name, "a count"
        )
    elif name == "dialect":
        _expect(given in _DIALECTS, name, f"{NEW!r} or {OLD!r}")
        return _DIALECTS[given]
    elif name == "framing":
        _expect(given in FRAMINGS, name, " or ".join(FRAMINGS))
    elif name in ("fault", "down"):
        if given is None:
            return None
        given = _ALIASES.get(str(given), str(given))
        known = {**FAULTS_BEFORE, **FAULTS_MID, "slow_drip": ""} if name == "fault" else FAULTS_BEFORE
        _expect(given in known, name, f"null or one of {', '.join(known)}")
    elif name == "slot_refusal":
        _expect(given in (429, 503), name, "429 or 503")
    elif name == "key":
        _expect(given is None or (isinstance(given, str) and given != ""), name, "null (no key needed) or a text")
    elif name in ("prefill_blind", "shift", "crlf", "open_lists"):
        _expect(isinstance(given, bool), name, "true or false")
    elif name == "headers":
        _expect(given is None or isinstance(given, dict), name, "an object of strings")
    elif name == "usage":
        good = given in (None, "missing", "zero", "negative", "huge") or isinstance(given, dict)
        _expect(good, name, "null, missing, zero, negative, huge or an object of counts")
    elif name == "tool_calls":
        good = given is None or given is False or isinstance(given, list)
        _expect(good, name, "null (decide), false (never) or a list of {name, arguments}")
    return given


def _expect(good: bool, name: str, wanted: str) -> None:
    if not good:
        raise KnobError(f"{name} must be {wanted}")


class Board:
    """The layers of one server."""

    def __init__(self, defaults: dict[str, Any] | None = None, models: dict[str, dict[str, Any]] | None = None) -> None:
        self._start_server = checked(defaults or {})
        self._start_models = {name: checked(values) for name, values in (models or {}).items()}
        self.server: dict[str, Any] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.queued: dict[str | None, deque[dict[str, Any]]] = {}
        self.reset()

    def reset(self) -> None:
        self.server = dict(self._start_server)
        self.models = {name: dict(values) for name, values in self._start_models.items()}
        self.queued = {}

    def turn(self, model: str | None, values: dict[str, Any]) -> None:
        """Set knobs for the whole server (model None) or for one model."""
        layer = self.server if model is None else self.models.setdefault(model, {})
        clean = checked(values)
        if "fault" in clean:
            # A count left over from an earlier fault would keep the new one from ever happening.
            clean.setdefault("times", None)
        layer.update(clean)

    def queue(self, model: str | None, requests: list[dict[str, Any]]) -> None:
        """Knobs for the next requests, one object each."""
        self.queued.setdefault(model, deque()).extend(checked(values) for values in requests)

    def peek(self, model: str | None = None) -> Knobs:
        """The knobs as they stand, without using up `times` or `next`."""
        return Knobs(**{**self.server, **(self.models.get(model or "", {}))})

    def draw(self, model: str) -> Knobs:
        """The knobs for the request that arrives now."""
        merged = {**self.server, **self.models.get(model, {})}
        if merged.get("fault") is not None and merged.get("times") is not None:
            owner = self.models[model] if "times" in self.models.get(model, {}) else self.server
            if merged["times"] <= 0:
                merged["fault"] = None
            else:
                owner["times"] = merged["times"] - 1
        for key in (model, None):
            if self.queued.get(key):
                merged.update(self.queued[key].popleft())
                break
        return Knobs(**merged)
