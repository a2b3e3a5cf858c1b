"""Reading an upstream's response: its framing is obeyed to the byte, or the connection is given up."""

from typing import NamedTuple

import pytest
from hypothesis import example, given, strategies as st

from portal.providers.llm.http1 import HEAD_BYTES, BadResponse, ResponseReader

BODY = b'data: {"a":1}\n\ndata: \xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7\r\n\r\ndata: [DONE]\n\n'


class Outcome(NamedTuple):
    status: int
    body: bytes
    ended: bool
    keep_alive: bool


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The same bytes, as they might arrive."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


def read(pieces: list[bytes], *, eof: bool = False) -> Outcome:
    reader = ResponseReader()
    body = b"".join([reader.feed(piece) for piece in pieces])
    if eof:
        reader.eof()
    return Outcome(reader.status, body, reader.ended, reader.keep_alive)


def chunked(body: bytes, size: int, *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n" + trailers + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(body=st.binary(max_size=400), size=st.integers(1, 90), cuts=cuts, extension=st.sampled_from([b"", b";a=b"]),
       trailers=st.sampled_from([b"", b"X-Checksum: 1\r\n", b"A: 1\r\nB: 2\r\n"]))  # fmt: skip
@example(body=b"ab", size=1, cuts=list(range(200)), extension=b"", trailers=b"")
@example(body=BODY, size=7, cuts=list(range(600)), extension=b";x", trailers=b"A: 1\r\n")
def test_a_chunked_body_is_the_same_however_it_is_split(
    body: bytes, size: int, cuts: list[int], extension: bytes, trailers: bytes
) -> None:
    """API-04: chunk sizes, extensions, trailers and TCP's own cuts leave no trace."""
    data = CHUNKED + chunked(body, size, extension=extension, trailers=trailers)
    assert read(split(data, cuts)) == (200, body, True, True)


@given(body=st.binary(max_size=400), cuts=cuts)
def test_a_counted_body_is_the_same_however_it_is_split(body: bytes, cuts: list[int]) -> None:
    """API-04."""
    data = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    assert read(split(data, cuts)) == (200, body, True, True)


@given(body=st.binary(max_size=200), cuts=cuts)
def test_a_body_without_framing_ends_with_the_connection(body: bytes, cuts: list[int]) -> None:
    """API-04: and such a connection is never used again."""
    assert read(split(HEAD + b"\r\n" + body, cuts), eof=True) == (200, body, True, False)


@given(cuts=cuts)
def test_a_100_continue_is_not_the_answer(cuts: list[int]) -> None:
    """API-04: interim responses are skipped."""
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED + chunked(BODY, 9)
    assert read(split(data, cuts)) == (200, BODY, True, True)


@given(data=st.binary(max_size=300), cuts=cuts)
def test_nonsense_is_refused_and_nothing_else_is_ever_raised(data: bytes, cuts: list[int]) -> None:
    """API-04: an exception of another kind would kill the hub's callback and leave the customer waiting."""
    for start in (b"", CHUNKED, HEAD + b"Content-Length: 5\r\n\r\n", b"HTTP/1.1 200 OK\r\n"):
        try:
            read(split(start + data, cuts), eof=True)
        except BadResponse:
            pass


@pytest.mark.parametrize(
    "size", [b"", b"-5", b"0x5", b"+5", b"5_0", b"g", b" ", b"5 5", b"\xc2\xb2", b"5" * 2000, b";a=b"]
)
def test_a_chunk_size_that_is_no_hex_number_is_refused(size: bytes) -> None:
    """API-04: Python's own int() takes signs, underscores and 0x; a lenient reader mixes two answers up."""
    with pytest.raises(BadResponse):
        read([CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n"])


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\nA: 1\r\n\r\nHTTP/1.1 200 OK\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nhello!",
    ],
    ids=["no end of chunk", "after the last chunk", "after the trailers", "more than promised"],
)
def test_bytes_that_belong_to_no_answer_are_refused(data: bytes) -> None:
    """API-04: else they would begin the next customer's answer."""
    with pytest.raises(BadResponse):
        read([data])


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"5, 5", b"0x5", b"9" * 5000])
def test_a_content_length_that_is_no_number_is_refused(length: bytes) -> None:
    """API-04."""
    with pytest.raises(BadResponse):
        read([HEAD + b"Content-Length: " + length + b"\r\n\r\nhello"])


def test_two_lengths_that_differ_are_refused() -> None:
    """API-04."""
    with pytest.raises(BadResponse):
        read([HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"])


def test_an_encoding_nobody_knows_is_refused() -> None:
    """API-04: taken for the body itself, gzip would reach the customer as text."""
    with pytest.raises(BadResponse):
        read([HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n"])


@pytest.mark.parametrize(
    "head", [b"HELLO\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", b"\r\n\r\n"]
)
def test_what_is_no_response_is_refused(head: bytes) -> None:
    """API-04."""
    with pytest.raises(BadResponse):
        read([head])


def test_a_head_without_an_end_is_refused() -> None:
    """API-04: a server that never stops sending headers must not fill our memory."""
    with pytest.raises(BadResponse):
        read([b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n" * 1000] * (HEAD_BYTES // 6000 + 2)])


def test_trailers_without_an_end_are_refused() -> None:
    """API-04."""
    with pytest.raises(BadResponse):
        read([CHUNKED + b"0\r\n", *[b"a: b\r\n" * 1000] * (HEAD_BYTES // 6000 + 2)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        HEAD + b"Content-Length: 9\r\n\r\nhello",
        CHUNKED,
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"0\r\n",
    ],
)
def test_a_connection_closed_in_the_middle_is_a_failure(data: bytes) -> None:
    """never-again, "Upstream crash mid-stream looked like a complete answer"."""
    with pytest.raises(BadResponse):
        read([data] if data else [], eof=True)


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close, x\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_only_where_the_server_keeps_it(head: bytes, kept: bool) -> None:
    """API-04."""
    outcome = read([head])
    assert outcome.ended
    assert outcome.keep_alive is kept
