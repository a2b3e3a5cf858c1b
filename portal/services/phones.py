"""Telephone numbers: any way a person writes one becomes E.164, or nothing.

WhatsApp takes `+` and digits and nothing else; codes sent to local spellings never arrived.
"""

import re

import phonenumbers

GULF = ("KW", "SA", "AE", "QA", "BH", "OM")
"""Kuwait first: the order they are offered and guessed in."""

_INTERNATIONAL = re.compile(r"^\s*(?:\+|\uff0b|00|٠٠|۰۰)")


def e164(text: str, country: str) -> str | None:
    """`٥٥٥٥ ١٢٣٤` and `KW` → `+96555551234`; None when it is no number that exists there.

    country: two letters, for numbers written without one.
    """
    if len(text) > 40:
        return None
    # 00 is what the Gulf dials, but not what every country's own rules call the international prefix.
    text = _INTERNATIONAL.sub("+", text)
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    if number.extension or not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def readings(text: str) -> list[str]:
    """What a number typed at sign-in may mean: no country field there, so each Gulf country is tried, Kuwait first."""
    found = (e164(text, country) for country in GULF)
    return list(dict.fromkeys(number for number in found if number))


def countries() -> frozenset[str]:
    """Two-letter codes of every country that has telephone numbers."""
    return frozenset(phonenumbers.SUPPORTED_REGIONS)


def calling_code(country: str) -> int:
    """`KW` → 965."""
    return phonenumbers.country_code_for_region(country)
