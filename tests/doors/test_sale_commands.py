"""What is sold and for how much, as staff edit it: exact prices that the provider can charge, in force at once."""

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import freshness, store
from portal.extensions import db
from portal.models import Pack, Plan
from portal.services import sale
from portal.services.payments import catalogue
from portal.services.sale import BadSale, NotThere
from tests.doors.shop import Shop
from tests.doors.typing_at import refused, said
from tests.services.portal_app import MakeApp


def prices(app: Flask) -> tuple[int, int]:
    """Of the plan and of the pack that the tests change."""
    with app.app_context():
        return db.session.get_one(Plan, "pro").price_fils, db.session.get_one(Pack, "pack-5000").price_fils


@pytest.mark.parametrize(("typed", "nearest"), [
    ("1.005", "1.000 and 1.010"), ("0.009", "0.000 and 0.010"), ("5.1234", "three decimals"), ("-5", "no price"),
    ("5,5", "no price"), ("٥", "no price"), ("", "no price"), ("1e3", "no price"), ("NaN", "no price"),
    ("10000.010", "10,000.000"), ("99999999999999999999", "no price"),
])  # fmt: skip
def test_a_price_that_can_not_be_charged_is_refused_with_the_nearest(app: Flask, typed: str, nearest: str) -> None:
    """Issue 5 part 1: exact amounts in multiples of 10 fils, checked where staff edit them; nothing is changed."""
    before = prices(app)
    assert nearest in refused(app, "plans", "set", "pro", f"--price={typed}")
    refused(app, "packs", "set", "pack-5000", f"--price={typed}")
    refused(app, "packs", "add", "pack-new", f"--price={typed}", "--credits", "5")
    assert prices(app) == before
    with app.app_context():
        assert db.session.get(Pack, "pack-new") is None


def test_the_rule_and_the_database_refuse_it_too(make_app: MakeApp, database_url: str) -> None:
    """Issue 5 part 1, on every database: 1.005 comes in by no other door either."""
    app = make_app(database_url)
    with app.app_context():
        for call in (
            lambda: sale.change_plan("pro", price_fils=1005), lambda: sale.change_pack("pack-5000", price_fils=1005),
            lambda: sale.add_pack("odd", price_fils=1005, credits=5), lambda: sale.change_plan("pro", price_fils=-10),
            lambda: sale.change_pack("pack-5000", price_fils=0), lambda: sale.price("1.005"),
        ):  # fmt: skip
            with pytest.raises(BadSale):
                call()
        for row, code in ((Plan, "pro"), (Pack, "pack-5000")):
            with pytest.raises(sa.exc.DBAPIError):
                db.session.execute(sa.update(row).where(row.id == code).values(price_fils=1005))
            db.session.rollback()
        assert sale.change_plan("pro", price_fils=1010).price_fils == 1010


def test_a_plan_is_changed_for_whoever_buys_it_next(shop: Shop) -> None:
    """SUB-01: price, days, credit, requests; a payment that was begun keeps what it was told; every worker reads the
    rows anew."""
    begun = shop.begin("pro")
    told = said(
        shop.app, "plans", "set", "pro", "--price", "12.5", "--days", "10", "--credits", "1000", "--requests", "7"
    )
    assert told.strip() == "pro           12.500 KWD for 10 days and 1,000 credits, 7 requests a minute"
    row = shop.row(begun)
    assert (row.amount_fils, row.period_days, row.credits) == (15_000, 30, 60_000_000)
    after = shop.row(shop.begin("pro"))
    assert (after.amount_fils, after.period_days, after.credits) == (12_500, 10, 1_000_000)
    shop.pay(begun)
    assert shop.confirm(begun) == "paid"  # at the price it was begun at
    assert told.strip() in said(shop.app, "plans", "list")


def test_a_change_is_marked_for_every_worker(app: Flask) -> None:
    """SUB-01, contract: in force on every worker at once."""
    with app.app_context():
        before = store.client().get(freshness.PREFIX + "catalog")
        sale.change_plan("basic", requests_per_minute=11)
        after = store.client().get(freshness.PREFIX + "catalog")
    assert after is not None
    assert before != after
    assert freshness.UNSETTLED not in repr(after)  # committed: to be remembered again


def test_what_is_off_sale_is_shown_to_no_customer(app: Flask) -> None:
    """SUB-01, TOP-01: disabled, or for nothing; and back."""

    def offered() -> set[str]:
        with app.app_context():
            plans, packs = catalogue()
            return {*(plan.id for plan in plans), *(pack.id for pack in packs)}

    everything = offered()
    assert "NOT ON SALE" in said(app, "plans", "set", "pro", "--disable")
    assert "NOT ON SALE" in said(app, "plans", "set", "basic", "--price", "0")
    assert "NOT ON SALE" in said(app, "packs", "set", "pack-5000", "--disable")
    assert offered() == everything - {"pro", "basic", "pack-5000"}
    assert said(app, "plans", "list").count("NOT ON SALE") == 2
    said(app, "plans", "set", "pro", "--enable"), said(app, "plans", "set", "basic", "--price", "5")
    said(app, "packs", "set", "pack-5000", "--enable")
    assert offered() == everything


def test_another_pack_is_added_once_and_under_a_name_of_its_own(app: Flask) -> None:
    """TOP-01: a checkout knows what is bought by its id alone, so no pack is called like a plan."""
    added = said(app, "packs", "add", "pack-100000", "--price", "28.000", "--credits", "100000")
    assert added.strip() == "pack-100000   28.000 KWD for 100,000 credits"
    assert added in said(app, "packs", "list")
    assert "already" in refused(app, "packs", "add", "pack-100000", "--price", "28", "--credits", "1")
    for code in ("pro", "Pack", "x" * 33, "-x", "حزمة", "a b", ""):
        refused(app, "packs", "add", "--price", "1", "--credits", "1", "--", code)
    for credits in ("0", "-1", "2000000000", "1.5"):
        assert "redits" in refused(app, "packs", "add", "other", "--price", "1", f"--credits={credits}")


def test_what_can_not_be_meant_is_refused(app: Flask) -> None:
    """SUB-01: with what would be right; nothing is changed."""
    assert "there are basic, enterprise, pro" in refused(app, "plans", "set", "gold", "--price", "5")
    assert "there are pack-15000" in refused(app, "packs", "set", "pack-1", "--price", "5")
    assert "nothing was said" in refused(app, "plans", "set", "pro")
    assert "from 1 to 3660" in refused(app, "plans", "set", "pro", "--days", "0")
    assert "from 1 to 100000" in refused(app, "plans", "set", "pro", "--requests", "0")
    before = said(app, "plans", "list")
    assert "no price" in refused(app, "plans", "set", "pro", "--days", "5", "--price", "1.001")
    assert said(app, "plans", "list") == before
    with app.app_context(), pytest.raises(NotThere):
        sale.change_pack("gold", enabled=True)
