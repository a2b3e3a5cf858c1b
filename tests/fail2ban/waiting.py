"""Waiting for what other processes do."""

import time
from collections.abc import Callable

import pytest


def eventually(true: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Return as soon as it is true; fail, saying what did not happen, after the seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}", pytrace=False)
        time.sleep(0.05)
