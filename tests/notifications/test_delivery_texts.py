"""What is written in a message, and where it may be kept; faults of our own; e-mail, which nobody can look for."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery, Notification
from portal.services import codes, work
from portal.services.notifications import delivery as delivering, notify, wording
from tests.messaging.mail_server import CUT, MailServer
from tests.notifications.outside import Clock, customer, deliveries, delivery, everything
from tests.notifications.sending import PHONE, Office
from tests.services.portal_app import MakeApp

# --- the text --------------------------------------------------------------------------------------------------------


def test_every_try_says_the_same_whatever_staff_edit_meanwhile(office: Office) -> None:
    """ADMIN-13: what may be out is looked for by its text; a new wording is for the messages that follow."""
    office.sandbox.control(server="whatsapp", drop_reference=True)
    office.faults("502_accepted", "401")
    one, other = office.tell(), office.tell()
    office.send(one)
    office.send(other)
    with office.app.app_context():
        for language in ("ar", "en"):
            wording.save("credit_exhausted", language, "New words", "{balance}\n{link}", "console")
    office.clock.later(seconds=30)
    assert (office.send(one), office.send(other)) == ("done", "done")
    assert not any("New words" in text for text in office.arrived)
    third = office.tell()
    office.send(third)
    assert office.wire.count("POST") == 4
    assert [("New words" in text) for text in office.arrived] == [False, False, True]


def test_a_text_that_was_not_kept_before_a_crash_is_kept_before_it_leaves(office: Office) -> None:
    """NOTIF-20: claimed, died, looked for in vain, sent: and that answer was lost as well. Still one message."""
    office.sandbox.control(server="whatsapp", drop_reference=True)
    one = office.tell()
    with office.app.app_context():
        work.claim(Delivery, one, delivering.LEASE_SECONDS)
    office.clock.later(seconds=delivering.LEASE_SECONDS + 1)
    office.faults("502_accepted")
    assert office.send(one) == "waiting"
    with office.app.app_context():
        wording.save("credit_exhausted", "en", "New words", "{balance}\n{link}", "console")
    office.clock.now = office.row(one).due_at
    assert office.send(one) == "done"
    assert (office.wire, len(office.arrived)) == (["GET", "POST", "GET"], 1)


def test_a_wording_that_can_not_be_filled_in_is_dead_with_its_reason(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """NOTIF-20: our own fault is no loop; the others in the batch go out all the same."""
    broken, good = office.tell(), office.tell()
    with office.app.app_context(), db.engine.begin() as connection:
        note = deliveries(Delivery.id == broken)[0].notification_id
        connection.execute(sa.update(Notification).where(Notification.id == note).values(facts={}))
    with office.app.app_context():
        assert delivering.deliver([broken, good]) == {"dead": 1, "done": 1}
    row = office.row(broken)
    assert (row.state, row.in_doubt) == ("dead", False)
    assert "balance" in row.error
    assert len(office.arrived) == 1


def test_a_message_of_another_release_stops_nobody(office: Office) -> None:
    """NOTIF-20: a release was taken back, and its rows are there: they wait for a worker that knows them, with the
    reason, and the batch goes on."""
    strange, good = office.tell(), office.tell()
    with office.app.app_context(), db.engine.begin() as connection:
        note = deliveries(Delivery.id == strange)[0].notification_id
        connection.execute(sa.update(Notification).where(Notification.id == note).values(kind="from_the_future"))
    with office.app.app_context():
        assert delivering.deliver([strange, good]) == {"waiting": 1, "done": 1}
    assert "release" in office.row(strange).error


def test_a_database_that_stumbles_kills_no_message(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-20: a lock that was waited for too long is no fault of the message: it is tried again, and not in doubt."""
    one = office.tell()

    def locked(*_: Any) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(wording, "both", locked)
        assert office.send(one) == "waiting"
    assert (office.row(one).in_doubt, office.wire) == (False, [])
    office.clock.now = office.row(one).due_at
    assert office.send(one) == "done"


# --- what must not be kept -------------------------------------------------------------------------------------------


def test_a_codes_digits_are_on_the_telephone_and_nowhere_else(
    office: Office, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """AUTH-04; never again, "Secrets, codes and phone numbers in logs": no row, no line has the digits."""
    caplog.set_level(logging.DEBUG)
    office.faults("502", "400")
    with office.app.app_context():
        code_id = new_id()
        digits = codes.digits(code_id)
    refused = office.tell("one_time_code", code=code_id, minutes=10)
    found = office.tell("one_time_code", code=code_id, minutes=10)
    office.send(refused)
    assert office.send(found) == "dead"
    office.clock.later(seconds=30)
    assert office.send(refused) == "done"
    [text] = office.arrived
    assert digits in text
    with office.app.app_context():
        assert {row.text for row in deliveries()} == {""}
        assert digits not in everything()
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(vars(record)) for record in caplog.records)
    assert digits not in said
    assert PHONE not in said


# --- e-mail ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mailing(make_app: MakeApp, sqlite_url: str, clock: Clock) -> Iterator[tuple[MailServer, Flask]]:
    server = MailServer()
    with server.running():
        yield server, make_app(sqlite_url, SMTP_URL=f"smtp://127.0.0.1:{server.port}", MAIL_FROM="portal@example.com")


def by_email(app: Flask) -> str:
    with app.app_context():
        owner = customer("en")
        notify(owner.account, "credit_exhausted", "1", balance=12)
        db.session.commit()
        return str(deliveries(Delivery.channel == "email")[0].id)


def test_an_email_is_sent_in_both_languages(mailing: tuple[MailServer, Flask]) -> None:
    """NOTIF-20: the second channel."""
    server, app = mailing
    one = by_email(app)
    with app.app_context():
        assert delivering.deliver_one(one) == "done"
        assert delivering.deliver_one(one) is None
        row = delivery(one)
    assert (row.state, row.in_doubt, row.attempts) == ("done", False, 1)
    body = server.mail().get_content()
    assert "0.012" in body and "رصيد" in body
    assert one in str(server.mail()["Message-ID"])


def test_an_email_in_doubt_is_not_sent_twice(mailing: tuple[MailServer, Flask], clock: Clock) -> None:
    """NOTIF-20: no mail server can be asked what it has; a second copy is worse than a lost one. Staff see it."""
    server, app = mailing
    server.answers["text"] = CUT
    one = by_email(app)
    with app.app_context():
        assert delivering.deliver_one(one) == "waiting"
        assert delivery(one).in_doubt is True
        server.answers.clear()
        clock.now = delivery(one).due_at
        assert delivering.deliver_one(one) == "dead"
        assert (delivery(one).in_doubt, len(server.mails)) == (True, 1)


def test_an_email_whose_worker_died_is_not_sent_twice(mailing: tuple[MailServer, Flask], clock: Clock) -> None:
    """NOTIF-20: as above; a server that was never reached is no doubt."""
    server, app = mailing
    one = by_email(app)
    with app.app_context():
        work.claim(Delivery, one, delivering.LEASE_SECONDS)
        clock.later(seconds=delivering.LEASE_SECONDS + 1)
        assert delivering.deliver_one(one) == "dead"
        assert (delivery(one).error != "", server.mails) == (True, [])


def test_an_email_that_was_surely_not_taken_is_tried_again(mailing: tuple[MailServer, Flask], clock: Clock) -> None:
    """NOTIF-20: 421 at the door, then accepted."""
    server, app = mailing
    server.answers["banner"] = "421 not now"
    one = by_email(app)
    with app.app_context():
        assert delivering.deliver_one(one) == "waiting"
        assert delivery(one).in_doubt is False
        server.answers.clear()
        clock.now = delivery(one).due_at
        assert delivering.deliver_one(one) == "done"
    assert len(server.mails) == 1
