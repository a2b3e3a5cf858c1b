"""What the provider's status means for a payment of ours: the one judgement, computed and nothing else.

A payment counts when the provider says it was captured, and amount, currency, reference and account are those we asked
for. Paid but different is for people to look at: it neither counts nor is thrown away.
"""

import datetime as dt
from typing import Any, NamedTuple

from portal.models import Payment
from portal.providers.payments import KWD, Attempt, Status
from portal.services.payments import reasons

COUNTABLE = ("amount", "currency", "suspended")
"""Reasons that staff may overrule; an invoice of another order or account can only be given back."""
LATE = dt.timedelta(minutes=30)
"""After its end an invoice is asked about once more before it counts as expired: a bank may take that long."""


class Verdict(NamedTuple):
    """The state a payment comes to, and why. attempt: the one that paid, or that failed last."""

    state: str
    reason: str = ""
    attempt: Attempt | None = None


def judge(payment: Payment, status: Status, now: dt.datetime, tried: str = "") -> Verdict:
    """tried: the provider's id of the attempt that a browser came back from; empty for none."""
    if status.state == "paid":
        wrong = mismatch(payment, status)
        return Verdict("held" if wrong else "paid", wrong, status.paid_by)
    if status.state == "canceled":
        return Verdict("cancelled")
    failed = _failed(status, tried)
    if now > max(payment.expires_at, status.expires_at or payment.expires_at) + LATE:
        return Verdict("expired", payment.reason, failed)
    if failed is not None:
        return Verdict("failed", reasons.code(failed.error_code), failed)
    return Verdict("pending")


def mismatch(payment: Payment, status: Status) -> str:
    """What the provider reports otherwise than we asked for; empty when all agrees. No answer is no agreement, but for
    the account: our own reference names one payment of one account, and the provider may keep that field to itself."""
    if status.invoice != payment.invoice or status.reference != payment.id:
        return "reference"
    if status.user_field and status.user_field not in (payment.account_id, kept_by(payment.account_id)):
        return "account"
    if status.currency != KWD or payment.currency != KWD:
        return "currency"
    if status.value_fils != payment.amount_fils:
        return "amount"
    return ""


def kept_by(account_id: str) -> str:
    """The user field that lets the provider's page keep a card for this account."""
    return f"CK-{account_id}"


def trail(status: Status) -> dict[str, Any]:
    """What people need who must find out what happened: no names, no cards, no tokens."""
    return {
        "invoice": status.invoice, "state": status.state, "reference": status.reference, "fils": status.value_fils,
        "currency": status.currency, "attempts": [
            {"payment": one.payment, "state": one.state, "method": one.method, "code": one.error_code}
            for one in status.attempts[-5:]
        ],
    }  # fmt: skip


def _failed(status: Status, tried: str) -> Attempt | None:
    """The attempt to tell of: the one the browser came from, or the latest while no other is under way."""
    if (mine := status.attempt(tried)) is not None and mine.state == "failed":
        return mine
    if any(one.state in ("waiting", "held") for one in status.attempts):
        return None
    return next((one for one in reversed(status.attempts) if one.state == "failed"), None)
