"""The catalogue: complete, with the placeholders it needs, and Arabic in Arabic."""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from flask import Flask, render_template_string
from flask.testing import FlaskClient

from tests.accounts.forms import log_in, register
from tests.services.environment import ROOT

PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]")
ALLOWED_MARKUP = re.compile(r"</?bdi>")


@pytest.fixture(scope="module")
def arabic() -> Catalog:
    with (ROOT / "portal/translations/ar/LC_MESSAGES/messages.po").open("rb") as file:
        return read_po(file, locale="ar")


def _forms(message: Message) -> list[str]:
    text = message.string
    return [text] if isinstance(text, str) else [str(form or "") for form in text or ()]


def test_the_catalogue_is_complete() -> None:
    """Every sentence of code and templates, extracted anew, is in the catalogue."""
    done = subprocess.run(
        [sys.executable, "-m", "dev.translations", "check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_placeholders_are_equal(arabic: Catalog) -> None:
    """No translation loses a figure or asks for one that is not there; one and two may be said in words."""
    for message in arabic:
        if not message.id:
            continue
        plural = not isinstance(message.id, str)
        wanted = set(PLACEHOLDER.findall("".join(message.id)))
        for number, text in enumerate(_forms(message)):
            assert text, message.id
            found = set(PLACEHOLDER.findall(text))
            assert found == wanted or (plural and number in (1, 2) and not found), message.id


def test_arabic_is_written_in_arabic(arabic: Catalog) -> None:
    """Never again "mojibake, foreign scripts on screen": Arabic letters, Latin, Latin digits, punctuation."""
    for message in arabic:
        for text in _forms(message):
            for character in ALLOWED_MARKUP.sub("", PLACEHOLDER.sub("", text)) if message.id else "":
                kind, name = unicodedata.category(character), unicodedata.name(character, "")
                ok = (
                    character.isascii()
                    or (kind[0] == "L" and name.startswith("ARABIC LETTER") and character not in "یکگچپژ")
                    or (kind == "Mn" and name.startswith("ARABIC"))
                    or kind[0] == "P"
                    or character in "\u0640\u200e\u2066\u2068\u2069"
                )
                assert ok, f"{character!r} in {text!r}"


def test_isolates_are_closed(arabic: Catalog) -> None:
    """An isolate left open turns the rest of the line around."""
    for message in arabic:
        for text in _forms(message):
            assert text.count("\u2066") + text.count("\u2068") == text.count("\u2069"), text
            assert text.count("<bdi>") == text.count("</bdi>"), text


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 طلب في الدقيقة"),
        (1, "طلب واحد في الدقيقة"),
        (2, "طلبان في الدقيقة"),
        (3, "3 طلبات في الدقيقة"),
        (10, "10 طلبات في الدقيقة"),
        (11, "11 طلبًا في الدقيقة"),
        (60, "60 طلبًا في الدقيقة"),
        (100, "100 طلب في الدقيقة"),
        (102, "102 طلب في الدقيقة"),
        (103, "103 طلبات في الدقيقة"),
        (111, "111 طلبًا في الدقيقة"),
    ],
)
def test_arabic_counts_in_six_forms(app: Flask, number: int, words: str) -> None:
    """Babel's own order of the forms: the last is for 11 to 99, the one before it for 100 to 102."""
    template = '{{ ngettext("%(num)s request a minute", "%(num)s requests a minute", n) }}'
    with app.test_request_context("/?lang=ar"):
        assert render_template_string(template, n=number) == words


@pytest.mark.parametrize(
    ("milli", "arabic_words", "english_words"),
    [
        (0, "0 وحدة", "0 credits"),
        (57, "0.057 وحدة", "0.057 credits"),
        (1_000, "وحدة واحدة", "1 credit"),
        (2_000, "وحدتان", "2 credits"),
        (5_000, "5 وحدات", "5 credits"),
        (99_943, "99.943 وحدة", "99.943 credits"),
        (100_000, "100 وحدة", "100 credits"),
        (15_000_000, "15,000 وحدة", "15,000 credits"),
        (1_234_500, "1,234.5 وحدة", "1,234.5 credits"),
    ],
)
def test_credits_are_said_with_their_unit(app: Flask, milli: int, arabic_words: str, english_words: str) -> None:
    """look.md: Latin digits in both languages, never a number without a unit."""
    template = '{% from "pieces/credits.html" import credits with context %}{{ credits(n) }}'
    for language, words in (("ar", arabic_words), ("en", english_words)):
        with app.test_request_context(f"/?lang={language}"):
            assert re.sub("<[^>]*>", "", render_template_string(template, n=milli)) == words


def test_money_is_said_as_in_kuwait(app: Flask) -> None:
    """look.md: three decimals, `د.ك` in Arabic, KWD in English."""
    template = '{% from "pieces/money.html" import money %}{{ money(2000) }}'
    for language, words in (("ar", "\u200e2.000 د.ك"), ("en", "2.000 KWD")):
        with app.test_request_context(f"/?lang={language}"):
            assert re.sub("<[^>]*>", "", render_template_string(template)) == words


def test_arabic_is_the_default_and_the_choice_is_remembered(client: FlaskClient) -> None:
    """Arabic unless chosen otherwise; `?lang=` once, then without."""
    assert 'lang="ar"' in client.get("/").get_data(as_text=True)
    assert 'lang="en"' in client.get("/?lang=en").get_data(as_text=True)
    assert 'lang="en"' in client.get("/login").get_data(as_text=True)
    assert 'lang="en"' in client.get("/login?lang=fr").get_data(as_text=True)


def test_a_new_user_keeps_the_language_they_signed_up_in(app: Flask, client: FlaskClient) -> None:
    """On another device, without the cookie, the pages speak it too."""
    client.get("/?lang=en")
    register(client)
    client.delete_cookie("lang")
    assert 'lang="en"' in client.get("/dashboard").get_data(as_text=True)


def test_kuwait_is_the_first_country_in_both_languages(client: FlaskClient) -> None:
    """AUTH-01: Kuwait, the Gulf, then everybody by name."""
    for language, names in (("ar", ["الكويت", "المملكة العربية السعودية"]), ("en", ["Kuwait", "Saudi Arabia"])):
        page = client.get(f"/register?lang={language}").get_data(as_text=True)
        options = re.findall(r'<option( selected)? value="(\w\w)">([^<]*)</option>', page)
        assert [code for _, code, _ in options[:6]] == ["KW", "SA", "AE", "QA", "BH", "OM"]
        assert [text.partition(" (")[0] for _, _, text in options[:2]] == names
        assert [code for selected, code, _ in options if selected] == ["KW"]
        assert len(options) > 200


def test_the_catalogue_file_is_where_the_product_looks() -> None:
    """The one catalogue; English is in the code."""
    found = sorted(p.relative_to(ROOT) for p in (ROOT / "portal/translations").rglob("*.po"))
    assert found == [Path("portal/translations/ar/LC_MESSAGES/messages.po")]


def test_a_new_device_speaks_ones_own_language(app: Flask, client: FlaskClient) -> None:
    """Who signed up in English and signs in elsewhere finds English, on public pages too."""
    client.get("/?lang=en")
    register(client)
    elsewhere = app.test_client()
    assert log_in(elsewhere, "sara@example.com").status_code == 302
    assert 'lang="en"' in elsewhere.get("/").get_data(as_text=True)
