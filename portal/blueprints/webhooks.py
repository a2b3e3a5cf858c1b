"""What other programs tell us: fail2ban of whom it shut out, the WhatsApp carrier of what became of a message, the
payment provider of what to ask it about.

Each has a secret of its own, compared in constant time; a wrong token leaves a line that fail2ban counts, a wrong
signature does not. Whoever calls may call twice, so every rule behind these doors is safe to repeat.
"""

import datetime as dt
import hmac
import logging
import re

from flask import Blueprint, Response, current_app, jsonify, request

from portal.config import Settings
from portal.errors import HookClosed, InvalidRequest, NotFound, PaymentsClosed, WrongToken
from portal.services import bans, reconciliation, sign_in
from portal.services.notifications import receipts
from portal.services.payments import notices

bp = Blueprint("webhooks", __name__)
log = logging.getLogger("portal.webhooks")
LARGEST_FORM = 16 * 1024
SIGNATURE = "X-Wassenger-Signature"
PAYMENT_SIGNATURE, PAYMENT_VERSION = "MyFatoorah-Signature", "MyFatoorah-Webhook-Version"


@bp.post("/webhooks/fail2ban")
def fail2ban() -> tuple[str, int]:
    """A ban or its end, as `deploy/fail2ban/portal-ban` tells it: 204, also when it was told before."""
    settings: Settings = current_app.config["PORTAL"]
    if not settings.hook_token:
        raise HookClosed
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _same(token.strip(), settings.hook_token):
        _note_guess()
        raise WrongToken
    request.max_content_length = LARGEST_FORM
    event, address, jail = (request.form.get(name, "") for name in ("event", "ip", "jail"))
    try:
        if event == "ban":
            bans.ban(address, jail, _number("failures") or 0, _number("bantime"), since=_instant("time"))
        elif event == "unban":
            bans.lift(address, jail)
        else:
            raise InvalidRequest(param="event", reason="event must be ban or unban")
    except bans.BadBan as wrong:
        raise InvalidRequest(param=str(wrong).partition(" ")[0], reason=str(wrong)) from wrong
    return "", 204


@bp.post("/webhooks/resayil/<path:token>")
def resayil(token: str) -> Response:
    """What became of a message. `{}` whether it is news to us or not: all but a 2xx would be repeated for a day."""
    settings: Settings = current_app.config["PORTAL"]
    right = receipts.token(settings)
    if not right:
        raise HookClosed
    if not _same(token, right):
        _note_guess()
        raise NotFound  # as any address that does not exist: whether this is one is not told
    request.max_content_length = receipts.LARGEST
    body, signature = request.get_data(cache=False), request.headers.get(SIGNATURE)
    secret = settings.resayil_webhook_secret
    if secret and signature is not None and not receipts.signed(secret, body, signature):
        # Not a line that fail2ban counts: a secret mistyped here would shut the carrier's own servers out.
        log.error("a receipt is signed with another secret: is RESAYIL_WEBHOOK_SECRET the carrier's?")
        raise WrongToken
    try:
        receipt = receipts.read(body)
    except receipts.NoReceipt as error:
        raise InvalidRequest(reason="the body must be a JSON object") from error
    if receipt is not None:
        receipts.note(receipt)
    return jsonify({})


@bp.post("/webhooks/myfatoorah")
def myfatoorah() -> Response:
    """Something happened to a payment or a refund: ask about it. `{}` whatever came of that, since what could not be
    asked now is asked by the sweep; only where our own rows can't be reached (5xx) does a repetition help."""
    settings: Settings = current_app.config["PORTAL"]
    if not settings.myfatoorah_webhook_secret:
        raise HookClosed
    request.max_content_length = notices.LARGEST
    notice = notices.read(
        request.get_data(cache=False),
        request.headers.get(PAYMENT_SIGNATURE, ""),
        request.headers.get(PAYMENT_VERSION),
        settings.myfatoorah_webhook_secret,
    )
    if notice is not None:
        try:
            reconciliation.hear(notice)
        except PaymentsClosed:
            log.error("a notice of the payment provider came, and there is no MYFATOORAH_API_KEY to ask with")
    return jsonify({})


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _note_guess() -> None:
    sign_in.note_failure(request.remote_addr or "", "bad_hook_token", None, [])


def _number(name: str) -> int | None:
    """A whole number of the form, below zero too; None where it is missing or empty."""
    text = request.form.get(name, "").strip()
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,12}", text):
        raise InvalidRequest(param=name, reason=f"{name} must be a whole number")
    return int(text)


def _instant(name: str) -> dt.datetime | None:
    """Seconds since 1970 in the form, as an instant."""
    seconds = _number(name)
    if seconds is not None and not 0 <= seconds < 10**10:
        raise InvalidRequest(param=name, reason=f"{name} must be seconds since 1970")
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
