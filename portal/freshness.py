"""How a change reaches the caches of every gateway worker at once.

Each worker remembers callers and the catalogue, and asks for their tokens with every request, in the same trip to the
store as the rate limit: another token means "read the rows again". A token is random, never a counter: after a flush of
the store a counter would start over and come to a number that a stale entry already had.

A change marks its subjects *before* the commit (so that nobody caches what is about to end) and *after* it. A crash in
between leaves the first mark, which does no more than make the rows be read again.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from portal import store

log = logging.getLogger("portal.freshness")
PREFIX = "fresh:"
UNSETTLED = "?"
"""While a token begins with this, what is read may be cached by nobody: the change is not committed yet."""
SECONDS = 3600
CACHE_SECONDS = 60
"""A worker's cache forgets by itself after this; it must stay far below SECONDS, or an expired token hides a change. It
is also the longest that a change stays unseen whose marks were lost on a line that the workers' own did not share."""


@contextmanager
def changing(*subjects: str) -> Iterator[None]:
    """Wrap the change *and its commit*: `with changing("account:…"): …; db.session.commit()`.

    subjects: `account:<id>` (its keys, plan, suspension) or `catalog`.
    While the store is away the workers read the rows for every request, and when their line to it broke they forget
    what they remembered. Only where this process alone can't reach it may a change go unseen, for CACHE_SECONDS.
    """
    _mark(subjects, UNSETTLED)
    yield
    _mark(subjects, "")


def _mark(subjects: tuple[str, ...], first: str) -> None:
    try:
        pipe = store.client().pipeline(transaction=False)
        for subject in subjects:
            pipe.set(PREFIX + subject, first + secrets.token_hex(8), ex=60 if first else SECONDS)
        pipe.execute()
    except redis.RedisError as error:
        log.warning("store away while marking a change", extra={"subjects": subjects, "error": type(error).__name__})
