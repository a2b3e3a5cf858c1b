"""Phones as the service takes them (E.164 with its plus) and as people write them into a query."""

from __future__ import annotations

import re

E164 = re.compile(r"\+[1-9][0-9]{6,14}")


def valid(phone: object) -> bool:
    """The plus is part of it: without it the real service answers 400, and a production sign-in once stood still."""
    return isinstance(phone, str) and E164.fullmatch(phone) is not None


def from_query(text: str) -> str:
    """`+965…`, `965…`, or ` 965…` (an unquoted plus is a space in a query) as +E.164."""
    return "+" + re.sub(r"[^0-9]", "", text)
