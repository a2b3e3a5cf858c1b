"""The merchant's account at the provider: made from the settings, and asked no faster than it likes.

How often is counted across all processes in the store; while that is away, each process counts for itself. Where the
provider said "wait", nobody asks until then.
"""

import math
import threading
import time

import redis
from flask import current_app

from portal import store
from portal.config import Settings
from portal.errors import PaymentsClosed
from portal.providers.payments import Method, PaymentProvider, PaymentsError
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.services import tunables

SOON, PATIENT = (5, 12), (5, 30)
"""Seconds to connect and to answer: while a browser waits, and where nobody does."""
METHODS_SECONDS = 600
REST = "payments:rest"
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
    known, until = current_app.extensions.get("payment methods", ((), 0.0))
    if time.monotonic() >= until:
        try:
            known = provider().methods()
        except PaymentsError:
            if not known:
                raise
        current_app.extensions["payment methods"] = known, time.monotonic() + METHODS_SECONDS
    return tuple(sorted((one for one in known if not one.direct), key=lambda one: one.code != FIRST))


def direct_method() -> Method | None:
    """The way to charge a kept card; None where the provider has not enabled it. Raises as `methods`."""
    methods()
    known, _ = current_app.extensions["payment methods"]
    return next((one for one in known if one.direct), None)


def may_ask() -> bool:
    """Take one of this minute's questions. False while the provider wants to be left alone, or they are used up."""
    limit, minute = tunables.get("status_calls_a_minute"), int(time.time()) // 60
    try:
        pipe = store.client().pipeline(transaction=False)
        pipe.incr(COUNT + str(minute))
        pipe.expire(COUNT + str(minute), 120)
        asked = int(pipe.execute()[0])
    except redis.RedisError:
        asked = _pace().count(minute)
    return not is_resting() and asked <= limit


def is_resting() -> bool:
    """Whether the provider wants to be left alone."""
    try:
        return bool(store.client().exists(REST))
    except redis.RedisError:
        return _pace().rests_until > time.monotonic()


def rest(seconds: int) -> None:
    """Leave the provider alone for so long, in every process."""
    seconds = max(1, math.ceil(seconds))
    _pace().rests_until = time.monotonic() + seconds
    try:
        store.client().set(REST, "1", ex=seconds)
    except redis.RedisError:
        return  # this process at least


class _Pace:
    """What this process knows by itself of how fast it may ask."""

    def __init__(self) -> None:
        self.rests_until = 0.0
        self._minute, self._asked, self._lock = 0, 0, threading.Lock()

    def count(self, minute: int) -> int:
        """One more question in this minute; how many those are."""
        with self._lock:
            if minute != self._minute:
                self._minute, self._asked = minute, 0
            self._asked += 1
            return self._asked


def _pace() -> _Pace:
    pace: _Pace = current_app.extensions.setdefault(PACE, _Pace())
    return pace
