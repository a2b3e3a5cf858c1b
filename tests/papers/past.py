"""Money that was paid and given back, as rows: what the rules of payments leave when they call for a paper."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from flask import Flask

from portal import clock
from portal.extensions import db
from portal.ids import new_id
from portal.models import LedgerEntry, Paper, Payment, Refund, Usage, Wallet
from portal.services import ledger, papers, tunables

SELLER = {
    "seller_name_ar": "شركة النخلة للتقنية ذ.م.م",
    "seller_name_en": "Al-Nakhla Technology W.L.L.",
    "seller_address_ar": "الكويت، شرق، شارع أحمد الجابر، برج الراية، الدور 12",
    "seller_address_en": "12th floor, Al-Raya Tower, Ahmad Al-Jaber Street, Sharq, Kuwait",
    "seller_phone": "+965 2200 0000",
    "seller_email": "accounts@nakhla.example",
    "seller_registration": "412233",
}


def name_the_seller(app: Flask, **more: str) -> None:
    """All that an operator can say of who sells; more: such as `vat_number`."""
    with app.app_context():
        for name, value in (SELLER | more).items():
            tunables.put(name, value)


def paid(account_id: str, **values: Any) -> Payment:
    """The row of a payment that counted, flushed into the present transaction."""
    now = clock.utcnow()
    usual: dict[str, Any] = {
        "kind": "plan", "item": "pro", "name_ar": "احترافي", "name_en": "Pro", "credits": 60_000_000, "period_days": 30,
        "amount_fils": 15_000, "method": "kn", "state": "paid", "paid_at": now, "closed_at": now, "gateway": "KNET",
        "card_number": "888888xxxxxx8888", "provider_payment": "07076543210123456789", "invoice": new_id(),
    }  # fmt: skip
    payment = Payment(
        id=new_id(), account_id=account_id, actor="test", expires_at=now + dt.timedelta(days=1), **(usual | values)
    )
    db.session.add(payment)
    db.session.flush()
    return payment


def done(payment: Payment, amount_fils: int, credits: int, reason: str = "طلب العميل") -> Refund:
    """The row of a refund that is done."""
    refund = Refund(
        id=new_id(), payment_id=payment.id, account_id=payment.account_id, amount_fils=amount_fils, credits=credits,
        reason=reason, actor="test", state="done", provider_refund=new_id(), ended_at=clock.utcnow(),
    )  # fmt: skip
    db.session.add(refund)
    db.session.flush()
    return refund


def buy(app: Flask, account_id: str, **values: Any) -> Paper:
    """Pay: payment, credit and receipt in one transaction."""
    with app.app_context():
        payment = paid(account_id, **values)
        kind = "subscription" if payment.kind == "plan" else "topup"
        ledger.credit(account_id, payment.credits, kind=kind, reference=payment.id, actor="test")
        paper = papers.receipt(payment)
        db.session.commit()
        return paper


def give_back(app: Flask, receipt: Paper, amount_fils: int, credits: int) -> Paper:
    """Refund: the credit taken and the credit note in one transaction."""
    with app.app_context():
        payment = db.session.get_one(Payment, receipt.payment_id)
        refund = done(payment, amount_fils, credits)
        ledger.set_aside(payment.account_id, credits)
        ledger.take_aside(payment.account_id, credits, kind="refund", reference=refund.id, actor="test")
        paper = papers.credit_note(refund, payment, credits)
        assert paper is not None
        db.session.commit()
        return paper


def give_papers(app: Flask, account_id: str) -> tuple[Paper, Paper]:
    """A plan that was bought and partly given back: its receipt and its credit note."""
    receipt = buy(app, account_id)
    return receipt, give_back(app, receipt, 5_000, 20_000_000)


Story = list[tuple[dt.datetime, str, int]]
"""Instant, kind, milli-credits."""


def write(app: Flask, account_id: str, story: Story) -> None:
    """Book a story into an account's ledger as it is told, at its own instants: the chain in the order of the list."""
    with app.app_context():
        wallet = db.session.get_one(Wallet, account_id)
        entries, requests = [], []
        for at, kind, amount in story:
            reference = new_id()
            wallet.seq += 1
            entries.append(
                {
                    "id": new_id(),
                    "account_id": account_id,
                    "seq": wallet.seq,
                    "kind": kind,
                    "amount": amount,
                    "balance_before": wallet.balance,
                    "balance_after": wallet.balance + amount,
                    "reference": reference,
                    "actor": "test",
                    "meta": {"reason": "عدلته الإدارة"} if kind == "adjustment" else {},
                    "created_at": at,
                }
            )
            wallet.balance += amount
            if kind == "usage":
                requests.append(_request(reference, account_id, -amount, at))
        db.session.flush()
        if requests:
            db.session.execute(sa.insert(Usage), requests)
        if entries:
            db.session.execute(sa.insert(LedgerEntry), entries)
        db.session.commit()


def _request(request_id: str, account_id: str, cost: int, at: dt.datetime) -> dict[str, Any]:
    return {
        "id": request_id, "account_id": account_id, "api_key_id": "k" * 32, "process_id": "p" * 32,
        "model": "qwen2.5-coder:14b", "rate_in": 10**6, "rate_out": 10**6, "rate_cached": 10**6, "streamed": False,
        "state": "settled", "hold": cost, "outcome": "ok", "prompt_tokens": cost, "cost": cost, "created_at": at,
        "settled_at": at,
    }  # fmt: skip
