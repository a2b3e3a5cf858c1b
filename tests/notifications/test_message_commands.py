"""`flask messages`: what was sent is seen with its fate, sent again or stopped by one person, and words are changed."""

import datetime as dt
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask

from portal import queue
from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery, Notification
from portal.services import codes, work
from portal.services.notifications import sent, wording
from portal.services.notifications.kinds import KINDS, LANGUAGES
from portal.services.notifications.samples import FACTS
from tests.services.portal_app import MakeApp

PHONE = "+96550001234"
LONG_AGO = dt.datetime(2026, 11, 1, 9, 0, tzinfo=dt.UTC)


def written(kind: str = "credit_low", **values: Any) -> str:
    """A message as the outbox leaves it, and what became of it. Returns its id."""
    note = {"recipient": f"phone:{PHONE}", "kind": kind, "occasion": new_id(), "facts": FACTS[kind], "language": "ar"}
    row = {"id": new_id(), "channel": "whatsapp", "address": PHONE, "due_at": LONG_AGO, **values}
    with db.engine.begin() as connection:
        connection.execute(sa.insert(Notification).values(id=row["id"], **note))
        connection.execute(sa.insert(Delivery).values(notification_id=row["id"], **row))
    return str(row["id"])


def row(delivery: str) -> sa.Row[*tuple[Any, ...]]:
    with db.engine.connect() as connection:
        return connection.execute(sa.select(Delivery.__table__).where(Delivery.id == delivery)).one()


def run(app: Flask, *words: str, given: str | None = None) -> Result:
    result = app.test_cli_runner().invoke(args=["messages", *words], input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def said(app: Flask, *words: str, given: str | None = None) -> str:
    """What a command says that goes well."""
    result = run(app, *words, given=given)
    assert result.exit_code == 0, result.output
    return result.output


def refused(app: Flask, *words: str, given: str | None = None) -> str:
    """What a command says that is refused."""
    result = run(app, *words, given=given)
    assert result.exit_code != 0, result.output
    return result.output


# --- words ----------------------------------------------------------------------------------------------------------


def test_every_message_is_listed_with_its_version(app: Flask) -> None:
    """ADMIN-13: kind, for whom, which words are in force and whose they are."""
    lines = said(app, "templates").splitlines()
    assert [line.split()[0] for line in lines] == list(KINDS)
    assert [line.split()[1] for line in lines] == [kind.audience for kind in KINDS.values()]
    assert all(line.count("v1 (seed, ") == len(LANGUAGES) for line in lines)


def test_words_are_changed_shown_and_taken_back(app: Flask, tmp_path: Path) -> None:
    """ADMIN-13: from a file, with a preview, refused with every fault, an older version in force again."""
    file = tmp_path / "body.txt"
    file.write_text("بقي لك: {balance}\n{link}\n", encoding="utf-8")
    words = ("set-template", "credit_low", "ar", "--title", "رصيدك قليل", "--body-file", str(file))
    assert "*رصيدك قليل*\nبقي لك:" in said(app, *words, "--preview")
    assert "رصيدك قليل" not in said(app, "template", "credit_low")
    assert "Version 2 is in force." in said(app, *words)
    shown = said(app, "template", "credit_low", "--language", "ar")
    assert "Placeholders: {balance} {link} {total}" in shown
    assert "v2 (console" in shown and "v1 (seed" in shown
    assert "رصيدك قليل\n\nبقي لك: {balance}\n{link}" in shown

    faults = refused(app, "set-template", "credit_low", "ar", "--body-file", "-", given="{amount} {\n")
    assert "nothing called {amount}" in faults
    assert "brace" in faults
    assert "Without {link}" in faults
    assert "Give --title" in refused(app, "set-template", "credit_low", "ar")
    assert "Version 3 is in force" in said(app, "restore-template", "credit_low", "ar", "1")
    assert "no version 9" in refused(app, "restore-template", "credit_low", "ar", "9")
    with app.app_context():
        assert wording.both("credit_low") == wording.TEXTS["credit_low"]


# --- what was sent --------------------------------------------------------------------------------------------------


def test_messages_are_listed_newest_first_without_numbers(app: Flask) -> None:
    """NOTIF-11: seen with their fate; by state, kind and number in any spelling; page after page; no number in full."""
    with app.app_context():
        first = written(state="done", attempts=1, accepted_at=LONG_AGO, delivered_at=LONG_AGO, read_at=LONG_AGO)
        second = written("daily_summary", state="dead", attempts=8, error="400 phone:invalid")
        third = written("invoice_ready", channel="email", address="layla@example.com")
    lines = said(app, "list").splitlines()
    assert [line.split()[0] for line in lines] == [third, second, first]
    assert lines[0].endswith("invoice_ready  email l•••@example.com  waiting, 0 tries")
    assert lines[1].endswith("daily_summary  whatsapp •••• 234  dead, 8 tries: 400 phone:invalid")
    assert lines[2].endswith("credit_low  whatsapp •••• 234  done, read, 1 try")
    assert "50001234" not in "".join(lines)

    def listed(*options: str) -> list[str]:
        return [line.split()[0] for line in said(app, "list", *options).splitlines()]

    assert listed("--state", "dead") == [second]
    assert listed("--kind", "invoice_ready") == [third]
    assert listed("--phone", "5000 1234") == listed("--phone", "٠٠٩٦٥٥٠٠٠١٢٣٤") == [second, first]
    assert listed("--phone", "Layla@Example.com") == [third]
    assert "There are none." in said(app, "list", "--phone", "no number")
    page = said(app, "list", "--limit", "2")
    assert page.splitlines()[-1] == f"There are more: --before {second}"
    assert listed("--limit", "2", "--before", second) == [first]


def test_a_message_is_shown_with_its_text_but_for_a_code(app: Flask) -> None:
    """NOTIF-11 and never-again, codes in logs: the fate and the words as they went; a secret's words nowhere."""
    with app.app_context():
        plain = written(state="done", text="*نفد رصيدك*", provider_id="6571f0", accepted_at=LONG_AGO, in_doubt=True)
        waits = written()
        code = written("one_time_code", state="done", text="a text that a bug kept: 482913")
    shown = said(app, "show", plain)
    assert "*نفد رصيدك*" in shown
    assert "at the carrier: 6571f0" in shown
    assert "accepted: 2026-11-01 12:00" in shown
    assert "may have it" in shown
    assert "written when it is sent" in said(app, "show", waits)
    assert "482913" not in said(app, "show", code)
    assert "secret" in said(app, "show", code)
    assert "There is no 0190" in refused(app, "show", "0190")


@pytest.mark.parametrize("state", sent.OVER)
def test_a_message_that_was_given_up_is_sent_again(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    """ADMIN-13, resend: due at once and handed over after the commit; claimed by a worker like any other; its attempts
    go on counting, so that a worker of before writes nothing into it; the log says who did it."""
    handed: list[tuple[str, Any, str]] = []

    def listen(name: str, batches: Any) -> bool:
        handed.append((name, [list(batch) for batch in batches], row(batches[0][0]).state))
        return True

    monkeypatch.setattr(queue, "enqueue_now", listen)
    with app.app_context():
        past = {"expires_at": LONG_AGO, "attempts": 8, "error": "502", "in_doubt": True, "text": "as it was"}
        message = written("daily_summary", state=state, **past)
        assert f"{message} is due now." in said(app, "resend", message)
        assert handed == [("deliver", [[message]], "waiting")]
        told = {key: vars(caplog.records[-1]).get(key) for key in ("delivery", "kind", "was", "actor")}
        assert told == {"delivery": message, "kind": "daily_summary", "was": state, "actor": "console"}
        now = row(message)
        assert (now.state, now.attempts, now.in_doubt, now.text) == ("waiting", 8, True, "as it was")
        assert utcnow() - dt.timedelta(minutes=1) < now.due_at <= utcnow()
        assert now.expires_at > utcnow() + dt.timedelta(hours=11)
        assert "stays as it is: it is waiting" in refused(app, "resend", message)
        assert work.claim(Delivery, message, 60) == work.Claim(message, 9, crashed=False)
        assert "stays as it is: it is running" in refused(app, "resend", message)
        assert "stays as it is: it is running" in refused(app, "cancel", message)


def test_an_e_mail_that_may_have_gone_out_goes_out_once_more(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-20: a mail server can't be asked, so in doubt an e-mail is given up; whoever resends it has decided."""
    monkeypatch.setattr(queue, "enqueue_now", lambda *_: True)
    with app.app_context():
        message = written(channel="email", address="layla@example.com", state="dead", in_doubt=True)
        sent.resend(message, "user:noor")
        assert (row(message).state, row(message).in_doubt, row(message).expires_at) == ("waiting", False, None)


def test_codes_and_what_was_sent_are_not_sent_again(app: Flask) -> None:
    """AUTH-04: an old code is of no use; and nobody is told twice by a slip of the hand."""
    with app.app_context():
        code, done = written("one_time_code", state="expired"), written(state="done")
        assert "one-time code" in refused(app, "resend", code)
        assert "it is done" in refused(app, "resend", done)
        assert "it is done" in refused(app, "cancel", done)
        assert (row(code).state, row(done).state) == ("expired", "done")
        assert KINDS["one_time_code"].minutes == codes.MINUTES


def test_a_cancelled_message_is_sent_by_nobody(app: Flask) -> None:
    """ADMIN-13: what waits can be stopped, and neither a worker nor the sweep takes it afterwards."""
    with app.app_context():
        message = written()
        assert f"{message} is cancelled." in said(app, "cancel", message)
        assert row(message).state == "cancelled"
        assert work.claim(Delivery, message, 60) is None
        assert message not in work.hand_out(Delivery)
        assert "it is cancelled" in refused(app, "cancel", message)


def test_of_many_who_send_again_or_claim_at_once_one_wins(
    make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conditional updates, on every database: eight colleagues resend one message and it is due once; a worker's claim
    against a cancel: one of the two has it, never both."""
    handed: list[str] = []

    def listen(_name: str, batches: Any) -> bool:
        handed.extend(batches[0])
        return True

    monkeypatch.setattr(queue, "enqueue_now", listen)
    app = make_app(database_url)
    with app.app_context():
        dead = written(state="dead")
        waiting = [written() for _ in range(4)]

    def at_once(*acts: Callable[[], object]) -> list[str]:
        """What came of each: it was `done`, or not."""
        ready, results = threading.Barrier(len(acts)), [""] * len(acts)

        def do(number: int) -> None:
            with app.app_context():
                ready.wait(20)
                try:
                    results[number] = "not" if acts[number]() is False else "done"
                except sent.NotPossible:
                    results[number] = "not"

        threads = [threading.Thread(target=do, args=(number,)) for number in range(len(acts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results

    assert sorted(at_once(*[partial(sent.resend, dead, "user:noor")] * 8)) == ["done"] + ["not"] * 7
    assert handed == [dead]
    for message in waiting:
        came_of = at_once(partial(claimed, message), partial(sent.cancel, message, "user:noor"))
        with app.app_context():
            assert (came_of, row(message).state) in ((["done", "not"], "running"), (["not", "done"], "cancelled"))


def claimed(message: str) -> bool:
    return work.claim(Delivery, message, 60) is not None
