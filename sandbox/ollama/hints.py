"""What can be read off a conversation without understanding it: the last question, its numbers, quotes, names.

The scripted model fills tool arguments and JSON answers from these, so that a test which asks for magic_function(3)
gets a 3 and one which names a customer gets the name.
"""

from __future__ import annotations

import re
from typing import Any

_QUOTED = re.compile(r"“([^”]+)”|\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)|`([^`]+)`")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
_PLACE = re.compile(r"\b(?:in|at|for|from|to|near)\s+((?:[A-Z][\w.\-]*)(?:,?\s+[A-Z][\w.\-]*)*)")


def last_user_text(messages: list[dict[str, Any]]) -> str:
    """All text of the last run of user messages (Ollama turns each content part into a message of its own)."""
    texts: list[str] = []
    for message in reversed(messages):
        if str(message.get("role", "")).lower() == "user":
            texts.append(str(message.get("content") or ""))
        elif texts:
            break
    return " ".join(reversed(texts)).strip()


def whole_text(messages: list[dict[str, Any]]) -> str:
    return " ".join(str(message.get("content") or "") for message in messages)


class Hints:
    """Values found in a text, handed out one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.quoted = [next(part for part in found if part) for found in _QUOTED.findall(text)]
        self.numbers = [float(found) for found in _NUMBER.findall(text)]
        self.places = [found.strip() for found in _PLACE.findall(text)]
        self._next_number = 0

    def number(self, name: str = "") -> float | None:
        """The number written beside the property's name, else the next one of the text."""
        beside = (
            re.search(rf"\b{re.escape(name)}\b\W{{1,6}}(-?\d+(?:\.\d+)?)", self.text, re.IGNORECASE) if name else None
        )
        if beside:
            return float(beside.group(1))
        if self._next_number < len(self.numbers):
            self._next_number += 1
            return self.numbers[self._next_number - 1]
        return None

    def string(self, name: str = "") -> str | None:
        """The word after `name:` or `name=`, else the first quotation, else a place or a name."""
        spaced = name.replace("_", r"[\s_]")
        beside = re.search(rf"\b{spaced}\b\s*[:=]\s*([^\s,;.]+)", self.text, re.IGNORECASE) if name else None
        if beside:
            return beside.group(1).strip("'\"")
        for found in (self.quoted, self.places):
            if found:
                return str(found[0])
        return None

    def wanted_keys(self) -> list[str]:
        """Key names that a request for bare JSON spells out: 'setup' and 'punchline' keys."""
        names = [quote for quote in self.quoted if re.fullmatch(r"[A-Za-z_]\w{0,40}", quote)]
        return list(dict.fromkeys(names)) if re.search(r"\b(keys?|fields?|propert)", self.text, re.IGNORECASE) else []
