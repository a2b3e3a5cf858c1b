"""The keys page: make one, see them, keep one out of the cloud, delete one.

A new key's page is the only place that ever shows it.
"""

from flask import Blueprint, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from portal.blueprints.guards import current_caller
from portal.blueprints.keys_forms import KeyForm
from portal.clock import utcnow
from portal.errors import InvalidRequest
from portal.services import api_keys, plans

bp = Blueprint("keys", __name__)
Page = Response | str | tuple[str, int]


@bp.get("/keys")
def index() -> Page:
    return _list(KeyForm())


@bp.post("/keys")
def create() -> Page:
    caller = current_caller()
    form = KeyForm()
    try:
        new = api_keys.create(
            caller.account.id,
            caller.user.id,
            label=form.label.data or "",
            scopes=form.chosen_scopes(),
            days=form.chosen_days(),
            failover=bool(form.failover.data),
        )
    except api_keys.KeyRefused as refused:
        form.show(refused.problems)
        return _list(form), 422
    return render_template(
        "keys/created.html",
        key=new.row,
        secret=new.secret,
        model=plans.first_model(caller.account.plan.rank, local_only=caller.account.local_only),
    )


@bp.post("/keys/<key_id>/failover")
def change_failover(key_id: str) -> Page:
    wanted = request.form.get("failover")
    if wanted not in ("on", "off"):
        raise InvalidRequest(reason=_("the form is not whole; nothing was changed"))
    api_keys.set_failover(current_caller().account.id, key_id, wanted == "on")
    return redirect(url_for("keys.index", changed=key_id))


@bp.get("/keys/<key_id>/delete")
def ask_deletion(key_id: str) -> Page:
    key = api_keys.find(current_caller().account.id, key_id)
    if key.revoked_at is not None:
        return redirect(url_for("keys.index"))
    return render_template("keys/delete.html", key=key)


@bp.post("/keys/<key_id>/delete")
def delete(key_id: str) -> Page:
    api_keys.delete(current_caller().account.id, key_id)
    return redirect(url_for("keys.index", deleted=key_id))


def _list(form: KeyForm) -> str:
    account = current_caller().account
    return render_template(
        "keys/index.html", form=form, keys=api_keys.of_account(account.id), account=account, now=utcnow()
    )
