"""What a test can turn: how payments end, what is told of them, which lies are told, and what goes wrong on the wire.

Knobs live here and nowhere in a request, so the product can never become aware of them. Faults are laid out an endpoint
(`Plan`), everything else is the server's. `control.py` is the door.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

KEY = "sandbox"
"""What `Authorization: Bearer …` must hold unless the knob `key` says otherwise."""

ENDPOINTS = (
    "InitiatePayment", "ExecutePayment", "GetPaymentStatus", "MakeRefund", "GetRefundStatus", "GetWebhooks",
    "CancelToken", "DirectPayment",
)  # fmt: skip
METHODS = ("kn", "vm", "ap", "direct")
"""Our names of the four methods; `direct` is the wire's second `vm`, told apart by IsDirectPayment."""
ERRORS = {
    "MF001": "3D Secure authentication failed", "MF002": "Declined by the issuer", "MF003": "Blocked by the gateway",
    "MF004": "Insufficient funds", "MF005": "Session timed out", "MF006": "Transaction canceled by the payer",
    "MF007": "Expired card", "MF008": "The issuer does not respond", "MF009": "Refused for risk",
    "MF010": "Wrong security code", "MF020": "Unspecified failure",
}  # fmt: skip

FAULTS_BEFORE = {
    "400": "400, a validation error", "400_fields": "400, the list is named FieldsErrors, its Error is empty",
    "200_false": "200, IsSuccess false with a Message alone",
    "401_permission": "401, the key lacks a permission", "401_token": "401, the key is wrong or expired",
    "401_country": "401, the key is of another country", "401_empty": "401 with an empty body",
    "403_html": "403, an HTML page of the gateway in front", "404_route": "404, JSON without IsSuccess",
    "429": "429 without any word of when to return", "429_retry_after": "429 with Retry-After (retry_after_s)",
    "500": "500, JSON without IsSuccess", "502_html": "502, an HTML page",
    "empty": "200 with an empty body", "html": "200 with an HTML page", "json_string": "200, a bare JSON string",
    "no_success": "200, JSON without IsSuccess",
    "reset_before": "TCP reset before any byte", "stall_before": "no byte, for ever",
}  # fmt: skip
FAULTS_AFTER = {
    "500_after": "it is carried out, the answer is 500", "502_after": "it is carried out, the proxy says 502",
    "empty_after": "it is carried out, the body is empty", "stall_after": "it is carried out, no byte is answered",
    "reset_after": "it is carried out, then a TCP reset", "cut_after": "it is carried out, the answer breaks off",
}  # fmt: skip
FAULTS = {**FAULTS_BEFORE, **FAULTS_AFTER}


class KnobError(ValueError):
    """A knob that does not exist or a value it cannot take; the text says which would be right."""


@dataclass(frozen=True)
class Plan:
    """What goes wrong with one endpoint (or, under the name "", with any). `times` None: always."""

    fault: str | None = None
    times: int | None = None
    delay_ms: float = 0
    answer_delay_ms: float = 0
    retry_after_s: int = 60

    @property
    def active(self) -> bool:
        return self.times != 0 and bool(self.fault or self.delay_ms or self.answer_delay_ms)


@dataclass(frozen=True)
class Knobs:
    """The server's knobs with their defaults."""

    # the account
    key: str = KEY
    allow_loopback: bool = True
    offered: tuple[str, ...] = METHODS
    method_ids: dict[str, int] = field(default_factory=lambda: {"kn": 1, "vm": 2, "ap": 11, "direct": 20})
    charges: dict[str, str] = field(
        default_factory=lambda: {"kn": "0", "vm": "0.150", "ap": "0.150", "direct": "0.150"}
    )
    expires_days: float = 3
    status_per_minute: int | None = None
    # what a kept card does
    token_outcome: str = "paid"  # noqa: S105
    token_error: str = "MF004"  # noqa: S105
    # the status lies
    status_value: str | None = None
    status_currency: str = "KD"
    status_reference: str | None = None
    status_user_field: str | None = None
    status_invoice: int | None = None
    status_expired: bool = False
    status_nulls: bool = False
    success_as_text: bool = False
    # refunds
    refund_refusal: str | None = None
    refund_one_at_a_time: bool = False
    no_refunds_400: bool = False
    # the browser and the webhooks
    redirect: bool = True
    webhook_version: str = "v2"
    webhook_timing: str = "together"
    webhook_after_ms: float = 300
    webhook_copies: int = 1
    webhook_copies_are_events: bool = False
    webhook_events: str = "true"
    webhook_signature: str = "right"
    webhook_version_header: bool = True
    webhook_nulls: bool = False
    webhook_reordered: bool = False
    webhook_tries: int = 4
    webhook_gap_ms: float = 200
    webhook_timeout_ms: float = 10_000
    page_size: int = 500
    webhooks_data_as_text: bool = False


FIELDS = {one.name: one for one in dataclasses.fields(Knobs)}
PLANNED = {one.name: one for one in dataclasses.fields(Plan)}
_Check = tuple[Callable[[Any], bool], str]
_CURRENCY = re.compile(r"\S{1,5}")


def amount(given: Any) -> Decimal:
    """A positive amount written as text. Raises KnobError."""
    try:
        found = Decimal(str(given))
    except InvalidOperation:
        raise KnobError(f"{given!r} is no amount") from None
    if not found.is_finite() or found < 0:
        raise KnobError(f"{given!r} is no amount")
    return found


def _is_amount(given: Any) -> bool:
    try:
        return isinstance(given, str) and amount(given) >= 0
    except KnobError:
        return False


def _number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and given >= 0


def _at_least(least: int) -> _Check:
    return lambda given: type(given) is int and given >= least, f"a count ≥ {least}"


def _or_null(check: _Check) -> _Check:
    return lambda given: given is None or check[0](given), f"null or {check[1]}"


def _one_of(*known: str) -> _Check:
    return lambda given: isinstance(given, str) and given in known, f"one of {', '.join(known)}"


def _ids(given: Any) -> bool:
    return (
        isinstance(given, dict) and set(given) <= set(METHODS) and len(set(given.values())) == len(given)
        and all(type(one) is int and one > 0 for one in given.values())
    )  # fmt: skip


_FLAG: _Check = (lambda given: isinstance(given, bool), "true or false")
_NUMBER: _Check = (_number, "a number ≥ 0")
_TEXT: _Check = (lambda given: isinstance(given, str) and given != "", "a text")
_ANY_TEXT: _Check = (lambda given: isinstance(given, str), "a text")
_AMOUNT: _Check = (_is_amount, 'an amount as text, such as "2.500"')
_CHECKS: dict[str, _Check] = {
    "key": _TEXT,
    "offered": (lambda given: isinstance(given, list | tuple) and set(given) <= set(METHODS), f"of {METHODS}"),
    "method_ids": (_ids, f"different ids for {', '.join(METHODS)}"),
    "charges": (
        lambda given: isinstance(given, dict) and set(given) <= set(METHODS) and all(map(_is_amount, given.values())),
        f"amounts as text for {', '.join(METHODS)}",
    ),
    "expires_days": _NUMBER,
    "status_per_minute": _or_null(_at_least(0)),
    "token_outcome": _one_of("paid", "failed"),
    "token_error": _one_of(*ERRORS),
    "status_value": _or_null(_AMOUNT),
    "status_currency": (lambda given: isinstance(given, str) and bool(_CURRENCY.fullmatch(given)), "such as KD or SR"),
    "status_reference": _or_null(_ANY_TEXT),
    "status_user_field": _or_null(_ANY_TEXT),
    "status_invoice": _or_null(_at_least(1)),
    "refund_refusal": _or_null(_one_of("processing", "balance")),
    "webhook_version": _one_of("v1", "v2"),
    "webhook_timing": _one_of("before", "together", "after", "none", "never"),
    "webhook_after_ms": _NUMBER,
    "webhook_copies": _at_least(1),
    "webhook_events": _one_of("true", "failed_then_success", "success_then_failed"),
    "webhook_signature": _one_of("right", "wrong", "none"),
    "webhook_tries": _at_least(1),
    "webhook_gap_ms": _NUMBER,
    "webhook_timeout_ms": _NUMBER,
    "page_size": _at_least(1),
    "fault": _or_null(_one_of(*FAULTS)),
    "times": _or_null(_at_least(0)),
    "delay_ms": _NUMBER,
    "answer_delay_ms": _NUMBER,
    "retry_after_s": _at_least(0),
}
_ALIASES = {"html_403": "403_html", "401": "401_token", "stall": "stall_before", "reset": "reset_before"}


def _checked(values: dict[str, Any], allowed: dict[str, Any]) -> dict[str, Any]:
    clean: dict[str, Any] = {}
    for name, given in values.items():
        if name not in allowed:
            raise KnobError(f"no knob {name!r} here; there are: {', '.join(sorted(allowed))}")
        if name == "fault" and given is not None:
            given = _ALIASES.get(str(given), str(given))
        good, wanted = _CHECKS.get(name, _FLAG)
        if not good(given):
            raise KnobError(f"{name} must be {wanted}")
        clean[name] = tuple(given) if isinstance(given, list) else given
    return clean


class Board:
    """The knobs of one server, what goes wrong at which endpoint, and the hour it believes it is."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.now = Knobs()
        self.plans: dict[str, Plan] = {}
        self.queued: dict[str, deque[Plan]] = {}
        self._ahead_s = 0.0

    def time(self) -> float:
        """Epoch seconds, by the clock that a test may have moved."""
        return time.time() + self._ahead_s

    def move_clock(self, instant: float | None) -> None:
        """It is this instant now, and time goes on from there; None: the true time."""
        self._ahead_s = 0.0 if instant is None else instant - time.time()

    def turn(self, values: dict[str, Any], endpoint: str | None = None) -> None:
        """Set knobs. A fault and its like go to the endpoint, or to all of them. Raises KnobError."""
        planned = {name: given for name, given in values.items() if name in PLANNED}
        own = {name: given for name, given in values.items() if name not in PLANNED}
        if endpoint is not None and own:
            raise KnobError(f"{', '.join(own)} cannot be said of one endpoint; {', '.join(PLANNED)} can")
        clean, plan = _checked(own, FIELDS), _checked(planned, PLANNED)
        for name in ("method_ids", "charges"):  # those not named keep theirs
            if name in clean:
                clean[name] = {**getattr(self.now, name), **clean[name]}
        self.now = dataclasses.replace(self.now, **clean)
        if plan:
            # A count left over from an earlier fault would keep the new one from ever happening.
            plan.setdefault("times", None)
            at = self._place(endpoint)
            self.plans[at] = dataclasses.replace(self.plans.get(at, Plan()), **plan)

    def queue(self, plans: list[dict[str, Any]], endpoint: str | None) -> None:
        """What the next requests meet, one object each. All or none: half a queue would shift every later answer."""
        made = [Plan(**_checked(plan, PLANNED)) for plan in plans]
        self.queued.setdefault(self._place(endpoint), deque()).extend(made)

    def draw(self, endpoint: str) -> Plan:
        """What the request that arrives now meets: what is queued, else its endpoint's, else everybody's."""
        for at in (endpoint, ""):
            if self.queued.get(at):
                return self.queued[at].popleft()
        for at in (endpoint, ""):
            plan = self.plans.get(at)
            if plan is not None and plan.active:
                if plan.times is not None:
                    self.plans[at] = dataclasses.replace(plan, times=plan.times - 1)
                return plan
        return Plan()

    @staticmethod
    def _place(endpoint: str | None) -> str:
        if endpoint is None:
            return ""
        if endpoint not in ENDPOINTS:
            raise KnobError(f"endpoint must be one of {', '.join(ENDPOINTS)}")
        return endpoint
