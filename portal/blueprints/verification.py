"""Proving one's number after signing up: a code by WhatsApp, typed in here. The rule is `services/recovery.py`."""

from flask import Blueprint, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from portal.blueprints import code_refusals
from portal.blueprints.auth_forms import CodeForm
from portal.services import codes, recovery
from portal.services.notifications import sent

bp = Blueprint("verification", __name__)
Page = Response | str | tuple[str, int] | tuple[str, int, dict[str, str]]


@bp.get("/verify")
def verify() -> Page:
    if current_user.phone_verified_at is not None:
        return redirect(url_for("dashboard.show"))
    return _page(CodeForm(formdata=None), asks="step" in request.args, just_sent=request.args.get("step") == "sent")


@bp.post("/verify")
def prove() -> Page:
    """A form with a code checks it; one without asks for a code."""
    user, address = current_user._get_current_object(), request.remote_addr or ""
    if user.phone_verified_at is not None:
        return redirect(url_for("dashboard.show"))
    if "code" not in request.form:
        try:
            recovery.send_verification(user, address)
        except code_refusals.REFUSALS as refusal:
            told = code_refusals.words(refusal)
            asks = isinstance(refusal, codes.TooSoon)
            page = _page(CodeForm(formdata=None), asks=asks, slow=told)
            return page, 429, code_refusals.headers(refusal)
        return redirect(url_for("verification.verify", step="sent"))
    form = CodeForm()
    if not form.validate():
        return _page(form, asks=True), 422
    try:
        recovery.verify(user, form.code.data or "", address)
    except recovery.Refused as refused:
        form.show(refused.problems)
        return _page(form, asks=True), 422
    return redirect(url_for("dashboard.show", saved="phone"))


def _page(form: CodeForm, *, asks: bool, just_sent: bool = False, slow: str = "") -> str:
    """asks: whether the code's field is there."""
    phone = current_user.phone
    return render_template(
        "auth/verify.html", form=form, asks=asks, just_sent=just_sent, slow=slow, number=sent.masked(phone),
        wait=codes.seconds_to_wait(phone) if asks else 0, minutes=codes.MINUTES,
    )  # fmt: skip
