"""Beginning a payment: nobody who wants to pay is sent in a circle, and nobody waits for a provider that is away."""

import re

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal import store
from portal.errors import PaymentRefused, PaymentServiceAway, PortalError
from portal.extensions import db
from portal.models import Account, Payment
from portal.providers.payments import Opened, Order
from portal.providers.payments.myfatoorah import MyFatoorah
from portal.services import payments, sale
from tests.billing.conftest import Send, layla, send, shop  # noqa: F401
from tests.doors.shop import SERVER, Shop
from tests.notifications.outside import at_once, customer
from tests.payments.world import World
from tests.regressions.money_world import world  # noqa: F401


def test_whose_invoice_was_found_without_its_address_gets_one_that_can_be_paid(world: World) -> None:  # noqa: F811
    """SUB-02: the answer to the opening was lost, the sweep found the invoice by our reference: it is pending and has
    no address. For ten minutes every press of the button ended at `Location:` nothing, which led back to the form."""
    with world.app.app_context():
        layla = customer()
        world.fault("ExecutePayment", "stall_after", times=1)
        with pytest.raises(PaymentServiceAway):
            world.begin(layla.account, "pack-5000")
        assert world.sweep(seconds=70) == 1
        world.on(seconds=10)
        assert world.begin(layla.account, "pack-5000").url.startswith("http")


def test_who_looks_while_the_invoice_is_made_does_not_take_its_address_away(
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SUB-02: a question by our reference, from the list of payments in another tab, adopts the invoice first; the
    answer to the opening with the address to pay at then found no row to be written to."""
    opens = MyFatoorah.open

    def look(payment_id: str) -> str:
        return payments.confirm(payment_id, source="return")

    def watched(self: MyFatoorah, order: Order) -> Opened:
        opened = opens(self, order)
        assert at_once(world.app, 1, look, order.reference) == ["pending"]
        return opened

    monkeypatch.setattr(MyFatoorah, "open", watched)
    with world.app.app_context():
        assert world.begin(customer().account, "pack-5000").url.startswith("http")


def test_a_provider_that_is_away_is_not_waited_for_by_every_page(shop: Shop, layla: FlaskClient) -> None:  # noqa: F811
    """SUB-02: with nothing remembered (a fresh worker), each look at /billing waited up to 17 s for the provider; on a
    host with one thread that is a portal that stands still."""
    shop.sandbox.control(server=SERVER, endpoint="InitiatePayment", fault="502_html")
    shop.app.extensions.pop("payment methods", None)
    before = shop.asked("InitiatePayment")
    for _ in range(4):
        assert layla.get("/billing").status_code == 200
    assert shop.asked("InitiatePayment") - before <= 2


def test_the_store_is_not_asked_inside_a_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """House rule, OPS-01: `may_ask` reads its limit from the database and then talks to Redis; on SQLite that is the
    write lock, held for as long as a store that is away is waited for."""
    real, held = store.client, list[bool]()

    def client() -> redis.Redis:
        held.append(db.session.registry.has() and db.session().in_transaction())
        return real()

    monkeypatch.setattr("portal.services.payments.merchant.store.client", client)
    with world.app.app_context():
        payment = world.begin(customer().account, "pack-5000")
        held.clear()
        payments.confirm(payment.id, source="webhook")
        assert held
        assert not any(held)


def test_a_form_that_was_open_too_long_keeps_what_was_chosen(shop: Shop, layla: FlaskClient) -> None:  # noqa: F811
    """SUB-02: whoever went for the card and came back an hour later starts from the beginning, on another page."""
    chosen = {"item": "pro", "method": "vm", "csrf_token": "of-this-morning"}
    answer = layla.post("/billing/checkout", data=chosen)
    assert answer.status_code == 400
    page = answer.get_data(as_text=True).replace("&amp;", "&")
    assert "/billing?item=pro&method=vm" in page or re.search(r'value="pro"[^>]*checked', page)


def test_a_price_that_went_up_is_shown_before_it_is_asked_for(shop: Shop, layla: FlaskClient) -> None:  # noqa: F811
    """SUB-01, SUB-02: 15.000 on the page, 20.000 in the row a minute later; she pressed "continue" beside 15.000 and
    was sent to pay 20.000. The form's own fields are sent as they stand, as a browser does."""
    page = layla.get("/billing").get_data(as_text=True)
    form = page.partition('action="/billing/checkout"')[2].partition("</form")[0]
    inputs = [dict(re.findall(r'([a-z_-]+)="([^"]*)"', one)) for one in re.findall(r"<input[^>]*>", form)]
    hidden = {one["name"]: one["value"] for one in inputs if one.get("type") == "hidden"}
    with shop.app.app_context():
        sale.change_plan("pro", price_fils=20_000)
    answer = layla.post("/billing/checkout", data=hidden | {"item": "pro", "method": "kn"})
    assert answer.status_code in (409, 422)
    assert "20.000" in answer.get_data(as_text=True)


def test_a_suspended_account_is_not_led_to_pay(world: World) -> None:  # noqa: F811
    """PAY-01, ADMIN-11: its money is taken and held at once, for people to give back by hand."""
    with world.app.app_context():
        account = str(customer().account)
        suspended = sa.update(Account).where(Account.id == account).values(suspended_at=world.now)
        db.session.execute(suspended)
        db.session.commit()
        with pytest.raises(PortalError):
            world.begin(account, "pack-5000")
        assert world.rows(Payment) == []


def test_an_order_that_was_refused_is_not_told_as_not_paid_in_time(world: World) -> None:  # noqa: F811
    """SUB-02: the provider made no invoice. Who looked again read "not made in time … if you did pay, tell us"."""
    with world.app.app_context():
        world.fault("ExecutePayment", "400", times=1)
        with pytest.raises(PaymentRefused):
            world.begin(customer().account, "pack-5000")
        [refused] = world.rows(Payment)
        world.on(minutes=6)
        assert payments.confirm(refused.id, source="return") == "failed"
