"""Phone numbers: every spelling people use becomes E.164, or is refused."""

import pytest
from hypothesis import given, strategies as st

from portal.services import phones

KUWAIT = "+96555551234"


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("55551234", "KW", KUWAIT),
        ("5555 1234", "KW", KUWAIT),
        ("5555-1234", "KW", KUWAIT),
        ("(5555) 1234", "KW", KUWAIT),
        ("٥٥٥٥١٢٣٤", "KW", KUWAIT),
        ("٥٥٥٥ ١٢٣٤", "KW", KUWAIT),
        ("۵۵۵۵۱۲۳۴", "KW", KUWAIT),
        ("+965 5555 1234", "KW", KUWAIT),
        ("0096555551234", "KW", KUWAIT),
        ("٠٠٩٦٥ ٥٥٥٥ ١٢٣٤", "KW", KUWAIT),
        ("96555551234", "KW", KUWAIT),
        ("\u200e+965 5555 1234\u200f", "KW", KUWAIT),
        ("00965 5555 1234", "US", KUWAIT),
        ("+96555551234", "SA", KUWAIT),
        ("0501234567", "SA", "+966501234567"),
        ("050 123 4567", "AE", "+971501234567"),
        ("07911 123456", "GB", "+447911123456"),
        ("12", "KW", None),
        ("5555123", "KW", None),
        ("555512345", "KW", None),
        ("00000000", "KW", None),
        ("1-800-FLOWERS", "KW", None),
        ("55551234 ext 5", "KW", None),
        ("", "KW", None),
        ("   ", "KW", None),
        ("5" * 500, "KW", None),
        ("نص", "KW", None),
    ],
)
def test_a_spelling_becomes_its_number(text: str, country: str, number: str | None) -> None:
    """AUTH-01, never again "codes never arrived": the fake refuses anything but + and digits."""
    assert phones.e164(text, country) == number


@given(st.text(max_size=60), st.sampled_from(sorted(phones.countries())))
def test_whatever_is_typed_is_a_number_or_nothing(text: str, country: str) -> None:
    """AUTH-01: no input raises, no output is anything but E.164."""
    number = phones.e164(text, country)
    assert number is None or (number[0] == "+" and number[1:].isascii() and number[1:].isdigit() and len(number) <= 16)


def test_kuwait_is_the_first_reading() -> None:
    """AUTH-02: a local number is Kuwait's where it can be."""
    assert phones.readings("55551234")[0] == KUWAIT
    assert phones.readings("+966501234567") == ["+966501234567"]
    assert phones.readings("not a number") == []
