"""HTTP as old, odd and hasty clients speak it to gunicorn's gevent worker: framing, reuse, bodies of every kind."""

import gzip
import json
import time

import pytest

from tests.gateway.conftest import QUICK, House
from tests.gateway.wire import CHAT, Hub, Line, Plain, chat, eventually, json_of, raw, read_all

AnyDoor = Hub | Plain
LARGEST = QUICK["MAX_REQUEST_BYTES"]


def request(house: House, body: bytes, *more: str, version: str = "HTTP/1.1", length: bool = True) -> bytes:
    """A chat request as bytes."""
    lines = [
        f"POST {CHAT} {version}", "Host: portal", f"Authorization: Bearer {house.layla.api_key}",
        "Content-Type: application/json", *([f"Content-Length: {len(body)}"] if length else []), *more, "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_a_connection_serves_one_request_after_another(house: House, first: bool, second: bool) -> None:
    """API-04: every client keeps its connection, also after a stream."""
    line = Line(house.web.url)
    for stream in (first, second, first):
        answer = line.ask("POST", CHAT, key=house.layla.api_key, body=chat(stream=stream))
        assert answer.status == 200
        assert answer.headers.get("connection", "keep-alive") == "keep-alive"
        assert answer.events() if stream else answer.json()
    listed = line.ask("GET", "/v1/models", key=house.layla.api_key)
    assert listed.status == 200
    listed.read()
    line.close()


def test_a_request_sent_ahead_is_answered_after_the_stream(house: House) -> None:
    """API-04: HTTP pipelining; what was sent ahead is not taken for a departure."""
    house.sandbox.control(tokens=5, delay_chunk_ms=40)
    ahead = b"GET /healthz HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n\r\n"
    with raw(house.web.url, request(house, json_of(chat(stream=True))) + ahead) as sock:
        told = read_all(sock)
    assert told.count(b"HTTP/1.1 200") == 2
    first, _, second = told.partition(b"data: [DONE]")
    assert first.count(b'"content":"') >= 5
    assert second.endswith(b'{"status":"ok"}\n')


def test_two_streams_sent_ahead_are_both_answered(house: House) -> None:
    """API-04."""
    asked = request(house, json_of(chat(stream=True)))
    last = request(house, json_of(chat(stream=True)), "Connection: close")
    with raw(house.web.url, asked + last) as sock:
        told = read_all(sock)
    assert told.count(b"data: [DONE]") == 2


@pytest.mark.parametrize("stream", [True, False])
def test_http_1_0_gets_a_body_that_ends_with_the_connection(house: House, stream: bool) -> None:
    """API-04: HTTP/1.0 knows no chunks; nginx spoke it to its upstreams by default until lately."""
    with raw(house.web.url, request(house, json_of(chat(stream=stream)), version="HTTP/1.0")) as sock:
        told = read_all(sock)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.")
    assert b"200 OK" in head.split(b"\r\n")[0]
    assert b"transfer-encoding" not in head.lower()
    if stream:
        assert body.startswith(b"data: {")
        assert body.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(body)["object"] == "chat.completion"


@pytest.mark.parametrize("stream", [True, False])
def test_connection_close_is_obeyed_and_said(house: House, stream: bool) -> None:
    """API-04."""
    with raw(house.web.url, request(house, json_of(chat(stream=stream)), "Connection: close")) as sock:
        told = read_all(sock)
    head, _, body = told.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"[DONE]" in body if stream else b"chat.completion" in body


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(house: House) -> None:
    """API-01: curl does so for bodies above 1 MB."""
    body = json_of(chat())
    with raw(house.web.url, request(house, b"", f"Content-Length: {len(body)}", "Expect: 100-continue",
                                    "Connection: close", length=False)) as sock:  # fmt: skip
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert b" 200 OK" in read_all(sock)


@pytest.mark.parametrize("stream", [True, False])
def test_a_body_in_chunks_is_read(house: House, stream: bool) -> None:
    """API-01: some HTTP libraries send nothing else."""
    body = json_of(chat(stream=stream))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 9]), body[i : i + 9]) for i in range(0, len(body), 9))
    asked = request(house, b"", "Transfer-Encoding: chunked", "Connection: close", length=False)
    with raw(house.web.url, asked + chunks + b"0\r\n\r\n") as sock:
        assert b" 200 OK" in read_all(sock)


def test_a_body_that_arrives_in_pieces_is_waited_for(house: House, hub: Hub) -> None:
    """API-01: and meanwhile the worker serves others."""
    body = json_of(chat())
    whole = request(house, body, "Connection: close")
    with raw(house.web.url, whole[:-20]) as sock:
        began = time.monotonic()
        assert hub.ask("POST", CHAT, key=house.layla.api_key, body=chat()).status == 200
        assert time.monotonic() - began < 2
        sock.sendall(whole[-20:])
        assert b" 200 OK" in read_all(sock)


def test_a_body_in_chunks_that_is_too_large_is_refused(house: House) -> None:
    """Contract: 413 `request_too_large`; no length was told beforehand."""
    asked = request(house, b"", "Transfer-Encoding: chunked", length=False)
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    with raw(house.web.url, asked + chunk * (LARGEST // 0x8000 + 2) + b"0\r\n\r\n") as sock:
        told = b""
        while b"request_too_large" not in told:
            data = sock.recv(65536)
            assert data, told
            told += data
    assert b" 413 " in told.split(b"\r\n")[0]


@pytest.mark.parametrize("size", [LARGEST, LARGEST + 1])
def test_the_largest_body_is_what_the_setting_says(door: AnyDoor, house: House, size: int) -> None:
    """Contract: 413 `request_too_large`, and the limit in the message."""
    rest = size - len(json_of(chat("")))
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=chat("a" * rest))
    if size == LARGEST:
        assert answer.status == 200
        return
    error = answer.error()
    assert (answer.status, error["code"]) == (413, "request_too_large")
    assert str(LARGEST) in error["message"]


def test_a_compressed_body_is_refused_in_words(door: AnyDoor, house: House) -> None:
    """API-01: a bomb of zeros would unpack to gigabytes."""
    body = gzip.compress(json_of(chat()))
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=body, headers={"Content-Encoding": "gzip"})
    error = answer.error()
    assert (answer.status, error["code"]) == (400, "invalid_request")
    assert "compressed" in error["message"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("body", [b"", b"model=m&messages=hi", b"{", b"\x00\xff" * 50])
def test_what_is_no_json_is_a_400_whatever_it_calls_itself(door: AnyDoor, house: House, kind: str, body: bytes) -> None:
    """API-01: never a 500, never a page."""
    headers = {"Content-Type": kind} if kind else {}
    answer = door.ask("POST", CHAT, key=house.layla.api_key, body=body, headers=headers)
    assert (answer.status, answer.error()["code"]) == (400, "invalid_request")
    assert house.wallet(house.layla.account_id)[1] == 0


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_json_is_read_whatever_it_calls_itself(door: AnyDoor, house: House, kind: str) -> None:
    """API-01: as OpenAI does."""
    headers = {"Content-Type": kind} if kind else {}
    assert door.ask("POST", CHAT, key=house.layla.api_key, body=json_of(chat()), headers=headers).status == 200


def test_no_question_was_left_open(house: House) -> None:
    """CRD-01: after all of these no credit is on hold."""
    assert eventually(lambda: house.wallet(house.layla.account_id)[1] == 0)
