"""What can be undone and what is asked first: cancel, take back, stop renewing, remove a card; and the history."""

import datetime as dt
import re

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal import clock
from portal.extensions import db
from portal.models import Payment, SavedCard, Subscription
from portal.services import subscriptions
from portal.services.payments import history
from tests.billing import past
from tests.billing.conftest import Send, main_of, text_of
from tests.doors.shop import Shop


def _running(shop: Shop) -> Subscription:
    with shop.app.app_context():
        row = subscriptions.running(shop.cast.layla.account_id)
        assert row is not None
        return row


def test_a_subscription_is_cancelled_by_name_and_taken_back(shop: Shop, layla: FlaskClient, send: Send) -> None:
    """SUB-04: asked first, naming plan and day; it runs on; taking it back makes it as it was."""
    assert layla.get("/billing/cancel").headers["Location"] == "/billing", "there is nothing to cancel"
    past.give_plan(shop.app, shop.cast.layla, "pro", days=9)
    ends = _running(shop).ends_at
    assert "Cancel your subscription to Pro ? You keep Pro until" in text_of(layla.get("/billing/cancel"))
    answer = send("/billing/cancel")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/billing?saved=cancelled")
    assert (_running(shop).state, _running(shop).ends_at) == ("cancelled", ends)
    text = text_of(layla.get("/billing?saved=cancelled"))
    assert "The subscription is cancelled. You keep the plan until its end" in text
    assert send("/billing/cancel").headers["Location"] == "/billing", "a second press finds it done"
    assert send("/billing/reactivate").headers["Location"] == "/billing?saved=reactivated"
    assert (_running(shop).state, _running(shop).ends_at) == ("active", ends)
    assert send("/billing/reactivate").headers["Location"] == "/billing"


def test_a_word_in_an_address_claims_nothing(shop: Shop, layla: FlaskClient) -> None:
    """`?saved=cancelled` sent to somebody by somebody does not tell them that it is."""
    past.give_plan(shop.app, shop.cast.layla, "pro", days=9)
    card_id = past.give_card(shop.app, shop.cast.layla)
    for word in ("cancelled", "renewal", "<b>"):
        assert 'role="status"' not in main_of(layla.get("/billing", query_string={"saved": word})), word
    assert 'role="status"' not in main_of(layla.get(f"/billing?deleted={card_id}"))


def test_renewing_is_stopped_and_a_card_removed(shop: Shop, layla: FlaskClient, send: Send) -> None:
    """SUB-04: what renews is told, asked about by name, and ends; the card's number is masked, its token nowhere."""
    assert layla.get("/billing/renewal/stop").headers["Location"] == "/billing"
    past.give_plan(shop.app, shop.cast.layla, "pro", days=9)
    card_id = past.give_card(shop.app, shop.cast.layla)
    page = layla.get("/billing")
    assert "On the day before its end your kept card is charged" in text_of(page)
    assert "VISA 512345xxxxxx0008 valid until 01/2039 renews your plan" in text_of(page)
    assert past.CARD.token not in page.get_data(as_text=True)
    assert "Stop renewing Pro ?" in text_of(layla.get("/billing/renewal/stop"))
    assert send("/billing/renewal/stop").headers["Location"] == "/billing?saved=renewal"
    assert (_running(shop).card_id, _running(shop).state) == (None, "active")
    assert "Nothing is charged by itself." in text_of(layla.get("/billing"))
    assert send("/billing/renewal/stop").headers["Location"] == "/billing"

    question = f"/billing/cards/{card_id}/remove"
    assert "Remove the card VISA 512345xxxxxx0008 ?" in text_of(layla.get(question))
    assert send(question).headers["Location"] == f"/billing?deleted={card_id}"
    assert "Kept cards" not in text_of(layla.get("/billing"))
    assert "The card is removed" in text_of(layla.get(f"/billing?deleted={card_id}"))
    with shop.app.app_context():
        assert db.session.scalars(sa.select(SavedCard.removed_at)).one() is not None
    assert send(question).status_code == 404


def test_the_history_has_every_payment_with_its_papers(shop: Shop, layla: FlaskClient) -> None:
    """PAY-05: day, what, how, amount, state, what was given back, receipt and credit note, the number to quote."""
    ids = past.give_everything(shop.app, shop.cast.layla)
    answer = layla.get("/billing/payments")
    text, html = text_of(answer), main_of(answer)
    assert re.findall(r"Payment number: ([0-9a-f]{32})", text) == ids
    day = (clock.utcnow() - dt.timedelta(hours=1)).astimezone(clock.KUWAIT)
    assert f"{ids[0]} {day.day} {day:%b %Y} KNET 5.000 KWD Paid 1.000 KWD given back on" in text
    assert "1.000 KWD is being given back Receipt R-" in text
    assert html.count(f'href="/billing/payments/{ids[0]}/receipt"') == 1
    assert re.search(rf'href="/billing/payments/{ids[0]}/credit-notes/[A-Z]+-[\d-]+"', html)
    assert html.count("/receipt") == 2, "only what was paid has one"
    for link in set(re.findall(r'href="(/billing/[^"]+)"', html)):
        assert layla.get(link).status_code == 200, link


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ({"state": "paid"}, {0, 1}),
        ({"state": "over"}, {4, 5}),
        ({"state": "open", "kind": "pack"}, {2, 8}),
        ({"kind": "plan"}, {1}),
        ({"from": 3, "to": 3}, {3}),
        ({"to": 6}, {6, 7, 8}),
        ({"from": 1, "kind": "plan"}, {1}),
        ({"state": "held", "kind": "plan"}, set()),
    ],
)
def test_payments_are_found_by_state_kind_and_day(
    shop: Shop, layla: FlaskClient, send: Send, form: dict[str, str | int], wanted: set[int]
) -> None:
    """PAY-05: the filter's form, without a script; days are Kuwait's, the last one included."""
    ids = past.give_payments(shop.app, shop.cast.layla)
    with shop.app.app_context():  # the day of each: noon in Kuwait, so many days ago
        for number, payment_id in enumerate(ids):
            noon = dt.datetime.combine(_day(number), dt.time(12), clock.KUWAIT)
            db.session.execute(sa.update(Payment).where(Payment.id == payment_id).values(created_at=noon))
        db.session.commit()
    sent = {name: str(_day(value)) if isinstance(value, int) else value for name, value in form.items()}
    answer = send("/billing/payments", **sent)
    assert answer.status_code == 303
    page = layla.get(answer.headers["Location"])
    found = re.findall(r"Payment number: ([0-9a-f]{32})", text_of(page))
    assert found == [ids[number] for number in sorted(wanted)]
    assert ("No payment is like that" in text_of(page)) is (not wanted)
    for value in sent.values():
        assert f'value="{value}"' in main_of(page), "what was asked for stands in the form"


def _day(number: int) -> dt.date:
    return clock.kuwait_day() - dt.timedelta(days=number)


def test_many_payments_come_page_by_page(shop: Shop, layla: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """PAY-05: by place, not by number: nothing twice, nothing missing, also of the same instant; filters stay."""
    monkeypatch.setattr(history.page, "__defaults__", (None, None, 3))
    ids = past.give_payments(shop.app, shop.cast.layla, ["failed"] * 8)
    with shop.app.app_context():
        db.session.execute(sa.update(Payment).values(created_at=clock.utcnow()))
        db.session.commit()
    seen, path = [], "/billing/payments?state=failed"
    while path:
        answer = layla.get(path)
        seen += re.findall(r"Payment number: ([0-9a-f]{32})", text_of(answer))
        older = re.search(r'href="([^"]*before=[^"]*)"', main_of(answer))
        path = older[1].replace("&amp;", "&") if older else ""
        assert not path or "state=failed" in path
    assert seen == sorted(ids, reverse=True)


@pytest.mark.parametrize(
    ("query", "status"),
    [("state=gold", 400), ("kind=gold", 400), ("from=yesterday", 400), ("to=0001-01-01", 400), ("before=x", 404)],
)
def test_an_address_that_asks_for_nonsense_is_told_so(layla: FlaskClient, query: str, status: int) -> None:
    """No page that looks as if nothing had ever been paid."""
    assert layla.get(f"/billing/payments?{query}").status_code == status
