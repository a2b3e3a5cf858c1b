"""Which language a request speaks: what was asked for, what was remembered, one's own setting, Arabic."""

import pytest
from flask import Flask, g

from portal import i18n


class Somebody:
    def __init__(self, language: str | None) -> None:
        self.language = language


@pytest.mark.parametrize(
    ("query", "cookie", "own", "chosen"),
    [
        ("", None, None, "ar"), ("?lang=en", None, None, "en"), ("?lang=ar", "en", "en", "ar"), ("", "en", "ar", "en"),
        ("", None, "en", "en"), ("?lang=fr", None, None, "ar"), ("?lang=fr", "en", None, "en"),
        ("?lang=", "xx", "en", "en"),
        ("?lang=en&lang=ar", None, None, "en"), ("?lang=EN", None, None, "ar"), ("", "en; x", None, "ar"),
        ("", None, "<script>", "ar"),
    ],
)  # fmt: skip
def test_the_order_is_address_cookie_own_setting_arabic(
    app: Flask, query: str, cookie: str | None, own: str | None, chosen: str
) -> None:
    """Pages: Arabic is the default, English a click away, remembered; nonsense is no language."""
    headers = {"Cookie": f'lang="{cookie}"' if cookie and " " in cookie else f"lang={cookie}"} if cookie else {}
    with app.test_request_context("/" + query, headers=headers):
        if own is not None:
            g._login_user = Somebody(own)
        assert i18n.select_locale() == chosen
        assert i18n.language() == chosen
        assert i18n.direction() == ("rtl" if chosen == "ar" else "ltr")


def test_outside_a_request_it_is_arabic(app: Flask) -> None:
    """Jobs force their reader's own language."""
    with app.app_context():
        assert i18n.select_locale() == "ar"


def test_a_forced_language_wins(app: Flask) -> None:
    with app.test_request_context("/?lang=ar"):
        g.language = "en"
        assert i18n.select_locale() == "en"


@pytest.mark.parametrize("accepted", ["en", "ar", "fr", None])
def test_pages_do_not_listen_to_the_browsers_language(app: Flask, accepted: str | None) -> None:
    """Arabic comes first: browsers in Kuwait often say English."""
    headers = {"Accept-Language": accepted} if accepted else {}
    with app.test_request_context("/", headers=headers):
        assert i18n.select_locale() == "ar"
