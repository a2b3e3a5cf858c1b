"""What may follow what: paid is final, money comes from everywhere, and nothing else undoes anything."""

import pytest

from portal.models.payment import STATES
from portal.services.payments.transitions import OPEN, TRANSITIONS, UNDECIDED, before


def test_every_state_of_the_rows_is_in_the_table() -> None:
    """PAY-01: the table is of all states, and of no others."""
    assert set(TRANSITIONS) == set(STATES)
    assert {after for follow in TRANSITIONS.values() for after in follow} <= set(STATES)


@pytest.mark.parametrize("final", ["paid", "returned"])
def test_what_is_final_is_followed_by_nothing(final: str) -> None:
    """PAY-01, paid is final."""
    assert TRANSITIONS[final] == frozenset()
    assert all(final not in before(state) for state in STATES)


def test_money_counts_whatever_was_thought_before_but_where_it_was_given_back() -> None:
    """PAY-01: a late payment of what had failed, run out or been cancelled is paid or held."""
    assert set(before("paid")) == set(STATES) - {"paid", "returned"}
    assert set(before("held")) == set(STATES) - {"paid", "returned", "held"}
    assert before("returned") == ("held",)


def test_nothing_goes_back_to_its_beginning() -> None:
    """PAY-01: a payment is opened once; what is over is opened again by money alone."""
    assert before("opening") == ()
    for over in ("expired", "cancelled"):
        assert TRANSITIONS[over] == {"held", "paid"}
    assert set(TRANSITIONS["held"]) == {"paid", "returned"}


def test_the_provider_is_asked_by_itself_about_what_can_still_be_paid_there() -> None:
    """PAY-03: the schedule ends where nothing is open; who tells of money is heard as long as nothing is decided."""
    assert set(OPEN) == {"opening", "pending", "failed"}
    assert set(UNDECIDED) == {*OPEN, "expired", "cancelled"}
