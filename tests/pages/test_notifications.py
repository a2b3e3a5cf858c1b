"""The notification centre: everything an account was told, in its reader's words, and nobody else's."""

import datetime as dt
import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal import clock
from portal.errors import NotFound
from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery, Notification
from portal.providers.messaging import answers
from portal.services.notifications import centre, delivery, notify, receipts, samples, wording
from portal.services.notifications.kinds import CUSTOMER, KINDS, STAFF
from tests.accounts.code_forms import send, words
from tests.pages.history import FATES, give_notifications
from tests.pages.reading import Page
from tests.pages.test_queries import counted
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp

SHOWN = [kind for kind in KINDS.values() if kind.audience == CUSTOMER and kind.in_centre]
BELL = re.compile(r'class="bell-count".*?<bdi class="number">([^<]+)</bdi>', re.S)


@pytest.fixture
def layla(cast: Cast) -> FlaskClient:
    """Layla's browser, in English."""
    client = cast.sign_in(cast.layla)
    client.set_cookie("lang", "en")
    return client


def _html(client: FlaskClient, path: str = "/notifications") -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.get_data(as_text=True)


def _bell(client: FlaskClient) -> str:
    found = BELL.search(_html(client, "/keys"))
    return found[1] if found else "none"


def _tell(app: Flask, person: Person, kind: str, occasion: str = "now", **facts: object) -> None:
    with app.app_context():
        notify(person.account_id, kind, occasion, **(samples.FACTS[kind] | facts))
        db.session.commit()


def _titles(client: FlaskClient, path: str = "/notifications") -> list[str]:
    return re.findall(r'<h2 class="note-title">([^<]*)</h2>', _html(client, path))


# --- what is there, and whose ---------------------------------------------------------------------------------------


def test_what_an_account_was_told_stands_there_newest_first(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-21: title, words with their facts, when, a way on; the same facts that went to the telephone."""
    _tell(app, cast.layla, "credit_adjusted", credits=500_000)
    assert _titles(layla) == ["Your balance was adjusted", "New API key created", "Welcome to LLM Portal"]
    text = words(layla.get("/notifications"))
    assert "500" in text
    assert "layla&#39;s key" in text
    assert re.search(r'<time datetime="[^"]+" title="[^"]+, Kuwait time">', _html(layla))
    assert 'class="button button-small" href="/keys"' in _html(layla)
    assert "http://127.0.0.1:8000" not in words(layla.get("/notifications")), "an address of ours is a button"


def test_nobody_sees_anothers(app: Flask, cast: Cast) -> None:
    """TEAM-02, NOTIF-21: Omar is on Layla's team and reads his own; what Zaid presses changes nothing of hers."""
    assert cast.omar
    _tell(app, cast.layla, "account_suspended", reason="a secret of Layla's")
    for person in (cast.omar, cast.zaid, cast.noor):
        client = cast.sign_in(person)
        assert "a secret of" not in _html(client)
        send(client, "/notifications/read", "/settings")
    with app.app_context():
        assert centre.unread(cast.layla.account_id) == 3
        assert centre.unread(cast.omar.account_id) == 0


def test_what_is_unread_is_marked_by_a_word_and_counted_by_the_bell(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-21: until "mark all as read"; what came after the page was read stays new."""
    assert _bell(layla) == "2"
    html = _html(layla)
    assert html.count(">Unread</span>") == html.count("data-unread") == 2
    until = re.search(r'name="until" value="([^"]+)"', html)
    assert until is not None
    _tell(app, cast.layla, "topup_confirmed")
    assert _bell(layla) == "3"
    answer = send(layla, "/notifications/read", "/notifications", until=until[1])
    assert answer.location == "/notifications"
    assert _bell(layla) == "1"
    assert _html(layla).count("data-unread") == 1
    send(layla, "/notifications/read", "/notifications")
    assert _bell(layla) == "none"
    assert "Mark all as read" not in _html(layla), "no button that does nothing"


def test_marking_takes_the_form_token_and_a_place_of_ours(layla: FlaskClient) -> None:
    """OPS-03: a picture on somebody's page marks nothing."""
    assert layla.post("/notifications/read").status_code == 400
    assert send(layla, "/notifications/read", "/notifications", until="0-x").status_code == 404
    assert _bell(layla) == "2"


def test_what_only_goes_to_a_telephone_is_not_shown(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-21: invitations and codes are not the centre's, nor the bell's."""
    hidden = [kind.name for kind in KINDS.values() if not kind.in_centre]
    assert {"one_time_code", "member_invited"} == set(hidden)
    for kind in hidden:
        _tell(app, cast.layla, kind)
    send(layla, "/verify")
    assert len(_titles(layla)) == 2
    assert _bell(layla) == "2"


def test_an_empty_centre_teaches(app: Flask, cast: Cast) -> None:
    """look.md: what goes here, one button."""
    client = cast.sign_in(cast.zaid)
    with app.app_context():
        db.session.execute(sa.delete(Notification))
        db.session.commit()
    client.set_cookie("lang", "en")
    assert "What we tell you by WhatsApp stands here as well" in words(client.get("/notifications"))
    assert 'href="/settings#messages-title"' in _html(client)
    assert _bell(client) == "none"


def test_what_people_typed_is_shown_as_text(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """OPS-03: a key's label is no markup here either."""
    _tell(app, cast.layla, "key_created", label="<script>alert(1)</script>")
    assert "<script>alert" not in _html(layla)
    assert "&lt;script&gt;alert(1)" in _html(layla)


# --- staff ----------------------------------------------------------------------------------------------------------


def test_staff_have_a_part_of_their_own(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-07 to 10: what the operator's people were told; a customer who types the address is refused."""
    give_notifications(app, cast.layla)
    noor = cast.sign_in(cast.noor)
    noor.set_cookie("lang", "en")
    titles = _titles(noor, "/notifications?of=staff")
    staffs = [kind.name for kind in KINDS.values() if kind.audience == STAFF]
    with app.app_context():
        said = wording.in_language(staffs, "en")
    assert len(titles) == len(staffs)
    assert said["provider_down"].title in titles
    assert said["provider_down"].title not in _titles(layla)
    assert "/notifications?of=staff" not in _html(layla)
    refused = layla.get("/notifications?of=staff")
    assert refused.status_code == 403
    assert "ollama-1" not in refused.get_data(as_text=True)


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["ar", "en"])
def test_every_kind_is_written_in_the_readers_language(app: Flask, cast: Cast, language: str) -> None:
    """NOTIF-21: all of them, on one page's queries; no placeholder left, no other language."""
    give_notifications(app, cast.layla, [kind.name for kind in SHOWN])
    client = cast.sign_in(cast.layla)
    client.set_cookie("lang", language)
    with counted(app) as statements:
        page = Page(_html(client))
    assert len(statements) == 5, statements
    assert len(page.all("h2")) == min(len(SHOWN) + 2, centre.A_PAGE)
    assert not re.search(r"\{[a-z_]+\}", page.text)
    strange = re.findall(r"[A-Za-z]{3,}" if language == "ar" else r"[\u0621-\u064a]+", page.text)
    assert set(strange) <= {"LLM", "Portal", "API"}


def test_words_that_staff_changed_are_the_centres_too(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-11: as they are in force when they are read."""
    with app.app_context():
        own = wording.wording("welcome", "en")
        wording.save("welcome", "en", "Good morning", own.body, "console")
    assert "Good morning" in _titles(layla)
    layla.set_cookie("lang", "ar")
    assert "Good morning" not in _titles(layla)


def test_a_row_that_can_not_be_written_leaves_the_others(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-21: a release that knows other facts or kinds; a 500 would hide everything."""
    with app.app_context():
        for kind, facts in (("topup_confirmed", {}), ("credit_low", {"balance": "x", "total": 1}), ("of_tomorrow", {})):
            db.session.add(
                Notification(
                    recipient=f"account:{cast.layla.account_id}", account_id=cast.layla.account_id, kind=kind,
                    occasion="now", facts=facts, language="en",
                )
            )  # fmt: skip
        db.session.commit()
    assert _titles(layla) == ["A message of an earlier release"] * 2 + ["New API key created", "Welcome to LLM Portal"]


def test_a_link_is_a_button_only_where_there_is_a_page(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """Nothing is announced that is not there: messages are older and younger than pages."""
    _tell(app, cast.layla, "topup_confirmed", link="/there-is-nothing-here")
    _tell(app, cast.layla, "credit_adjusted", link="/settings?saved=where")
    html = _html(layla)
    assert "/there-is-nothing-here" not in html
    assert 'href="/settings?saved=where"' in html


@pytest.mark.parametrize(
    ("fate", "sentence"),
    zip(
        FATES,
        [
            "on its way", "will be sent when the quiet hours end", "could not be sent yet; we try again", "on its way",
            "sent 3 hours ago", "delivered 2 hours ago", "read 1 hour ago",
            "could not be delivered, as the number can't be reached by WhatsApp",
            "could not be delivered, as the address does not exist",
            "could not be delivered, as the fault was not yours",
            "could not be delivered, as it would have come too late",
            "was not sent: our staff stopped it",
        ],
        strict=True,
    ),
)  # fmt: skip
def test_the_fate_of_a_message_is_told_in_words(
    app: Flask, cast: Cast, layla: FlaskClient, fate: dict[str, object], sentence: str
) -> None:
    """NOTIF-21: of each delivery, to which number; why not, where its reader can do something about it."""
    now = clock.utcnow()
    values = {name: now + value if isinstance(value, dt.timedelta) else value for name, value in fate.items()}
    with app.app_context():
        db.session.execute(sa.update(Delivery).values(**values))
        db.session.commit()
    text = words(layla.get("/notifications"))
    assert f"WhatsApp •••• 101 : {sentence}" in text
    assert str(fate.get("error") or "the carrier") not in text.replace(sentence, ""), "our own reasons are for staff"
    assert cast.layla.phone not in _html(layla)


def test_reasons_are_known_by_the_words_of_those_who_give_them() -> None:
    """NOTIF-21: a reason that is reworded at the carrier's would silently become "not your fault"."""
    refused = answers.fault(400, {"errorCode": "phone:invalid"})
    assert refused.permanent
    assert centre._WHY[refused.reason] == centre.NO_SUCH_NUMBER
    assert centre._WHY[receipts.why("The number is not registered")] == centre.NO_SUCH_NUMBER


def test_a_number_that_had_its_messages_hears_why_and_what_to_do(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-21: not "our staff stopped it": it is for its reader to verify the number."""
    with app.app_context():
        db.session.execute(sa.update(Delivery).values(state="cancelled", error=delivery.TOO_MANY))
        db.session.commit()
    told = "could not be delivered, as your phone number is not verified, and had its messages for today"
    assert f"WhatsApp •••• 101 : {told}" in words(layla.get("/notifications"))


# --- many -----------------------------------------------------------------------------------------------------------


def test_pages_lose_and_repeat_nothing(app: Flask, cast: Cast, layla: FlaskClient) -> None:
    """NOTIF-21: 20 a page by keyset; rows of one instant, and one that arrives between two pages."""
    with app.app_context():
        db.session.execute(sa.delete(Notification))
        db.session.commit()
    at = clock.utcnow().replace(microsecond=0)
    _many(app, cast.layla, [at] * 45)
    seen: list[str] = []
    path = "/notifications"
    for _ in range(3):
        html = _html(layla, path)
        seen += re.findall(r"row-\d+", html)
        _many(app, cast.layla, [at + dt.timedelta(seconds=len(seen))], first=100 + len(seen))
        older = re.search(r'class="button" href="(/notifications\?before=[^"]+)"', html)
        path = older[1] if older else ""
    assert path == "", "the third is the last"
    assert len(seen) == len(set(seen)) == 45
    assert layla.get("/notifications?before=yesterday").status_code == 404
    assert "Nothing older than this" in words(layla.get(f"/notifications?before=1-{'0' * 32}"))


def _many(app: Flask, person: Person, instants: list[dt.datetime], first: int = 0) -> None:
    with app.app_context():
        for number, at in enumerate(instants, first):
            db.session.add(
                Notification(
                    id=new_id(), recipient=f"account:{person.account_id}", account_id=person.account_id,
                    kind="account_suspended", occasion=str(number), facts={"reason": f"row-{number}"}, language="ar",
                    created_at=at,
                )
            )  # fmt: skip
        db.session.commit()


def test_the_centre_is_the_same_on_every_database(database_url: str, make_app: MakeApp) -> None:
    """NOTIF-21: pages, counts, marks and choices where SQL decides."""
    app = make_app(database_url)
    layla, zaid = Cast(app).layla, Cast(app).zaid
    at = clock.utcnow()
    _many(app, layla, [at - dt.timedelta(microseconds=n // 2) for n in range(50)])
    with app.app_context():
        seen: list[str] = []
        before: str | None = None
        for _ in range(3):
            page = centre.page(layla.account_id, "en", before)
            seen += [note.id for note in page.notes]
            before = page.before
        assert before is None
        assert len(seen) == len(set(seen)) == 52
        assert centre.unread(layla.account_id) == 52
        third = centre.page(layla.account_id, "en", limit=7)
        assert third.newest is not None
        assert centre.mark_read(layla.account_id, centre.page(layla.account_id, "en", third.before).newest) == 45
        assert centre.unread(layla.account_id) == 7
        assert centre.mark_read(layla.account_id) == 7
        assert centre.unread(zaid.account_id) == 2
        for wanted in (False, False, True, True, False):
            centre.set_preference(layla.account_id, "key_created", "email", wanted)
        centre.set_preference(layla.account_id, "credit_low", "whatsapp", False)
        out = [one for one in centre.preferences(layla.account_id) if not one.whatsapp]
        assert [one.kind for one in out] == ["credit_low"]
        with pytest.raises(NotFound):
            centre.page(layla.account_id, "en", "x")
