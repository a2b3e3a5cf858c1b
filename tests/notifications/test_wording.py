"""The words in force: the newest version, else the release's own; what can't be sent is refused; no edit is lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_babel import force_locale

from portal.errors import NotFound
from portal.extensions import db
from portal.ids import new_id
from portal.models import MessageTemplate, Setting
from portal.services import seeds
from portal.services.notifications import samples, wording
from portal.services.notifications.kinds import KINDS, LANGUAGES
from portal.services.notifications.rendering import Wording
from portal.services.notifications.wording import TemplateRefused, both, history, preview, problems, restore, save
from tests.services.portal_app import MakeApp

BASE = "https://llm.example.com"
EDITORS = 8


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)


def forget() -> None:
    """As before the first seed of this release."""
    db.session.execute(sa.delete(MessageTemplate))
    db.session.commit()


def test_every_kind_is_seeded_in_both_languages_and_seeded_again_for_a_new_release(app: Flask) -> None:
    """OPS-02: 20+ templates; a release's new kinds are added, and what staff edited or wrote before stays in force."""
    with app.app_context():
        rows = db.session.execute(
            sa.select(MessageTemplate.kind, MessageTemplate.language, MessageTemplate.version, MessageTemplate.author)
        ).all()
        assert len(rows) == 2 * len(KINDS) >= 40
        assert {(kind, language) for kind, language, *_ in rows} == {(k, one) for k in KINDS for one in LANGUAGES}
        assert {(version, author) for *_, version, author in rows} == {(1, "seed")}

        record = db.session.get_one(Setting, "seeded")
        record.value = [name for name in record.value if not name.startswith("message credit_low")]
        db.session.execute(sa.delete(MessageTemplate).where(MessageTemplate.kind == "credit_low"))
        db.session.commit()
        assert save("credit_low", "en", "Little left", "{balance}\n{link}", "console") == 2
        added = seeds.seed(app.config["PORTAL"])
        assert added == ["message credit_low ar", "message credit_low en"]
        assert both("credit_low")["en"].title == "Little left"
        assert [version.number for version in history("credit_low", "en")] == [2, 1]


def test_a_portal_that_was_upgraded_and_not_seeded_speaks(app: Flask) -> None:
    """NOTIF-01..11: the release's own words, under the number that the seed would give them."""
    with app.app_context():
        forget()
        assert all(both(kind) == wording.TEXTS[kind] for kind in KINDS)
        own = history("welcome", "ar")
        assert [(v.number, v.wording, v.author, v.created_at) for v in own] == [
            (1, wording.TEXTS["welcome"]["ar"], "release", None)
        ]
        assert {version.author for version in wording.versions().values()} == {"release"}


def test_what_an_older_release_seeded_is_spoken_no_more(app: Flask) -> None:
    """NOTIF-11: its slips, and facts that its kinds had, went on for ever; what staff wrote since stays in force."""
    with app.app_context():
        old = sa.update(MessageTemplate).values(title="Old", body="Hello {name}\n{link}")
        db.session.execute(old.where(MessageTemplate.kind.in_(("welcome", "credit_low"))))
        db.session.commit()
        save("credit_low", "en", "Little left", "{balance}\n{link}", "console")
        assert both("welcome") == wording.TEXTS["welcome"]
        assert wording.in_language(["welcome"], "ar")["welcome"] == wording.TEXTS["welcome"]["ar"]
        assert both("credit_low") == {
            "ar": wording.TEXTS["credit_low"]["ar"], "en": Wording("Little left", "{balance}\n{link}"),
        }  # fmt: skip
        assert wording.versions()["welcome", "en"].wording == wording.TEXTS["welcome"]["en"]
        assert history("credit_low", "en")[-1].wording == wording.TEXTS["credit_low"]["en"]
        assert restore("credit_low", "en", 1, "console") == 3
        assert both("credit_low") == wording.TEXTS["credit_low"]


def test_the_newest_words_of_each_language_are_in_force_and_cost_one_query(app: Flask) -> None:
    """ADMIN-13: edited words are those of the next message; the other language keeps its own; one query a message."""
    with app.app_context():
        assert save("credit_low", "ar", "قارب رصيدك على النفاد", "الوحدات: {balance}\n{link}", "user:noor") == 2
        assert save("credit_low", "ar", "رصيدك قليل", "الوحدات المتبقية: {balance}\r\n{link}  \r\n\r\n", "console") == 3
        with statements() as seen:
            words = both("credit_low")
        assert len([statement for statement in seen if statement.lstrip().upper().startswith("SELECT")]) == 1
        assert words == {
            "ar": Wording("رصيدك قليل", "الوحدات المتبقية: {balance}\n{link}"),
            "en": wording.TEXTS["credit_low"]["en"],
        }
        assert wording.wording("credit_low", "ar") == words["ar"]
        current = wording.versions()
        assert (current["credit_low", "ar"].number, current["credit_low", "ar"].author) == (3, "console")
        assert current["credit_low", "en"].number == 1
        assert list(current) == [(kind, language) for kind in KINDS for language in LANGUAGES]


def test_an_older_version_is_put_in_force_again_as_a_new_one(app: Flask) -> None:
    """ADMIN-13: history only grows; version 1 is there even where nothing was seeded."""
    with app.app_context():
        forget()
        save("welcome", "en", "Hello", "Come in\n{link}", "console")
        assert restore("welcome", "en", 1, "user:noor") == 3
        assert both("welcome") == wording.TEXTS["welcome"]
        assert [(v.number, v.author) for v in history("welcome", "en")] == [
            (3, "user:noor"), (2, "console"), (1, "release"),
        ]  # fmt: skip
        with pytest.raises(NotFound):
            restore("welcome", "en", 7, "user:noor")
        assert len(history("welcome", "en")) == 3


@pytest.mark.parametrize(
    ("kind", "title", "body", "fault"),
    [
        ("credit_low", "  ", "{balance}\n{link}", "The title is empty."),
        ("credit_low", "Low", " \r\n ", "The text is empty."),
        ("credit_low", "x" * 121, "{balance}\n{link}", "The title has more than 120 characters."),
        ("credit_low", "Low", "x" * 1_500 + "\n{link}", "The text has more than 1500 characters."),
        ("credit_low", "Low", "{amount}\n{link}", "This message knows nothing called {amount}."),
        ("member_removed", "Gone", "{account}\n{link}", "This message knows nothing called {link}."),
        ("credit_low", "Low {amount}", "{balance}\n{link}", "This message knows nothing called {amount}."),
        ("credit_low", "Low", "{balance\n{link}", "There is a brace"),
        ("credit_low", "Low", "{Balance} {0} {{total}}\n{link}", "There is a brace"),
        ("credit_low", "Low", "Left: {balance}", "Without {link} this message says too little."),
        ("one_time_code", "Code", "{minutes}", "Without {code} this message says too little."),
        ("one_time_code", "Code", "{code}", "Without {minutes} this message says too little."),
        ("address_banned", "Banned", "{jail}\n{link}", "Without {address} this message says too little."),
        ("credit_low", "Low", "{balance}\nHere: {link}.", "{link} stands once, alone in a line of the text."),
        ("credit_low", "Low", "{balance}\n{link}\n{link}", "{link} stands once, alone in a line of the text."),
        ("one_time_code", "{code}", "{code}\n{minutes}", "{code} stands once, alone in a line of the text."),
        ("credit_low", "Low\nLower", "{balance}\n{link}", "There are signs in it that nobody can see"),
        ("credit_low", "Low", "{balance}\x00\n{link}", "There are signs in it that nobody can see"),
        ("credit_low", "Low", "{balance}\u202e\n{link}", "There are signs in it that nobody can see"),
        ("credit_low", "Low", "{balance}\ud800\n{link}", "There are signs in it that nobody can see"),
    ],
)  # fmt: skip
def test_words_that_could_not_be_sent_are_refused(app: Flask, kind: str, title: str, body: str, fault: str) -> None:
    """ADMIN-13: each fault is named, in the reader's language, and nothing is written."""
    with app.app_context(), force_locale("en"):
        told = [str(problem) for problem in problems(kind, "en", title, body)]
        assert [one for one in told if one.startswith(fault)], told
        with pytest.raises(TemplateRefused) as refused:
            save(kind, "en", title, body, "console")
        assert [str(problem) for problem in refused.value.problems] == told
        assert [version.number for version in history(kind, "en")] == [1]
    with app.app_context(), force_locale("ar"):
        arabic = [str(problem) for problem in problems(kind, "en", title, body)]
        assert len(arabic) == len(told)
        assert not set(arabic) & set(told)


def test_words_may_be_warm_and_leave_out_what_nobody_needs(app: Flask) -> None:
    """ADMIN-13: signs of joy, marks of writing and fewer facts are the editor's own affair."""
    with app.app_context():
        assert problems("credit_low", "en", "Low 🌴", "Nearly gone, 50 fils say:\n{link}") == []
        assert problems("welcome", "ar", "حيّاك الله 🌴", "أهلًا\u200f!\n{link}") == []
        assert save("welcome", "ar", "حيّاك الله 🌴", "أهلًا\u200f!\n{link}", "console") == 2
        assert both("welcome")["ar"].title == "حيّاك الله 🌴"


def test_an_unknown_kind_is_an_error_everywhere(app: Flask) -> None:
    """A misspelt kind must never become an empty message."""
    with app.app_context():
        for wrong in (
            lambda: both("nonsense"),
            lambda: history("nonsense", "ar"),
            lambda: problems("nonsense", "ar", "x", "y"),
            lambda: save("welcome", "fr", "x", "y", "console"),
            lambda: preview("nonsense", "ar", base_url=BASE),
        ):
            with pytest.raises(KeyError):
                wrong()


def test_words_whose_fact_is_gone_give_way_to_our_own(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """A release took a fact from a kind: the message goes out in the release's words, and the log says why."""
    with app.app_context():
        row = {"kind": "credit_low", "language": "en", "version": 2, "title": "Low", "body": "{gone}\n{link}"}
        db.session.execute(sa.insert(MessageTemplate).values(id=new_id(), author="user:noor", **row))
        db.session.commit()
        assert both("credit_low")["en"] == wording.TEXTS["credit_low"]["en"]
        assert [r.unknown for r in caplog.records if r.levelname == "ERROR"] == [["gone"]]  # type: ignore[attr-defined]


def test_a_preview_is_the_message_as_a_telephone_shows_it(app: Flask) -> None:
    """ADMIN-13: the reader's language first, sample facts, and words that are not saved yet."""
    with app.app_context():
        for kind in KINDS:
            text = preview(kind, "ar", base_url=BASE)
            assert not set("{}") & set(text)
            assert text.startswith("*") and text.count("— — —") == 1
        assert preview("credit_low", "en", base_url=BASE).startswith(
            "*Your credit is running low*\nCredits left: 2,950"
        )
        draft = {"en": Wording("Little left", "Only {balance}\n{link}")}
        text = preview("credit_low", "en", draft, base_url=BASE)
        assert text.startswith(
            f"*Little left*\nOnly 2,950.125\n{BASE}/billing\n\n— — —\n\n*{both('credit_low')['ar'].title}*"
        )
        assert both("credit_low")["en"] == wording.TEXTS["credit_low"]["en"]
        assert samples.FACTS["credit_low"]["balance"] == 2_950_125


def test_eight_editors_at_once_lose_no_words(make_app: MakeApp, database_url: str) -> None:
    """ADMIN-13: two editors at once both keep theirs, on all three databases; the last of them speaks."""
    app = make_app(database_url)
    ready, got = threading.Barrier(EDITORS), dict[int, int]()
    failed: list[BaseException] = []

    def edit(number: int) -> None:
        try:
            with app.app_context():
                db.session.execute(sa.select(1))  # connected before the start
                db.session.rollback()
                ready.wait(20)
                got[number] = save("credit_low", "ar", f"عنوان {number}", "{balance}\n{link}", f"user:{number}")
        except BaseException as error:  # noqa: BLE001  (told below, in the test's own thread)
            failed.append(error)

    editors = [threading.Thread(target=edit, args=(number,)) for number in range(EDITORS)]
    for editor in editors:
        editor.start()
    for editor in editors:
        editor.join(60)
    assert failed == []
    assert sorted(got.values()) == list(range(2, 2 + EDITORS))
    with app.app_context():
        kept = {version.number: version for version in history("credit_low", "ar")}
        assert sorted(kept) == list(range(1, 2 + EDITORS))
        assert {(number, kept[version].wording.title) for number, version in got.items()} == {
            (number, f"عنوان {number}") for number in range(EDITORS)
        }
        assert both("credit_low")["ar"] == kept[1 + EDITORS].wording
