"""Which language this request speaks. Arabic unless the person chose otherwise.

The order: `?lang=` (then remembered), the cookie, the signed-in person's own setting, Arabic. The API answers in
English unless asked, as programs do not negotiate: see `blueprints/proxy`.
"""

from flask import g, has_request_context, request
from flask_babel import get_locale

LANGUAGES = ("ar", "en")
DEFAULT = "ar"
COOKIE = "lang"
COOKIE_SECONDS = 365 * 86_400


def select_locale() -> str:
    """The language of the moment, for Flask-Babel. Outside a request: Arabic (jobs force their reader's own)."""
    if not has_request_context():
        return DEFAULT
    forced: str | None = g.get("language")
    if forced:
        return forced
    for candidate in (request.args.get("lang"), request.cookies.get(COOKIE), _own_setting()):
        if candidate in LANGUAGES:
            return candidate
    return DEFAULT


def _own_setting() -> str | None:
    user = g.get("_login_user")
    return getattr(user, "language", None)


def language() -> str:
    """`ar` or `en`."""
    locale = get_locale()
    return locale.language if locale and locale.language in LANGUAGES else DEFAULT


def direction() -> str:
    """`rtl` or `ltr`, for the page's `dir`."""
    return "rtl" if language() == "ar" else "ltr"
