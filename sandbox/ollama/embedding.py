"""Vectors that mean a little: equal texts get equal vectors, and texts that share words lie closer together."""

from __future__ import annotations

import hashlib
import math
import random
import re


def embed(text: str, width: int) -> list[float]:
    """An L2-normalised vector of `width` numbers, the same on every machine."""
    total = [0.0] * width
    for word in re.findall(r"\w+", text.lower()) or [""]:
        source = random.Random(hashlib.sha256(word.encode()).digest())  # noqa: S311
        for at in range(width):
            total[at] += source.uniform(-1, 1)
    length = math.sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


def count(texts: list[str], longest: int) -> int:
    """Tokens of all inputs: words plus two signs around each, cut to the model's context."""
    return sum(min(len(text.split()) + 2, longest) for text in texts)
