"""Who calls the API: a key becomes a Caller, remembered by each worker until its freshness token changes.

The warm path is one dictionary look-up. A revoked key dies on the next request of every worker, because that request's
trip to the store brings another token than the one remembered (`freshness`); while the store is away nothing is
remembered at all. Money, limits and models are other files' business.
"""

import datetime as dt
import hashlib
import re
import time
from dataclasses import dataclass

import sqlalchemy as sa

from portal.clock import utcnow
from portal.errors import AccountSuspended, InvalidApiKey, KeyExpired, KeyRevoked, MissingApiKey, PortalError
from portal.extensions import db
from portal.freshness import CACHE_SECONDS, UNSETTLED
from portal.models import Account, ApiKey, Plan, User

KEY = re.compile(r"rsk_[0-9A-Za-z]{40}", re.ASCII)
REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Caller:
    """All that a request needs to know of its caller; plain data, no row."""

    key_id: str
    account_id: str
    plan_id: str
    plan_rank: int
    requests_per_minute: int
    scopes: frozenset[str]
    expires_at: dt.datetime | None
    priority: int
    """Its plan's place in line."""
    failover: bool
    """Whether plan and key let it go to a cloud twin."""
    local_only: bool
    """Nothing of it may go to the cloud."""
    refusal: type[PortalError] | None
    """Why this key may do nothing at all: revoked, or its account suspended."""

    def check(self) -> None:
        """Raises KeyRevoked, AccountSuspended or KeyExpired."""
        if self.refusal is not None:
            raise self.refusal
        if self.expired():
            raise KeyExpired

    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= utcnow()


def key_hash(authorization: str | None) -> str:
    """The stored form of the key in an Authorization header.

    Raises MissingApiKey without one, InvalidApiKey for what can't be a key.
    """
    if not authorization:
        raise MissingApiKey
    scheme, _, key = authorization.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise MissingApiKey
    if KEY.fullmatch(key) is None:
        raise InvalidApiKey
    return hashlib.sha256(key.encode()).hexdigest()


def find(hashed: str) -> Caller:
    """Read the caller from the rows. Raises InvalidApiKey for an unknown key."""
    row = db.session.execute(
        sa.select(
            ApiKey,
            Account.id,
            Account.suspended_at,
            Account.local_only,
            User.suspended_at.label("owner_suspended_at"),
            Plan,
        )
        .join(Account, Account.id == ApiKey.account_id)
        .join(User, User.id == Account.owner_id)
        .join(Plan, Plan.id == Account.plan_id)
        .where(ApiKey.hash == hashed)
    ).one_or_none()
    if row is None:
        raise InvalidApiKey
    key, account_id, suspended, local_only, owner_suspended, plan = row
    refusal: type[PortalError] | None = None
    if key.revoked_at is not None:
        refusal = KeyRevoked
    elif suspended is not None or owner_suspended is not None:
        refusal = AccountSuspended
    return Caller(
        key_id=key.id,
        account_id=account_id,
        plan_id=plan.id,
        plan_rank=plan.rank,
        requests_per_minute=plan.requests_per_minute,
        scopes=frozenset(key.scopes.split()),
        expires_at=key.expires_at,
        priority=plan.priority,
        failover=plan.failover and key.failover,
        local_only=local_only,
        refusal=refusal,
    )


class CallerMemory:
    """What one worker remembers: hash → caller, token, and until when."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Caller, bytes, float]] = {}

    def get(self, hashed: str) -> tuple[Caller, bytes] | None:
        """The remembered caller and the token it was read under."""
        entry = self._entries.get(hashed)
        if entry is None or entry[2] < time.monotonic():
            return None
        return entry[0], entry[1]

    def put(self, hashed: str, caller: Caller, token: bytes) -> None:
        """Remember, unless a change of it is on its way."""
        if token.startswith(UNSETTLED.encode()):
            return
        if len(self._entries) >= REMEMBERED:
            self._entries.clear()  # rare and cheap; an order of use would cost every request
        self._entries[hashed] = (caller, token, time.monotonic() + CACHE_SECONDS)

    def forget(self, hashed: str) -> None:
        self._entries.pop(hashed, None)

    def clear(self) -> None:
        self._entries.clear()
