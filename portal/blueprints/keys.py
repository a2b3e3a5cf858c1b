"""The keys page: make one, see them, delete one. A new key's page is the only place that ever shows it."""

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response

from portal.blueprints.guards import current_caller
from portal.blueprints.keys_forms import KeyForm
from portal.clock import utcnow
from portal.services import api_keys, plans

bp = Blueprint("keys", __name__)
Page = Response | str | tuple[str, int]


@bp.get("/keys")
def index() -> Page:
    caller = current_caller()
    rows = api_keys.of_account(caller.account.id)
    return render_template("keys/index.html", form=KeyForm(), keys=rows, now=utcnow())


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
        )
    except api_keys.KeyRefused as refused:
        form.show(refused.problems)
        rows = api_keys.of_account(caller.account.id)
        return render_template("keys/index.html", form=form, keys=rows, now=utcnow()), 422
    return render_template(
        "keys/created.html", key=new.row, secret=new.secret, model=plans.first_model(caller.account.plan.rank)
    )


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
