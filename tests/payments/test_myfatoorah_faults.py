"""What MyFatoorah's refusals and silences mean: may it be asked again, may it have been done, and who must act."""

import datetime as dt
import email.utils
import json
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portal.providers.payments import Opened, PaymentsError
from portal.providers.payments.myfatoorah import MyFatoorah
from tests.payments.provider import KEY, ORDER, REFERENCE, Provider, fault_of, providing, refusal, success
from tests.providers.saying import answer, saying
from tests.services.environment import NOWHERE

HTML = b"<html><head><title>403 Forbidden</title></head><body>Microsoft-Azure-Application-Gateway/v2</body></html>"
IN_AN_HOUR = "in an hour"
PASSING, PERMANENT, DOUBT, UNKNOWN = "passing", "permanent", "doubt", "unknown"


def kind(fault: PaymentsError) -> str:
    assert (fault.permanent, fault.in_doubt, fault.unknown).count(True) <= 1
    return PERMANENT if fault.permanent else DOUBT if fault.in_doubt else UNKNOWN if fault.unknown else PASSING


def acting(client: MyFatoorah) -> Callable[[], object]:
    return lambda: client.open(ORDER)


def asking(client: MyFatoorah) -> Callable[[], object]:
    return lambda: client.status(invoice="7")


@pytest.mark.parametrize(("status", "told", "of_acting", "of_asking", "words"), [
    (400, refusal(("InvoiceValue", "Invoice value must be more than 0")), PERMANENT, PERMANENT, "InvoiceValue"),
    (400, {"IsSuccess": "false", "Message": "Invalid data", "FieldsErrors": [{"Name": "CustomerMobile", "Error": ""}]},
     PERMANENT, PERMANENT, "CustomerMobile"),
    (200, refusal(("CustomerEmail", "bad")), PERMANENT, PERMANENT, "CustomerEmail"),
    (400, refusal(("Key", "No such")), PERMANENT, UNKNOWN, ""),
    (400, refusal(("key", "")), PERMANENT, UNKNOWN, ""),
    (404, refusal(message="No data found"), PASSING, UNKNOWN, ""),
    (200, refusal(message="The invoice does not exist"), PASSING, UNKNOWN, ""),
    (200, refusal(message="Please try later"), PASSING, PASSING, "does not say what is wrong"),
    (401, b"", PASSING, PASSING, "MYFATOORAH_API_KEY"),
    (401, refusal(message="The token does not have the required permissions!"), PASSING, PASSING, "refuses our key"),
    (400, refusal(message="The token is not valid or it is expired!"), PASSING, PASSING, "refuses our key"),
    (500, refusal(message="Exception: You are not Authorized to use API."), PASSING, PASSING, "refuses our key"),
    (200, "You are not Authorized to use API.", PASSING, PASSING, "refuses our key"),
    (403, HTML, PASSING, PASSING, "refuses our address"),
    (403, refusal(message="Forbidden"), PASSING, PASSING, "refuses our key"),
    (404, {"Message": "No HTTP resource was found", "MessageDetail": "x"}, PASSING, PASSING, "MYFATOORAH_BASE_URL"),
    (302, b"", PASSING, PASSING, "another address"),
    (409, {}, DOUBT, PASSING, "status 409"),
    (418, HTML, PASSING, PASSING, "status 418"),
    (400, HTML, PASSING, PASSING, "status 400"),
    (500, {"Message": "An error has occurred."}, DOUBT, PASSING, "status 500"),
    (502, HTML, DOUBT, PASSING, "status 502"),
    (503, refusal(("Key", "x")), DOUBT, PASSING, "status 503"),
    (200, b"", DOUBT, PASSING, "answers nothing"),
    (200, HTML, DOUBT, PASSING, "can't be read"),
    (200, "please try again later", DOUBT, PASSING, "can't be read"),
    (200, {"Message": "An error has occurred."}, DOUBT, PASSING, "can't be read"),
    (200, {"IsSuccess": "perhaps", "Data": {"InvoiceId": 7}}, DOUBT, PASSING, "can't be read"),
    (200, {"IsSuccess": 1, "Data": {"InvoiceId": 7}}, DOUBT, PASSING, "can't be read"),
    (200, b"[" * 100_000, DOUBT, PASSING, "can't be read"),
    (200, b'{"IsSuccess": true, "Data": \xff}', DOUBT, PASSING, "can't be read"),
    (200, success({"InvoiceId": 7}), DOUBT, None, "no invoice with an address"),
    (200, success({"InvoiceId": 7, "PaymentURL": "javascript:alert(1)"}), DOUBT, None, "no invoice with an address"),
    (200, success({"InvoiceId": 7, "PaymentURL": "https://a b/"}), DOUBT, None, "no invoice with an address"),
    (200, success({"InvoiceId": 7, "PaymentURL": "https://a/"}), None, None, ""),
    (200, {"IsSuccess": "True", "Data": {"InvoiceId": "7", "PaymentURL": "https://a/"}}, None, None, ""),
])  # fmt: skip
def test_each_answer_says_whether_to_ask_again_and_whether_it_was_done(
    status: int, told: Any, of_acting: str | None, of_asking: str | None, words: str
) -> None:
    """PAY-01, facts, 2: a payment that was opened twice is paid twice; one that was given up can be paid unseen."""
    provider = Provider()
    try:
        client = provider.says(told, status).client()
        for call, expected in ((acting(client), of_acting), (asking(client), of_asking)):
            if expected is None:
                call()
                continue
            fault = fault_of(call)
            assert kind(fault) == expected, fault.reason
            assert words in fault.reason or expected == UNKNOWN or of_asking == UNKNOWN
            assert fault.retry_after is None
    finally:
        provider.close()


@pytest.mark.parametrize(("status", "header", "wait"), [
    (429, None, 60), (429, "7", 7), (429, "0", 1), (429, "999999999", 86_400), (429, "soon", 60), (429, "-5", 60),
    (429, "Mon, 01 Jan 2024 00:00:00 GMT", 1), (429, IN_AN_HOUR, 3600), (503, "120", 120), (503, None, None),
])  # fmt: skip
def test_a_limit_is_respected(status: int, header: str | None, wait: int | None) -> None:
    """PAY-03, facts, 2: the status call is limited, the number unpublished."""
    if header == IN_AN_HOUR:
        header = email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1), True)
    provider = Provider()
    try:
        provider.says(refusal(message="Too many requests"), status, **({"Retry_After": header} if header else {}))
        fault = fault_of(asking(provider.client()))
    finally:
        provider.close()
    assert kind(fault) == PASSING
    assert fault.retry_after == pytest.approx(wait, abs=60 if wait == 3600 else 0)


def test_a_refund_that_is_under_way_is_looked_for_and_not_asked_again() -> None:
    """PAY-04: asked twice is given back twice; the one under way may be ours whose answer was lost."""
    under_way = refusal(("Key", "The transaction is already under processing!"))
    too_little = refusal(("Amount", "Insufficient balance for vendor"))
    too_much = refusal(("Amount", "Amount must not be more than what is left"))
    with providing() as provider:
        for told in (under_way, too_little, too_much):
            provider.says(told, 400)
        client = provider.client()
        faults = [fault_of(lambda: client.refund("7", 2500, REFERENCE, "why")) for _ in range(3)]
    assert [kind(fault) for fault in faults] == [DOUBT, PASSING, PERMANENT]
    assert "balance" in faults[1].reason


def test_no_refunds_yet_is_an_empty_list_and_no_fault() -> None:
    """PAY-04, facts, 18: how an invoice without refunds is answered is not known; both ways are none."""
    with providing() as provider:
        provider.says(refusal(("Key", "No data found")), 400).says(refusal(("KeyType", "wrong")), 400)
        client = provider.client()
        assert client.refunds("7") == ()
        assert kind(fault_of(lambda: client.refunds("7"))) == PERMANENT


@pytest.mark.parametrize("status", [200, 400])
def test_a_refused_card_is_told_as_one(status: int) -> None:
    """Facts, 2: a direct charge's failure sits in Data.ErrorMessage, under an IsSuccess of either kind."""
    data = {"Status": "FAILED", "ErrorMessage": "Insufficient funds", "PaymentId": "1"}
    provider = Provider()
    try:
        provider.says({"IsSuccess": status == 200, "Message": None, "ValidationErrors": None, "Data": data}, status)
        fault = fault_of(lambda: provider.client().charge(Opened("7", provider.url + "/pay"), "the-token"))
    finally:
        provider.close()
    assert (kind(fault), fault.reason) == (PERMANENT, "the card was refused")


def test_a_tokens_fault_is_not_our_keys() -> None:
    """ "The token is not valid" is said of keys and of cards: a customer's card must not send an operator searching."""
    with providing() as provider:
        provider.says(refusal(("Token", "The token is not valid or it is expired!")), 400)
        fault = fault_of(lambda: provider.client().charge(Opened("7", provider.url + "/pay"), "the-token"))
    assert kind(fault) == PERMANENT
    assert "key" not in fault.reason


def test_nothing_left_where_nobody_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Design, habit 7: refused, no answer to the knock, no address, no key: nothing was sent, so no doubt."""

    def reason(url: str, key: str = KEY) -> str:
        fault = fault_of(acting(MyFatoorah(url, key, seconds=(0.3, 0.3))))
        assert kind(fault) == PASSING
        return fault.reason

    assert reason(NOWHERE) == "the payment provider can't be reached"
    assert reason("http://*") == "MYFATOORAH_BASE_URL is no address"
    assert reason(NOWHERE, "") == "there is no key for the payment provider (MYFATOORAH_API_KEY)"
    assert reason(NOWHERE, "a\nb") == "MYFATOORAH_API_KEY is no key"
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        address = deaf.getsockname()
        with socket.create_connection(address):  # the only place in its queue
            assert reason(f"http://127.0.0.1:{address[1]}") == "the payment provider can't be reached"


@pytest.mark.parametrize(("said", "of_acting"), [
    (b"", DOUBT),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", DOUBT),
    (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 99\r\n\r\n<", DOUBT),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{", PASSING),
])  # fmt: skip
def test_silence_has_an_end_and_leaves_a_doubt_where_something_was_asked_to_be_done(
    said: bytes, of_acting: str
) -> None:
    """Design, habit 7: time-outs are always given."""
    for call, expected in ((acting, of_acting), (asking, PASSING)):
        with saying(said, stay=True) as server:
            fault = fault_of(call(MyFatoorah(server.url, KEY, seconds=(0.2, 0.2))))
        assert kind(fault) == expected
        assert fault.reason == "the payment provider takes too long to answer"
        with saying(said) as server:
            fault = fault_of(call(MyFatoorah(server.url, KEY, seconds=(2.0, 2.0))))
        assert kind(fault) == expected
        assert fault.reason == "the payment provider's answer did not come whole"


def test_an_answer_that_drips_or_never_ends_has_an_end() -> None:
    """Design, habit 7: a byte a moment is never silent, and would keep the worker."""
    started = time.monotonic()
    dripping = answer(json.dumps(success({"more": "x" * 2000})).encode())
    with saying(dripping, pause=0.002) as server:
        fault = fault_of(acting(MyFatoorah(server.url, KEY, seconds=(0.4, 0.4))))
    assert (kind(fault), fault.reason) == (DOUBT, "the payment provider takes too long to answer")
    assert time.monotonic() - started < 3
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99000000\r\n\r\n" + b" " * 9_000_000) as server:
        assert kind(fault_of(acting(MyFatoorah(server.url, KEY)))) == DOUBT


def test_one_connection_serves_many_calls_and_no_cookie_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """PERF: no handshake each; what one answer brings along goes into no other question."""
    connected: list[object] = []
    connect = socket.socket.connect

    def noted(line: socket.socket, to: Any) -> None:
        connected.append(to)
        connect(line, to)

    monkeypatch.setattr(socket.socket, "connect", noted)
    provider = Provider()
    try:
        client = provider.says(success({"InvoiceId": 7}), 200, Set_Cookie="affinity=x; Path=/").client()
        for _ in range(10):
            client.status(invoice="7")
        assert len(connected) == 1
        assert not any("Cookie" in asked.headers for asked in provider.heard)
        # A worker forks: two processes on one connection would read each other's answers.
        monkeypatch.setattr(os, "getpid", lambda: -1)
        client.status(invoice="7")
        client.status(invoice="7")
        assert len(connected) == 2
    finally:
        provider.close()


def test_the_key_goes_to_its_address_and_nothing_else_that_the_machine_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OPS-03: no redirect, no proxy of the shell's, no .netrc."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    for name, value in (("NETRC", str(netrc)), ("HTTP_PROXY", NOWHERE), ("http_proxy", NOWHERE)):
        monkeypatch.setenv(name, value)
    with saying(answer(b"{}")) as other, providing() as provider:
        provider.says(b"", 307, Location=f"{other.url}/v2/GetPaymentStatus")
        fault_of(asking(provider.client()))
        assert provider.heard[0].headers["Authorization"] == f"Bearer {KEY}"
    assert other.heard == []


@pytest.mark.parametrize("said", [
    f"The key {KEY} is not known", "Card 5123450000000008 is blocked", "Card 5123 4500 0000 0008", "٥١٢٣٤٥٠٠٠٠٠٠٠٠٠٨",
    "Mobile 50001234 of عبدالله Al-Sabah", "abdullah@example.com is unknown", "token the-cards-token-0123456789abcdef",
    "x" * 5000,
])  # fmt: skip
def test_what_the_provider_repeats_reaches_neither_the_log_nor_the_reason(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Never again: secrets, codes and phone numbers in logs. Staff read the reason on a page."""
    with providing() as provider, caplog.at_level(logging.DEBUG, "portal"):
        provider.says(refusal(("CustomerName", said)), 400)
        fault = fault_of(acting(provider.client()))
    written = repr([vars(one) for one in caplog.records if one.name.startswith("portal")]) + fault.reason
    assert "CustomerName" in written  # what helps to find the cause does reach the log
    for secret in (KEY, "0008", "٥١٢٣", "50001234", "عبدالله", "abdullah@", "the-cards-token", "x" * 400):
        assert secret not in written


def test_a_cards_token_reaches_neither_the_log_nor_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """OPS-03: CancelToken has it in its address, and every library's error tells the address."""
    token = "tok-12"
    data = {"Status": "FAILED", "ErrorMessage": f"{token} is blocked"}
    with providing() as provider, caplog.at_level(logging.DEBUG, "portal"):
        provider.says(success(data)).says(refusal(("token", f"{token} is not known")), 400)
        client = provider.client()
        faults = [fault_of(lambda: client.charge(Opened("7", provider.url + "/pay"), token))]
        faults += [fault_of(lambda: client.forget(token))]
    faults += [fault_of(lambda: MyFatoorah(NOWHERE, KEY).forget(token))]
    written = repr([vars(one) for one in caplog.records if one.name.startswith("portal")])
    assert written.count("[ours] is") == 2
    for fault in faults:
        shown = "".join(traceback.format_exception(fault)).replace(f'"{token}"', "")
        assert token not in shown + written
    assert [kind(fault) for fault in faults] == [PERMANENT, PERMANENT, PASSING]
