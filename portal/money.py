"""Credits and dinars as people read them.

Rows hold integers: fils (1/1000 KWD) and milli-credits (1/1000 credit, one weighted token). Only this file knows how
they are written; digits are Latin in both languages.
"""

MILLI = 1000


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
    text = text.strip().replace(",", "")
    sign = -1 if text.startswith("-") else 1
    whole, _, part = text.lstrip("+-").partition(".")
    if (
        not whole.isascii()
        or not whole.isdigit()
        or len(part) > 3
        or (part and not (part.isascii() and part.isdigit()))
    ):
        raise ValueError(f"not an amount of credits: {text!r}")
    return sign * (int(whole) * MILLI + int(part.ljust(3, "0") or 0))
