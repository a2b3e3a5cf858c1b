"""Passwords: hashed with argon2id, never on the hub of a gevent worker.

A verification takes about 30 ms of CPU; done on the hub, twenty sign-ins froze every open stream of the worker for half
a second. Knows no user: what a failed check means is told in `services/sign_in.py`.
"""

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import argon2
from argon2.exceptions import Argon2Error

SHORTEST, LONGEST = 8, 1024
"""In characters. The upper bound keeps a megabyte of password from being hashed."""

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# A hash nobody knows the password of: what an unknown user is checked against, so that the answer takes as long.
_NOBODY: Final = _hasher.hash("nobody has this password: " + "x" * 16)
_pool: Any = None


def hashed(password: str) -> str:
    """The password's hash for the row. password: checked by `accounts` before."""
    result: str = _off_hub(_hasher.hash, _normal(password))
    return result


def matches(stored: str | None, password: str) -> bool:
    """Whether the password belongs to the stored hash. stored: None for an unknown user, which takes just as long.

    A hash that can't be read is a failed check, not an error; so is a password too long to be one.
    """
    too_long = len(password) > LONGEST
    guess = "" if too_long else _normal(password)
    known = _off_hub(_verify, stored or _NOBODY, guess)
    return bool(known and stored and not too_long)


def outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    try:
        return _hasher.check_needs_rehash(stored)
    except ValueError:
        return False


def is_common(password: str) -> bool:
    """Whether it is among the thirty thousand that are tried first, in whichever digits it was typed."""
    plain = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in _normal(password))
    return plain.casefold() in _common()


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])


def _verify(stored: str, guess: str) -> bool:
    try:
        return _hasher.verify(stored, guess)
    except ValueError:  # no argon2 hash at all, or not even ASCII
        # Rows from elsewhere may carry anything; a quick "no" would tell that this user exists.
        _verify(_NOBODY, guess)
        return False
    except Argon2Error:
        return False


def _normal(password: str) -> str:
    # The same Arabic word typed on two keyboards may come as different code points.
    return unicodedata.normalize("NFKC", password)


def _off_hub(function: Callable[..., Any], *arguments: Any) -> Any:
    global _pool
    import gevent.monkey

    if not gevent.monkey.is_module_patched("socket"):
        return function(*arguments)  # Passenger, a command, a worker of the queue
    if _pool is None:
        from gevent.threadpool import ThreadPool

        _pool = ThreadPool(2)
    return _pool.apply(function, arguments)
