"""What the carrier answers, and what that leads to: real worker, scheduler and client, one fault a customer."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from portal.clock import utcnow
from portal.models import Delivery
from portal.services.accounts import NewUser, register
from sandbox.process import SandboxProcess
from tests.services.databases import Engine
from tests.services.redis_server import RedisServer
from tests.work.office import HOOK_TOKEN, Office, an_office

ACCEPTED = ("502_accepted", "500_accepted", "reset_accepted", "cut_accepted", "201_no_id", "stall_accepted")
REFUSED_IN_DOUBT = ("500", "502", "reset_before", "stall_before")
WAITS = ("401", "403", "429_retry_after")
FAULTS = tuple(fault for fault in (*ACCEPTED, *REFUSED_IN_DOUBT, *WAITS, "400") if not fault.startswith("stall"))
STALLS = ("stall_accepted", "stall_before")
"""Last, and as many as there are workers: each keeps one for the client's 15 s."""


class Fate(NamedTuple):
    """What became of one customer's welcome. first: its row after the first try. wire: what was asked of the carrier,
    oldest first. arrived: how many messages the telephone has."""

    first: Any
    pause: float
    last: Any
    wire: list[str]
    arrived: int


@pytest.fixture(scope="module")
def office(
    sqlite_engine: Engine,
    work_store: RedisServer,
    work_sandbox: SandboxProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Office]:
    url = sqlite_engine.fresh("seeded")
    work_sandbox.reset()
    with an_office(url, work_sandbox, work_store, tmp_path_factory.mktemp("office")) as office:
        office.open_web()
        office.start(workers=2)
        yield office
    sqlite_engine.server.drop(url)


@pytest.fixture(scope="module")
def fates(office: Office) -> dict[str, Fate]:
    """One customer a fault, all of them told in the end what can be told."""
    office.sandbox.next(*({"fault": fault} for fault in (*FAULTS, *STALLS)), server="whatsapp")
    phones = {fault: f"+9655100{number:04}" for number, fault in enumerate((*FAULTS, *STALLS))}
    left, first = len(phones), {}
    for fault, phone in phones.items():
        sign_up(office, phone)
        left -= 1
        office.until(partial(drawn, office, left), 20, f"the fault {fault}")
        if fault not in STALLS:
            first[fault] = after_the_first_try(office, phone)
    for fault in STALLS:
        first[fault] = after_the_first_try(office, phones[fault])
    office.until(lambda: not office.unfinished(), 40, "everybody told", hurry=True)
    return {
        fault: Fate(*first[fault], office.delivery_to(phone), wire(office, phone), len(office.sandbox.messages(phone)))
        for fault, phone in phones.items()
    }


def drawn(office: Office, left: int) -> bool:
    """Whether only so many faults still wait for a message."""
    return len(office.sandbox.state(server="whatsapp")["next"]) == left


def sign_up(office: Office, phone: str) -> None:
    with office.app.app_context():
        new = NewUser(email=f"u{phone[1:]}@example.com", phone=phone, password="saffron-tide-lamp")
        register(new, "127.0.0.1")


def after_the_first_try(office: Office, phone: str) -> tuple[Any, float]:
    """The row, and in how many seconds it is due again."""
    ended = office.until(
        lambda: (row := office.delivery_to(phone)).attempts and row.state != "running" and row,
        30,
        "the first try's end",
    )
    assert ended.attempts == 1
    return ended, (ended.due_at - utcnow()).total_seconds()


def wire(office: Office, phone: str) -> list[str]:
    """What was asked of the carrier about this number: POST and GET, oldest first."""
    return [
        entry["method"]
        for entry in office.sandbox.requests(path="/messages", server="whatsapp")
        if (entry["body"] or {}).get("phone") == phone or entry["notes"]["query"].get("phone") == phone[1:]
    ]


@pytest.mark.parametrize("fault", ACCEPTED)
def test_what_was_accepted_without_a_word_is_looked_up_and_never_sent_again(fates: dict[str, Fate], fault: str) -> None:
    """NOTIF-11 (sent once, survives a lost answer): the carrier has it, we do not know. It is looked for, not at once,
    and its own id is noted."""
    fate = fates[fault]
    assert (fate.first.state, fate.first.in_doubt) == ("waiting", True)
    assert fate.pause > 15, "what was just accepted may not be listed yet"
    assert fate.wire == ["POST", "GET"]
    assert fate.arrived == 1
    assert (fate.last.state, fate.last.in_doubt, fate.last.attempts) == ("done", False, 2)
    assert fate.last.provider_id


@pytest.mark.parametrize("fault", REFUSED_IN_DOUBT)
def test_what_may_have_been_accepted_is_looked_up_and_sent_when_it_is_not_there(
    fates: dict[str, Fate], fault: str
) -> None:
    """NOTIF-11 (retried on a passing fault): told later, once, and looked for between the two."""
    fate = fates[fault]
    assert (fate.first.state, fate.first.in_doubt) == ("waiting", True)
    assert fate.wire == ["POST", "GET", "POST"]
    assert (fate.arrived, fate.last.state) == (1, "done")


@pytest.mark.parametrize("fault", WAITS)
def test_a_refusal_that_passes_is_waited_out(fates: dict[str, Fate], fault: str) -> None:
    """NOTIF-11: a refused key and a carrier that wants us slower cost no message; nothing is in doubt, so nothing is
    looked for. After a 429 a minute passes at least."""
    fate = fates[fault]
    assert (fate.first.state, fate.first.in_doubt) == ("waiting", False)
    assert fate.first.error
    assert fate.pause > (50 if fault.startswith("429") else 5)
    assert fate.wire == ["POST", "POST"]
    assert (fate.arrived, fate.last.state) == (1, "done")


def test_a_final_refusal_ends_it_at_once_and_its_reason_is_seen(office: Office, fates: dict[str, Fate]) -> None:
    """NOTIF-11 (not retried on a final one): dead after the one try; `flask messages` tells staff why."""
    fate = fates["400"]
    assert (fate.first.state, fate.last.state, fate.last.attempts) == ("dead", "dead", 1)
    assert fate.wire == ["POST"]
    assert fate.arrived == 0
    assert "refuses the message" in fate.last.error
    assert fate.last.error in office.flask("messages", "show", fate.last.id)


def test_a_lookup_that_fails_keeps_the_message_in_doubt(office: Office, fates: dict[str, Fate]) -> None:
    """NOTIF-11: who can't be asked has perhaps got it. Nothing is sent before the carrier has said."""
    phone = "+96551001001"
    office.sandbox.next({"fault": "502_accepted"}, server="whatsapp")
    office.sandbox.control(server="whatsapp", lookup_fault="500", lookup_times=1)
    sign_up(office, phone)
    assert after_the_first_try(office, phone)[0].in_doubt
    office.until(lambda: not office.unfinished(), 30, "the end", hurry=True)
    assert wire(office, phone) == ["POST", "GET", "GET"]
    assert len(office.sandbox.messages(phone)) == 1


def test_an_offline_number_accepts_and_its_receipt_comes_later(office: Office, fates: dict[str, Fate]) -> None:
    """NOTIF-11 (seen with its fate): accepted is not delivered. The row says so until the number is online again."""
    assert office.web is not None
    hook = f"{office.web.url}/webhooks/resayil/{HOOK_TOKEN}"
    office.sandbox.control(server="whatsapp", webhook=hook, session="offline")
    phone = "+96551001002"
    sign_up(office, phone)
    office.until(lambda: office.delivery_to(phone).state == "done", 20, "the carrier's 201")
    row = office.delivery_to(phone)
    assert row.accepted_at is not None
    assert row.delivered_at is None
    assert [m["deliveryStatus"] for m in office.sandbox.messages(phone)] == ["queued"]
    office.sandbox.control(server="whatsapp", session="online")
    office.until(lambda: office.delivery_to(phone).delivered_at, 20, "the receipt")
    assert wire(office, phone) == ["POST"]


def test_nobody_was_told_twice(office: Office, fates: dict[str, Fate]) -> None:
    """NOTIF-11: over all of these, one message a telephone at most, and no row in doubt."""
    references = [message["reference"] for message in office.sandbox.messages()]
    assert len(references) == len(set(references))
    assert office.rows(sa.select(Delivery.id).where(Delivery.in_doubt)) == []
