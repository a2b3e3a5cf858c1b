"""The settings page: where an account's requests run, which messages it wants, password, telephone number.

Each section is a form of its own that works without a script. The rules are `services/account_settings.py`,
`services/notifications/centre.py` and `services/recovery.py`.
"""

from fractions import Fraction
from typing import Any

import flask
from flask import Blueprint, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_login import current_user
from werkzeug.wrappers import Response

from portal.blueprints import code_refusals
from portal.blueprints.auth import browser
from portal.blueprints.auth_forms import CodeForm
from portal.blueprints.guards import current_caller
from portal.blueprints.settings_forms import KINDS, NumberForm, PasswordForm
from portal.errors import InvalidRequest, TooManyAttempts
from portal.services import account_settings, codes, recovery
from portal.services.notifications import centre, sent

bp = Blueprint("settings", __name__)
Page = Response | str | tuple[str, int] | tuple[str, int, dict[str, str]]
NEW_NUMBER = "new_number"
"""What the cookie remembers between asking for the code and typing it in: the number's last three digits."""


@bp.get("/settings")
def show() -> str:
    return _page()


@bp.post("/settings")
def change() -> Response:
    caller = current_caller()
    # An unticked box sends nothing: without the mark beside it, any other form would turn the switch off.
    if "local_only" not in request.form and "local_only_shown" not in request.form:
        raise InvalidRequest(reason=_("the form is not whole; nothing was changed"))
    account_settings.set_local_only(caller.account.id, caller.user.id, "local_only" in request.form)
    return redirect(url_for("settings.show", saved="where"))


@bp.post("/settings/messages")
def choose_messages() -> Response:
    wanted = {
        (kind, channel): f"{kind}-{channel}" in request.form
        for kind in centre.OPTIONAL
        for channel in ("whatsapp", "email")
        if f"{kind}-{channel}_shown" in request.form
    }
    if not wanted:
        raise InvalidRequest(reason=_("the form is not whole; nothing was changed"))
    centre.set_preferences(current_caller().account.id, wanted)
    return redirect(url_for("settings.show", saved="messages"))


@bp.post("/settings/password")
def change_password() -> Page:
    form = PasswordForm()
    if not form.validate():
        return _page(password=form), 422
    user = current_user._get_current_object()
    try:
        recovery.change_password(user, form.current.data or "", form.password.data or "", browser(remember=False))
    except recovery.Refused as refused:
        form.show(refused.problems)
        return _page(password=form), 422
    except TooManyAttempts as slow:
        return _page(password=form, password_slow=slow.message), 429
    return redirect(url_for("settings.show", saved="password"))


@bp.post("/settings/phone")
def ask_for_number() -> Page:
    form = NumberForm()
    if not form.validate():
        return _page(number=form), 422
    user, address = current_user._get_current_object(), request.remote_addr or ""
    phone, country = form.phone.data or "", form.country.data or ""
    try:
        number = recovery.ask_for_number(user, phone, country, form.current.data or "", address)
    except recovery.Refused as refused:
        form.show(refused.problems)
        return _page(number=form), 422
    except code_refusals.REFUSALS as refusal:
        page = _page(number=form, number_slow=code_refusals.words(refusal))
        return page, 429, code_refusals.headers(refusal)
    flask.session[NEW_NUMBER] = sent.masked(number)
    return redirect(url_for("settings.number"))


@bp.get("/settings/phone")
def number() -> Page:
    """The second step. Who comes here without the first is sent to it."""
    return _number_page(CodeForm(formdata=None)) if NEW_NUMBER in flask.session else _first_step()


@bp.post("/settings/phone/code")
def change_number() -> Page:
    form = CodeForm()
    if not form.validate():
        return _number_page(form), 422
    try:
        recovery.change_number(current_user._get_current_object(), form.code.data or "", browser(remember=False))
    except recovery.Refused as refused:
        # Of the number itself there is no field here: somebody else registered with it while the code was on its way.
        form.show({"code": next(iter(refused.problems.values()))})
        return _number_page(form), 422
    flask.session.pop(NEW_NUMBER, None)
    return redirect(url_for("settings.show", saved="phone"))


@bp.get("/settings/messages")
@bp.get("/settings/password")
@bp.get("/settings/phone/code")
def whole() -> Response:
    """A refused form's answer has its form's address, and the link to the other language leads there."""
    return redirect(url_for("settings.number" if NEW_NUMBER in flask.session else "settings.show"))


def multiple(factor: Fraction) -> str:
    """`2`, `1.5`, `0.33`: how many times as much, to two decimals."""
    return f"{float(factor):,.2f}".rstrip("0").rstrip(".")


def _page(password: PasswordForm | None = None, number: NumberForm | None = None, **values: Any) -> str:
    """The whole page; a form that was refused stands in it as it was sent, but for passwords."""
    caller = current_caller()
    return render_template(
        "settings/show.html",
        where=account_settings.whereabouts(caller.account, caller.user.id),
        plan=caller.account.plan,
        multiple=multiple,
        messages=[(*KINDS[one.kind], one) for one in centre.preferences(caller.account.id)],
        password=password or PasswordForm(formdata=None),
        number=number or NumberForm(formdata=None),
        user=caller.user,
        **values,
    )


def _number_page(form: CodeForm) -> str:
    return render_template(
        "settings/number.html", form=form, number=flask.session.get(NEW_NUMBER, ""), minutes=codes.MINUTES
    )


def _first_step() -> Response:
    return redirect(url_for("settings.show", _anchor="phone-title"))
