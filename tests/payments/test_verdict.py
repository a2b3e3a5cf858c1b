"""The one judgement: nothing is paid unless the provider says captured and all that we asked for is what it tells."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, strategies as st

from portal.models import Payment
from portal.providers.payments import Attempt, Status
from portal.services.payments.reasons import FAILED, HELD
from portal.services.payments.verdict import LATE, judge, kept_by, trail

NOW = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)
OURS, THEIRS = "0197f0c2b7d37e95a08c4a1b2c3d4e5f", "0197f0c2b7d37e95a08c4a1b2c3d4e60"
ACCOUNT, OTHER = "0197f0c2b7d37e95a08c4a1b2c3d4e61", "0197f0c2b7d37e95a08c4a1b2c3d4e62"


def payment(**changed: Any) -> Payment:
    usual = {
        "id": OURS, "account_id": ACCOUNT, "invoice": "7000001", "amount_fils": 2000, "currency": "KWD", "reason": "",
        "state": "pending", "expires_at": NOW + dt.timedelta(hours=24),
    }  # fmt: skip
    return Payment(**usual | changed)


def attempt(state: Any = "paid", payment: str = "0707700000100000171", code: str = "", **changed: Any) -> Attempt:
    return Attempt(payment, state, "KNET", "1", code, "in the provider's words", None, NOW)._replace(**changed)


def status(**changed: Any) -> Status:
    usual = Status("7000001", "paid", OURS, ACCOUNT, 2000, "KWD", NOW + dt.timedelta(hours=24), (attempt(),))
    return usual._replace(**changed)


MATCHES: dict[str, dict[str, Any]] = {
    "as asked for": {},
    "a kept card's field": {"user_field": kept_by(ACCOUNT)},
    "no field": {"user_field": ""},
    "no end told": {"expires_at": None},
}
DIFFERS: dict[str, list[dict[str, Any]]] = {
    "amount": [{"value_fils": 1999}, {"value_fils": 2001}, {"value_fils": 0}, {"value_fils": None}],
    "currency": [{"currency": "SAR"}, {"currency": ""}, {"currency": "kwd"}],
    "reference": [
        {"reference": THEIRS}, {"reference": ""}, {"reference": OURS.upper()}, {"invoice": "7000002"}, {"invoice": ""},
    ],
    "account": [{"user_field": OTHER}, {"user_field": kept_by(OTHER)}, {"user_field": f"CK-CK-{ACCOUNT}"}],
}  # fmt: skip


@pytest.mark.parametrize("how", MATCHES)
def test_captured_and_as_asked_for_is_paid(how: str) -> None:
    """PAY-01: amount, currency, reference, account."""
    found = judge(payment(), status(**MATCHES[how]), NOW)
    assert (found.state, found.reason, found.attempt) == ("paid", "", attempt())


@pytest.mark.parametrize(("reason", "how"), [(reason, how) for reason, hows in DIFFERS.items() for how in hows])
def test_captured_and_otherwise_is_held(reason: str, how: dict[str, Any]) -> None:
    """PAY-01: neither credited nor thrown away, and people are told why in words that exist."""
    found = judge(payment(), status(**how), NOW)
    assert (found.state, found.reason) == ("held", reason)
    assert reason in HELD


def test_our_own_row_in_another_currency_is_held() -> None:
    """PAY-01: nobody adds fils to cents."""
    assert judge(payment(currency="USD"), status(currency="USD"), NOW)[:2] == ("held", "currency")


def test_an_invoice_that_was_not_noted_is_nobodys() -> None:
    """PAY-01: paid under another reference, where we have no invoice of our own."""
    assert judge(payment(invoice=None), status(reference=THEIRS), NOW)[:2] == ("held", "reference")


# --- not paid ---------------------------------------------------------------------------------------------------------

BEFORE, AFTER = NOW - dt.timedelta(minutes=5), NOW + LATE
UNPAID: dict[str, tuple[dict[str, Any], dict[str, Any], str, tuple[str, str]]] = {
    "nobody tried": ({"attempts": ()}, {}, "", ("pending", "")),
    "one is trying": ({"attempts": (attempt("waiting"),)}, {}, "", ("pending", "")),
    "money is reserved": ({"attempts": (attempt("held"),)}, {}, "", ("pending", "")),
    "reserved money was let go": ({"attempts": (attempt("released"),)}, {}, "", ("pending", "")),
    "a try failed": ({"attempts": (attempt("failed", code="MF004"),)}, {}, "", ("failed", "MF004")),
    "with a code that nobody knows": ({"attempts": (attempt("failed", code="MF020"),)}, {}, "", ("failed", "declined")),
    "without one": ({"attempts": (attempt("failed"),)}, {}, "", ("failed", "declined")),
    "the last of two failures": (
        {"attempts": (attempt("failed", "1", "MF004"), attempt("failed", "2", "MF010"))}, {}, "", ("failed", "MF010"),
    ),
    "the one I came back from": (
        {"attempts": (attempt("failed", "1", "MF004"), attempt("failed", "2", "MF010"))}, {}, "1", ("failed", "MF004"),
    ),
    "somebody else's I came back with": (
        {"attempts": (attempt("failed", "1", "MF004"),)}, {}, "99", ("failed", "MF004"),
    ),
    "failed, and trying again": (
        {"attempts": (attempt("failed", "1", "MF004"), attempt("waiting", "2"))}, {}, "", ("pending", ""),
    ),
    "failed, trying again, and I came from the failure": (
        {"attempts": (attempt("failed", "1", "MF004"), attempt("waiting", "2"))}, {}, "1", ("failed", "MF004"),
    ),
    "cancelled": ({"state": "canceled", "attempts": ()}, {}, "", ("cancelled", "")),
    "cancelled after its end": (
        {"state": "canceled", "attempts": (), "expires_at": BEFORE - LATE}, {"expires_at": BEFORE - LATE}, "",
        ("cancelled", ""),
    ),
    "its end is past, a bank may be slow": (
        {"attempts": (), "expires_at": BEFORE}, {"expires_at": BEFORE}, "", ("pending", ""),
    ),
    "its end is long past": (
        {"attempts": (), "expires_at": BEFORE - LATE}, {"expires_at": BEFORE - LATE}, "", ("expired", ""),
    ),
    "our end is past, theirs is not": ({"attempts": ()}, {"expires_at": BEFORE - LATE}, "", ("pending", "")),
    "theirs is past, ours is not": ({"attempts": (), "expires_at": BEFORE - LATE}, {}, "", ("pending", "")),
    "theirs is not told": ({"attempts": (), "expires_at": None}, {"expires_at": BEFORE - LATE}, "", ("expired", "")),
    "it failed before its end": (
        {"attempts": (attempt("failed", code="MF004"),), "expires_at": BEFORE - LATE},
        {"expires_at": BEFORE - LATE, "reason": "MF004"}, "", ("expired", "MF004"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNPAID)
def test_what_is_not_captured_is_not_paid(case: str) -> None:
    """PAY-01: pending, failed with its reason, expired by our own reckoning, cancelled."""
    told, ours, tried, expected = UNPAID[case]
    found = judge(payment(**ours), status(**{"state": "pending", **told}), NOW, tried)
    assert found[:2] == expected


_LATER = st.timedeltas(min_value=dt.timedelta(days=-3), max_value=dt.timedelta(days=3))
_ATTEMPTS = st.lists(
    st.builds(
        attempt, st.sampled_from(["waiting", "paid", "failed", "released", "held"]), st.sampled_from(["", "1", "2"]),
        st.sampled_from(["", "MF004", "MF020"]),
    ),
    max_size=4,
).map(tuple)  # fmt: skip
_STATUSES = st.builds(
    Status,
    invoice=st.sampled_from(["7000001", "7000002", ""]),
    state=st.sampled_from(["pending", "paid", "canceled"]),
    reference=st.sampled_from([OURS, THEIRS, ""]),
    user_field=st.sampled_from([ACCOUNT, kept_by(ACCOUNT), OTHER, kept_by(OTHER), ""]),
    value_fils=st.sampled_from([2000, 2001, 100, 0, None]),
    currency=st.sampled_from(["KWD", "SAR", ""]),
    expires_at=st.none() | _LATER.map(lambda span: NOW + span),
    attempts=_ATTEMPTS,
)


@given(_STATUSES, _LATER, st.sampled_from(["", "1", "2", "3"]), st.sampled_from(["7000001", None]))
def test_only_money_that_agrees_in_all_four_is_ever_paid(
    told: Status, ends: dt.timedelta, tried: str, invoice: str | None
) -> None:
    """PAY-01: whatever the provider says, whatever a browser came with, whenever it is."""
    row = payment(expires_at=NOW + ends, invoice=invoice)
    found = judge(row, told, NOW, tried)
    agrees = (
        told.invoice == row.invoice and told.reference == OURS and told.value_fils == 2000 and told.currency == "KWD"
        and told.user_field in ("", ACCOUNT, kept_by(ACCOUNT))
    )  # fmt: skip
    assert (found.state == "paid") == (told.state == "paid" and agrees)
    assert (found.state in ("paid", "held")) == (told.state == "paid")
    assert bool(found.reason in HELD) == (found.state == "held")
    if found.state == "failed":
        assert found.reason in FAILED
    assert found.state in ("paid", "held", "failed", "pending", "expired", "cancelled")
    assert set(trail(told)) == {"invoice", "state", "reference", "fils", "currency", "attempts"}
