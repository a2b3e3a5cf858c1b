"""How often somebody may try: moving windows in the shared store, so that all processes count together.

When the store is away each process counts for itself, and the log says so once; nobody is locked out by our outage, and
nobody gets unlimited guesses from it either.
"""

import hashlib
import ipaddress
import logging
import time

import redis
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from portal import store

log = logging.getLogger("portal.attempts")

PER_ACCOUNT: RateLimitItem = RateLimitItemPerMinute(10, 15, namespace="signin-account")
"""Tries at one account, from wherever: counted before the password is looked at, forgotten when it was right."""
PER_ADDRESS: RateLimitItem = RateLimitItemPerMinute(50, 15, namespace="signin-address")
"""Failures from one address: an office shares one, so this is wide."""
REGISTRATIONS: RateLimitItem = RateLimitItemPerMinute(200, 60, namespace="signup-address")
"""New accounts from one address: each is worth the sign-up credit. Wide, for a class of students behind one router."""

RETRY_STORE_SECONDS = 15.0
_memory = MovingWindowRateLimiter(MemoryStorage())
_away_until = 0.0


def take(item: RateLimitItem, who: str) -> bool:
    """Count one try; False when there were too many already."""
    return _ask("hit", item, who)


def allowed(item: RateLimitItem, who: str) -> bool:
    """Whether one more try would be allowed, without counting it."""
    return _ask("test", item, who)


def forget(item: RateLimitItem, who: str) -> None:
    """Start counting from nothing."""
    _ask("clear", item, who)


def by_address(address: str) -> str:
    """An address as it is counted: IPv6 by its /64, which is what one customer has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if ip.version == 6 and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def _ask(verb: str, item: RateLimitItem, who: str) -> bool:
    global _away_until
    key = hashlib.sha256(who.encode()).hexdigest()[:32]  # what people type has no place in the store
    if time.monotonic() >= _away_until:
        try:
            shared = MovingWindowRateLimiter(_storage())
            return bool(getattr(shared, verb)(item, key))
        except (redis.RedisError, StorageError) as error:
            if _away_until == 0.0:
                log.warning("store away: every process counts tries for itself", extra={"error": type(error).__name__})
            _away_until = time.monotonic() + RETRY_STORE_SECONDS
    return bool(getattr(_memory, verb)(item, key))


def _storage() -> RedisStorage:
    client = store.client()
    storage: RedisStorage | None = getattr(client, "_portal_attempts", None)
    if storage is None:
        storage = RedisStorage("redis://", connection_pool=client.connection_pool)
        client._portal_attempts = storage  # type: ignore[attr-defined]
    return storage
