"""One answer between server and customer, without a socket: when a refusal is clean, and when it is an event."""

import datetime as dt

import pytest

from portal.errors import PortalError
from portal.providers.llm.upstream import Connection, UpstreamPool
from portal.services.callers import Caller
from portal.services.catalog import CatalogModel, Offer
from portal.services.gateway.ask import read_ask
from portal.services.gateway.exchange import ERROR_BODY_BYTES, BufferedExchange, Exchange, StreamExchange
from portal.services.gateway.ticket import Ticket
from portal.services.pricing import Rates
from portal.services.routing.ways import WaysMemory

POOL = UpstreamPool("http://127.0.0.1:9")
CALLER = Caller("k", "a", "basic", 1, 10, frozenset({"read", "write"}), None, 0, True, False, None)
RATES = Rates(prompt=1_000_000, cached=1_000_000, answer=1_000_000)
OFFER = Offer(
    "ollama-1", "http://127.0.0.1:9", "", "local", 1, 1, "m", frozenset({"completion"}), 8192,
    ((dt.datetime(2026, 1, 1, tzinfo=dt.UTC), RATES),),
)  # fmt: skip
MODEL = CatalogModel(
    "m", (), {}, "local", "basic", 1, {}, 8192, 2048, frozenset({"completion"}), 0, (OFFER,),
)  # fmt: skip
BOTH = pytest.mark.parametrize("kind", [StreamExchange, BufferedExchange])
Kind = type[StreamExchange] | type[BufferedExchange]


def exchange(kind: Kind, *, reused: bool = False) -> StreamExchange | BufferedExchange:
    ask = read_ask(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
    ways = WaysMemory().of(MODEL, frozenset(), 0)
    ticket = Ticket("0" * 32, CALLER, ask, MODEL, ways, 300, 100, None, "", False, rates=RATES, amount=400, offer=OFFER)
    return kind(ticket, Connection(POOL, None, reused))


def error(of: Exchange) -> PortalError:
    assert of.error is not None
    return of.error


CONTEXT = b'{"error":{"message":"the request exceeds the available context size"}}'


@BOTH
def test_a_refusal_that_ends_with_its_connection_is_read_like_any_other(kind: Kind) -> None:
    """API-01: proxies in front of a server send their errors without a length."""
    answer = exchange(kind)
    assert answer.receive(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + CONTEXT) == b""
    assert not answer.outcome
    assert answer.upstream_gone() == b""
    assert (answer.outcome, error(answer).code) == ("refused", "context_length_exceeded")


@BOTH
def test_a_refusal_without_an_end_is_given_up(kind: Kind) -> None:
    """API-01: an error page of a gigabyte does not fill our memory."""
    answer = exchange(kind)
    answer.receive(b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent = 0
    while not answer.outcome:
        sent += len(answer.receive(b"1000\r\n" + b"x" * 4096 + b"\r\n")) + 4096
        assert sent < 2 * ERROR_BODY_BYTES
    assert error(answer).code == "upstream_error"


@BOTH
@pytest.mark.parametrize("status", [101, 201, 204, 301, 304, 418, 500, 999])
def test_any_other_status_than_200_is_no_answer(kind: Kind, status: int) -> None:
    """API-01."""
    answer = exchange(kind)
    answer.receive(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)
    if not answer.outcome:
        answer.upstream_gone()
    assert error(answer).status == 502


@BOTH
@pytest.mark.parametrize("body", [b'{"\xff":1}', b"[" * 100_000, b"null", b"[]", b'{"error":[]}', b'{"error":{}}', b""])
def test_a_refusal_that_cannot_be_read_is_a_refusal(kind: Kind, body: bytes) -> None:
    """API-01."""
    answer = exchange(kind)
    answer.receive(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert (answer.outcome, error(answer).code) == ("refused", "invalid_request")


@BOTH
def test_only_silence_on_a_kept_connection_is_tried_again(kind: Kind) -> None:
    """API-01: whatever the server has said, it had the request."""
    for reused, said, again in ((True, b"", True), (False, b"", False), (True, b"HTTP/1.1 200 OK\r\n\r\n", False)):
        answer = exchange(kind, reused=reused)
        if said:
            answer.receive(said)
        answer.upstream_gone()
        assert answer.never_arrived is again


def test_after_a_heartbeat_a_dead_server_is_not_asked_again_and_the_door_has_the_last_word() -> None:
    """API-04: nothing of an answer was said yet, so another server may still give one."""
    answer = exchange(StreamExchange, reused=True)
    assert isinstance(answer, StreamExchange)
    assert answer.ping() == b": ping\n\n"
    assert answer.upstream_gone() == b""
    assert (answer.outcome, error(answer).code, answer.begun) == ("upstream_failed", "upstream_error", True)
    assert not answer.never_arrived


@BOTH
def test_who_left_is_not_told_of_what_came_later(kind: Kind) -> None:
    """API-04: the first end is the end."""
    answer = exchange(kind)
    answer.client_left()
    assert answer.outcome == "client_left"
    ended = exchange(kind)
    ended.timed_out()
    ended.client_left()
    assert ended.outcome == "timed_out"
