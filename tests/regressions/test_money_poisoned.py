"""One payment that can't be given: it is shown to people, and stands in nobody else's way."""

import contextlib

from portal.services import ledger, payments, reconciliation, topups
from portal.services.payments import held
from tests.notifications.outside import customer
from tests.payments.world import World
from tests.regressions.money_world import world  # noqa: F401


def booked_by_hand(world: World) -> str:  # noqa: F811
    """A customer shows the bank's message while the provider is silent; staff book the pack with `flask topup …
    --reference <our payment id>`. Then the money is found. Returns the payment."""
    account = str(customer().account)
    payment = world.begin(account, "pack-5000")
    topups.book(account, "pack-5000", reference=payment.id, actor="console")
    world.sandbox.pay(payment.invoice or "")
    world.on(seconds=3)
    return payment.id


def test_a_payment_that_was_booked_by_hand_comes_to_an_end(world: World) -> None:  # noqa: F811
    """TOP-02, PAY-03: its reference is in the ledger already, so it can't be credited again, and must not. Every door
    answered 500 from then on, the customer's return page with it; staff heard of it 25 hours later, as "unanswered"."""
    with world.app.app_context():
        payment = booked_by_hand(world)
        assert payments.confirm(payment, source="return") in ("held", "paid")
        assert len(world.entries(world.payment(payment).account_id)) == 1
        assert [one.payment for one in held.attention()] == [payment]


def test_it_does_not_end_the_sweep(world: World) -> None:  # noqa: F811
    """PAY-03: everything that was due after it in the same sweep was left, at every turn of its schedule."""
    with world.app.app_context():
        booked_by_hand(world)
        other = world.begin(customer().account, "pack-5000")
        world.sandbox.pay(other.invoice or "")
        world.on(minutes=2)
        with contextlib.suppress(ledger.AlreadyBooked):
            reconciliation.ask_due()
        assert world.payment(other.id).state == "paid"


def test_it_does_not_keep_missed_webhooks_from_being_read(world: World) -> None:  # noqa: F811
    """PAY-03: its notice is in every list of the next three days, and whatever stands behind it is never read."""
    with world.app.app_context():
        booked_by_hand(world)
        other = world.begin(customer().account, "pack-5000")
        world.sandbox.pay(other.invoice or "")
        world.on(minutes=1)
        for _ in range(3):
            world.on(minutes=5)
            with contextlib.suppress(ledger.AlreadyBooked):
                reconciliation.read_missed()
        assert world.payment(other.id).state == "paid"
