"""What operators tune while the portal runs: each with type, bounds and meaning. Rows of `models.setting`.

Whole numbers (`TUNABLES`, read by `get`) and lines of text (`TEXTS`, read by `texts`); `put` sets either. What a
machine or a secret decides is the environment's (`config`). Who changed what and when is the audit log's.
"""

import unicodedata
from typing import NamedTuple

import sqlalchemy as sa

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
    "vat_percent": Tunable(0, 0, 100, "percent of VAT that prices include, as receipts tell it; 0: there is no VAT"),
    "automatic_renewal": Tunable(
        0, 0, 1, "1: customers may have their plan renewed with a kept card; the provider must have enabled that"
    ),
}


class Text(NamedTuple):
    """A line of text, empty unless set. longest: in characters."""

    longest: int
    meaning: str


TEXTS = {
    "seller_name_ar": Text(120, "who sells, on papers in Arabic; empty: the portal's own name"),
    "seller_name_en": Text(120, "who sells, on papers in English; empty: the portal's own name"),
    "seller_address_ar": Text(200, "the seller's address, on papers in Arabic"),
    "seller_address_en": Text(200, "the seller's address, on papers in English"),
    "seller_phone": Text(40, "the seller's telephone number, on papers"),
    "seller_email": Text(190, "the seller's e-mail address, on papers"),
    "seller_registration": Text(40, "the number of the seller's commercial registration, on papers"),
    "vat_number": Text(40, "the seller's VAT number, on papers; empty where there is no VAT"),
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


def texts() -> dict[str, str]:
    """Every line of text by its name, in one query; empty where it was not set."""
    rows = db.session.execute(sa.select(Setting.name, Setting.value).where(Setting.name.in_(TEXTS)))
    return dict.fromkeys(TEXTS, "") | {name: str(value) for name, value in rows}


def names() -> list[str]:
    """Of all settings."""
    return [*TUNABLES, *TEXTS]


def meaning(name: str) -> str:
    """What a setting is for. Raises UnknownTunable."""
    if name not in TUNABLES and name not in TEXTS:
        raise UnknownTunable(name)
    return TEXTS[name].meaning if name in TEXTS else TUNABLES[name].meaning


def shown(name: str) -> str:
    """The value in force of any setting, as its operator types it. Raises UnknownTunable."""
    return texts()[name] if name in TEXTS else str(get(name))


def put(name: str, text: str) -> int | str:
    """Set it, on every worker at once. text: as typed. Raises UnknownTunable, BadValue; commits."""
    value = _line(name, text) if name in TEXTS else _number(name, text)
    with changing("catalog"):
        row = db.session.get(Setting, name)
        if row is None:
            db.session.add(Setting(name=name, value=value))
        else:
            row.value = value
        db.session.commit()
    return value


def _number(name: str, text: str) -> int:
    if name not in TUNABLES:
        raise UnknownTunable(name)
    tunable = TUNABLES[name]
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1
    if not tunable.low <= value <= tunable.high:
        raise BadValue(f"{name} must be a whole number from {tunable.low} to {tunable.high}, not {text!r}")
    return value


def _line(name: str, text: str) -> str:
    value = text.strip()
    # Neither breaks nor marks that nobody sees: one that turns the direction would turn the rest of a receipt's line.
    unseen = any(unicodedata.category(character).startswith("C") for character in value)
    if unseen or len(value) > TEXTS[name].longest:
        raise BadValue(f"{name} must be one line of at most {TEXTS[name].longest} characters")
    return value
