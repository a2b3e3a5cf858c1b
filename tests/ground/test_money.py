"""Credits and dinars: integers inside, three decimals outside, nothing lost on the way (CRD-01)."""

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from portal import money

amounts = st.integers(-(10**15), 10**15)


@given(amounts)
def test_what_is_written_is_exactly_what_is_meant(milli: int) -> None:
    """never-again, "Three decimals lost, floats in totals, wrong currency"."""
    exact = Decimal(milli) / 1000
    assert Decimal(money.credits(milli).replace(",", "")) == exact
    assert Decimal(money.credits_plain(milli)) == exact
    assert Decimal(money.dinars(abs(milli)).replace(",", "")) == abs(exact)


@given(st.integers(-(9 * 10**12), 9 * 10**12))
def test_a_json_number_keeps_three_decimals(milli: int) -> None:
    """API-02: as far as nine billion credits."""
    assert round(Decimal(repr(money.credits_number(milli))), 3) == Decimal(milli) / 1000


@given(amounts)
def test_what_is_written_can_be_read_back(milli: int) -> None:
    """ADMIN-03: staff paste what they see."""
    assert money.parse_credits(money.credits(milli)) == milli
    assert money.parse_credits(f"  {money.credits_plain(milli)} ") == milli


@pytest.mark.parametrize(
    ("milli", "plain", "full"),
    [(57, "0.057", "0.057"), (0, "0", "0.000"), (-1, "-0.001", "-0.001"), (1_234_500, "1234.5", "1,234.500"),
     (10_000, "10", "10.000"), (-2_000_000, "-2000", "-2,000.000")],
)  # fmt: skip
def test_amounts_as_people_and_programs_read_them(milli: int, plain: str, full: str) -> None:
    """Contract: `x-portal-credits` such as 0.057."""
    assert money.credits_plain(milli) == plain
    assert money.credits(milli) == full


@pytest.mark.parametrize("fils", [(5000, "5.000"), (10, "0.010"), (0, "0.000"), (1_234_560, "1,234.560")])
def test_dinars_have_three_decimals(fils: tuple[int, str]) -> None:
    """SUB-01."""
    assert money.dinars(fils[0]) == fils[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1.2345",
        "1e3",
        "nan",
        "inf",
        "0x10",
        "١٢",
        "1.",
        "1.٥",
        "--1",
        "1.2.3",
        "1 2",
        ".5",
        "+-1",
        "²",
        "1,5",
        "1,2,3",
        ",100",
        "1,,000",
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """ADMIN-03: a typing error must not become money."""
    if text in ("1.",):  # a point without decimals is the amount before it
        assert money.parse_credits(text) == 1000
        return
    with pytest.raises(ValueError, match="amount"):
        money.parse_credits(text)


@given(st.integers(0, 10**12))
def test_dinars_that_are_written_can_be_read_back(fils: int) -> None:
    """ADMIN-03: staff paste what they see."""
    assert money.parse_dinars(money.dinars(fils)) == fils


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0005", "1,5", "1e3", "٥", "NaN", "1 000", ".5"])
def test_what_is_no_amount_of_dinars_is_refused(text: str) -> None:
    """Issue 5 part 1: a price is never guessed at."""
    with pytest.raises(ValueError, match="dinars"):
        money.parse_dinars(text)
