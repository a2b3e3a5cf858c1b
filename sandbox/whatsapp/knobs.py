"""What a test can turn: how fast messages arrive, what the service gives back, and what goes wrong.

Knobs live here and nowhere in a request, so the product can never become aware of them. Two layers: the server's, and
those queued for single sends (`next`). `control.py` is the door.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .phones import E164

KEY = "sandbox"
"""What the header `Token` must be unless the knob `key` says otherwise."""
DEVICE = "64a1f0c2b7d3e95f08c4a1b2"
"""The only sending number of the account unless the knob `devices` names others."""

FAULTS_BEFORE = {
    "400": "400, a validation error of the whole request",
    "401": "401, the key is not known",
    "403": "403, the key may not do this",
    "409": "409, a conflict nobody has explained",
    "429": "429 without any word of when to return",
    "429_retry_after": "429 with Retry-After (knob retry_after_s)",
    "500": "500, JSON",
    "502": "502, an HTML page of a proxy in front",
    "503": "503, plain text of a proxy in front",
    "200_error": "200 with an `error` in the body",
    "200_html": "200 with an HTML page, as a captive portal or a parked domain sends it",
    "reset_before": "TCP reset before any byte",
    "stall_before": "no byte, for ever",
}
FAULTS_ACCEPTED = {
    "500_accepted": "the message is accepted, the answer is 500",
    "502_accepted": "the message is accepted, the proxy in front says 502",
    "stall_accepted": "the message is accepted, no byte is ever answered",
    "reset_accepted": "the message is accepted, then a TCP reset",
    "cut_accepted": "the message is accepted, the 201 breaks off in the middle of its body",
    "201_no_id": "the message is accepted, the 201 holds no id",
}
FAULTS_LOOKUP = {
    **FAULTS_BEFORE,
    "404": "404",
    "empty": "an empty list (a single message: 404), whatever was accepted",
}
_ALIASES = {
    "reset": "reset_before", "stall": "stall_before", "timeout": "stall_accepted", "html": "200_html",
    "timeout_accepted": "stall_accepted", "no_id": "201_no_id", "error_in_200": "200_error",
}  # fmt: skip
SESSIONS = ("online", "offline", "timeout", "conflict", "authorize", "error", "loading")


class KnobError(ValueError):
    """A knob that does not exist or a value it cannot take; the text says which would be right."""


@dataclass(frozen=True)
class Knobs:
    """All knobs with their defaults. Times are milliseconds; null means never where that makes sense."""

    # at the door
    key: str = KEY
    down: str | None = None
    devices: tuple[str, ...] = (DEVICE,)
    session: str = "online"
    device_status: str = "operative"
    # how a message moves
    delay_ms: float = 0
    answer_delay_ms: float = 0
    deliver_ms: float | None = 50
    read_ms: float | None = None
    fail_with: str | None = None
    unreachable: tuple[str, ...] = ()
    unreachable_refused: bool = False
    last_status: str = "processed"
    # what goes wrong
    fault: str | None = None
    times: int | None = None
    retry_after_s: int = 60
    # looking messages up
    lookup_fault: str | None = None
    lookup_times: int | None = None
    lookup_delay_ms: float = 0
    hidden_ms: float = 0
    drop_reference: bool = False
    reference_filter: bool = True
    # webhooks
    vintage: str = "code"
    nested: bool = False
    webhook_secret: str | None = None
    webhook_twice: bool = False
    webhook_tries: int = 6
    webhook_gap_ms: float = 100
    webhook_timeout_ms: float = 10_000


FIELDS = {field.name: field for field in dataclasses.fields(Knobs)}
PER_SEND = ("fault", "delay_ms", "answer_delay_ms", "deliver_ms", "read_ms", "hidden_ms", "fail_with", "retry_after_s")
"""What one request of `next` may say; the rest would do nothing there, and a knob without effect proves nothing."""
_HEX24 = re.compile(r"[0-9a-f]{24}")

_Check = tuple[Callable[[Any], bool], str]


def _number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and given >= 0


def _some_text(given: Any) -> bool:
    return isinstance(given, str) and given != ""


def _list_of(given: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(x, str) and pattern.fullmatch(x) for x in given)


def _or_null(check: _Check) -> _Check:
    return lambda given: given is None or check[0](given), f"null or {check[1]}"


def _one_of(known: Any) -> _Check:
    return lambda given: isinstance(given, str) and given in known, f"one of {', '.join(known)}"


_NUMBER: _Check = (_number, "a number ≥ 0")
_COUNT: _Check = (lambda given: type(given) is int and given >= 0, "a count")
_FLAG: _Check = (lambda given: isinstance(given, bool), "true or false")
_TEXT: _Check = (_some_text, "a text")
_CHECKS: dict[str, _Check] = {
    "key": _TEXT,
    "down": _or_null(_one_of(FAULTS_BEFORE)),
    "devices": (lambda given: _list_of(given, _HEX24) and len(given) > 0, "a list of ids of 24 hex digits"),
    "session": _one_of(SESSIONS),
    "device_status": _TEXT,
    "delay_ms": _NUMBER,
    "answer_delay_ms": _NUMBER,
    "deliver_ms": _or_null(_NUMBER),
    "read_ms": _or_null(_NUMBER),
    "fail_with": _or_null(_TEXT),
    "unreachable": (lambda given: _list_of(given, E164), "a list of phones like +96550000001"),
    "unreachable_refused": _FLAG,
    "last_status": _one_of(("processed", "sent")),
    "fault": _or_null(_one_of({**FAULTS_BEFORE, **FAULTS_ACCEPTED})),
    "times": _or_null(_COUNT),
    "retry_after_s": _COUNT,
    "lookup_fault": _or_null(_one_of(FAULTS_LOOKUP)),
    "lookup_times": _or_null(_COUNT),
    "lookup_delay_ms": _NUMBER,
    "hidden_ms": _NUMBER,
    "drop_reference": _FLAG,
    "reference_filter": _FLAG,
    "vintage": _one_of(("code", "skills")),
    "nested": _FLAG,
    "webhook_secret": _or_null(_TEXT),
    "webhook_twice": _FLAG,
    "webhook_tries": (lambda given: type(given) is int and given >= 1, "a count ≥ 1"),
    "webhook_gap_ms": _NUMBER,
    "webhook_timeout_ms": _NUMBER,
}


def checked(values: dict[str, Any], allowed: Any = FIELDS) -> dict[str, Any]:
    """The same knobs with aliases resolved; raises `KnobError`."""
    clean: dict[str, Any] = {}
    for name, given in values.items():
        if name not in allowed:
            raise KnobError(f"no knob {name!r} here; there are: {', '.join(sorted(allowed))}")
        if name in ("fault", "lookup_fault", "down") and given is not None:
            given = _ALIASES.get(str(given), str(given))
        good, wanted = _CHECKS[name]
        if not good(given):
            raise KnobError(f"{name} must be {wanted}")
        clean[name] = tuple(given) if isinstance(given, list) else given
    return clean


class Board:
    """The knobs of one server, and those queued for its next sends."""

    def __init__(self) -> None:
        self.now = Knobs()
        self.queued: deque[dict[str, Any]] = deque()

    def reset(self) -> None:
        self.now = Knobs()
        self.queued.clear()

    def turn(self, values: dict[str, Any]) -> None:
        clean = checked(values)
        # A count left over from an earlier fault would keep the new one from ever happening.
        if "fault" in clean:
            clean.setdefault("times", None)
        if "lookup_fault" in clean:
            clean.setdefault("lookup_times", None)
        self.now = dataclasses.replace(self.now, **clean)

    def queue(self, sends: list[dict[str, Any]]) -> None:
        """Knobs for the next sends, one object each. All or none: half a queue would shift every later answer."""
        self.queued.extend([checked(values, PER_SEND) for values in sends])

    def draw(self) -> Knobs:
        """The knobs for the send that arrives now."""
        knobs = self._counted("fault", "times")
        return dataclasses.replace(knobs, **self.queued.popleft()) if self.queued else knobs

    def draw_lookup(self) -> Knobs:
        """The knobs for the lookup that arrives now."""
        return self._counted("lookup_fault", "lookup_times")

    def _counted(self, fault: str, count: str) -> Knobs:
        drawn, left = self.now, getattr(self.now, count)
        if getattr(drawn, fault) is None or left is None:
            return drawn
        if left == 0:
            return dataclasses.replace(drawn, **dict[str, Any]({fault: None}))
        self.now = dataclasses.replace(self.now, **dict[str, Any]({count: left - 1}))
        return drawn
