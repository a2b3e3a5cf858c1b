"""Whose turn it is: no carrier keeps everybody waiting, and a number that nobody proved has few."""

from typing import Any

import pytest
import sqlalchemy as sa

from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Allowance, Delivery, User
from portal.providers.messaging import MessagingError
from portal.providers.messaging.resayil import Resayil
from portal.services import tunables, work
from portal.services.notifications import delivery as delivering, notify, notify_number, notify_staff, sent
from tests.notifications.outside import WHATSAPP, Queued, customer, deliveries
from tests.notifications.sending import PHONE, Office
from tests.services.environment import NOWHERE
from tests.services.portal_app import MakeApp

# --- slow carriers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["stall_before", "stall_accepted"])
def test_a_carrier_that_lets_us_wait_is_not_asked_fifty_times_in_a_row(office: Office, fault: str) -> None:
    """AUTH-04, CRD-01: with one worker, codes and settlements wait for the end of the job. What is left stays due."""
    office.faults(fault)
    ids = [office.tell() for _ in range(3)]
    with office.app.app_context():
        assert delivering.deliver(ids) == {"waiting": 1}
        assert [row.attempts for row in deliveries()] == [1, 0, 0]
        office.clock.later(seconds=delivering.LOOK_AFTER)
        office.clock.later(seconds=work.HANDED.total_seconds() + 1)
        assert sorted(work.hand_out(Delivery)) == sorted(ids)
        assert delivering.deliver(ids) == {"done": 3}


def test_a_carrier_that_is_not_there_ends_the_job_and_one_that_refuses_does_not(
    office: Office, make_app: MakeApp, sqlite_url: str
) -> None:
    """As above. A refusal is quick, and may be of one message alone."""
    office.faults("401", "400")
    ids = [office.tell() for _ in range(3)]
    with office.app.app_context():
        assert delivering.deliver(ids) == {"waiting": 1, "dead": 1, "done": 1}
    more = [office.tell() for _ in range(2)]
    away = make_app(sqlite_url, RESAYIL_API_URL=NOWHERE, **WHATSAPP)
    with away.app_context():
        assert delivering.deliver(more) == {"waiting": 1}


def test_a_lookup_that_takes_too_long_says_so(office: Office) -> None:
    """As above: looking is waiting too."""
    office.sandbox.control(server="whatsapp", lookup_fault="stall_before")
    with pytest.raises(MessagingError) as caught:
        Resayil(office.sandbox.whatsapp_url, "sandbox").find(PHONE, "x", new_id())
    assert (caught.value.unreachable, caught.value.in_doubt) == (True, False)


def test_each_carrier_has_jobs_of_its_own_and_a_code_stays_urgent(
    make_app: MakeApp, sqlite_url: str, clock: Any, queued: Queued
) -> None:
    """AUTH-04: a mail server that lets everybody wait keeps no WhatsApp waiting; and a code that is tried again stands
    behind nothing."""
    app = make_app(sqlite_url, SMTP_URL="smtp://127.0.0.1:1", ADMIN_PHONES="+96550009999")
    with app.app_context():
        for number in range(3):
            user = customer()
            notify(user.account, "credit_exhausted", str(number), balance=number)
            notify_number(PHONE, "en", "one_time_code", str(number), code=new_id(), minutes=10)
        db.session.commit()
        rows = {row.id: row for row in deliveries()}
        queued.clear()
        clock.later(seconds=work.HANDED.total_seconds() + 1)
        assert delivering.sweep() == len(rows) == 9
    assert sorted(name for name, _ in queued) == ["deliver", "deliver", "deliver code"]
    assert sorted(queued.ids) == sorted(rows)
    for name, ids in queued:
        assert len(ids) == 3
        assert len({rows[one].channel for one in ids}) == 1
        assert {rows[one].expires_at is not None for one in ids} == {name == "deliver code"}


# --- numbers that nobody proved --------------------------------------------------------------------------------------


def test_a_number_that_nobody_proved_gets_five_messages_a_day(office: Office) -> None:
    """AUTH-04, NOTIF-11: anybody can sign up with a stranger's number. The rest is stopped, with the reason; the day
    after there are five again; staff's word goes before the count."""
    ids = [office.tell() for _ in range(delivering.UNPROVED + 2)]
    assert [office.send(one) for one in ids] == ["done"] * delivering.UNPROVED + ["cancelled"] * 2
    assert office.row(ids[-1]).error == delivering.TOO_MANY
    with office.app.app_context():
        names = list(db.session.scalars(sa.select(Allowance.name)))
        assert len(names) == 2
        assert PHONE.removeprefix("+") not in str(names)
        sent.resend(ids[-1], "console")
    assert office.send(ids[-1]) == "done"
    office.clock.later(days=1)
    assert office.send(office.tell()) == "done"


def test_codes_staff_and_proved_numbers_are_not_counted(make_app: MakeApp, sqlite_url: str, office: Office) -> None:
    """AUTH-04: the code is what proves the number; and who proved theirs hears of everything."""
    staff = "+96550009999"
    app = make_app(sqlite_url, RESAYIL_API_URL=office.sandbox.whatsapp_url, ADMIN_PHONES=staff, **WHATSAPP)
    with app.app_context():
        user = customer()
        db.session.execute(sa.update(User).where(User.id == user.id).values(phone_verified_at=utcnow()))
        tunables.put("unproved_a_day", "0")
        for number in range(delivering.UNPROVED + 2):
            notify(user.account, "credit_exhausted", str(number), balance=number)
            notify_staff("provider_up", str(number), provider="ollama-1", seconds=5)
            notify_number(PHONE, "en", "one_time_code", str(number), code=new_id(), minutes=10)
        db.session.commit()
        told = deliveries(Delivery.channel == "whatsapp")
        assert delivering.deliver([row.id for row in told]) == {"done": len(told)}
        assert not list(db.session.scalars(sa.select(Allowance.name).where(Allowance.name.startswith("unproved"))))
        notify_number(PHONE, "en", "credit_exhausted", "x", balance=1)
        db.session.commit()
        assert delivering.deliver_one(deliveries()[-1].id) == "cancelled"


def test_a_message_is_counted_once_however_often_it_is_tried(office: Office) -> None:
    """AUTH-04: the faults of a carrier are no messages."""
    one = office.tell()
    office.sandbox.control(server="whatsapp", fault="401")
    for _ in range(delivering.TRIES - 1):
        assert office.send(one) == "waiting"
        office.clock.now = office.row(one).due_at
    office.sandbox.control(server="whatsapp", fault=None)
    assert office.send(one) == "done"
    with office.app.app_context():
        used = {row.name: row.used for row in db.session.scalars(sa.select(Allowance))}
    assert used.pop("unproved") == 1
    assert list(used.values()) == [1]


# --- once more -------------------------------------------------------------------------------------------------------


def test_a_message_that_staff_send_again_has_all_its_tries(office: Office) -> None:
    """ADMIN-13: after a day of faults it had none left, and one more fault was its end."""
    office.sandbox.control(server="whatsapp", fault="401")
    one = office.tell()
    for round_ in (1, 2):
        tries = 0
        while office.send(one) == "waiting":
            tries += 1
            office.clock.now = office.row(one).due_at
        assert (tries + 1, office.row(one).attempts) == (delivering.TRIES, round_ * delivering.TRIES)
        with office.app.app_context():
            sent.resend(one, "console")
