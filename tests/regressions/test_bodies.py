"""Bodies that are meant to hurt: read for strangers, echoed in full, looked through letter by letter."""

import json
import sys
import time
from types import FrameType
from typing import Any

import pytest

from portal.errors import InvalidRequest
from portal.services.gateway.ask import read_ask
from sandbox.process import SandboxProcess
from tests.gateway.wire import CHAT, Plain, chat, eventually, raw
from tests.ledger.books import Books
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb

STRANGE = "rsk_" + "x" * 40
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}


def test_a_stranger_is_refused_before_their_body_is_read(sqlite_url: str, start_web: StartWeb) -> None:
    """API-01, contract: 401. Anybody could make the portal read and keep MAX_REQUEST_BYTES a connection, for ever."""
    web = start_web(sqlite_url)
    for header, code in (("", "missing_api_key"), (f"Authorization: Bearer {STRANGE}\r\n", "invalid_api_key")):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: portal\r\nContent-Type: application/json\r\n{header}"
        with raw(web.url, f"{head}Content-Length: 15000000\r\n\r\n".encode()) as sock:
            sock.settimeout(8)
            answer = b""
            while b"}}" not in answer:
                try:
                    piece = sock.recv(65536)
                except TimeoutError:
                    pytest.fail(f"it waits for the body of who brings {code}")
                assert piece, answer
                answer += piece
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == code


def test_a_model_name_of_three_megabytes_is_not_told_back(make_app: MakeApp, sqlite_url: str) -> None:
    """API-01: 400 that names the member. It was looked up among all names, and told back in full."""
    app = make_app(sqlite_url)
    started = time.monotonic()
    answer = Plain(app).ask("POST", CHAT, key=Cast(app).layla.api_key, body=chat(model="m" * 3_000_000))
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_request", "model")
    assert len(b"".join(data for _, data in answer.arrived)) < 1000
    assert time.monotonic() - started < 10


def test_the_longest_name_is_still_looked_up(make_app: MakeApp, sqlite_url: str) -> None:
    """API-01: only what can be no model's name is refused unread."""
    assert read_ask(json.dumps(chat(model="m" * 200)).encode()).model == "m" * 200
    with pytest.raises(InvalidRequest):
        read_ask(json.dumps(chat(model="m" * 201)).encode())


def python_calls(body: bytes) -> int:
    """How many Python functions are called while the body is read."""
    calls = 0

    def called(_frame: FrameType, event: str, _what: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(called)
    try:
        read_ask(body)
    finally:
        sys.setprofile(None)
    return calls


def test_escapes_cost_no_call_each() -> None:
    """API-01: a body of three million escapes held the worker, and everybody in it, for seconds."""
    few, many = (
        b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (rb"\u0061\n" * n) for n in (10, 300_000)
    )
    assert python_calls(many) == python_calls(few)


@pytest.mark.parametrize(
    "part",
    [
        rb'{"\u0074ype":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}',
        rb'{"type":"\u0069mage\u005furl","image_url":{"url":"data:image/png;base64,AAAA"}}',
        rb'{"type":"image_url","\u0069m\u0061ge_url":{"\u0075rl":"\u0064ata:image/png;base64,AAAA"}}',
        rb'{"\u0074\u0079\u0070\u0065" : "\u0069\u006d\u0061\u0067\u0065\u005F\u0075\u0072\u006C","image_url":{}}',
    ],
)
def test_image_parts_written_with_escaped_letters_are_found(part: bytes) -> None:
    """API-01, MODEL-03: an image that passes for text goes to a model that can't see, at the price of text."""
    ask = read_ask(b'{"model":"m","messages":[{"role":"user","content":[%b]}]}' % part)
    assert ask.images == 1
    assert part in ask.upstream_body("theirs", 5), "what goes upstream is what came"


@pytest.mark.parametrize(
    "text",
    [rb"\u0022type\u0022:\u0022image_url\u0022", rb"\"type\":\"\u0069mage_url\"", rb"\\u0074ype \\u0069mage_url"],
)
def test_text_that_speaks_of_images_is_no_image(text: bytes) -> None:
    """API-01: undone escapes must not turn somebody's words into structure."""
    assert read_ask(b'{"model":"m","messages":[{"role":"user","content":"%b \\u0061"}]}' % text).images == 0


def test_who_leaves_pays_for_the_images_they_sent(sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess) -> None:
    """API-02, never-again, "Client leaves before the last chunk": the estimate of the prompt left its images out."""
    app = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url)
    layla, books = Cast(app).layla, Books(app)
    books.execute("UPDATE plans SET requests_per_minute = 1000")
    sandbox.control(tokens=50, hold_after=5)
    paid = []
    for images in (0, 2):
        content = [{"type": "text", "text": "What is this?"}, *[IMAGE] * images]
        body = {"model": "mistral-small3.2:24b", "stream": True, "max_tokens": 60}
        answer = Plain(app).ask(
            "POST", CHAT, key=layla.api_key, body={**body, "messages": [{"role": "user", "content": content}]}
        )
        assert answer.status == 200, answer.read()
        while sum(data.count(b'"content":"') for _, data in answer.arrived) < 5:
            assert answer.piece()
        answer.leave()
        usage = books.usage(answer.request_id)
        assert usage is not None
        assert (usage.outcome, usage.estimated, usage.answer_tokens) == ("client_left", True, 5)
        assert usage.cost == usage.prompt_tokens + 5
        paid.append(usage.prompt_tokens)
        eventually(lambda: sandbox.counters()["in_flight"] == 0, what="the end of the generation")
    without, with_two = paid
    assert without < 100
    assert 2 * 512 <= with_two - without < 2 * 512 + 100, "some for each image, and nothing for its base64"
    assert books.wallet(layla.account_id).held == 0
