"""A request that changes its way, as a review broke it: late words, moves that break, a mind changed meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.freshness import changing
from portal.models import ApiKey
from portal.services import api_keys, providers
from portal.services.gateway import choice, course
from portal.services.gateway.holding import hold
from portal.services.gateway.process import GatewayProcess
from portal.services.gateway.ticket import Ticket
from portal.services.ledger.till import TillAway
from tests.gateway.fleet import CLOUD, FIRST, SECOND, TWINNED, AnyDoor, Fleet, attempts
from tests.gateway.wire import CHAT, Hub, Plain, chat, eventually, json_of, raw
from tests.services.cast import Person
from tests.services.environment import NOWHERE

LOCAL = {"x-portal-failover": "off"}


# -- late words --------------------------------------------------------------------------------------------------------


def test_a_late_word_of_the_clouds_line_leaves_a_request_at_home_where_it_is(
    fleet: Fleet, fleet_plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOUD-01, CRD-02, review 1: the cloud's slot came free while its price was refused. The word of it, heard once
    the request waited at home, sent it to the cloud: at the local price, and beside the day's budget."""
    crowd, guest = fleet.somebody(), fleet.somebody(credits=1)  # who can pay 500 tokens of answer here, and not there
    with fleet.app.app_context():
        providers.change("ollama-cloud", slots=1)
    fleet.sandbox.control(hold_after=1, server=CLOUD)
    cloudy = fleet.later(fleet_plain, crowd, model="qwen3.5:cloud", stream=True)
    eventually(lambda: fleet.asked(CLOUD) == 1, what="the cloud's only slot being taken")
    line = fleet.app.extensions["chat_door"].process().line
    hear = line.granted
    late: list[tuple[str, str, bool]] = []

    def slowly(member: str, server: str, trial: bool) -> None:
        if server == "ollama-cloud":
            late.append((member, server, trial))
        else:
            hear(member, server, trial)

    def held(process: GatewayProcess, ticket: Ticket) -> None:
        if ticket.location == "cloud":
            fleet.sandbox.release(server=CLOUD)
            eventually(lambda: late, what="the word that the cloud's slot is its")
        hold(process, ticket)

    monkeypatch.setattr(line, "granted", slowly)
    monkeypatch.setattr(choice, "hold", held)
    with fleet.occupied(fleet_plain, crowd, waiting=2):
        coming = fleet.later(fleet_plain, guest, max_tokens=500)
        eventually(lambda: fleet.in_line() == 3, what="its place at home")
        [row] = eventually(lambda: fleet.usages(guest.account_id), what="its hold")
        assert row.location == "local"
        waiting = [place for place in list(line._places.values()) if not place.server]
        assert len(waiting) == 3
        [word] = late
        hear(*word)
        assert [place.server for place in waiting] == [""] * 3
        assert not any(place.changed.is_set() for place in waiting), "nobody was woken for it"
        eventually(lambda: fleet.busy("ollama-cloud") == 0, seconds=2, what="the cloud's slot given back")
        assert fleet.cloud_used() == 1, "the one that was there before"
    answer = coming.result(20)
    row = fleet.usage(answer.request_id)
    assert (answer.status, answer.headers["x-portal-provider"]) == (200, "local")
    assert (row.provider, row.location, row.rate_out, row.attempts) == ("ollama-1", "local", 1_000_000, "")
    assert cloudy.result(20).status == 200
    assert (fleet.asked(CLOUD), fleet.cloud_used()) == (1, 1)
    fleet.books_are_right()


# -- a move that breaks ------------------------------------------------------------------------------------------------


@contextmanager
def refused(fleet: Fleet, location: str) -> Iterator[None]:
    """The database lets no request move there: an error that no retry was written for."""
    begin = (
        f"CREATE TRIGGER no_move BEFORE UPDATE ON usage_records WHEN NEW.location = '{location}' AND OLD.location <> "
    )
    with fleet.app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text(f"{begin} NEW.location BEGIN SELECT RAISE(ABORT, 'nothing moves today'); END"))
    try:
        yield
    finally:
        with fleet.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.text("DROP TRIGGER no_move"))


def nothing_is_left(fleet: Fleet, guest: Person, *, location: str, used: int, in_line: int = 0) -> None:
    """The request is settled at nothing, where it was before the move; slots, places, holds and budget are free."""
    [row] = fleet.usages(guest.account_id)
    row = fleet.usage(row.id)
    assert (row.location, row.failover, row.cost) == (location, location == "cloud", 0)
    assert row.rate_out == (2_000_000 if location == "cloud" else 1_000_000)
    assert fleet.wallet(guest.account_id) == (100_000, 0)
    assert fleet.cloud_used() == used
    eventually(lambda: fleet.busy("ollama-cloud") == 0, seconds=2, what="a free slot at the cloud")
    eventually(lambda: fleet.in_line() == in_line, seconds=2, what="nobody of ours in line")
    fleet.books_are_right()


@pytest.mark.parametrize("stream", [False, True])
def test_a_move_to_the_cloud_that_breaks_leaves_nothing_behind(fleet: Fleet, gate: AnyDoor, stream: bool) -> None:
    """CRD-01, CLOUD-01, review 2: the cloud's slot was renewed for ever, one of the day's requests was gone, and the
    settlement knew another hold than the row, so that the credit stayed on hold."""
    guest = fleet.somebody()
    fleet.sandbox.control(fault="crash_before", server=FIRST)
    with refused(fleet, "cloud"):
        answer = fleet.ask(gate, guest, stream=stream)
    assert (answer.status, answer.error()["code"]) == (500, "internal_error")
    nothing_is_left(fleet, guest, location="local", used=0)
    assert fleet.asked(CLOUD) == 0
    eventually(lambda: fleet.busy() == 0, seconds=2, what="a free slot at home")


@pytest.mark.parametrize("stream", [False, True])
def test_a_move_back_home_that_breaks_leaves_nothing_behind(fleet: Fleet, gate: AnyDoor, stream: bool) -> None:
    """CRD-01, review 2: its place at home stayed in the line, and a turn was given to nobody. The call to the cloud had
    left, so that one of the day's stays used."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    fleet.sandbox.control(fault="503_native", server=CLOUD)
    with fleet.occupied(gate, crowd, waiting=2):
        with refused(fleet, "local"):
            answer = fleet.ask(gate, guest, stream=stream)
        assert (answer.status, answer.error()["code"]) == (500, "internal_error")
        nothing_is_left(fleet, guest, location="cloud", used=1, in_line=2)
    assert (fleet.asked(FIRST), fleet.asked(CLOUD)) == (3, 1)


BREAKS: dict[str, tuple[Exception, int]] = {
    "a database that only reads": (sa.exc.InternalError("UPDATE", {}, Exception("read-only transaction")), 500),
    "a mistake of ours": (ValueError("a hold is never below zero"), 500),
    "a database that is away": (TillAway(), 502),
}


@pytest.mark.parametrize("reason", BREAKS)
def test_whatever_breaks_a_move_leaves_nothing_behind(
    fleet: Fleet, fleet_plain: Plain, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """CRD-01, review 2: any error, not those alone that were thought of."""
    error, status = BREAKS[reason]

    def breaks(*_positional: object, **_named: object) -> bool:
        raise error

    guest = fleet.somebody()
    fleet.sandbox.control(fault="crash_before", server=FIRST)
    with monkeypatch.context() as patched:
        patched.setattr(course, "rehold", breaks)
        answer = fleet.ask(fleet_plain, guest)
    assert answer.status == status
    nothing_is_left(fleet, guest, location="local", used=0)
    assert not fleet.app.extensions["chat_door"].process().line._places
    assert fleet.asked(CLOUD) == 0


# -- a mind that is changed while a server works -----------------------------------------------------------------------


def local_only(fleet: Fleet, guest: Person) -> None:
    fleet.change(guest.account_id, local_only=True)


def key_stays_here(fleet: Fleet, guest: Person) -> None:
    with fleet.app.app_context(), changing(f"account:{guest.account_id}"):
        db.session.execute(sa.update(ApiKey).where(ApiKey.account_id == guest.account_id).values(failover=False))
        db.session.commit()


def key_revoked(fleet: Fleet, guest: Person) -> None:
    with fleet.app.app_context():
        key = db.session.scalars(sa.select(ApiKey.id).where(ApiKey.account_id == guest.account_id)).one()
        api_keys.delete(guest.account_id, key)


def plan_stays_here(fleet: Fleet, guest: Person) -> None:
    fleet.plan("enterprise", failover=False)


def nothing(fleet: Fleet, guest: Person) -> None:
    """Where nothing changed it goes to the cloud: the others stay for their change, not for want of a way."""


CHANGES: dict[Callable[[Fleet, Person], None], tuple[int, str]] = {
    local_only: (502, "upstream_error"),
    key_stays_here: (502, "upstream_error"),
    plan_stays_here: (502, "upstream_error"),
    key_revoked: (401, "key_revoked"),
    nothing: (200, ""),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_who_chose_to_stay_here_while_a_server_worked_is_not_sent_to_the_cloud(
    fleet: Fleet, gate: AnyDoor, change: Callable[[Fleet, Person], None], stream: bool
) -> None:
    """Issue B, 3; KEY-03, review 3: the look before a move was taken after a wait in line alone. The switch was on for
    minutes, and the prompt left for the cloud all the same when the server here failed."""
    status, code = CHANGES[change]
    guest = fleet.somebody()
    fleet.sandbox.control(TWINNED, hold_after=0, fault="crash_before", server=FIRST)
    coming = fleet.later(gate, guest, stream=stream)
    eventually(lambda: fleet.asked(FIRST) == 1, what="the request at our own server")
    change(fleet, guest)
    fleet.sandbox.release(server=FIRST)
    answer = coming.result(20)
    assert answer.status == status
    if code:
        assert answer.error()["code"] == code
    assert (fleet.asked(CLOUD), fleet.cloud_used()) == ((0, 0) if code else (1, 1))
    row = fleet.usage(answer.request_id)
    assert (row.location, attempts(row)) == ("local" if code else "cloud", [("ollama-1", "error")])
    assert fleet.wallet(guest.account_id) == (100_000 - row.cost, 0)
    assert (row.cost == 0) is bool(code)
    fleet.books_are_right()


@pytest.mark.parametrize("word", ["off, off", "off,off", "on, OFF", " Off ,"])
def test_a_wish_to_stay_here_that_is_told_twice_is_heard(fleet: Fleet, fleet_plain: Plain, word: str) -> None:
    """API-02, review 12: a client and the proxy before us each sent the header; joined they were `off, off`, which was
    not `off`, and the prompt left for the cloud."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    with fleet.occupied(fleet_plain, crowd, waiting=2):
        coming = fleet.later(fleet_plain, guest, headers={"x-portal-failover": word})
        eventually(lambda: fleet.in_line() == 3, what="a place at home")
    answer = coming.result(20)
    assert (answer.status, answer.headers["x-portal-provider"]) == (200, "local")
    assert (fleet.asked(CLOUD), fleet.cloud_used()) == (0, 0)


def test_a_header_that_comes_twice_over_the_wire_is_heard(fleet: Fleet, fleet_hub: Hub) -> None:
    """API-02, review 12: two lines of the head, as a real server reads them."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    body = json_of(chat(model=TWINNED))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: portal\r\nAuthorization: Bearer {guest.api_key}\r\n"
    head += "X-Portal-Failover: off\r\nContent-Type: application/json\r\nX-Portal-Failover: off\r\n"
    with fleet.occupied(fleet_hub, crowd, waiting=2):
        sock = raw(fleet.web.url, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: fleet.in_line() == 3, what="a place at home")
    with sock:
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
    [row] = fleet.usages(guest.account_id)
    assert fleet.usage(row.id).location == "local"
    assert fleet.asked(CLOUD) == 0


# -- whose fault it is -------------------------------------------------------------------------------------------------


def first_goes_first(fleet: Fleet) -> None:
    """The second server is there, and has something to do, so that the least loaded is the first."""
    fleet.switch("ollama-2", on=True)
    with fleet.app.app_context():
        for name in ("ollama-1", "ollama-2"):
            providers.change(name, slots=4)
    fleet.store.client.zadd("line:busy:ollama-2", {"somebody:" + "0" * 32: 4_000_000_000_000})


@pytest.mark.parametrize("fault", ["crash_before", "reset_before"])
def test_a_request_that_breaks_two_servers_is_held_against_the_first_alone(
    fleet: Fleet, gate: AnyDoor, fault: str
) -> None:
    """Issue B, 5, review 11: three requests with a prompt that crashes the model rested every server there is, and the
    model was gone for everybody."""
    first_goes_first(fleet)
    people = [fleet.somebody(), fleet.somebody()]
    for server in (FIRST, SECOND):
        fleet.sandbox.control(fault=fault, server=server)
    for number in range(3):
        answer = fleet.ask(gate, people[number % 2], headers=LOCAL)
        assert (answer.status, answer.error()["code"]) == (502, "upstream_error")
        assert [name for name, _ in attempts(fleet.usage(answer.request_id))] == ["ollama-1", "ollama-2"]
    eventually(lambda: fleet.provider("ollama-1").state == "resting", what="the first server's rest")
    assert not fleet.store.client.exists("line:health:ollama-2")
    for server in (FIRST, SECOND):
        fleet.sandbox.control(fault=None, server=server)
    harmless = fleet.ask(gate, people[0], headers=LOCAL)
    assert (harmless.status, fleet.usage(harmless.request_id).provider) == (200, "ollama-2")


def test_two_servers_that_are_not_there_rest_both(fleet: Fleet, gate: AnyDoor) -> None:
    """Issue B, 5: no request keeps a server from being reached, so each of them is held against both."""
    first_goes_first(fleet)
    guest = fleet.somebody()
    with fleet.app.app_context():
        for name in ("ollama-1", "ollama-2"):
            providers.change(name, url=NOWHERE)
    try:
        for _ in range(3):
            assert fleet.ask(gate, guest, headers=LOCAL).status == 503
        for name in ("ollama-1", "ollama-2"):
            eventually(lambda name=name: fleet.provider(name).state == "resting", what=f"the rest of {name}")  # type: ignore[misc]
    finally:
        with fleet.app.app_context():
            for name in ("ollama-1", "ollama-2"):
                providers.change(name, url="")
