"""The settings page: for now its first section, where an account's requests run. Works without a script."""

from fractions import Fraction

from flask import Blueprint, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from portal.blueprints.guards import current_caller
from portal.errors import InvalidRequest
from portal.services import account_settings

bp = Blueprint("settings", __name__)


@bp.get("/settings")
def show() -> str:
    caller = current_caller()
    where = account_settings.whereabouts(caller.account, caller.user.id)
    return render_template("settings/show.html", where=where, plan=caller.account.plan, multiple=multiple)


@bp.post("/settings")
def change() -> Response:
    caller = current_caller()
    # An unticked box sends nothing: without the mark beside it, any other form would turn the switch off.
    if "local_only" not in request.form and "local_only_shown" not in request.form:
        raise InvalidRequest(reason=_("the form is not whole; nothing was changed"))
    account_settings.set_local_only(caller.account.id, caller.user.id, "local_only" in request.form)
    return redirect(url_for("settings.show", saved="where"))


def multiple(factor: Fraction) -> str:
    """`2`, `1.5`, `0.33`: how many times as much, to two decimals."""
    return f"{float(factor):,.2f}".rstrip("0").rstrip(".")
