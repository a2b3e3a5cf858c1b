"""What every page shares: the language it speaks, the headers it is sent with, the names its template may use.

Knows no page of its own. The strict content policy means: no inline script, no inline style, nothing from elsewhere.
"""

import datetime as dt

from flask import Flask, Response, current_app, g, request
from flask_login import current_user

from portal import database, i18n, logs, money
from portal.ids import new_id

CONTENT_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def content_policy(*form_targets: str) -> str:
    """The policy of a page whose forms may be led on to these places as well: browsers hold a form to it all the way,
    redirects included, and stop silently at the first place that is not named."""
    return CONTENT_POLICY.replace("form-action 'self'", " ".join(("form-action 'self'", *form_targets)))


def init_app(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_end)
    app.context_processor(_names)
    app.add_template_filter(money.credits, "credits")
    app.add_template_filter(money.dinars, "dinars")


def _begin() -> None:
    g.request_id = "req_" + new_id()
    logs.request_id.set(g.request_id)
    database.reading.set(request.method in ("GET", "HEAD"))


def _end(_error: BaseException | None) -> None:
    database.reading.set(False)


def _finish(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Request-Id", g.get("request_id", ""))
    headers.setdefault("Content-Security-Policy", CONTENT_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    # Not "no-referrer": over HTTPS the form protection insists on one from our own pages.
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    if request.is_secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
    if not request.path.startswith("/static/"):
        headers.setdefault("Cache-Control", "no-store")
    chosen = request.args.get("lang")
    if chosen in i18n.LANGUAGES:
        secure = bool(current_app.config["SESSION_COOKIE_SECURE"])
        response.set_cookie(
            i18n.COOKIE, chosen, max_age=i18n.COOKIE_SECONDS, samesite="Lax", httponly=True, secure=secure
        )
    return response


def _names() -> dict[str, object]:
    return {
        "language": i18n.language(),
        "direction": i18n.direction(),
        "languages": i18n.LANGUAGES,
        "this_year": dt.datetime.now(dt.UTC).year,
        "current_user": current_user,
        "base_url": current_app.config["PORTAL"].base_url,
    }
