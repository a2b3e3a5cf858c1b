"""Requests a minute, exact across workers and hosts; and the freshness of what a worker remembers, in the same trip.

A sliding window, not a bucket: in any sixty seconds an account gets exactly its plan's number, no burst on top. The
time is the store's own, so that no host's clock decides. When the store is away the policy decides (`RATE_LIMIT_FAIL`).
"""

from typing import Any, NamedTuple

from portal.freshness import PREFIX, SECONDS
from portal.ids import new_id
from portal.pipeline import Script, Scripts

WINDOW_MS = 60_000

# A token that is missing is made here. "None" was a token like any other, and the same before a flush of the store and
# after it: a worker that remembered a caller under it believed a key that had been revoked in between.
_TOKENS = f"""
local function tokens(account, catalog, new)
  local found = redis.call('MGET', account, catalog)
  for i, key in ipairs({{account, catalog}}) do
    if not found[i] then
      found[i] = new
      redis.call('SET', key, new, 'EX', {SECONDS})
    end
  end
  return found
end
"""

LIMIT = (
    _TOKENS
    + """
local function take(limit, window, request)
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local fresh = tokens(KEYS[2], KEYS[3], request)
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
  local used = redis.call('ZCARD', KEYS[1])
  local allowed, retry = 0, 0
  if used < limit then
    redis.call('ZADD', KEYS[1], now, request)
    redis.call('PEXPIRE', KEYS[1], window)
    allowed, used = 1, used + 1
  else
    local frees = redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')[2]
    retry = frees + window - now
  end
  local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
  local reset = newest and newest + window - now or 0
  return {allowed, math.max(0, limit - used), retry, reset, fresh[1], fresh[2]}
end
"""
)
"""What a script that counts a request begins with; KEYS as `keys` has them."""
TAKE = Script(LIMIT + "return take(tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])")

PEEK = Script(_TOKENS + "return tokens(KEYS[1], KEYS[2], ARGV[1])")


class Taken(NamedTuple):
    """One request's place in the window."""

    allowed: bool
    remaining: int
    retry_ms: int
    """How long until one more is allowed, where this one is not."""
    reset_ms: int
    """How long until the whole window is free again."""
    account_token: bytes
    catalog_token: bytes


def take(scripts: Scripts, account_id: str, limit: int, request_id: str) -> Taken:
    """Count this request. limit: requests in any 60 seconds. Raises StoreAway."""
    return taken(scripts.run(TAKE, keys(account_id), (limit, WINDOW_MS, request_id)))


def keys(account_id: str) -> tuple[str, str, str]:
    """What a script with LIMIT in it is given as KEYS."""
    return "rpm:" + account_id, f"{PREFIX}account:{account_id}", PREFIX + "catalog"


def taken(reply: list[Any]) -> Taken:
    """What `take` in the store has told."""
    allowed, remaining, retry, reset, account, catalog = reply[:6]
    return Taken(allowed == 1, remaining, retry, reset, account, catalog)


def tokens(scripts: Scripts, account_id: str) -> tuple[bytes, bytes]:
    """The freshness tokens of an account and of the catalogue. Raises StoreAway."""
    account, catalog = scripts.run(PEEK, keys(account_id)[1:], (new_id(),))
    return account, catalog


def headers(limit: int, taken: Taken | None) -> list[tuple[str, str]]:
    """Where a request stands in its plan's limit, as OpenAI tells it. taken: None when it was not counted."""
    told = [("x-ratelimit-limit-requests", str(limit))]
    if taken is not None:
        told.append(("x-ratelimit-remaining-requests", str(taken.remaining)))
        told.append(("x-ratelimit-reset-requests", duration(taken.reset_ms)))
    return told


def duration(milliseconds: int) -> str:
    """As OpenAI's reset headers have it: `12ms`, `1s`, `6m0s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = -(-milliseconds // 1000)
    return f"{seconds}s" if seconds < 60 else f"{seconds // 60}m{seconds % 60}s"
