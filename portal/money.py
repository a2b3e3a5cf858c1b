"""Credits and dinars as people read them.

Rows hold integers: fils (1/1000 KWD) and milli-credits (1/1000 credit, one weighted token). Only this file knows how
they are written; digits are Latin in both languages.
"""

import re

MILLI = 1000
# A comma only where thousands part: `1,5` is one and a half to half the world, and must not become fifteen.
_AMOUNT = re.compile(r"(?P<sign>[+-]?)(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})(?:\.(?P<part>[0-9]{0,3}))?")


def credits(milli: int) -> str:
    """Milli-credits → `1,234.500`, without the unit."""
    sign, whole = ("-", -milli) if milli < 0 else ("", milli)
    return f"{sign}{whole // MILLI:,}.{whole % MILLI:03d}"


def credits_plain(milli: int) -> str:
    """Milli-credits → `0.057`: the shortest exact decimal, for headers and JSON."""
    sign, whole = ("-", -milli) if milli < 0 else ("", milli)
    text = f"{sign}{whole // MILLI}.{whole % MILLI:03d}"
    return text.rstrip("0").rstrip(".")


def credits_number(milli: int) -> float:
    """Milli-credits → a JSON number. Three decimals survive a double up to nine billion credits."""
    return milli / MILLI


def dinars(fils: int) -> str:
    """Fils → `2.000`, without the unit."""
    return f"{fils // 1000:,}.{fils % 1000:03d}"


def parse_credits(text: str) -> int:
    """`12.5` → 12500 milli-credits.

    Raises ValueError for anything that isn't a decimal of at most three places.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not an amount of credits: {text!r}")
    amount = int(found["whole"].replace(",", "")) * MILLI + int((found["part"] or "").ljust(3, "0"))
    return -amount if found["sign"] == "-" else amount


def parse_dinars(text: str) -> int:
    """`12.5` → 12500 fils.

    Raises ValueError for anything that isn't a decimal of at most three places, without a minus.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or found["sign"]:
        raise ValueError(f"not an amount of dinars: {text!r}")
    return int(found["whole"].replace(",", "")) * 1000 + int((found["part"] or "").ljust(3, "0"))
