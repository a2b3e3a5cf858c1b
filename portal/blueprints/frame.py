"""What the frame around every page needs: the navigation, the balance in the top line, links to the same page in the
other language, and how an instant is written. Templates ask for these; no view passes them.
"""

import datetime as dt
from typing import NamedTuple
from urllib.parse import urlencode

from flask import Flask, current_app, request
from flask_babel import LazyString, format_datetime, format_timedelta, lazy_gettext as _l
from flask_login import current_user

from portal import assets, i18n
from portal.blueprints.guards import PageCaller, current_caller
from portal.clock import utcnow
from portal.models.account import User

THEMES = ("dark", "light")
LANGUAGE_NAMES = {"ar": "العربية", "en": "English"}
JUST_DONE = ("deleted", "changed", "saved", "step")
"""Words of an address that say what its visitor did a moment ago: not true any more of a second visit."""


class Way(NamedTuple):
    """One line of the side navigation."""

    endpoint: str
    label: LazyString
    icon: str


WAYS = (
    Way("dashboard.show", _l("Dashboard"), "grid"),
    Way("keys.index", _l("API keys"), "key"),
    Way("billing.index", _l("Billing"), "card"),
    Way("notifications.index", _l("Notifications"), "bell"),
    Way("settings.show", _l("Settings"), "sliders"),
)


def init_app(app: Flask) -> None:
    assets.init_app(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        ways=WAYS,
        signed_in=_signed_in,
        in_language=in_language,
        language_names=LANGUAGE_NAMES,
        theme=_theme,
        moment=moment,
        day_of=day_of,
        ago=ago,
    )


def _signed_in() -> PageCaller | None:
    """The signed-in person with account and wallet, or None."""
    return current_caller() if isinstance(current_user._get_current_object(), User) else None


def in_language(language: str, *, absolute: bool = False) -> str:
    """This page in the given language. The address of a form's answer is its form's, which a link can open."""
    query = [(k, v) for k, v in request.args.items(multi=True) if k not in ("lang", *JUST_DONE)]
    root = current_app.config["PORTAL"].base_url if absolute else ""
    return f"{root}{request.path}?{urlencode([*query, ('lang', language)])}"


def _theme() -> str | None:
    chosen = request.cookies.get("theme")
    return chosen if chosen in THEMES else None


def moment(instant: dt.datetime) -> str:
    """`21 Nov 2026, 14:05`, in the portal's zone."""
    pattern = "d MMM yyyy، HH:mm" if i18n.language() == "ar" else "d MMM yyyy, HH:mm"
    return str(format_datetime(instant, pattern))


def day_of(instant: dt.datetime) -> str:
    """`21 Nov 2026`, in the portal's zone."""
    return str(format_datetime(instant, "d MMM yyyy"))


def ago(instant: dt.datetime) -> str:
    """`3 hours ago`."""
    return str(format_timedelta(instant - utcnow(), add_direction=True, threshold=1))
