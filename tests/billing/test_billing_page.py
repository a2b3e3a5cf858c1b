"""The billing page: what runs, what can be bought, what it would come to, how to pay. Every figure is a row's."""

import datetime as dt
import re

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.extensions import db
from portal.models import Pack, Plan
from portal.pages import CONTENT_POLICY
from portal.services import subscriptions, tunables
from tests.billing import past
from tests.billing.conftest import main_of, text_of
from tests.doors.shop import Shop
from tests.pages.reading import Page
from tests.pages.test_queries import counted
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp

DAY = dt.timedelta(days=1)


def _change(shop: Shop, *changes: sa.Update) -> None:
    with shop.app.app_context():
        for change in changes:
            db.session.execute(change)
        db.session.commit()


def _radio(page: Page, name: str) -> dict[str, dict[str, str]]:
    """The radio buttons of a name by their values."""
    return {a["value"]: a for a in page.all("input") if a.get("type") == "radio" and a["name"] == name}


def test_every_figure_is_a_rows(shop: Shop, layla: FlaskClient) -> None:
    """SUB-01, TOP-01: another price, period, credit, limit or name in the rows: another page, at once."""
    before = text_of(layla.get("/billing"))
    assert "Pro 15.000 KWD for 30 days 60,000 credits 30 requests a minute Starts now and runs until" in before
    assert "15,000 credits 5.000 KWD Added to your balance" in before
    _change(
        shop,
        sa.update(Plan).where(Plan.id == "pro").values(
            price_fils=17_250, credits=61_500_000, requests_per_minute=33, period_days=45, name_en="Major"
        ),
        sa.update(Pack).where(Pack.id == "pack-15000").values(price_fils=6_120, credits=16_000_000),
        sa.update(Plan).where(Plan.id == "enterprise").values(enabled=False),
        sa.update(Pack).where(Pack.id == "pack-50000").values(enabled=False),
    )  # fmt: skip
    after = text_of(layla.get("/billing"))
    assert "Major 17.250 KWD for 45 days 61,500 credits 33 requests a minute Starts now and runs until" in after
    assert "16,000 credits 6.120 KWD Added to your balance" in after
    assert "Enterprise" not in after
    assert "50,000 credits" not in after


def test_what_choosing_it_now_comes_to_is_the_rules(shop: Shop, layla: FlaskClient) -> None:
    """SUB-03: extended from its end; a higher plan at once, with what is left at its worth; a lower one not yet."""
    past.give_plan(shop.app, shop.cast.layla, "pro", days=12 + 5 / 24 + 1 / 200)
    answer = layla.get("/billing")
    text, options = text_of(answer), _radio(Page(answer.get_data(as_text=True)), "item")
    with shop.app.app_context():
        row = subscriptions.running(shop.cast.layla.account_id)
        assert row is not None
        ends = row.ends_at.astimezone(dt.timezone(dt.timedelta(hours=3)))
    written = f"{ends.day} {ends:%b %Y}"
    assert f"Your plan: Pro Active Runs until {written}" in text
    assert f"Not while Pro runs, which is the higher one. You can choose it from {written} on." in text
    later = ends + 30 * DAY
    assert f"Prolongs your plan: until {later.day} {later:%b %Y}." in text
    assert "What is left of Pro (12 days and 5 hours) is added at its worth, which is here: 4 days and 1 hour." in text
    assert {value for value, a in options.items() if "disabled" in a} == {"basic"}
    assert not [a for a in options.values() if "checked" in a], "nothing is chosen for anybody"


@pytest.mark.parametrize(
    ("state", "ends", "told", "way"),
    [
        ("active", 9, "Active Runs until", "/billing/cancel"),
        ("cancelled", 9, "Runs out, cancelled Runs until", "/billing/reactivate"),
        ("grace", -0.5, "Past its end Ended on", ""),
        ("cancelled", -0.01, "Ended Ended on", ""),
        ("active", -3, "Ended Ended on", ""),
    ],
)
def test_the_plan_is_told_as_it_stands(
    shop: Shop, layla: FlaskClient, state: str, ends: float, told: str, way: str
) -> None:
    """SUB-03, SUB-04: by the clock too, not only by the row; and only what can be done is offered."""
    past.give_plan(shop.app, shop.cast.layla, "pro", days=ends)
    with shop.app.app_context():
        tunables.put("grace_hours", "48")
        row = subscriptions.running(shop.cast.layla.account_id)
        assert row is not None
        row.state = state
        db.session.commit()
    answer = layla.get("/billing")
    assert f"Your plan: Pro {told}" in text_of(answer)
    assert f"Plan Pro Status {told}" in text_of(layla.get("/dashboard"))
    ways = {one for one in ("/billing/cancel", "/billing/reactivate") if f'"{one}"' in main_of(answer)}
    assert ways == ({way} if way else set())
    assert ("Paid by then, it goes on from its end" in text_of(answer)) is (state == "grace")


def test_without_a_subscription_it_says_so(layla: FlaskClient) -> None:
    """SUB-03: nobody is told of a period that was never paid for."""
    text = text_of(layla.get("/billing"))
    assert "Your plan: Basic No subscription Requests a minute 10" in text
    assert "No payments yet" in text
    assert "Runs until" not in text.partition("Buy a plan")[0]


@pytest.mark.parametrize(("lang", "names"), [("en", ["KNET", "VISA/MASTER", "Apple Pay"]), ("ar", ["كي نت"])])
def test_the_ways_to_pay_are_the_providers_knet_first(
    shop: Shop, layla: FlaskClient, lang: str, names: list[str]
) -> None:
    """SUB-02: KNET first and chosen, in the provider's words; what it adds is said; no way that takes no browser."""
    shop.sandbox.control(server="myfatoorah", offered=["vm", "ap", "kn", "direct"])
    answer = layla.get(f"/billing?lang={lang}")
    options = _radio(Page(answer.get_data(as_text=True)), "method")
    assert list(options) == ["kn", "vm", "ap"]
    assert [value for value, a in options.items() if "checked" in a] == ["kn"]
    labels = re.findall(r'<label for="method-\w+"><bdi>([^<]+)</bdi>', main_of(answer))
    assert labels[: len(names)] == names
    if lang == "en":
        assert text_of(answer).count("adds a service charge") == 2


def test_a_link_can_choose_for_its_reader(layla: FlaskClient) -> None:
    """`?item=pro` from a price list; what is not for sale chooses nothing."""
    for asked, chosen in (("pro", ["pro"]), ("pack-5000", ["pack-5000"]), ("gold", []), ('"><b>', [])):
        page = Page(layla.get("/billing", query_string={"item": asked, "method": "vm"}).get_data(as_text=True))
        assert [value for value, a in _radio(page, "item").items() if "checked" in a] == chosen
        assert "checked" in _radio(page, "method")["vm"]


def test_where_nothing_can_be_paid_the_page_says_so(shop: Shop, layla: FlaskClient, make_app: MakeApp) -> None:
    """SUB-02: the provider away, or no key: a calm word, no button that leads nowhere, all else as ever."""
    shop.sandbox.control(server="myfatoorah", endpoint="InitiatePayment", fault="502_html")
    shop.app.extensions.pop("payment methods", None)
    away = layla.get("/billing")
    assert away.status_code == 200
    assert "The payment service does not answer at the moment" in text_of(away)
    assert "Continue to payment" not in text_of(away)
    assert "Pro 15.000 KWD" in text_of(away)
    closed = make_app(str(shop.app.config["SQLALCHEMY_DATABASE_URI"]))
    client = Cast(closed).app.test_client()
    with client.session_transaction() as theirs, layla.session_transaction() as hers:
        theirs.update(hers)
    shut = client.get("/billing?lang=en")
    assert shut.status_code == 200
    assert "Payments are not open here yet" in text_of(shut)
    assert "Continue to payment" not in text_of(shut)


def test_renewing_by_itself_is_offered_only_where_it_can_be_kept(shop: Shop, layla: FlaskClient) -> None:
    """SUB-04: the operator has opened it, and the provider can charge a kept card."""
    assert "Renew the plan automatically" not in text_of(layla.get("/billing"))
    with shop.app.app_context():
        tunables.put("automatic_renewal", "1")
    assert "Renew the plan automatically" in text_of(layla.get("/billing"))
    shop.sandbox.control(server="myfatoorah", offered=["kn", "vm"])
    shop.app.extensions.pop("payment methods", None)
    assert "Renew the plan automatically" not in text_of(layla.get("/billing"))


def test_forms_are_let_out_on_this_page_alone(shop: Shop, layla: FlaskClient) -> None:
    """OPS-03: to the provider and to nobody else; every other page keeps the strict policy."""
    policy = layla.get("/billing").headers["Content-Security-Policy"]
    assert f"form-action 'self' {shop.sandbox.url};" in policy
    assert policy.replace(f" {shop.sandbox.url}", "") == CONTENT_POLICY
    for path in ("/dashboard", "/billing/payments", "/settings"):
        assert layla.get(path).headers["Content-Security-Policy"] == CONTENT_POLICY


@pytest.mark.parametrize(("key", "allowed"), [("SK_KWT_x", "form-action 'self' https:;"), ("", "form-action 'self';")])
def test_a_form_may_go_on_to_knet_and_banks(make_app: MakeApp, sqlite_url: str, key: str, allowed: str) -> None:
    """SUB-02: the provider's page leads on to KNET's or a bank's in the same breath, and Chromium holds the form to the
    policy all the way: naming the provider alone would stop the payer there. Without a key nothing is let out."""
    cast = Cast(make_app(sqlite_url, MYFATOORAH_BASE_URL="https://127.0.0.1:9", MYFATOORAH_API_KEY=key))
    assert allowed in cast.sign_in(cast.layla).get("/billing").headers["Content-Security-Policy"]


@pytest.mark.parametrize(("path", "most"), [("/billing", 14), ("/billing/payments", 5), ("/dashboard", 7)])
def test_a_page_asks_little_however_much_was_paid(shop: Shop, layla: FlaskClient, path: str, most: int) -> None:
    """PAY-05: counted; thirty payments with receipts and refunds ask no more than nine."""
    past.give_everything(shop.app, shop.cast.layla)
    with counted(shop.app) as few:
        layla.get(path)
    past.give_payments(shop.app, shop.cast.layla, ("paid", "failed") * 10)
    with counted(shop.app) as many:
        layla.get(path)
    assert len(many) == len(few)
    assert len(many) <= most, many
