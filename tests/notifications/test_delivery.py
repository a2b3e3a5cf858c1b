"""Each answer of the carrier and what follows: sent once, looked for before it is sent again, or given up.

The carrier is the sandbox, over HTTP; the clock is the test's. With real workers and kill -9: `tests/work`.
"""

import datetime as dt

import pytest

from portal import queue
from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery
from portal.providers.messaging import Sent, resayil
from portal.services import work
from portal.services.notifications import delivery as delivering, notify_number
from sandbox.process import SandboxProcess
from tests.notifications.outside import WHATSAPP, at_once, deliveries
from tests.notifications.sending import PHONE, Office
from tests.services.portal_app import MakeApp

# --- each answer -----------------------------------------------------------------------------------------------------


def test_a_message_that_is_accepted_is_done_and_its_text_is_kept(office: Office) -> None:
    """NOTIF-20: both languages in one text, the reader's first; the carrier's id is kept; a second try does nothing."""
    one = office.tell()
    assert office.send(one) == "done"
    row, [text] = office.row(one), office.arrived
    assert (row.state, row.attempts, row.error, row.in_doubt, row.lease_until) == ("done", 1, "", False, None)
    assert (row.provider_id, row.accepted_at) == (office.sandbox.messages()[0]["id"], office.clock.now)
    assert office.sandbox.messages()[0]["reference"] == one
    assert row.text == text
    english, arabic = text.split("\n\n— — —\n\n")
    assert "0.012" in english and english.isascii()
    assert any("\u0600" <= sign <= "\u06ff" for sign in arabic)
    assert office.send(one) is None
    assert office.wire == ["POST"]


@pytest.mark.parametrize(
    ("fault", "pause"),
    [("401", 10), ("403", 10), ("429", 60), ("429_retry_after", 120)],
)
def test_what_was_surely_not_accepted_is_sent_again_without_looking(office: Office, fault: str, pause: int) -> None:
    """NOTIF-20: not in doubt; tried again after ten seconds, or when the carrier says."""
    office.faults(fault, retry_after_s=120)
    one = office.tell()
    assert office.send(one) == "waiting"
    row = office.row(one)
    assert (row.state, row.in_doubt, row.attempts, row.lease_until) == ("waiting", False, 1, None)
    assert row.error.startswith("the carrier")
    assert office.pause(one) == pause
    office.clock.later(seconds=pause - 1)
    assert office.send(one) is None
    office.clock.later(seconds=1)
    assert office.send(one) == "done"
    assert (office.wire, len(office.arrived), office.row(one).error) == (["POST", "POST"], 1, "")


@pytest.mark.parametrize("fault", ["409", "500", "502", "503", "200_error", "200_html", "reset_before", "stall_before"])
def test_what_may_be_out_is_looked_for_and_sent_when_it_is_not_there(office: Office, fault: str) -> None:
    """NOTIF-20: never before it would be listed, and never a second POST without a look."""
    office.faults(fault)
    one = office.tell()
    assert office.send(one) == "waiting"
    assert (office.row(one).in_doubt, office.pause(one)) == (True, delivering.LOOK_AFTER)
    office.clock.later(seconds=delivering.LOOK_AFTER)
    assert office.send(one) == "done"
    assert office.wire == ["POST", "GET", "POST"]
    assert len(office.arrived) == 1
    assert office.row(one).in_doubt is False


@pytest.mark.parametrize(
    "fault", ["500_accepted", "502_accepted", "stall_accepted", "reset_accepted", "cut_accepted", "201_no_id"]
)
@pytest.mark.parametrize("references", [True, False])
def test_what_was_accepted_without_a_word_is_found_and_not_sent_again(
    office: Office, fault: str, references: bool
) -> None:
    """NOTIF-20: found by our reference, or by its text where the carrier gives none back; one POST, one message."""
    office.sandbox.control(server="whatsapp", drop_reference=not references)
    office.faults(fault)
    one = office.tell()
    assert office.send(one) == "waiting"
    office.clock.later(seconds=delivering.LOOK_AFTER)
    assert office.send(one) == "done"
    assert office.wire == ["POST", "GET"]
    assert len(office.arrived) == 1
    row = office.row(one)
    assert (row.in_doubt, row.provider_id) == (False, office.sandbox.messages()[0]["id"])


def test_a_final_fault_ends_it_at_once(office: Office) -> None:
    """NOTIF-20; never again, "provider 500 → retried, 400 → not"."""
    office.faults("400")
    one = office.tell()
    assert office.send(one) == "dead"
    row = office.row(one)
    assert (row.state, row.attempts, row.in_doubt, row.error != "") == ("dead", 1, False, True)
    office.clock.later(days=3)
    assert office.send(one) is None
    assert (office.wire, office.arrived) == (["POST"], [])


def test_a_definite_refusal_of_a_second_sending_ends_the_doubt(office: Office) -> None:
    """NOTIF-20: looked for, not there, and then refused for good: dead, and nothing is in doubt about it."""
    office.faults("502", "400")
    one = office.tell()
    office.send(one)
    office.clock.later(seconds=30)
    assert office.send(one) == "dead"
    assert (office.row(one).in_doubt, office.wire) == (False, ["POST", "GET", "POST"])


def test_a_passing_refusal_of_a_second_sending_ends_the_first_ones_doubt_too(office: Office) -> None:
    """NOTIF-20: while the carrier can't say whether it has the message, nothing is sent; afterwards it is."""
    office.faults("502_accepted")
    one = office.tell()
    office.send(one)
    office.sandbox.control(server="whatsapp", lookup_fault="500", lookup_times=3)
    for _ in range(3):
        office.clock.now = office.row(one).due_at
        assert office.send(one) == "waiting"
        assert office.row(one).in_doubt is True
    office.clock.now = office.row(one).due_at
    assert office.send(one) == "done"
    assert (office.wire, len(office.arrived)) == (["POST", "GET", "GET", "GET", "GET"], 1)


# --- how often -------------------------------------------------------------------------------------------------------


def test_a_day_of_faults_is_eight_tries_by_the_pauses(office: Office) -> None:
    """NOTIF-20: 10 s, 1 min, 5 min … about a day in all; then it is dead, and seen so."""
    office.sandbox.control(server="whatsapp", fault="401")
    one, pauses, began = office.tell(), [], office.clock.now
    while office.send(one) == "waiting":
        pauses.append(office.pause(one))
        office.clock.now = office.row(one).due_at
    assert pauses == list(delivering.PAUSES)
    row = office.row(one)
    assert (row.state, row.attempts, len(office.wire)) == ("dead", delivering.TRIES, delivering.TRIES)
    assert dt.timedelta(hours=12) < office.clock.now - began < dt.timedelta(hours=48)


def test_a_code_is_tried_within_its_minutes_only(office: Office) -> None:
    """AUTH-04: somebody waits for it. After five quick tries it is given up; after ten minutes it is not sent."""
    office.sandbox.control(server="whatsapp", fault="401")
    one, late = (office.tell("one_time_code", code=new_id(), minutes=10) for _ in range(2))
    pauses = []
    while office.send(one) == "waiting":
        pauses.append(office.pause(one))
        office.clock.now = office.row(one).due_at
    assert (pauses, office.row(one).state) == (list(delivering.URGENT_PAUSES), "dead")
    office.sandbox.control(server="whatsapp", fault=None)
    office.clock.now = office.row(late).expires_at
    assert office.send(late) == "expired"
    assert (office.row(late).error != "", office.arrived) == (True, [])
    assert len(office.wire) == len(delivering.URGENT_PAUSES) + 1


# --- one claim, crashes ----------------------------------------------------------------------------------------------


def test_twenty_threads_send_one_message_once(make_app: MakeApp, database_url: str, sandbox: SandboxProcess) -> None:
    """NOTIF-20: twenty workers that were given the same ids: one POST each message."""
    app = make_app(database_url, RESAYIL_API_URL=sandbox.whatsapp_url, **WHATSAPP)
    with app.app_context():
        for number in range(3):
            notify_number(PHONE, "ar", "credit_exhausted", str(number), balance=number)
        db.session.commit()
        ids = [row.id for row in deliveries()]
    done = at_once(app, 20, delivering.deliver, ids)
    assert sum(fates["done"] for fates in done if isinstance(fates, dict) and fates) == 3
    assert not [fates for fates in done if not isinstance(fates, dict)]
    assert sorted(message["reference"] for message in sandbox.messages(PHONE)) == sorted(ids)
    with app.app_context():
        assert {(row.state, row.attempts) for row in deliveries()} == {("done", 1)}


@pytest.mark.parametrize("sent", [True, False])
def test_what_a_dead_worker_held_is_looked_for(office: Office, sent: bool) -> None:
    """NOTIF-20: nobody knows how far it came. Not before its lease ended; then found, or sent."""
    one = office.tell()
    with office.app.app_context():
        assert work.claim(Delivery, one, delivering.LEASE_SECONDS) is not None
        if sent:
            letter = delivering._read(one)
            text = delivering.text_of(letter.facts, letter.kind, letter.language, "http://127.0.0.1:8000")
            resayil.Resayil(office.sandbox.whatsapp_url, "sandbox").send(PHONE, text, one)
    assert office.send(one) is None
    office.clock.later(seconds=delivering.LEASE_SECONDS + 1)
    assert office.send(one) == "done"
    assert office.wire == (["POST", "GET"] if sent else ["GET", "POST"])
    assert len(office.arrived) == 1


def test_a_message_that_kills_its_workers_is_given_up(office: Office) -> None:
    """NOTIF-20: no try of its own ever ends, and yet it is not tried for ever."""
    one = office.tell()
    for _ in range(delivering.TRIES):
        with office.app.app_context():
            assert work.claim(Delivery, one, delivering.LEASE_SECONDS) is not None
        office.clock.later(seconds=delivering.LEASE_SECONDS + 1)
    assert office.send(one) == "dead"
    row = office.row(one)
    assert (row.in_doubt, row.error, office.wire) == (True, "its worker died with each try", [])


def test_who_comes_back_after_the_lease_writes_nothing(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """NOTIF-20: another worker has it meanwhile, and its word counts."""
    one = office.tell()
    with office.app.app_context():
        held = work.claim(Delivery, one, delivering.LEASE_SECONDS)
        assert held is not None
        office.clock.later(seconds=delivering.LEASE_SECONDS + 1)
        assert office.send(one) == "done"
        assert delivering._note(held, delivering._read(one), state="dead", error="late") is None
    assert office.row(one).state == "done"


def test_a_receipt_before_the_answer_is_not_overwritten(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-20: the telephone was quicker than the carrier's own 201; and where that is lost, nothing is in doubt."""
    one, other = office.tell(), office.tell()
    told, sending = office.clock.now, resayil.Resayil.send

    def quick(carrier: resayil.Resayil, phone: str, text: str, reference: str) -> Sent:
        office.set(reference, delivered_at=told, read_at=told)
        office.clock.later(seconds=1)
        return sending(carrier, phone, text, reference)

    monkeypatch.setattr(resayil.Resayil, "send", quick)
    assert office.send(one) == "done"
    row = office.row(one)
    assert (row.delivered_at, row.read_at, row.accepted_at) == (told, told, office.clock.now)
    office.faults("502_accepted")
    assert office.send(other) == "waiting"
    office.clock.now = office.row(other).due_at
    assert office.send(other) == "done"
    row = office.row(other)
    assert (row.delivered_at, row.in_doubt, row.error) == (told, False, "")
    assert office.wire == ["POST", "POST"]


def test_a_slow_carrier_does_not_outlast_the_job(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-20: fifty slow messages would be broken off by the job's end, one of them in the middle, and everything
    else would wait for them."""
    ids = [new_id() for _ in range(work.BATCH)]
    tried: list[str] = []

    def slow(delivery_id: str) -> delivering._Fate:
        tried.append(delivery_id)
        office.clock.later(seconds=7)
        return delivering._Fate("waiting")

    monkeypatch.setattr(delivering, "_try", slow)
    with office.app.app_context():
        assert delivering.deliver(ids) == {"waiting": 3}
    for name in ("deliver", "deliver code"):  # and one that takes all that a row's lease allows
        assert queue.TASKS[name].timeout > delivering.ENOUGH.total_seconds() + delivering.LEASE_SECONDS
