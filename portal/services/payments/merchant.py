"""The merchant's account at the provider: made from the settings, and asked no faster than it likes.

How often is counted across all processes in the store; while that is away, each process counts for itself. Where the
provider said "wait", nobody asks until then.
"""

import math
import threading
import time
from collections import Counter

import redis
from flask import current_app

from portal import store
from portal.config import Settings
from portal.errors import PaymentsClosed
from portal.extensions import db
from portal.providers.payments import Method, PaymentProvider, PaymentsError
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.services import tunables

SOON, PATIENT = (5, 12), (5, 30)
"""Seconds to connect and to answer: while a browser waits, and where nobody does."""
METHODS = "payment methods"
METHODS_SECONDS, AWAY_SECONDS = 600, 30
"""So long they are remembered, and that the provider was away."""
REST = "payments:rest"
LONGEST_REST = 900
"""Seconds: one odd answer must not stop all questions for a day; a provider that means it says so again."""
COUNT = "payments:asks:"
FIRST = "kn"
"""KNET stands first, whatever order the provider has."""
PACE = "payments pace"


def provider(*, patient: bool = False) -> PaymentProvider:
    """The provider. patient: nobody waits for it. Raises PaymentsClosed where the operator has set no key."""
    settings: Settings = current_app.config["PORTAL"]
    if not settings.myfatoorah_api_key:
        raise PaymentsClosed
    name = "payments patient" if patient else "payments"
    made: PaymentProvider | None = current_app.extensions.get(name)
    if made is None:
        seconds = PATIENT if patient else SOON
        made = MyFatoorah(settings.myfatoorah_base_url, settings.myfatoorah_api_key, seconds=seconds)
        current_app.extensions[name] = made
    return made


def is_open() -> bool:
    """Whether anything can be paid here."""
    return bool(current_app.config["PORTAL"].myfatoorah_api_key)


def methods() -> tuple[Method, ...]:
    """The ways to pay on the provider's page, KNET first; asked for once in ten minutes by each process.

    When the provider is away, those of the last time. Raises PaymentsError when there was none, PaymentsClosed.
    """
    known, until, away = current_app.extensions.get(METHODS, ((), 0.0, None))
    if time.monotonic() >= until:
        try:
            known, away = provider().methods(), None
        except PaymentsError as fault:
            away = fault
        # Also that there was no answer: each look at a page waited for the provider anew.
        until = time.monotonic() + (METHODS_SECONDS if away is None else AWAY_SECONDS)
        current_app.extensions[METHODS] = known, until, away
    if away is not None and not known:
        raise PaymentsError(away.reason, permanent=away.permanent) from away
    return tuple(sorted((one for one in known if not one.direct), key=lambda one: one.code != FIRST))


def direct_method() -> Method | None:
    """The way to charge a kept card; None where the provider has not enabled it. Raises as `methods`."""
    methods()
    known, *_ = current_app.extensions[METHODS]
    return next((one for one in known if one.direct), None)


def may_ask(*, by_browser: bool = False) -> bool:
    """Take one of this minute's questions. False while the provider wants to be left alone, or they are used up.

    by_browser: a page was looked at. All of those together have half: whoever reloads one all day must not keep
    webhooks and the sweep from asking. Ends the session's transaction.
    """
    limit, minute = tunables.get("status_calls_a_minute"), int(time.time()) // 60
    db.session.rollback()
    if by_browser and _count(minute, "browser:") > max(1, limit // 2):
        return False
    return not is_resting() and _count(minute) <= limit


def _count(minute: int, of: str = "") -> int:
    """One more question in this minute, of all processes; how many those are."""
    try:
        pipe = store.client().pipeline(transaction=False)
        pipe.incr(f"{COUNT}{of}{minute}")
        pipe.expire(f"{COUNT}{of}{minute}", 120)
        return int(pipe.execute()[0])
    except redis.RedisError:
        return _pace().count(minute, of)


def is_resting() -> bool:
    """Whether the provider wants to be left alone."""
    try:
        return bool(store.client().exists(REST))
    except redis.RedisError:
        return _pace().rests_until > time.monotonic()


def rest(seconds: int) -> None:
    """Leave the provider alone for so long, in every process."""
    seconds = max(1, min(math.ceil(seconds), LONGEST_REST))
    _pace().rests_until = time.monotonic() + seconds
    try:
        store.client().set(REST, "1", ex=seconds)
    except redis.RedisError:
        return  # this process at least


class _Pace:
    """What this process knows by itself of how fast it may ask."""

    def __init__(self) -> None:
        self.rests_until = 0.0
        self._minute, self._asked, self._lock = 0, Counter[str](), threading.Lock()

    def count(self, minute: int, name: str) -> int:
        """One more question in this minute; how many of this name those are."""
        with self._lock:
            if minute != self._minute:
                self._minute, self._asked = minute, Counter()
            self._asked[name] += 1
            return self._asked[name]


def _pace() -> _Pace:
    pace: _Pace = current_app.extensions.setdefault(PACE, _Pace())
    return pace
