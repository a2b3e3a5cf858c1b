"""The money pages: what an account has, what it can buy, the way to the payment page and back, and what was paid.

A browser that comes back says nothing about money: the return page asks `payments.confirm` and shows what it found.
What is offered and why is `billing_offers.py`; papers have a door of their own.
"""

import datetime as dt
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, g, jsonify, make_response, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_login import current_user
from flask_wtf.csrf import CSRFError
from werkzeug.wrappers import Response as Answer

from portal import clock, database, i18n, pages
from portal.blueprints import billing_offers, errors
from portal.blueprints.guards import PageCaller, current_caller
from portal.errors import (
    FormExpired,
    HigherPlanRuns,
    NoSuchMethod,
    NotForSale,
    NotFound,
    PaymentRefused,
    PaymentsClosed,
    PaymentServiceAway,
    PortalError,
    TooManyPayments,
)
from portal.extensions import db
from portal.models import Payment
from portal.services import cards, payments, standing, subscriptions, tunables
from portal.services.papers.months import Month
from portal.services.payments import history, merchant, reasons
from portal.services.payments.transitions import OPEN, UNDECIDED
from portal.services.payments.ways import ways

bp = Blueprint("billing", __name__)
Page = Response | Answer | str | tuple[Response, int, dict[str, str]]
REFUSALS: Final = (
    NotForSale, NoSuchMethod, HigherPlanRuns, TooManyPayments, PaymentServiceAway, PaymentRefused, PaymentsClosed,
)  # fmt: skip
LATEST: Final = 5
MONTHS: Final = 6
WAITING: Final = ("opening", "pending")
ASKED: Final = 24
"""So often a browser without a script asks, five seconds apart: two minutes, as the script does."""


@bp.get("/billing")
def index() -> Page:
    method = request.args.get("method", "")
    return _index(item=request.args.get("item", ""), method=method, keep=request.args.get("keep") == "1")


@bp.post("/billing/checkout")
def checkout() -> Page:
    item, method = request.form.get("item", ""), request.form.get("method", "")
    keep = "keep_card" in request.form
    if not item:
        return _index(method=method, keep=keep, wrong=_("Please choose a plan or a pack first.")), 422, {}
    if billing_offers.has_changed(item, request.form.get("seen", "")):
        told = _("What you chose has changed since you opened this page. Please look at it once more before you pay.")
        return _index(item=item, method=method, keep=keep, wrong=told), 409, {}
    caller = current_caller()
    try:
        payment = payments.begin(
            caller.account, caller.user, item, method, language=i18n.language(), keep_card=keep
        )  # fmt: skip
    except REFUSALS as refusal:
        answer = _index(item=item, method=method, keep=keep, refusal=refusal)
        return answer, refusal.status, dict(refusal.headers())
    return redirect(payment.url, 303)


@bp.errorhandler(CSRFError)
def too_late(_error: CSRFError) -> Page:
    """Whoever fetched the card meanwhile finds the choice as it was, with a form that counts again."""
    if request.endpoint != "billing.checkout" or not current_user.is_authenticated:
        return errors.render(FormExpired())
    form, refusal = request.form, FormExpired()
    answer = _index(
        item=form.get("item", ""), method=form.get("method", ""), keep="keep_card" in form, refusal=refusal
    )  # fmt: skip
    return answer, refusal.status, {}


@bp.get("/billing/checkout")
@bp.get("/billing/reactivate")
def whole() -> Answer:
    """A refused form's answer has its form's address, and the link to the other language leads there."""
    return redirect(url_for("billing.index"))


@bp.get("/billing/return/<payment_id>")
def come_back(payment_id: str) -> Page:
    payment = history.find(current_caller().account.id, payment_id)
    tried = (request.args.get("paymentId") or request.args.get("Id") or "")[:64]
    polled = request.accept_mimetypes.best == "application/json"
    came_back = tried and not polled and "asked" not in request.args
    if payment.state in (UNDECIDED if tried else OPEN) and (came_back or not _asked_lately(payment)):
        caller = _afresh()
        account_id = caller.account.id
        db.session.rollback()  # nothing stays open while the provider is asked
        payments.confirm(payment_id, source="return", tried=tried)
        payment = history.find(account_id, payment_id)
    if polled:
        return jsonify(waiting=payment.state in WAITING)
    return _outcome(payment, tried)


@bp.get("/billing/payments")
def all_payments() -> Page:
    wanted = history.Wanted.parse(*(request.args.get(name, "") for name in ("state", "kind", "from", "to")))
    before = request.args.get("before")
    page = history.page(current_caller().account.id, wanted, before)
    return render_template("billing/payments.html", page=page, wanted=wanted, first=before is None)


@bp.post("/billing/payments")
def choose_payments() -> Answer:
    """The filter's form: what it asks for becomes an address, which can be kept and sent."""
    wanted = history.Wanted.parse(*(request.form.get(name, "").strip() for name in ("state", "kind", "from", "to")))
    return redirect(f"{url_for('billing.all_payments')}?{urlencode(wanted.address())}".rstrip("?"), 303)


@bp.get("/billing/payments/<payment_id>/pay")
def pay(payment_id: str) -> Answer:
    """On to the provider's page of a payment that was begun; back to what became of it where it can't be paid."""
    payment = history.find(current_caller().account.id, payment_id)
    return redirect(payment.url if _payable(payment) else url_for("billing.come_back", payment_id=payment_id))


@bp.get("/billing/cancel")
def ask_cancelling() -> Page:
    now = _standing(current_caller())
    if now.state != "active":
        return redirect(url_for("billing.index"))
    return render_template("billing/cancel.html", standing=now)


@bp.post("/billing/cancel")
def cancel() -> Answer:
    return _turned(subscriptions.cancel, "cancelled")


@bp.post("/billing/reactivate")
def reactivate() -> Answer:
    return _turned(subscriptions.reactivate, "reactivated")


@bp.get("/billing/renewal/stop")
def ask_stopping() -> Page:
    now = _standing(current_caller())
    if now.subscription is None or now.subscription.card_id is None:
        return redirect(url_for("billing.index"))
    return render_template("billing/stop_renewal.html", standing=now)


@bp.post("/billing/renewal/stop")
def stop_renewal() -> Answer:
    return _turned(subscriptions.stop_renewing, "renewal")


@bp.get("/billing/cards/<card_id>/remove")
def ask_removal(card_id: str) -> Page:
    caller = current_caller()
    card = next((one for one in cards.of_account(caller.account.id) if one.id == card_id), None)
    if card is None:
        raise NotFound
    return render_template("billing/remove_card.html", card=card, standing=_standing(caller))


@bp.post("/billing/cards/<card_id>/remove")
def remove_card(card_id: str) -> Answer:
    try:
        cards.remove(current_caller().account.id, card_id)
    except cards.NoSuchCard as missing:
        raise NotFound from missing
    return redirect(url_for("billing.index", deleted=card_id), 303)


def _index(
    *, item: str = "", method: str = "", keep: bool = False, wrong: str = "", refusal: PortalError | None = None
) -> Response:
    """The page with this choice made. wrong: what the form lacked; refusal: why nothing was begun."""
    db.session.rollback()  # nothing stays open while the provider is asked
    found = ways()
    caller, now = _afresh(), clock.utcnow()
    account_id, stands = caller.account.id, standing.of_account(caller.account.id, now)
    renewals = bool(tunables.get("automatic_renewal"))
    html = render_template(
        "billing/index.html",
        account=caller.account,
        wallet=caller.wallet,
        standing=stands,
        shop=billing_offers.shop(stands, found, renewals, now),
        cards=cards.of_account(account_id),
        card_gone=cards.is_removed(account_id, request.args.get("deleted", "")),
        latest=history.page(account_id, size=LATEST),
        months=_months(Month.of(caller.account.created_at), Month.of(now)),
        chosen=(item, method or next((one.code for one in found.methods), ""), keep),
        span=billing_offers.span,
        month_of=billing_offers.month_of,
        wrong=wrong,
        refusal=refusal,
    )
    response = make_response(html)
    response.headers["Content-Security-Policy"] = pages.content_policy(*billing_offers.form_targets())
    return response


def _asked_lately(payment: Payment) -> bool:
    """Whether a page that polls or is reloaded had better only look: the provider answers a limited number of questions
    a minute, and everybody who waits would spend one every other second."""
    pause = dt.timedelta(seconds=min(2 + payment.asks, 15))
    return payment.asked_at is not None and payment.asked_at + pause > clock.utcnow()


def _outcome(payment: Payment, tried: str) -> str:
    """What became of a payment, as it is known at this moment."""
    caller, asked = _afresh(), request.args.get("asked", 0, type=int)
    stands = _standing(caller) if payment.state == "paid" and payment.kind == "plan" else None
    return render_template(
        "billing/outcome.html",
        payment=payment,
        wallet=caller.wallet,
        standing=stands,
        reason=reasons.words(payment.reason)[i18n.language()],
        waiting=payment.state in WAITING and merchant.is_open() and 0 <= asked < ASKED,
        asked=asked,
        often=ASKED,
        tried=tried,
        payable=_payable(payment),
        shut=not merchant.is_open(),
    )


def _afresh() -> PageCaller:
    """The caller as the rows have it now: what the provider told meanwhile has changed the wallet."""
    database.reading.set(request.method in ("GET", "HEAD"))  # confirming wrote; showing only reads
    db.session.rollback()
    g.pop("page_caller", None)
    return current_caller()


def _turned(turn: Callable[[str], object], done: str) -> Answer:
    """Do it, and say so on the page; who comes too late finds the page as it is."""
    try:
        turn(current_caller().account.id)
    except subscriptions.NothingRuns:
        return redirect(url_for("billing.index"), 303)
    return redirect(url_for("billing.index", saved=done), 303)


def _standing(caller: PageCaller) -> standing.Standing:
    return standing.of_account(caller.account.id, clock.utcnow())


def _payable(payment: Payment) -> bool:
    """Whether a person may still be sent to its payment page. A renewal's takes a card's token, and no browser."""
    return bool(
        payment.state in ("pending", "failed") and payment.url and payment.occasion is None
        and payment.expires_at > clock.utcnow()
    )  # fmt: skip


def _months(first: Month, last: Month) -> list[Month]:
    """The latest months with a statement, the newest first."""
    found = [first]
    while found[-1] < last:
        found.append(found[-1].following)
    return found[::-1][:MONTHS]
