"""Logs: one JSON object a line, the request's id in each, and never a secret (OPS-04)."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from portal import logs

KEY = "rsk_" + "aB3" * 13 + "z"
PHONE = "+96550001234"
CANARIES = {
    "an API key": (KEY, KEY),
    "a key in a sentence": (f"the key {KEY}, was refused", KEY),
    "half a key": (KEY[:20], KEY[:20]),
    "a bearer header": ("Authorization: Bearer canary.x-y_z", "canary"),
    "a bearer in lower case": ("authorization: bearer canary", "canary"),
    "a phone": (f"sent to {PHONE}", PHONE),
    "a phone in JSON": (json.dumps({"to": PHONE}), PHONE),
    "a database's password": ("mysql+pymysql://portal:canary@db/portal", "canary"),
    "a store's password": ("redis://:canary@store:6379/0", "canary"),
    "a password in a form": ("email=a%40b&password=canary&x=1", "canary"),
    "a password in JSON": ('{"password": "canary"}', "canary"),
    "a token": ("token=canary", "canary"),
    "a password's hash": ("('a@b', $argon2id$v=19$m=19456,t=2,p=1$canary$canary)", "$argon2id"),
    "a row that PostgreSQL refused": (
        "DETAIL:  Failing row contains (01a1, canary@example.com, king).\nCONTEXT: x",
        "canary",
    ),
    "a secret": ("client_secret: canary", "canary"),
    "the payment provider's key": ("the key SK_KWT_canary0123456789, was refused", "canary"),
    "its key of the old kind": (f"key {'canary-_7' * 30} is old", "canary"),
    "a kept card": ("url: /v2/CancelToken?token=canary (Caused by …)", "canary"),
}


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What `portal.test` writes."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonLines())
    logger = logging.getLogger("portal.test")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    yield out
    logger.handlers = []


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().split("\n")[:-1]]


log = logging.getLogger("portal.test")


@pytest.mark.parametrize("what", CANARIES)
def test_a_secret_never_reaches_the_log(written: io.StringIO, what: str) -> None:
    """never-again, "Secrets, codes and phone numbers in logs": in messages, arguments, extras and exceptions."""
    text, secret = CANARIES[what]
    assert secret not in logs.redact(text)
    log.info(text)
    log.warning("it was %s", text)
    log.info("extras", extra={"said": text, "list": [text], "nested": {"deep": [{"x": text}]}})
    try:
        raise RuntimeError(text)
    except RuntimeError:
        log.exception("it broke")
    assert len(lines(written)) == 4
    assert secret not in written.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "password", "new_password", "secret", "token", "csrf_token", "authorization", "cookie", "api_key", "apikey",
        "key", "code", "phone", "Password",
    ],
)  # fmt: skip
def test_what_is_named_like_a_secret_is_one(written: io.StringIO, name: str) -> None:
    """never-again, "Secrets, codes …": whatever shape it has."""
    log.info("x", extra={name: "canary", "form": {name: "canary", "kept": "yes"}})
    [line] = lines(written)
    assert "canary" not in json.dumps(line)
    assert line["form"]["kept"] == "yes"


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/models", "model llama3.2:3b", "1+96 = 97", "the store is away: Connection refused", "a:b",
        "http://host:80/x", "no token was found", "12.500 credits", "rsk_short",
        "SK_KWT_short", "-" * 120, "a" * 64,
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_readable(text: str) -> None:
    """OPS-04: a log of masks helps nobody."""
    assert logs.redact(text) == text


@given(st.text(max_size=80))
def test_a_key_is_masked_whatever_stands_around_it(around: str) -> None:
    """never-again, "Secrets … in logs"."""
    assert KEY not in logs.redact(f"{around}{KEY} {around}")


def test_a_line_is_one_json_object_with_time_level_and_request(written: io.StringIO) -> None:
    """OPS-04: one JSON log line per event with request id."""
    token = logs.request_id.set("req_1")
    log.warning("two\nlines\u2028and \u0645\u0631\u062d\u0628\u0627", extra={"n": 1, "odd": object()})
    logs.request_id.reset(token)
    [line] = lines(written)
    assert (line["level"], line["logger"], line["request_id"], line["n"]) == ("warning", "portal.test", "req_1", 1)
    assert line["event"] == "two\nlines\u2028and \u0645\u0631\u062d\u0628\u0627"
    assert line["time"].endswith("+00:00")


def test_a_log_line_that_cannot_be_made_loses_nothing_else(written: io.StringIO) -> None:
    """OPS-04: bytes, sets, keys that are no text: a log call must not break a request."""
    log.info("x", extra={"bytes": b"\xff", "set": {1}, "keys": {1: "a"}, "nan": float("nan")})
    assert written.getvalue().count("\n") == 1


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-04: two apps in one process (tests, a reload) must not double every line."""
    logs.configure()
    logs.configure()
    logging.getLogger("portal.twice").warning("once")
    assert capsys.readouterr().err.count("once") == 1


def test_half_a_character_costs_no_line() -> None:
    """OPS-04: what can't be written as UTF-8 is escaped; the line was lost with it, and the error that it told of."""
    try:
        raise ValueError("half \ud800 of it")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed \udfff", "exc_info": sys.exc_info(), "said": "\ud800"})
    told = json.loads(logs.JsonLines().format(record))
    assert (told["event"], told["said"]) == ("failed \\udfff", "\\ud800")
    assert "half \\ud800 of it" in told["exception"]
