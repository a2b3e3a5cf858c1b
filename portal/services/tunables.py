"""What operators tune while the portal runs: each with type, bounds and meaning. Rows of `models.setting`.

What a machine or a secret decides is the environment's (`config`). Who changed what and when is the audit log's.
"""

from typing import NamedTuple

from portal.extensions import db
from portal.freshness import changing
from portal.models import Setting


class Tunable(NamedTuple):
    """A whole number. meaning: for the operator, with its unit."""

    default: int
    low: int
    high: int
    meaning: str


TUNABLES = {
    "markup_percent": Tunable(
        15, 0, 1000, "percent added to what a provider asks, where a price is cost-plus: $0.10 costs $0.115 at 15"
    ),
    "quiet_from": Tunable(22, 0, 23, "the hour in Kuwait from which messages that can wait are not sent"),
    "quiet_until": Tunable(
        8, 0, 23, "the hour in Kuwait at which they are sent; the same as quiet_from: no quiet hours"
    ),
    "codes_a_day": Tunable(
        1000, 0, 10_000_000, "one-time codes that may be sent on a day in Kuwait, and as many for forgotten passwords"
    ),
    "unproved_a_day": Tunable(5_000, 0, 10_000_000, "messages a day to numbers that nobody has proved, all together"),
    "checkout_hours": Tunable(24, 1, 720, "hours for which a payment that was begun can be paid"),
    "status_calls_a_minute": Tunable(60, 1, 100_000, "questions a minute to the payment provider, from all processes"),
    "grace_hours": Tunable(
        0, 0, 720, "hours after its end for which a plan is kept, unless it was cancelled; 0: it ends at its end"
    ),
    "automatic_renewal": Tunable(
        0, 0, 1, "1: customers may have their plan renewed with a kept card; the provider must have enabled that"
    ),
}


class UnknownTunable(LookupError):
    """There is no setting of this name."""


class BadValue(ValueError):
    """`str()` says what it must be."""


def get(name: str) -> int:
    """The value in force. Raises UnknownTunable."""
    if name not in TUNABLES:
        raise UnknownTunable(name)
    row = db.session.get(Setting, name)
    return TUNABLES[name].default if row is None else int(row.value)


def put(name: str, text: str) -> int:
    """Set it, on every worker at once. text: as typed. Raises UnknownTunable, BadValue; commits."""
    if name not in TUNABLES:
        raise UnknownTunable(name)
    tunable = TUNABLES[name]
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1
    if not tunable.low <= value <= tunable.high:
        raise BadValue(f"{name} must be a whole number from {tunable.low} to {tunable.high}, not {text!r}")
    with changing("catalog"):
        row = db.session.get(Setting, name)
        if row is None:
            db.session.add(Setting(name=name, value=value))
        else:
            row.value = value
        db.session.commit()
    return value
