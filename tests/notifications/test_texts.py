"""The words of every message: complete, the same facts in both languages, right for any number, Arabic in Arabic.

Each rule is looked for in every text, so a new kind is held to it the day it is written.
"""

import re
import unicodedata

import pytest

from dev.translations import NOT_ARABIC
from portal.services.notifications import rendering, samples, wording
from portal.services.notifications.kinds import CUSTOMER, KINDS, LANGUAGES, STAFF, Fact
from portal.services.notifications.rendering import Wording, known_placeholders, placeholders

EVERY = [(kind, language) for kind in KINDS for language in LANGUAGES]
BASE = "https://llm.example.com"
OURS = {"LLM", "Portal", "API"}
"""Latin words that stand in Arabic texts as they are."""
ABOUT_SAFETY = {"one_time_code", "password_changed", "phone_changed", "key_created"}
"""What a thief may have caused."""


def words(kind: str, language: str) -> Wording:
    return wording.TEXTS[kind][language]


def full(kind: str, language: str) -> str:
    return "\n".join(words(kind, language))


def bare(kind: str, language: str) -> str:
    """Without placeholders."""
    return rendering.PLACEHOLDER.sub("", full(kind, language))


def written(kind: str, language: str) -> rendering.Written:
    return rendering.write(KINDS[kind], words(kind, language), samples.FACTS[kind], language, BASE)


def strange(character: str) -> bool:
    """Of a script that is neither Arabic nor Latin, or a letter of Persian or Urdu that looks Arabic."""
    if character in NOT_ARABIC:
        return True
    name = unicodedata.name(character, "")
    return unicodedata.category(character)[0] in "LMN" and not name.startswith(("ARABIC", "LATIN", "DIGIT"))


def test_every_message_of_the_requirements_has_words_in_both_languages() -> None:
    """NOTIF-01..11: twenty and more, for customers and for staff; no kind without words and no words without a kind."""
    assert list(wording.TEXTS) == list(KINDS) == list(samples.FACTS)
    assert all(set(texts) == set(LANGUAGES) for texts in wording.TEXTS.values())
    assert len([kind for kind in KINDS.values() if kind.audience == CUSTOMER]) >= 17
    assert len([kind for kind in KINDS.values() if kind.audience == STAFF]) >= 7


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_a_message_tells_every_fact_it_has(kind: str, language: str) -> None:
    """NOTIF-11: the same facts in both languages, all of them, and none that nobody gives."""
    assert placeholders(full(kind, language)) == known_placeholders(kind)
    assert set(samples.FACTS[kind]) == set(KINDS[kind].facts)


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_the_releases_own_words_could_have_been_written_by_staff(kind: str, language: str) -> None:
    """ADMIN-13: what the editor refuses we do not ship; a link and a code stand alone in their lines."""
    assert wording.problems(kind, language, *words(kind, language)) == []


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_no_number_stands_in_a_text_and_none_decides_a_nouns_form(kind: str, language: str) -> None:
    """SUB-01: prices, limits and amounts are rows. And Arabic nouns have six forms: a number follows a colon, or `من`,
    or stands at a line's beginning and end, and is followed by no noun."""
    assert not re.search(r"[0-9٠-٩۰-۹%٪]", bare(kind, language))
    counted = (Fact.NUMBER, Fact.CREDITS)
    numbers = [name for name, fact in KINDS[kind].facts.items() if fact in counted]
    for name in numbers:
        for after in re.findall(rf"\{{{name}\}}(.*)", full(kind, language)):
            assert re.match(r"$|\.|،|,| من | of ", after), f"{{{name}}} is followed by {after!r}"


@pytest.mark.parametrize("kind", KINDS)
def test_arabic_is_written_in_arabic(kind: str) -> None:
    """never-again: foreign scripts on screen. Latin words are the product's name and `API`, nothing else."""
    text = bare(kind, "ar")
    assert {sign for sign in text if strange(sign)} == set()
    assert set(re.findall("[A-Za-z]+", text)) <= OURS
    assert not re.search("[,;?]", text)  # Arabic has its own
    assert not re.search("كريدت|رصيدات", text)  # a credit is وحدة, a balance الرصيد


@pytest.mark.parametrize("kind", KINDS)
def test_english_is_written_in_ascii(kind: str) -> None:
    """A dash or a quote that a telephone lacks becomes a box."""
    assert full(kind, "en").isascii()


def test_the_finder_of_strange_letters_finds() -> None:
    """What it would let pass here, it would let pass for ever."""
    for sign in ("я", "中", "ی", "ک", "א", "۳", "٣"):
        assert strange(sign) or re.search(r"[0-9٠-٩۰-۹%٪]", sign), sign
    for sign in "ءأؤئىةًّAz_ —«»؛؟":
        assert not strange(sign), sign


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_a_message_fits_a_telephones_screen(kind: str, language: str) -> None:
    """WhatsApp style: a short title, a few short lines; both languages together far below what is cut."""
    title, body = words(kind, language)
    assert len(title) <= 60
    assert not title.endswith(".")
    assert 2 <= len(body.replace("{link}", "").strip().splitlines()) <= 5
    assert all(len(line) <= 160 for line in body.splitlines())
    first, second = (written(kind, code) for code in rendering.reading_order(language))
    assert len(rendering.whatsapp(first, second)) < 1_500


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_a_written_message_has_no_brace_left(kind: str, language: str) -> None:
    """NOTIF-11: every placeholder is filled, in every kind; a link leads to our own pages and ends the text."""
    title, body = written(kind, language)
    assert not set("{}") & set(title + body)
    if KINDS[kind].link:
        assert body.splitlines()[-1] == BASE + KINDS[kind].link
        assert not body.splitlines()[-2].endswith(".")  # a colon leads to it


@pytest.mark.parametrize("kind", KINDS)
def test_arabic_lines_run_from_the_right(kind: str) -> None:
    """A telephone takes a line's direction from its first letter, and a run of Latin letters without isolation takes
    the signs around it along: the plus of a number jumped to its other end."""
    title, body = written(kind, "ar")
    alone = {BASE + KINDS[kind].link, samples.FACTS[kind].get("code")}
    for line in (title, *(line for line in body.splitlines() if line not in alone)):
        outside = re.sub("[\u2066\u2068][^\u2069]*\u2069", "", line)
        letters = [sign for sign in outside if unicodedata.bidirectional(sign) in ("L", "R", "AL")]
        assert letters and unicodedata.bidirectional(letters[0]) == "AL", line
        assert set(re.findall("[A-Za-z]+", outside)) <= OURS, line
    isolated = re.findall("[\u2066\u2068]([^\u2069]*)\u2069", title + body)
    latin = [name for name, fact in KINDS[kind].facts.items() if fact in (Fact.LATIN, Fact.PHONE, Fact.NUMBER)]
    assert len(isolated) >= len(latin)


@pytest.mark.parametrize("kind", KINDS)
def test_digits_are_latin_in_both_languages(kind: str) -> None:
    """money.py: as everywhere on the pages; dates and durations included."""
    for language in LANGUAGES:
        title, body = written(kind, language)
        assert not re.search("[٠-٩۰-۹]", title + body)


@pytest.mark.parametrize("kind", sorted(ABOUT_SAFETY))
def test_who_did_not_do_it_is_told_what_to_do(kind: str) -> None:
    """NOTIF-11: a message about safety is of use to the one it was not."""
    assert "إن لم تكن أنت" in words(kind, "ar").body
    assert "If it was not you" in words(kind, "en").body


def test_a_code_is_alone_in_its_line_and_asked_for_by_nobody() -> None:
    """AUTH-04: a tap copies the digits and nothing else; nobody is to give them away."""
    for language, warning in (("ar", "لا تُطلع عليه أحدًا"), ("en", "Never share it")):
        lines = written("one_time_code", language).body.splitlines()
        assert "482913" in lines
        assert any(line.startswith(warning) for line in lines)


def test_a_name_of_either_script_keeps_its_brackets() -> None:
    """What people typed is isolated in both languages, and turns nothing round."""
    facts = {"label": "my-app (test)\u202e\nevil", "prefix": "rsk_Ab3dE6gH"}
    for language in LANGUAGES:
        body = rendering.write(KINDS["key_created"], words("key_created", language), facts, language, BASE).body
        assert body.splitlines()[0].endswith(": \u2068my-app (test) evil\u2069")


ADVERTISEMENTS = (
    "ربحت 500 د.ك استلمها https://evil.example/win", "hthttp://tp://evil.example", "HTTPS://EVIL.EXAMPLE",
    "www.evil.example", "evil。example", "evil．example", "win@evil.example", "wa.me/96550000000", "tg://resolve", "http://10.0.0.1/x",
)  # fmt: skip


@pytest.mark.parametrize("typed", ADVERTISEMENTS)
def test_what_people_typed_is_no_link_in_a_message_of_ours(typed: str) -> None:
    """NOTIF-11: a label of a key advertised in the portal's name; telephones make a link of any dot."""
    facts = {"label": typed, "prefix": "rsk_Ab3dE6gH"}
    for language in LANGUAGES:
        body = rendering.write(KINDS["key_created"], words("key_created", language), facts, language, BASE).body
        line = body.splitlines()[0]
        assert not re.search(r"https?:|://|[.@。．]\w", line, re.IGNORECASE), line
        assert "\u2060" in line
    assert rendering._unlinked("Nakhla Trading Co. (2 shops)") == "Nakhla Trading Co. (2 shops)"


@pytest.mark.parametrize(
    ("milli", "shown"),
    [(100_000, "100"), (12, "0.012"), (2_950_120, "2,950.12"), (0, "0"), (-500_000, "-500"), (60_000_000, "60,000")],
)
def test_credits_have_no_zeros_that_look_like_dinars(milli: int, shown: str) -> None:
    """CRD-01: `100.000` is a hundred dinars to every reader in Kuwait; as on the pages, the shortest exact figure."""
    body = rendering.write(KINDS["welcome"], words("welcome", "en"), {"credits": milli}, "en", BASE).body
    assert f"Welcome credits: {shown}\n" in body
