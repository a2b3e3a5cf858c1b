"""From a choice to the provider's page: sent there with a payment that is written down, or told why not."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.extensions import db
from portal.models import Account, Pack, Payment
from portal.services import tunables
from portal.services.payments import checkout
from tests.billing import past
from tests.billing.conftest import Send, text_of
from tests.doors.shop import Shop
from tests.pages.reading import Page
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp, csrf_token

CHECKOUT = "/billing/checkout"


def _rows(shop: Shop) -> list[Payment]:
    with shop.app.app_context():
        return list(db.session.scalars(sa.select(Payment).order_by(Payment.created_at)))


def _chosen(answer: TestResponse) -> set[str]:
    page = Page(answer.get_data(as_text=True))
    return {a["value"] for a in page.all("input") if "checked" in a and a.get("type") in ("radio", "checkbox")}


def test_who_has_chosen_is_sent_to_the_payment_page(shop: Shop, send: Send) -> None:
    """SUB-02, PAY-01: 303 to the provider's address; the row stands with what was promised, the invoice asks for it."""
    answer = send(CHECKOUT, item="pro", method="kn")
    (row,), (invoice,) = _rows(shop), shop.sandbox.invoices()
    assert (answer.status_code, answer.headers["Location"]) == (303, row.url)
    assert row.url.startswith(shop.sandbox.url)
    assert (row.state, row.item, row.amount_fils, row.credits, row.method) == (
        "pending",
        "pro",
        15_000,
        60_000_000,
        "kn",
    )
    assert (invoice["reference"], str(invoice["id"])) == (row.id, row.invoice)


def test_a_second_press_comes_to_the_same_invoice(shop: Shop, send: Send) -> None:
    """Two could both be paid. Another choice is another invoice."""
    first, second = (send(CHECKOUT, item="pack-5000", method="kn").headers["Location"] for _ in range(2))
    assert first == second
    assert send(CHECKOUT, item="pack-5000", method="vm").headers["Location"] != first
    assert len(shop.sandbox.invoices()) == 2


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ({"fault": "502_html"}, 502, "The payment service does not answer. Nothing was charged."),
        ({"fault": "400"}, 502, "The payment service did not accept this order. Nothing was charged."),
    ],
)
def test_a_provider_that_is_away_loses_nothing(
    shop: Shop, layla: FlaskClient, send: Send, fault: dict[str, Any], status: int, words: str
) -> None:
    """The page comes back with the choice as it was, the reason, and a button to press again, which then works."""
    with shop.app.app_context():
        tunables.put("automatic_renewal", "1")
    layla.get("/billing")
    shop.sandbox.control(server="myfatoorah", endpoint="ExecutePayment", **fault, times=1)
    answer = send(CHECKOUT, item="pro", method="vm", keep_card="1")
    assert answer.status_code == status
    assert words in text_of(answer)
    assert "Your choice below is as you left it." in text_of(answer)
    assert _chosen(answer) == {"pro", "vm", "1"}
    assert f"form-action 'self' {shop.sandbox.url};" in answer.headers["Content-Security-Policy"]
    again = send(CHECKOUT, item="pro", method="vm", keep_card="1")
    assert again.status_code == 303
    assert _rows(shop)[-1].keeps_card


def test_what_is_not_offered_is_refused_on_the_page(
    shop: Shop, layla: FlaskClient, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SUB-03: nothing chosen, nothing for sale, no such way, a lower plan, too many: each told, nothing begun."""
    past.give_plan(shop.app, shop.cast.layla, "pro")
    with shop.app.app_context():
        db.session.execute(sa.update(Pack).where(Pack.id == "pack-15000").values(enabled=False))
        db.session.commit()
    before = len(_rows(shop))
    for form, status, words in (
        ({"method": "kn"}, 422, "Please choose a plan or a pack first."),
        ({"item": "pack-15000", "method": "kn"}, 400, "This is not for sale any more"),
        ({"item": "gold", "method": "kn"}, 400, "This is not for sale any more"),
        ({"item": "enterprise", "method": "gold"}, 400, "This way to pay is not offered."),
        ({"item": "enterprise"}, 400, "This way to pay is not offered."),
        ({"item": "basic", "method": "kn"}, 409, "Your present plan is the higher one."),
    ):
        answer = send(CHECKOUT, **form)
        assert (answer.status_code, words in text_of(answer)) == (status, True), form
    monkeypatch.setattr(checkout, "UNPAID_A_DAY", 0)
    answer = send(CHECKOUT, item="enterprise", method="kn")
    assert answer.status_code == 429
    assert "You have begun many payments today" in text_of(answer)
    assert _chosen(answer) == {"enterprise", "kn"}
    assert len(_rows(shop)) == before


def test_where_there_is_no_key_nothing_is_begun(make_app: MakeApp, sqlite_url: str) -> None:
    """503 on the page, not a page of its own."""
    cast = Cast(make_app(sqlite_url))
    client = cast.sign_in(cast.layla)
    form = {"csrf_token": csrf_token(client, "/billing?lang=en"), "item": "pro", "method": "kn"}
    answer = client.post(CHECKOUT, data=form)
    assert answer.status_code == 503
    assert "Payments are not open here yet. Please write to the operator" in text_of(answer)


def test_a_form_without_its_token_begins_nothing(shop: Shop, layla: FlaskClient) -> None:
    """Nobody is led to pay by another site's form."""
    assert layla.post(CHECKOUT, data={"item": "pro", "method": "kn"}).status_code == 400
    assert _rows(shop) == []


def test_the_language_link_of_a_refused_form_leads_back(layla: FlaskClient) -> None:
    """Its address is the form's, which a link can open."""
    answer = layla.get(CHECKOUT)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/billing")


def test_a_card_is_kept_only_where_that_was_opened(shop: Shop, send: Send) -> None:
    """SUB-04: a form that asks all the same is not believed; nor is KNET charged by itself."""
    send(CHECKOUT, item="pro", method="vm", keep_card="1")
    with shop.app.app_context():
        tunables.put("automatic_renewal", "1")
    send(CHECKOUT, item="pro", method="kn", keep_card="1")
    send(CHECKOUT, item="pack-5000", method="vm", keep_card="1")
    assert [row.keeps_card for row in _rows(shop)] == [False, False, False]
    send(CHECKOUT, item="pro", method="vm", keep_card="1")
    assert _rows(shop)[-1].keeps_card


def test_a_price_that_changes_meanwhile_is_the_new_one(shop: Shop, send: Send) -> None:
    """SUB-01: what is asked for is the row's of that moment, and written down."""
    send(CHECKOUT, item="pack-5000", method="kn")
    with shop.app.app_context():
        db.session.execute(sa.update(Pack).where(Pack.id == "pack-5000").values(price_fils=2_500))
        db.session.commit()
    send(CHECKOUT, item="pack-5000", method="kn")
    assert [row.amount_fils for row in _rows(shop)] == [2_000, 2_500]
    assert dt.timedelta(0) < _rows(shop)[-1].expires_at - _rows(shop)[-1].created_at <= dt.timedelta(hours=24)


def test_what_was_seen_is_what_is_asked_for(shop: Shop, layla: FlaskClient, send: Send) -> None:
    """SUB-01: a price, credit or period that changed after the page was opened is shown before anything is begun."""
    (seen,) = [
        a["value"] for a in Page(layla.get("/billing").get_data(as_text=True)).all("input") if a.get("name") == "seen"
    ]
    with shop.app.app_context():
        db.session.execute(sa.update(Pack).where(Pack.id == "pack-5000").values(credits=4_000_000))
        db.session.commit()
    answer = send(CHECKOUT, item="pack-5000", method="vm", seen=seen)
    assert answer.status_code == 409
    assert "What you chose has changed since you opened this page." in text_of(answer)
    assert "4,000 credits" in text_of(answer)
    assert _chosen(answer) == {"pack-5000", "vm"}
    assert _rows(shop) == []
    assert send(CHECKOUT, item="pack-15000", method="vm", seen=seen).status_code == 303, "another thing has not changed"


def test_a_form_that_was_open_too_long_comes_back_with_its_choice(shop: Shop, layla: FlaskClient) -> None:
    """Whoever fetched the card meanwhile presses once more. Who is not signed in chooses nothing."""
    form = {"item": "pro", "method": "vm", "csrf_token": "of-this-morning"}
    answer = layla.post(CHECKOUT, data=form)
    assert answer.status_code == 400
    assert "This form was open for too long" in text_of(answer)
    assert _chosen(answer) == {"pro", "vm"}
    assert "Buy a plan" not in shop.app.test_client().post(CHECKOUT, data=form).get_data(as_text=True)
    assert _rows(shop) == []


def test_whose_account_it_is_decides_the_session(shop: Shop, send: Send) -> None:
    """Nothing in the form names an account."""
    send(CHECKOUT, item="pro", method="kn", account=shop.cast.zaid.account_id)
    with shop.app.app_context():
        owner = db.session.scalar(sa.select(Account.owner_id).join(Payment, Payment.account_id == Account.id))
    assert owner == shop.cast.layla.user_id
