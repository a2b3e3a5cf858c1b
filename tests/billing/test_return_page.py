"""Back from the payment page: whatever the address claims, the page asks the provider and tells what it said."""

import datetime as dt
import re

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal import clock
from portal.extensions import db
from portal.models import Payment, SavedCard
from portal.services.payments import merchant
from tests.billing import past
from tests.billing.conftest import main_of, text_of
from tests.doors.shop import Shop
from tests.services.cast import PASSWORD
from tests.services.portal_app import csrf_token

ID = re.compile("[0-9a-f]{32}")
JSON = {"Accept": "application/json"}
NOT_PAID = "We have received no money for it. Your plan and your credit are as they were."


def _back(payment_id: str) -> str:
    return f"/billing/return/{payment_id}"


def test_who_paid_has_it_when_the_page_opens(shop: Shop, layla: FlaskClient) -> None:
    """TOP-02: return page alone, no webhook, no sweep; credited once however often it is opened; what, and what now."""
    payment_id = shop.begin("pack-5000")
    shop.pay(payment_id)
    for _ in range(3):
        answer = layla.get(f"{_back(payment_id)}?paymentId=x&Id=x")
        text = text_of(answer)
        assert "Paid. Thank you. Added to your balance: 5,000 credits Your balance now: 6,100 credits" in text
    assert shop.balance() == 6_100_000
    assert f'href="/billing/payments/{payment_id}/receipt"' in main_of(answer)
    assert 'href="/dashboard"' in main_of(answer)
    assert shop.asked() == 1


def test_a_plan_that_was_paid_tells_until_when(shop: Shop, layla: FlaskClient) -> None:
    """SUB-02, SUB-03: the plan, its end, its credit."""
    payment_id = shop.begin("pro")
    shop.pay(payment_id)
    text = text_of(layla.get(_back(payment_id)))
    ends = (clock.utcnow() + dt.timedelta(days=30)).astimezone(clock.KUWAIT)
    assert f"Your plan: Pro, until {ends.day} {ends:%b %Y}" in text
    assert "Added to your balance: 60,000 credits" in text


def test_who_did_not_succeed_reads_why_and_can_try_again(shop: Shop, layla: FlaskClient) -> None:
    """PAY-01: the reason in words, what is certain about the money, the same choice one press away."""
    payment_id = shop.begin("pack-5000")
    shop.pay(payment_id, "failed", error_code="MF004")
    answer = layla.get(_back(payment_id))
    assert "Reason: there is not enough money on the card." in text_of(answer)
    assert NOT_PAID in text_of(answer)
    assert 'href="/billing?item=pack-5000&amp;method=kn#choose"' in main_of(answer)
    assert "http-equiv" not in answer.get_data(as_text=True)
    assert shop.balance() == 1_100_000


def test_while_it_is_open_the_page_asks_and_then_lets_go(shop: Shop, layla: FlaskClient) -> None:
    """PAY-03: it polls for two minutes, with a script or without, then says that it goes on without it."""
    payment_id = shop.begin("pack-5000")
    answer = layla.get(f"{_back(payment_id)}?paymentId=0707")
    page = answer.get_data(as_text=True)
    assert "Confirming your payment…" in text_of(answer)
    assert f'data-ask="{_back(payment_id)}?paymentId=0707"' in page
    assert (
        f'<noscript><meta http-equiv="refresh" content="5;url={_back(payment_id)}?asked=1&amp;paymentId=0707">' in page
    )
    assert layla.get(_back(payment_id), headers=JSON).get_json() == {"waiting": True}
    over = layla.get(f"{_back(payment_id)}?asked=24")
    assert "We keep asking the payment service" in text_of(over)
    assert "You may close this page: nothing is lost." in text_of(over)
    assert "data-ask" not in over.get_data(as_text=True)
    assert "http-equiv" not in over.get_data(as_text=True)
    shop.pay(payment_id)
    shop.let_time_pass(payment_id)
    assert layla.get(_back(payment_id), headers=JSON).get_json() == {"waiting": False}


def test_a_page_that_polls_spends_few_questions(shop: Shop, layla: FlaskClient) -> None:
    """PAY-03: respect for the provider's limit: who polls looks, and asks only now and then."""
    payment_id = shop.begin("pack-5000")
    layla.get(_back(payment_id))
    for _ in range(5):
        layla.get(_back(payment_id), headers=JSON)
        layla.get(_back(payment_id))
        layla.get(f"{_back(payment_id)}?asked=3&paymentId=0707")
    assert shop.asked() == 1
    shop.let_time_pass(payment_id)
    layla.get(_back(payment_id), headers=JSON)
    assert shop.asked() == 2


def test_not_paid_yet_leads_to_the_payment_page_again(shop: Shop, layla: FlaskClient) -> None:
    """Who left without paying can go on with the same invoice; what can't be paid any more leads nowhere."""
    payment_id = shop.begin("pack-5000")
    assert f'href="/billing/payments/{payment_id}/pay"' in main_of(layla.get(_back(payment_id)))
    assert layla.get(f"/billing/payments/{payment_id}/pay").headers["Location"] == shop.row(payment_id).url
    for change in ({"occasion": "renewal:x:y:1"}, {"occasion": None, "expires_at": clock.utcnow()}, {"state": "paid"}):
        with shop.app.app_context():
            db.session.execute(sa.update(Payment).where(Payment.id == payment_id).values(**change))
            db.session.commit()
        assert layla.get(f"/billing/payments/{payment_id}/pay").headers["Location"] == _back(payment_id), change


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("expired", f"This payment was not made in time {NOT_PAID}"),
        ("cancelled", f"This payment was cancelled {NOT_PAID}"),
        ("held", "We have your payment Your money has arrived. Before it counts, one of us looks at it: "
                 "another amount was paid than was asked for."),
        ("returned", "This payment was given back The amount went back the way it came."),
        ("opening", "Asking whether it is paid…"),
    ],
)  # fmt: skip
def test_every_other_state_is_told_as_it_is(shop: Shop, layla: FlaskClient, state: str, words: str) -> None:
    """PAY-01: nothing is promised that is not so; the number to quote stands there."""
    (payment_id,) = past.give_payments(shop.app, shop.cast.layla, [state])
    if state == "opening":  # a moment ago: the provider has not heard of it yet
        now, late = clock.utcnow(), clock.utcnow() + dt.timedelta(hours=1)
        with shop.app.app_context():
            db.session.execute(sa.update(Payment).values(created_at=now, expires_at=late))
            db.session.commit()
    text = text_of(layla.get(_back(payment_id)))
    assert words in text
    assert f"Payment number {payment_id}" in text
    assert ("Try again" in text) is (state in ("expired", "cancelled"))
    assert (NOT_PAID in text) is (state in ("expired", "cancelled"))


def test_where_payments_were_switched_off_nobody_is_promised_news(
    shop: Shop, layla: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "We keep asking" would not be true."""
    payment_id = shop.begin("pack-5000")
    monkeypatch.setattr(merchant, "is_open", lambda: False)
    text = text_of(layla.get(_back(payment_id)))
    assert "Payments are switched off here at the moment" in text
    assert "We keep asking" not in text


def test_a_provider_that_does_not_answer_is_asked_again_later(shop: Shop, layla: FlaskClient) -> None:
    """PAY-03: the page stands, and confirms nothing that nobody said."""
    payment_id = shop.begin("pack-5000")
    shop.pay(payment_id)
    shop.sandbox.control(server="myfatoorah", endpoint="GetPaymentStatus", fault="502_html", times=1)
    assert "Asking whether it is paid…" in text_of(layla.get(_back(payment_id)))
    assert shop.balance() == 1_100_000
    shop.let_time_pass(payment_id)
    assert "Paid. Thank you." in text_of(layla.get(_back(payment_id)))


def test_a_stranger_learns_nothing(shop: Shop, layla: FlaskClient) -> None:
    """Zaid with Layla's addresses finds what he finds at an address that never was, and moves nothing."""
    payment_id = shop.begin("pack-5000")
    shop.pay(payment_id)
    card_id = past.give_card(shop.app, shop.cast.layla)
    zaid = shop.cast.sign_in(shop.cast.zaid)
    token = csrf_token(zaid, "/settings")
    paths = [_back(payment_id), f"/billing/payments/{payment_id}/pay", f"/billing/cards/{card_id}/remove"]
    for path in paths:
        none = path.replace(payment_id, "0" * 32).replace(card_id, "0" * 32)
        there, nowhere = zaid.get(path, headers={"Accept": "text/html"}), zaid.get(none)
        assert (there.status_code, nowhere.status_code) == (404, 404), path
        assert ID.sub("", text_of(there)) == ID.sub("", text_of(nowhere)), path
    assert zaid.post(paths[2], data={"csrf_token": token}).status_code == 404
    assert zaid.get(_back(payment_id), headers=JSON).status_code == 404
    assert shop.row(payment_id).state == "pending"
    assert shop.asked() == 0
    with shop.app.app_context():
        assert db.session.scalar(sa.select(SavedCard.removed_at)) is None
    for path in ("/billing", "/billing/payments"):
        assert payment_id not in zaid.get(path).get_data(as_text=True)


def test_a_browser_that_is_signed_out_signs_in_and_comes_back(shop: Shop) -> None:
    """The session may have ended on the way; the payment has not."""
    payment_id = shop.begin("pack-5000")
    shop.pay(payment_id)
    client = shop.app.test_client()
    here = f"{_back(payment_id)}?paymentId=0707&Id=0707"
    login = client.get(here).headers["Location"]
    assert login.startswith("/login?next=")
    token = csrf_token(client, login + "&lang=en")
    next_page = client.get(login).get_data(as_text=True).partition('name="next" value="')[2].partition('"')[0]
    form = {"csrf_token": token, "email": shop.cast.layla.email, "password": PASSWORD}
    answer = client.post("/login", data={**form, "next": next_page.replace("&amp;", "&")})
    assert answer.headers["Location"] == here
    assert "Paid. Thank you." in text_of(client.get(here))


@pytest.mark.parametrize("path", ["/billing", "/billing/payments", "/billing/cancel", "/billing/renewal/stop"])
def test_nobody_in_particular_is_asked_to_sign_in(shop: Shop, path: str) -> None:
    """Default deny: pages and forms."""
    client = shop.app.test_client()
    assert client.get(path).headers["Location"].startswith("/login")
    token = csrf_token(client, "/login")
    for form in ("/billing/checkout", "/billing/cancel", "/billing/reactivate", "/billing/renewal/stop"):
        assert client.post(form, data={"csrf_token": token}).headers["Location"].startswith("/login"), form
