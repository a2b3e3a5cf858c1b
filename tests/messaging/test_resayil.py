"""The WhatsApp carrier's wire: what each answer means for a message; none is sent twice, or lost, by a misreading."""

import datetime as dt
import email.utils
import logging
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from portal.providers.messaging import Sent, resayil
from portal.providers.messaging.resayil import Resayil
from sandbox.process import SandboxProcess
from tests.messaging.certificate import self_signed
from tests.messaging.wire import PHONE, REFERENCE, SECOND_DEVICE, TEXT, fault_of, json_answer
from tests.providers.saying import answer, saying
from tests.services.environment import NOWHERE


def test_a_message_is_accepted_once_as_it_was_written(sandbox: SandboxProcess, carrier: Resayil) -> None:
    """NOTIF-01 to 11: number, text, reference, and the id by which receipts come back."""
    sent = carrier.send(PHONE, TEXT, REFERENCE)
    [message] = sandbox.messages()
    assert (message["phone"], message["message"], message["reference"]) == (PHONE, TEXT, REFERENCE)
    assert sent == Sent(message["id"])
    [asked] = sandbox.requests(server="whatsapp")
    assert asked["body"] == {"phone": PHONE, "message": TEXT, "reference": REFERENCE}


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/v1", "{}/v1/", "{}/v1/messages", "{}/messages/"])
def test_callers_configure_the_host_its_v1_or_the_whole_address(sandbox: SandboxProcess, form: str) -> None:
    """Facts, section 1: both spellings are found in production."""
    host = sandbox.whatsapp_url.removesuffix("/v1")
    Resayil(form.format(host), "sandbox").send(PHONE, TEXT, REFERENCE)
    [asked] = sandbox.requests(server="whatsapp")
    assert (asked["path"], asked["notes"]["v1"]) == ("/messages", True)


def test_the_sending_number_is_named_where_the_account_has_several(sandbox: SandboxProcess) -> None:
    """RESAYIL_DEVICE."""
    sandbox.control(server="whatsapp", devices=["64a1f0c2b7d3e95f08c4a1b2", SECOND_DEVICE])
    Resayil(sandbox.whatsapp_url, "sandbox", SECOND_DEVICE).send(PHONE, TEXT, REFERENCE)
    assert sandbox.messages()[0]["device"] == SECOND_DEVICE
    for wrong in ("", "84a1f0c2b7d3e95f08c4a1b4"):  # no message may die of a setting
        fault = fault_of(lambda: Resayil(sandbox.whatsapp_url, "sandbox", wrong).send(PHONE, TEXT, REFERENCE))  # noqa: B023
        assert (fault.permanent, fault.in_doubt) == (False, False)
        assert "RESAYIL_DEVICE" in fault.reason


@pytest.mark.parametrize("phone", ["96550000001", "50000001", "0096550000001", "+0965500000", "+965 50000001", "",
                                   "+٩٦٥٥٠٠٠٠٠٠١", "+96550000001\n", "+1234567890123456"])  # fmt: skip
def test_a_number_that_is_not_e164_is_refused_before_any_call(
    sandbox: SandboxProcess, carrier: Resayil, phone: str
) -> None:
    """Never again: codes never arrived, for want of a plus."""
    fault = fault_of(lambda: carrier.send(phone, TEXT, REFERENCE))
    assert (fault.permanent, fault.in_doubt) == (True, False)
    assert sandbox.requests(server="whatsapp") == []


@pytest.mark.parametrize(("name", "permanent", "in_doubt", "retry_after", "out"), [
    ("400", True, False, None, 0),
    ("401", False, False, None, 0),
    ("403", False, False, None, 0),
    ("409", False, True, None, 0),
    ("429", False, False, 60, 0),
    ("429_retry_after", False, False, 90, 0),
    ("500", False, True, None, 0),
    ("502", False, True, None, 0),
    ("503", False, True, None, 0),
    ("200_error", False, True, None, 0),
    ("200_html", False, True, None, 0),
    ("reset_before", False, True, None, 0),
    ("stall_before", False, True, None, 0),
    ("500_accepted", False, True, None, 1),
    ("502_accepted", False, True, None, 1),
    ("stall_accepted", False, True, None, 1),
    ("reset_accepted", False, True, None, 1),
    ("cut_accepted", False, True, None, 1),
    ("201_no_id", False, True, None, 1),
])  # fmt: skip
def test_each_fault_says_whether_to_try_again_and_whether_it_may_be_out(
    sandbox: SandboxProcess, carrier: Resayil, monkeypatch: pytest.MonkeyPatch,
    name: str, permanent: bool, in_doubt: bool, retry_after: int | None, out: int,
) -> None:  # fmt: skip
    """NOTIF-11: retried on a passing fault, not on a final one; whatever may be out is found before a second send."""
    monkeypatch.setattr(resayil, "READ_SECONDS", 0.3)
    sandbox.next({"fault": name, "retry_after_s": 90}, server="whatsapp")
    fault = fault_of(lambda: carrier.send(PHONE, TEXT, REFERENCE))
    assert (fault.permanent, fault.in_doubt, fault.retry_after) == (permanent, in_doubt, retry_after)
    assert len(sandbox.messages()) == out
    found = carrier.find(PHONE, TEXT, REFERENCE)
    assert (found is not None) == bool(out)
    if found is None:
        found = carrier.send(PHONE, TEXT, REFERENCE)
    assert [message["id"] for message in sandbox.messages()] == [found.id]


def test_a_wrong_key_is_no_fault_of_the_message(sandbox: SandboxProcess) -> None:
    """A key that was replaced must not kill what waits in the outbox."""
    for key, said in (
        ("wrong", "refuses our key"),
        ("", "RESAYIL_API_KEY"),
        ("a\nb", "RESAYIL_API_KEY"),
        ("مفتاح", "key"),
    ):
        fault = fault_of(lambda: Resayil(sandbox.whatsapp_url, key).send(PHONE, TEXT, REFERENCE))  # noqa: B023
        assert (fault.permanent, fault.in_doubt) == (False, False), key
        assert said in fault.reason


@pytest.mark.parametrize(("said", "permanent", "in_doubt", "retry_after"), [
    (json_answer({"id": "a" * 24}, "202 Accepted"), None, None, None),
    (json_answer({"id": "a" * 24, "error": "no session"}), False, True, None),
    (json_answer({"id": ""}, "201 Created"), False, True, None),
    (json_answer([]), False, True, None),
    (answer(b"", "204 No Content"), False, True, None),
    (answer(b"[" * 100_000), False, True, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b" " * 5_000_000, False, True, None),
    (answer(b"", "301 Moved", "Location: http://127.0.0.1:9/v1/messages"), False, False, None),
    (json_answer({}, "402 Payment Required"), False, False, None),
    (json_answer({}, "404 Not Found"), False, False, None),
    (json_answer({}, "408 Request Timeout"), False, True, None),
    (json_answer({}, "418 Teapot"), False, False, None),
    (json_answer({"errors": [{"path": "message"}]}, "422 Unprocessable"), True, False, None),
    (json_answer({"errorCode": "phone:unreachable"}, "400 Bad Request"), True, False, None),
    (json_answer({"errorCode": "device:offline"}, "400 Bad Request"), False, False, None),
    (json_answer({"errors": "none"}, "400 Bad Request"), True, False, None),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{", False, False, None),
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99\r\n\r\n{", False, False, None),
    (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 99\r\n\r\n<", False, True, None),
    (json_answer({}, "503 Busy", "Retry-After: 120"), False, True, 120),
    (json_answer({}, "429 Slow", "Retry-After: 7"), False, False, 60),
    (json_answer({}, "429 Slow", "Retry-After: 999999999"), False, False, 86_400),
    (json_answer({}, "429 Slow", "Retry-After: soon"), False, False, 60),
    (json_answer({}, "429 Slow", "Retry-After: Mon, 01 Jan 2024 00:00:00 GMT"), False, False, 60),
    (json_answer({}, "429 Slow", "Retry-After: IN AN HOUR"), False, False, 3600),
    (b"", False, True, None),
    (b"SSH-2.0-OpenSSH\r\n", False, True, None),
])  # fmt: skip
def test_odd_answers_are_read_with_care(
    said: bytes, permanent: bool | None, in_doubt: bool | None, retry_after: int | None
) -> None:
    """NOTIF-11: in doubt only where the carrier may have it, permanent only where the message itself is at fault."""
    in_an_hour = email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1), True)
    with saying(said.replace(b"IN AN HOUR", in_an_hour.encode())) as server:
        carrier = Resayil(server.url, "the-key")
        if permanent is None:
            assert carrier.send(PHONE, TEXT, REFERENCE) == Sent("a" * 24)
            return
        fault = fault_of(lambda: carrier.send(PHONE, TEXT, REFERENCE))
    assert (fault.permanent, fault.in_doubt) == (permanent, in_doubt), fault.reason
    assert fault.retry_after == pytest.approx(retry_after, abs=60 if retry_after == 3600 else 0)


def test_nothing_left_where_nobody_was_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NOTIF-11: refused, no name, no answer to the knock, a stranger's certificate: nothing was sent, so no doubt."""
    monkeypatch.setattr(resayil, "CONNECT_SECONDS", 0.2)

    def reason(url: str) -> str:
        fault = fault_of(lambda: Resayil(url, "the-key").send(PHONE, TEXT, REFERENCE))
        assert (fault.permanent, fault.in_doubt) == (False, False), fault.reason
        return fault.reason

    assert reason(NOWHERE) == "the carrier can't be reached"
    assert reason("http://*") == "RESAYIL_API_URL is no address"
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        address = deaf.getsockname()
        with socket.create_connection(address):  # the only place in its queue
            assert reason(f"http://127.0.0.1:{address[1]}") == "the carrier can't be reached"
    plain = socket.create_server(("127.0.0.1", 0))
    with self_signed(tmp_path).wrap_socket(plain, server_side=True) as listening:
        stranger = threading.Thread(target=_refused_handshake, args=(listening,))
        stranger.start()
        url = f"https://localhost:{listening.getsockname()[1]}"
        assert reason(url) == "the carrier's certificate is not trusted"
        stranger.join(5)

    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert reason("http://localhost:1") == "the carrier can't be reached"


def _refused_handshake(listening: ssl.SSLSocket) -> None:
    try:
        listening.accept()[0].close()
    except OSError:
        pass


@pytest.mark.parametrize("said", [
    b"", b"HTTP/1.1 201 Created\r\n", b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{",
])  # fmt: skip
def test_silence_has_an_end_and_leaves_a_doubt(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Design, habit 7: time-outs are always given."""
    monkeypatch.setattr(resayil, "READ_SECONDS", 0.2)
    with saying(said, stay=True) as server:
        fault = fault_of(lambda: Resayil(server.url, "k").send(PHONE, TEXT, REFERENCE))
    assert (fault.permanent, fault.in_doubt) == (False, True)
    assert fault.reason == "the carrier takes too long to answer"


def test_an_answer_that_drips_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Design, habit 7: a byte a moment is never silent."""
    monkeypatch.setattr(resayil, "ALL_SECONDS", 1.0)
    started = time.monotonic()
    with saying(json_answer({"id": "a" * 24, "more": "x" * 2000}), pause=0.005) as server:
        fault = fault_of(lambda: Resayil(server.url, "k").send(PHONE, TEXT, REFERENCE))
    assert (fault.in_doubt, fault.reason) == (True, "the carrier takes too long to answer")
    assert time.monotonic() - started < 5


def test_one_connection_serves_many_messages(carrier: Resayil, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand messages: no handshake each."""
    connected: list[object] = []
    connect = socket.socket.connect

    def noted(line: socket.socket, to: Any) -> None:
        connected.append(to)
        connect(line, to)

    monkeypatch.setattr(socket.socket, "connect", noted)
    for number in range(20):
        carrier.send(PHONE, TEXT, f"{REFERENCE[:-2]}{number:02d}")
    assert len(connected) == 1
    # A worker forks: two processes on one connection would read each other's answers.
    monkeypatch.setattr(os, "getpid", lambda: -1)
    carrier.send(PHONE, TEXT, REFERENCE)
    carrier.send(PHONE, TEXT, REFERENCE)
    assert len(connected) == 2


def test_the_key_goes_to_its_address_and_nothing_else_that_the_machine_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OPS-03: no redirect, no proxy of the shell's, no .netrc."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    for name, value in (("NETRC", str(netrc)), ("HTTP_PROXY", NOWHERE), ("http_proxy", NOWHERE)):
        monkeypatch.setenv(name, value)
    with (
        saying(answer(b"[]")) as other,
        saying(answer(b"", "302 Found", f"Location: {other.url}/v1/devices")) as server,
    ):
        fault_of(Resayil(server.url, "the-key").check)
    assert "token: the-key\r\n" in server.heard[0]
    assert "authorization" not in server.heard[0]
    assert other.heard == []


@pytest.mark.parametrize("said", [
    f"Message '{TEXT}' is too bold", "The code 123456 was refused", f"{PHONE} is unknown", "The number 96550000001 is",
    "API key the-long-key is not known", "...تحقق*\n⁦123456⁩\n\n— — —...",
])  # fmt: skip
def test_what_the_carrier_repeats_reaches_neither_the_log_nor_the_reason(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Never again: secrets, codes and phone numbers in logs. Staff read the reason on a page."""
    body = {"status": 400, "message": said, "errorCode": "phone:invalid"}
    with saying(json_answer(body, "400 Bad Request")) as server, caplog.at_level(logging.DEBUG):
        fault = fault_of(lambda: Resayil(server.url, "the-long-key").send(PHONE, TEXT, REFERENCE))
    written = repr([vars(record) for record in caplog.records]) + fault.reason
    assert "phone:invalid" in written  # what helps to find the cause does reach the log
    for secret in ("123456", "50000001", "the-long-key", "تحقق"):
        assert secret not in written
