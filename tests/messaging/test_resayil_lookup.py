"""What the WhatsApp carrier has, and what it says of itself: looked up before anything is sent a second time."""

import datetime as dt
import time
from typing import Any

import pytest

from portal.providers.messaging import Sent, resayil
from portal.providers.messaging.resayil import Resayil
from sandbox.process import SandboxProcess
from tests.messaging.wire import PHONE, REFERENCE, SECOND_DEVICE, TEXT, fault_of, json_answer
from tests.providers.saying import saying

# --- looking for what was sent --------------------------------------------------------------------------------------


def listed(
    reference: str | None = None, *, phone: str = PHONE, text: str = TEXT, days: float = 0, **more: Any
) -> dict[str, Any]:
    at = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found = {"id": "b" * 24, "phone": phone, "message": text, "status": "processed", "createdAt": at, **more}
    return {**found, "reference": reference} if reference else found


@pytest.mark.parametrize(("message", "is_ours"), [
    (listed(REFERENCE), True),
    (listed(REFERENCE, text="as the carrier rewrote it", days=30), True),
    (listed(), True),
    (listed(text=TEXT.replace("\n", "\r\n") + "\n"), True),
    (listed(phone=PHONE.removeprefix("+")), True),
    (listed(createdAt=None, sentAt=None), True),
    (listed(status="failed", deliveryStatus="failed"), True),
    (listed("f" * 32), False),
    (listed(text=TEXT.replace("123456", "123457")), False),
    (listed(phone="+96550000002"), False),
    (listed(days=3), False),
    (listed(createdAt=None, deliverAt="2020-01-01T00:00:00.000Z"), False),
])  # fmt: skip
def test_a_message_is_known_by_our_reference_or_else_by_number_and_words(
    message: dict[str, Any], is_ours: bool
) -> None:
    """NOTIF-11: looked up before any second send, also at a service that gives no reference back."""
    with saying(json_answer([message])) as server:
        found = Resayil(server.url, "k").find(PHONE, TEXT, REFERENCE)
    assert found == (Sent("b" * 24) if is_ours else None)
    assert "phone=96550000001&" in server.heard[0]


@pytest.mark.parametrize("drops", [False, True])
def test_the_one_that_failed_before_is_not_taken_for_the_one_sent_again(
    sandbox: SandboxProcess, carrier: Resayil, drops: bool
) -> None:
    """ADMIN-13: both have the same reference, and the same words."""
    sandbox.control(server="whatsapp", drop_reference=drops)
    failed = carrier.send(PHONE, TEXT, REFERENCE)
    assert carrier.find(PHONE, TEXT, REFERENCE) == failed
    assert carrier.find(PHONE, TEXT, REFERENCE, known=failed.id) is None
    again = carrier.send(PHONE, TEXT, REFERENCE)
    assert carrier.find(PHONE, TEXT, REFERENCE, known=failed.id) == again


def test_a_service_that_drops_references_is_looked_through_by_words(sandbox: SandboxProcess, carrier: Resayil) -> None:
    """Facts, section 2.1: nobody has seen a reference come back from Resayil."""
    sandbox.control(server="whatsapp", drop_reference=True)
    assert carrier.find(PHONE, TEXT, REFERENCE) is None
    sent = carrier.send(PHONE, TEXT, REFERENCE)
    carrier.send(PHONE, "something else", "f" * 32)
    assert carrier.find(PHONE, TEXT, REFERENCE) == sent
    assert carrier.find(PHONE, TEXT, REFERENCE, since=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=6)) is None
    assert carrier.find("+96550000002", TEXT, REFERENCE) is None


@pytest.mark.parametrize("name", [
    "400", "401", "403", "404", "409", "429_retry_after", "500", "502", "503", "200_error", "200_html", "reset_before",
    "stall_before",
])  # fmt: skip
def test_a_lookup_that_fails_is_never_read_as_nothing_there(
    sandbox: SandboxProcess, carrier: Resayil, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """NOTIF-11: an unreadable list taken for an empty one would send the message twice."""
    monkeypatch.setattr(resayil, "READ_SECONDS", 0.3)
    sent = carrier.send(PHONE, TEXT, REFERENCE)
    sandbox.control(server="whatsapp", lookup_fault=name, lookup_times=1, retry_after_s=90)
    fault = fault_of(lambda: carrier.find(PHONE, TEXT, REFERENCE))
    assert (fault.permanent, fault.in_doubt) == (False, False)
    assert fault.retry_after == (90 if name == "429_retry_after" else None)
    assert carrier.find(PHONE, TEXT, REFERENCE) == sent


@pytest.mark.parametrize("told", [None, {}, {"error": "busy"}, "none", [1], [[]]])
def test_a_list_that_is_none_is_a_fault(told: Any) -> None:
    """As above."""
    with saying(json_answer(told)) as server:
        fault = fault_of(lambda: Resayil(server.url, "k").find(PHONE, TEXT, REFERENCE))
    assert (fault.permanent, fault.in_doubt) == (False, False)


def test_a_message_behind_hundreds_to_the_same_number_is_found(sandbox: SandboxProcess, carrier: Resayil) -> None:
    """NOTIF-07 to 10: a busy day's alerts all go to one administrator."""
    sent = carrier.send(PHONE, TEXT, REFERENCE)
    for number in range(120):
        carrier.send(PHONE, f"alert {number}", f"{number:032d}")
    assert carrier.find(PHONE, TEXT, REFERENCE) == sent
    assert carrier.find(PHONE, TEXT, "e" * 32) is None
    sandbox.control(server="whatsapp", reference_filter=False, drop_reference=True)
    assert "too many" in fault_of(lambda: carrier.find(PHONE, "not sent", "e" * 32)).reason


def page_of(count: int, *, days: float = 0) -> bytes:
    return json_answer([listed(text=f"alert {number}", days=days + number / 1e4) for number in range(count)])


def test_a_list_is_read_on_until_it_is_older_than_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-11: a full page is not the end of the list; a page that reaches back far enough is."""
    with saying(page_of(50)) as server:
        server.then = json_answer([listed()])
        assert Resayil(server.url, "k").find(PHONE, TEXT, REFERENCE) == Sent("b" * 24)
    assert "page=1" in server.heard[1]
    with saying(page_of(50, days=2.1)) as server:
        assert Resayil(server.url, "k").find(PHONE, TEXT, REFERENCE) is None
    assert len(server.heard) == 1


def test_a_search_has_an_end_however_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-11: one that outlasts the lease of the row would meet a second worker's sending."""
    monkeypatch.setattr(resayil, "FIND_SECONDS", 0.3)
    started = time.monotonic()
    with saying(page_of(50), stay=True) as server:  # the second page never comes
        fault = fault_of(lambda: Resayil(server.url, "k").find(PHONE, TEXT, REFERENCE))
    assert (fault.reason, fault.in_doubt) == ("the carrier takes too long to answer", False)
    assert time.monotonic() - started < 5


# --- the number, the webhook ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("knobs", "device", "words"), [
    ({}, "", ""),
    ({}, "64a1f0c2b7d3e95f08c4a1b2", ""),
    ({}, SECOND_DEVICE, "with the id that RESAYIL_DEVICE says"),
    ({"devices": ["64a1f0c2b7d3e95f08c4a1b2", SECOND_DEVICE]}, "", "2 sending numbers: RESAYIL_DEVICE must say which"),
    ({"devices": ["64a1f0c2b7d3e95f08c4a1b2", SECOND_DEVICE]}, SECOND_DEVICE, ""),
    ({"device_status": "disabled"}, "", "not operative"),
    ({"session": "offline"}, "", "its telephone may be off"),
    ({"session": "authorize"}, "", "QR code"),
])  # fmt: skip
def test_a_number_that_can_not_send_is_told_in_plain_words(
    sandbox: SandboxProcess, knobs: dict[str, Any], device: str, words: str
) -> None:
    """OPS-04: `flask doctor` and the health page."""
    sandbox.control(server="whatsapp", **knobs)
    told = Resayil(sandbox.whatsapp_url, "sandbox", device).check()
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(("told", "words"), [
    ([], "no sending number"), ([{"id": "x", "status": "operative"}], "not online"),
    ([{"id": "x", "status": "operative", "session": {"status": ["odd"]}}], "not online"),
])  # fmt: skip
def test_an_odd_account_is_not_taken_for_a_good_one(told: Any, words: str) -> None:
    """OPS-04."""
    with saying(json_answer(told)) as server:
        assert words in Resayil(server.url, "k").check()


def test_the_webhook_is_registered_once_and_follows_its_address(sandbox: SandboxProcess, carrier: Resayil) -> None:
    """NOTIF-11: receipts. A second run of the operator's command does no harm; an old token's address is taken back."""
    sandbox.control(server="whatsapp", webhook=None)
    events = ["message:out:sent", "message:out:ack", "message:out:failed"]

    def registered() -> list[tuple[str, list[str]]]:
        return [(hook["url"], hook["events"]) for hook in carrier._listed("/webhooks")]

    first, second = "http://127.0.0.1:9/webhooks/resayil/one", "http://127.0.0.1:9/webhooks/resayil/two"
    elsewhere = "http://127.0.0.2:9/webhooks/resayil/three"
    assert carrier.connect_webhook(elsewhere, events)
    assert carrier.connect_webhook(first, events[:2])
    assert carrier.connect_webhook(first, events)
    assert not carrier.connect_webhook(first, events)
    assert not carrier.connect_webhook(first, events[1:])
    assert registered() == [(elsewhere, sorted(events)), (first, sorted(events))]
    assert carrier.connect_webhook(second, events)
    assert registered() == [(elsewhere, sorted(events)), (second, sorted(events))]
