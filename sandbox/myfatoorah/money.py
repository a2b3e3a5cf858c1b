"""Amounts as this provider writes them: four spellings of one number, and the rounding up of what is charged.

Decimal inside. Nothing here knows what an amount is for.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, Decimal

THREE, TWO = Decimal("0.001"), Decimal("0.01")


def number(amount: Decimal) -> float:
    """For a JSON number. With three decimals a float prints as it was written, so this is the last step only."""
    return float(amount)


def commas(amount: Decimal) -> str:
    """`12,345.000`, as every amount inside a transaction."""
    return f"{amount:,.3f}"


def plain(amount: Decimal) -> str:
    """`2.5`, `10`: as the webhooks write it, without zeros at the end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def charged(amount: Decimal) -> Decimal:
    """What the payer's bank sees: cut to three decimals, then rounded UP to two."""
    return amount.quantize(THREE, ROUND_DOWN).quantize(TWO, ROUND_CEILING)
