"""Who may ask: keys that are missing, wrong, over or gone, on every worker and with the store away."""

import datetime as dt

import pytest
import sqlalchemy as sa

from portal import create_app
from portal.clock import utcnow
from portal.config import load_settings
from portal.extensions import db
from portal.freshness import changing
from portal.models import ApiKey, Plan, User
from portal.services import api_keys
from tests.gateway.conftest import House
from tests.gateway.wire import CHAT, Answer, Hub, Line, Plain, chat, eventually
from tests.services.cast import Person
from tests.services.portal_app import close
from tests.services.redis_server import RedisServer
from tests.services.web import Web

AnyDoor = Hub | Plain
STRANGE = "rsk_" + "x" * 40


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.error()["code"]) == (status, code)
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/json"


def own_key(house: House, person: Person) -> ApiKey:
    with house.app.app_context():
        return db.session.scalars(sa.select(ApiKey).where(ApiKey.account_id == person.account_id)).one()


def change_key(house: House, person: Person, **values: object) -> None:
    with house.app.app_context(), changing(f"account:{person.account_id}"):
        db.session.execute(sa.update(ApiKey).where(ApiKey.account_id == person.account_id).values(**values))
        db.session.commit()


@pytest.mark.parametrize("where", [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/requests/" + "0" * 32)])
@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"), ("", "missing_api_key"), ("Bearer", "missing_api_key"),
        ("Bearer ", "missing_api_key"), ("Basic dXNlcjpwdw==", "missing_api_key"), (STRANGE, "missing_api_key"),
        ("Bearer " + STRANGE, "invalid_api_key"), ("bearer " + STRANGE, "invalid_api_key"),
        ("Bearer sk-" + "x" * 40, "invalid_api_key"), ("Bearer " + STRANGE + "x", "invalid_api_key"),
        ("Bearer " + STRANGE[:-1], "invalid_api_key"), ("Bearer rsk_" + "\u00e9" * 40, "invalid_api_key"),
        ("Bearer " + "x" * 5000, "invalid_api_key"), ("Bearer ' OR 1=1 --", "invalid_api_key"),
    ],
)  # fmt: skip
def test_who_sends_no_good_key_is_told_so(door: AnyDoor, where: tuple[str, str], header: str | None, code: str) -> None:
    """API-01, contract: 401 with `WWW-Authenticate: Bearer`."""
    method, path = where
    headers = {} if header is None else {"Authorization": header}
    body = chat() if method == "POST" else None
    refused(door.ask(method, path, body=body, headers=headers), 401, code)


def test_the_word_bearer_is_written_as_one_likes(door: AnyDoor, house: House) -> None:
    """API-01."""
    for word in ("Bearer", "bearer", "BEARER", "Bearer "):
        headers = {"Authorization": f"{word} {house.layla.api_key}"}
        assert door.ask("POST", CHAT, body=chat(), headers=headers).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_is_over_is_told_so_and_a_longer_life_is_seen_at_once(
    door: AnyDoor, house: House, stream: bool
) -> None:
    """KEY-06, KEY-03: an expired key; then its date is moved."""
    guest = house.somebody()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat(stream=stream)).status == 200
    change_key(house, guest, expires_at=utcnow() - dt.timedelta(seconds=1))
    refused(door.ask("POST", CHAT, key=guest.api_key, body=chat(stream=stream)), 401, "key_expired")
    refused(door.ask("GET", "/v1/models", key=guest.api_key), 401, "key_expired")
    change_key(house, guest, expires_at=utcnow() + dt.timedelta(days=1))
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat(stream=stream)).status == 200


def test_a_key_ends_at_its_instant_without_anybody_telling(door: AnyDoor, house: House) -> None:
    """KEY-06: a remembered caller is looked at with every request."""
    guest = house.somebody()
    change_key(house, guest, expires_at=utcnow() + dt.timedelta(seconds=1.5))
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200

    def over() -> bool:
        return door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 401

    assert eventually(over, seconds=5)


def test_a_deleted_key_is_refused_by_the_next_request(door: AnyDoor, house: House) -> None:
    """KEY-03."""
    guest = house.somebody()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200
    with house.app.app_context():
        api_keys.delete(guest.account_id, own_key(house, guest).id)
    for path in (CHAT, "/api" + CHAT):
        refused(door.ask("POST", path, key=guest.api_key, body=chat()), 401, "key_revoked")
    refused(door.ask("GET", "/v1/models", key=guest.api_key), 401, "key_revoked")


def a_line_to_each(house: House, guest: Person) -> dict[str, Line]:
    """A connection to each of the four processes, which all remember the guest by then."""
    lines: dict[str, Line] = {}
    spare: list[Line] = []
    for _ in range(200):
        line = Line(house.four.url)
        answer = line.ask("POST", CHAT, key=guest.api_key, body=chat(max_tokens=1))
        assert answer.status == 200
        answer.read()
        process = house.usage(answer.request_id).process_id
        if process in lines:
            spare.append(line)  # kept open, so that the next one goes to somebody else
        else:
            lines[process] = line
        if len(lines) == 4:
            break
    for line in spare:
        line.close()
    assert len(lines) == 4, "not every process answered"
    return lines


def test_a_deleted_key_is_refused_by_the_very_next_request_of_every_worker(house: House) -> None:
    """KEY-03, never-again, "Revoked keys kept working"."""
    guest = house.somebody(credits=1000)
    lines = a_line_to_each(house, guest)
    with house.app.app_context():
        api_keys.delete(guest.account_id, own_key(house, guest).id)
    for line in lines.values():
        refused(line.ask("POST", CHAT, key=guest.api_key, body=chat()), 401, "key_revoked")
        line.close()


def test_a_plan_changed_in_its_row_counts_from_the_next_request_of_every_worker(house: House) -> None:
    """OPS-05, RATE-01: what a worker remembers ends the moment it changes."""
    guest = house.somebody(credits=1000)
    lines = a_line_to_each(house, guest)
    house.change(guest.account_id, plan_id="pro")
    for line in lines.values():
        answer = line.ask("POST", CHAT, key=guest.api_key, body=chat(max_tokens=1))
        assert answer.headers["x-ratelimit-limit-requests"] == "30"
        answer.read()
    with house.app.app_context(), changing(f"account:{guest.account_id}"):
        db.session.execute(sa.update(Plan).where(Plan.id == "pro").values(requests_per_minute=31))
        db.session.commit()
    for line in lines.values():
        answer = line.ask("POST", CHAT, key=guest.api_key, body=chat(max_tokens=1))
        assert answer.headers["x-ratelimit-limit-requests"] == "31"
        answer.read()
        line.close()
    with house.app.app_context():
        db.session.execute(sa.update(Plan).where(Plan.id == "pro").values(requests_per_minute=30))
        db.session.commit()


def test_a_suspended_account_is_refused_and_a_restored_one_let_in_at_once(door: AnyDoor, house: House) -> None:
    """ADMIN-11, OPS-05: neither may wait for a memory to fade."""
    guest = house.somebody()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200
    house.change(guest.account_id, suspended_at=utcnow())
    for _ in range(2):
        refused(door.ask("POST", CHAT, key=guest.api_key, body=chat()), 403, "account_suspended")
    refused(door.ask("GET", "/v1/models", key=guest.api_key), 403, "account_suspended")
    house.change(guest.account_id, suspended_at=None)
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200


def test_the_account_of_a_suspended_owner_is_suspended(door: AnyDoor, house: House) -> None:
    """ADMIN-11."""
    guest = house.somebody()
    with house.app.app_context(), changing(f"account:{guest.account_id}"):
        db.session.execute(sa.update(User).where(User.id == guest.user_id).values(suspended_at=utcnow()))
        db.session.commit()
    refused(door.ask("POST", CHAT, key=guest.api_key, body=chat()), 403, "account_suspended")


@pytest.mark.parametrize(
    ("scopes", "asking", "looking"),
    [("read", 403, 200), ("write", 200, 403), ("delete", 403, 403), ("read write", 200, 200)],
)
def test_a_key_may_do_what_its_scopes_say(door: AnyDoor, house: House, scopes: str, asking: int, looking: int) -> None:
    """KEY-05: write = inference, read = models and usage; and a change counts at once."""
    guest = house.somebody()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200
    change_key(house, guest, scopes=scopes)
    asked = door.ask("POST", CHAT, key=guest.api_key, body=chat())
    listed = door.ask("GET", "/v1/models", key=guest.api_key)
    assert (asked.status, listed.status) == (asking, looking)
    for answer in (asked, listed):
        if answer.status == 403:
            assert answer.error()["code"] == "scope_missing"
    change_key(house, guest, scopes="read write")
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200


def test_a_memory_from_before_a_flush_of_the_store_is_not_believed(door: AnyDoor, house: House) -> None:
    """KEY-03: the store may lose everything at any instant, and a revoked key stays dead."""
    guest = house.somebody()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200
    with house.app.app_context():
        api_keys.delete(guest.account_id, own_key(house, guest).id)
    house.store.client.flushall()
    refused(door.ask("POST", CHAT, key=guest.api_key, body=chat()), 401, "key_revoked")


def test_scripts_that_the_store_forgot_are_sent_again(door: AnyDoor, house: House) -> None:
    """RATE-03: a restarted or failed-over Redis answers NOSCRIPT."""
    assert door.ask("POST", CHAT, key=house.layla.api_key, body=chat()).status == 200
    house.store.client.script_flush()
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat())
    assert answer.status == 200
    assert "x-ratelimit-remaining-requests" in answer.headers


# -- the store away ----------------------------------------------------------------------------------------------------


def outage(web: Web) -> tuple[int, int]:
    """How often it was said that the store went away, and that it came back."""
    logged = web.logged()
    return logged.count('"the shared store is away"'), logged.count('"the shared store is back"')


def test_with_the_store_away_everything_answers_and_it_is_said_once(house: House, own_store: RedisServer) -> None:
    """RATE-03, never-again, "Every call slow": fails open, revoked keys stay dead; when it is back, limits are too."""
    web = house.start(1, REDIS_URL=own_store.url)
    hub = Hub(web.url)
    guest, gone = house.somebody(plan="basic"), house.somebody()
    for person in (guest, gone):
        assert hub.ask("POST", CHAT, key=person.api_key, body=chat()).status == 200
    own_store.stop()
    with house.app.app_context():
        api_keys.delete(gone.account_id, own_key(house, gone).id)
    for number in range(14):  # more than its ten a minute
        answer = hub.ask("POST", CHAT, key=guest.api_key, body=chat(stream=number % 2 == 0))
        assert answer.status == 200
        assert "x-ratelimit-remaining-requests" not in answer.headers
        assert answer.headers["x-ratelimit-limit-requests"] == "10"
        answer.read()
    refused(hub.ask("POST", CHAT, key=gone.api_key, body=chat()), 401, "key_revoked")
    assert hub.ask("GET", "/v1/models", key=guest.api_key).status == 200
    house.change(guest.account_id, suspended_at=utcnow())
    refused(hub.ask("POST", CHAT, key=guest.api_key, body=chat()), 403, "account_suspended")
    house.change(guest.account_id, suspended_at=None)
    assert outage(web) == (1, 0)
    assert "Traceback" not in web.logged()

    own_store.start()

    def counted() -> Answer | None:
        answer = hub.ask("POST", CHAT, key=guest.api_key, body=chat())
        return answer if "x-ratelimit-remaining-requests" in answer.headers else None

    first = eventually(counted, seconds=8, what="the counting")
    assert first.headers["x-ratelimit-remaining-requests"] == "9"
    statuses = [hub.ask("POST", CHAT, key=guest.api_key, body=chat()).status for _ in range(11)]
    assert statuses == [200] * 9 + [429] * 2
    assert outage(web) == (1, 1)
    hub.close()
    web.stop()


def test_with_the_store_away_strictness_is_a_setting(house: House, own_store: RedisServer) -> None:
    """RATE-03: `RATE_LIMIT_FAIL=closed` → 503 `limiter_unavailable`, and nothing reaches a server."""
    web = house.start(1, REDIS_URL=own_store.url, RATE_LIMIT_FAIL="closed")
    hub = Hub(web.url)
    assert hub.ask("POST", CHAT, key=house.layla.api_key, body=chat()).status == 200
    own_store.stop()
    before = len(house.sandbox.chats())
    for _ in range(3):
        answer = hub.ask("POST", CHAT, key=house.layla.api_key, body=chat())
        refused(answer, 503, "limiter_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert len(house.sandbox.chats()) == before
    hub.close()
    web.stop()


def test_a_memory_from_before_an_outage_is_not_believed_after_it(house: House, own_store: RedisServer) -> None:
    """KEY-03: what was revoked while nobody could be told is read from the rows again."""
    app = create_app(load_settings(house.environment(REDIS_URL=own_store.url)))
    door, guest = Plain(app), house.somebody()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200
    tokens = {name: own_store.client.get(name) for name in own_store.client.keys("fresh:*")}
    own_store.stop()
    assert door.ask("POST", CHAT, key=guest.api_key, body=chat()).status == 200
    with app.app_context():
        api_keys.delete(guest.account_id, own_key(house, guest).id)  # the mark reaches nobody
    own_store.start()
    for name, token in tokens.items():  # a store that was only cut off has forgotten nothing
        own_store.client.set(name, token or b"")
    refused(door.ask("POST", CHAT, key=guest.api_key, body=chat()), 401, "key_revoked")

    def counted() -> bool:
        refused(door.ask("POST", CHAT, key=guest.api_key, body=chat()), 401, "key_revoked")
        answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat())
        return "x-ratelimit-remaining-requests" in answer.headers

    eventually(counted)
    refused(door.ask("POST", CHAT, key=guest.api_key, body=chat()), 401, "key_revoked")
    close(app)
