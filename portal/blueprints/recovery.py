"""Back in without the password: ask for a code, then choose another password with it. For strangers and the signed in.

Whoever asks sees the same pages in the same words, whether there is an account or not. The signed cookie remembers what
was typed from the one page to the other; on another device the second page asks for it. The rule is
`services/recovery.py`.
"""

from datetime import datetime
from typing import Any

import flask
from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.blueprints import code_refusals
from portal.blueprints.auth import browser, entered
from portal.blueprints.auth_forms import ForgotForm, ResetForm
from portal.clock import utcnow
from portal.errors import TooManyAttempts
from portal.services import codes, recovery

bp = Blueprint("recovery", __name__)
Page = Response | str | tuple[str, int] | tuple[str, int, dict[str, str]]
WHO, WHEN = "reset_who", "reset_at"
LONGEST = 200
"""Characters of what is remembered: a cookie has room for 4,096 bytes."""


@bp.get("/forgot")
def forgot() -> Page:
    return render_template("auth/forgot.html", form=ForgotForm(formdata=None))


@bp.post("/forgot")
def ask() -> Page:
    form = ForgotForm()
    if not form.validate():
        return render_template("auth/forgot.html", form=form), 422
    typed = (form.email.data or "").strip()
    try:
        recovery.forgot(typed, request.remote_addr or "")
    except code_refusals.REFUSALS as refusal:
        flask.session[WHO] = typed[:LONGEST]  # the code of a moment ago may be used all the same
        told = code_refusals.words(refusal)
        return render_template("auth/forgot.html", form=form, slow=told), 429, code_refusals.headers(refusal)
    flask.session[WHO] = typed[:LONGEST]
    flask.session[WHEN] = utcnow().isoformat()
    return redirect(url_for("recovery.reset", step="sent"))


@bp.get("/reset")
def reset() -> Page:
    return _reset_page(ResetForm(formdata=None), sent=request.args.get("step") == "sent")


@bp.post("/reset")
def choose() -> Page:
    form = ResetForm()
    form.email.data = form.email.data or flask.session.get(WHO, "")
    if not form.validate():
        return _reset_page(form), 422
    typed, password = form.code.data or "", form.password.data or ""
    try:
        token = recovery.reset(form.email.data or "", typed, password, browser(remember=False))
    except recovery.Refused as refused:
        form.show(refused.problems)
        return _reset_page(form), 422
    except TooManyAttempts as slow:
        return _reset_page(form, slow=slow.message), 429
    return entered(token, url_for("dashboard.show", saved="password"), remember=False)


def _reset_page(form: ResetForm, **values: Any) -> str:
    """Asks who it is unless the cookie says so; after a refusal, what was typed here stands."""
    typed = form.email.data or ""
    who = flask.session.get(WHO, "")
    return render_template("auth/reset.html", form=form, who=who if typed in ("", who) else "", wait=_wait(), **values)


def _wait() -> int:
    """Seconds until another code may be asked for, by what this browser did. The rule counts by what was typed."""
    try:
        at = datetime.fromisoformat(flask.session.get(WHEN, ""))
    except ValueError:
        return 0
    return max(0, codes.PAUSE - int((utcnow() - at).total_seconds()))
