"""Money that came otherwise than it was asked for: what goes back is what came, and papers say what was paid."""

import pytest

from portal.extensions import db
from portal.models import Paper
from portal.providers.payments import Refunded
from portal.services import ledger, payments, refunds, tunables
from portal.services.payments import held
from tests.notifications.outside import customer
from tests.payments.world import SERVER, World
from tests.regressions.money_world import give_back, world  # noqa: F401


def paid_otherwise(world: World, value: str) -> str:  # noqa: F811
    """A pack of 2.000 dinars for which another amount came. Returns the payment, which is held."""
    payment = world.begin(customer().account, "pack-5000")
    world.sandbox.pay(payment.invoice or "")
    world.sandbox.control(server=SERVER, status_value=value)
    world.on(seconds=3)
    assert payments.confirm(payment.id, source="return") == "held"
    return payment.id


@pytest.mark.parametrize(("value", "fils"), [("3.000", 3_000), ("1.000", 1_000)])
def test_money_that_is_held_goes_back_as_it_came(world: World, value: str, fils: int) -> None:  # noqa: F811
    """PAY-04 "never more than was paid": 3.000 came for 2.000, 2.000 went back, and the payment was `returned`, for
    ever; 1.000 came, 2.000 were asked back, and the provider refuses that every time."""
    with world.app.app_context():
        assert refunds.bounds(payments.read(paid_otherwise(world, value))).fils == fils


def test_a_receipt_tells_what_was_paid(world: World) -> None:  # noqa: F811
    """PAY-05: staff let 1.000 count for a pack of 2.000, and the books had a receipt over 2.000: "Total paid"."""
    with world.app.app_context():
        payment = paid_otherwise(world, "1.000")
        assert held.release(payment, actor="console") == "paid"
        [paper] = world.rows(Paper)
        assert paper.amount_fils == 1_000
        assert refunds.bounds(payments.read(payment)).fils == 1_000


def test_the_vat_of_all_credit_notes_is_the_receipts(world: World) -> None:  # noqa: F811
    """PAY-05: a payment given back whole, in parts, has no VAT left; credits are cut cumulatively, this is not."""
    with world.app.app_context():
        tunables.put("vat_percent", "5")
        payment = world.buy(customer().account, "pack-5000")
        for fils in (10, 10, 1_980):
            give_back(world, payment.id, fils)
        receipt, *notes = [paper.content["tax"]["fils"] for paper in world.rows(Paper)]
        assert (receipt, len(notes)) == (95, 3)
        assert sum(notes) == receipt


def test_another_amount_given_back_is_seen_by_people(world: World) -> None:  # noqa: F811
    """PAY-04: the provider's people carry a refund out by hand. What they gave back is in their answer, and the books
    had the amount that was asked for."""
    with world.app.app_context():
        payment = world.buy(customer().account, "pack-5000")
        refund = refunds.request(payment.id, 2_000, reason="x", actor="console")
        asked = world.sandbox.refunds()
        assert [one["reference"] for one in asked] == [refund]
        refunds._note(refund, Refunded(str(asked[0]["id"]), "refunded", 500, refund))
        db.session.rollback()
        done = world.refund(refund)
        assert (done.state, done.amount_fils, done.credits) == ("done", 500, 1_250_000)
        assert (world.payment(payment.id).refunded_fils, ledger.check()) == (500, [])
        assert [(one.what, one.reason) for one in held.attention()] == [("concern", "other_amount")]
