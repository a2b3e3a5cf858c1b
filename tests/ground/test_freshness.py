"""A change reaches every worker's memory: marked before the commit and after it, never by counting (KEY-03)."""

import time

import pytest
from flask import Flask

from portal import store
from portal.freshness import CACHE_SECONDS, PREFIX, SECONDS, UNSETTLED, changing
from portal.models import Account
from portal.services.callers import Caller, CallerMemory
from portal.services.catalog import Catalog, CatalogMemory
from tests.services.redis_server import RedisServer

CALLER = Caller("key", "account", "basic", 1, 10, frozenset({"read", "write"}), None, 0, True, False, None)


def token(app: Flask, subject: str) -> bytes:
    with app.app_context():
        found = store.client().get(PREFIX + subject)
    assert isinstance(found, bytes)
    return found


def test_a_change_is_marked_unsettled_and_then_anew(app: Flask) -> None:
    """KEY-03: nobody may remember what is about to end."""
    seen = []
    for _ in range(2):
        with app.app_context(), changing("account:1", "catalog"):
            seen.append(token(app, "account:1"))
            assert token(app, "catalog").startswith(UNSETTLED.encode())
        seen.append(token(app, "account:1"))
    assert len(set(seen)) == 4
    assert [t.startswith(UNSETTLED.encode()) for t in seen] == [True, False, True, False]


def test_a_change_that_fails_leaves_the_first_mark_which_fades(app: Flask) -> None:
    """KEY-03: the rows are read again for a minute, no more harm than that."""

    def break_off() -> None:
        with app.app_context(), changing("account:1"):
            raise RuntimeError("the commit failed")

    with pytest.raises(RuntimeError):
        break_off()
    assert token(app, "account:1").startswith(UNSETTLED.encode())
    with app.app_context():
        assert 0 < int(store.client().ttl(PREFIX + "account:1")) <= 60


def test_a_mark_outlives_every_memory(app: Flask) -> None:
    """KEY-03: else a token that expired would look like the one before the change."""
    with app.app_context(), changing("account:1"):
        pass
    with app.app_context():
        assert int(store.client().ttl(PREFIX + "account:1")) > 10 * CACHE_SECONDS
    assert SECONDS > 10 * CACHE_SECONDS


def test_with_the_store_away_a_change_still_happens(app: Flask, redis_server: RedisServer) -> None:
    """RATE-03: workers that can't ask remember nothing."""
    redis_server.stop()
    done = False
    with app.app_context(), changing("account:1"):
        done = True
    assert done


def test_nothing_is_remembered_under_an_unsettled_token() -> None:
    """KEY-03."""
    callers, catalogs = CallerMemory(), CatalogMemory()
    callers.put("hash", CALLER, UNSETTLED.encode() + b"1")
    catalogs.put(Catalog(()), UNSETTLED.encode() + b"1")
    assert callers.get("hash") is None
    assert catalogs.get(UNSETTLED.encode() + b"1") is None


def test_what_is_remembered_comes_with_its_token_and_can_be_forgotten() -> None:
    """KEY-03."""
    callers, catalogs = CallerMemory(), CatalogMemory()
    callers.put("hash", CALLER, b"1")
    assert callers.get("hash") == (CALLER, b"1")
    callers.forget("hash")
    assert callers.get("hash") is None
    callers.put("hash", CALLER, b"1")
    callers.clear()
    assert callers.get("hash") is None
    catalog = Catalog(())
    catalogs.put(catalog, b"1")
    assert catalogs.get(b"1") is catalog
    assert catalogs.get(b"2") is None
    catalogs.clear()
    assert catalogs.get(b"1") is None


def test_a_memory_fades_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """KEY-03: whatever else fails, half a minute is the end."""
    callers = CallerMemory()
    callers.put("hash", CALLER, b"1")
    now = time.monotonic()
    monkeypatch.setattr("portal.services.callers.time.monotonic", lambda: now + CACHE_SECONDS + 1)
    assert callers.get("hash") is None


def test_the_rows_have_what_a_caller_is_made_of() -> None:
    """A caller is plain data: no row of the database may stay in a worker's memory."""
    assert not isinstance(CALLER, Account)
    with pytest.raises(AttributeError):
        CALLER.plan_rank = 5  # type: ignore[misc]
