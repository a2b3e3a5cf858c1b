"""From a kind, its facts and the wording in force to what a person reads: one text in both languages, or a subject.

In Arabic, Latin runs are isolated, or the plus of a number jumps to its other end; a link stands alone in its line,
without marks that clients would take for a part of it.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from babel.dates import format_datetime, format_timedelta

from portal import clock, money
from portal.services.notifications.kinds import KINDS, LANGUAGES, Fact, Kind

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
PARTED = "\n\n— — —\n\n"
"""Between the two languages."""
_ISOLATE, _FIRST_STRONG, _END = "\u2066", "\u2068", "\u2069"
_JOINER = "\u2060"
"""A word joiner: takes no room, and ends what clients take for an address."""
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_LINKED = re.compile(r"[.@\u3002\uff0e\uff61](?=\w)|:(?=//)")
"""The dots (browsers know four) and signs that make an address of what stands around them."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


class Wording(NamedTuple):
    """One language's words, with placeholders."""

    title: str
    body: str


class Written(NamedTuple):
    """One language's words, filled in."""

    title: str
    body: str


def write(kind: Kind, wording: Wording, facts: Mapping[str, Any], language: str, base_url: str) -> Written:
    """Fill the wording in. Raises KeyError for a placeholder without a fact."""
    values = {name: _word(fact, facts[name], language) for name, fact in kind.facts.items() if name in facts}
    if kind.link:
        values["link"] = base_url + str(facts.get("link") or kind.link)

    def value(found: re.Match[str]) -> str:
        return values[found[1]]

    return Written(PLACEHOLDER.sub(value, wording.title), PLACEHOLDER.sub(value, wording.body))


def whatsapp(first: Written, second: Written) -> str:
    """One text: the reader's own language first."""
    return PARTED.join(f"*{one.title}*\n{one.body}" for one in (first, second))


def reading_order(language: str) -> tuple[str, str]:
    """Both languages, the reader's first."""
    return (language, next(other for other in LANGUAGES if other != language))


def placeholders(text: str) -> set[str]:
    """Names in braces."""
    return set(PLACEHOLDER.findall(text))


def known_placeholders(kind: str) -> set[str]:
    """What a kind's wording may name. Raises KeyError for an unknown kind."""
    found = KINDS[kind]
    return {*found.facts, *(("link",) if found.link else ())}


def _word(fact: Fact, value: Any, language: str) -> str:
    match fact:
        case Fact.TEXT:  # of either script: its last bracket jumped to the other end of an Arabic line
            return f"{_FIRST_STRONG}{_unlinked(_clean(value))}{_END}"
        case Fact.LATIN:
            return _latin(_clean(value), language)
        case Fact.CODE:
            return _clean(value)  # alone in its line, so that a tap copies the digits and nothing else
        case Fact.PHONE:
            return _latin("•••• " + str(value)[-3:], language)
        case Fact.NUMBER:
            return _latin(f"{int(value):,}", language)
        case Fact.CREDITS:
            # No zeros at the end, as on the pages: in Kuwait three decimals are dinars, and `100.000` was money.
            return _latin(money.credits(int(value)).rstrip("0").rstrip("."), language)
        case Fact.DINARS:
            unit = "د.ك" if language == "ar" else "KWD"
            return f"{_latin(money.dinars(int(value)), language)} {unit}"
        case Fact.DAY:
            return str(format_datetime(_instant(value), "d MMMM yyyy", locale=language))
        case Fact.MOMENT:
            pattern = "d MMMM yyyy، HH:mm" if language == "ar" else "d MMMM yyyy, HH:mm"
            words = str(format_datetime(_instant(value), pattern, locale=language))
            return words + (" بتوقيت الكويت" if language == "ar" else " Kuwait time")
        case Fact.DURATION:
            return str(format_timedelta(dt.timedelta(seconds=int(value)), locale=language, threshold=1))
        case Fact.BILINGUAL:
            return _clean(value[language])


def _latin(text: str, language: str) -> str:
    return f"{_ISOLATE}{text}{_END}" if language == "ar" else text


def _clean(value: object) -> str:
    """What people typed can neither begin a line of its own nor turn the direction of ours."""
    return _UNSEEN.sub(" ", str(value)).strip()[:120]


def _unlinked(text: str) -> str:
    """Nothing in it becomes a link: strangers sent advertisements in our name, as a name or as a key's label."""
    while (bare := _SCHEME.sub("", text)) != text:  # one may hide in another: `hthttp://tp://`
        text = bare
    return _LINKED.sub(lambda found: found[0] + _JOINER, text)


def _instant(value: object) -> dt.datetime:
    text = str(value)
    if len(text) == 10:  # a day is a day in Kuwait already
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(12), clock.KUWAIT)
    return dt.datetime.fromisoformat(text).astimezone(clock.KUWAIT)
