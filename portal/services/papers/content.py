"""What stands on a paper, as plain data of that day: nothing of it is looked up again when it is shown.

A seller who moves, a plan that gets another name, a customer who changes the address: what was issued stays as it was.
Amounts are fils, credits milli-credits, instants ISO 8601 with their zone.
"""

import datetime as dt
from typing import Any, Final

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, Paper, Payment, Refund, User
from portal.services import tunables

PORTAL: Final = "LLM Portal"
"""Who sells while the operator has named nobody."""
Content = dict[str, Any]


def of_receipt(payment: Payment, at: dt.datetime) -> Content:
    """All that a receipt tells. payment: as it is paid. at: of its issue. Prices include VAT where there is one."""
    line = {
        "kind": payment.kind,
        "item": payment.item,
        "name": {"ar": payment.name_ar, "en": payment.name_en},
        "credits": payment.credits,
        "days": payment.period_days,
        "unit_fils": payment.paid_fils,
        "amount_fils": payment.paid_fils,
    }
    return {
        **_parties(payment, at),
        "lines": [line],
        "amount_fils": payment.paid_fils,
        "tax": tax(payment.paid_fils, tunables.get("vat_percent")),
    }


def of_credit_note(refund: Refund, payment: Payment, corrects: Paper, taken: int, at: dt.datetime) -> Content:
    """All that a credit note tells. taken: milli-credits taken back. The tax is its receipt's, not today's."""
    was = corrects.content["tax"]
    percent = was["percent"] if was else 0
    # Cut as the credits are: of all notes together there is the receipt's tax, whatever each was rounded to.
    after, before = (tax(fils, percent) for fils in (payment.refunded_fils, payment.refunded_fils - refund.amount_fils))
    part = {"percent": percent, "fils": after["fils"] - before["fils"]} if after and before else None
    return {
        **_parties(payment, at),
        "lines": corrects.content["lines"],
        "amount_fils": refund.amount_fils,
        "tax": part and part | {"net_fils": refund.amount_fils - part["fils"]},
        "corrects": {"number": corrects.number, "issued_at": corrects.content["issued_at"]},
        "refund": {
            "id": refund.id,
            "provider_refund": refund.provider_refund or "",
            "credits_taken": taken,
            "reason": refund.reason,
        },
    }


def tax(amount_fils: int, percent: int) -> dict[str, int] | None:
    """The VAT in an amount that includes it, to the nearest fils. None where there is none."""
    if not percent:
        return None
    whole = 100 + percent
    fils = (2 * amount_fils * percent + whole) // (2 * whole)
    return {"percent": percent, "fils": fils, "net_fils": amount_fils - fils}


def _parties(payment: Payment, at: dt.datetime) -> Content:
    return {
        "issued_at": at.isoformat(),
        "seller": seller(),
        "buyer": buyer(payment.account_id),
        "currency": payment.currency,
        "payment": {
            "id": payment.id,
            "paid_at": payment.paid_at.isoformat() if payment.paid_at else "",
            "method": payment.method,
            "gateway": payment.gateway,
            "card_number": payment.card_number,
            "provider_payment": payment.provider_payment,
            "invoice": payment.invoice or "",
        },
    }


def seller() -> Content:
    """Who sells, as the settings have it now."""
    told = tunables.texts()
    return {
        "name": {"ar": told["seller_name_ar"] or PORTAL, "en": told["seller_name_en"] or PORTAL},
        "address": {"ar": told["seller_address_ar"], "en": told["seller_address_en"]},
        "phone": told["seller_phone"],
        "email": told["seller_email"],
        "registration": told["seller_registration"],
        "vat_number": told["vat_number"],
    }


def buyer(account_id: str) -> Content:
    """Who buys, as the account is called now."""
    query = sa.select(Account.name, User.name, User.email).join(User, User.id == Account.owner_id)
    account, person, email = db.session.execute(query.where(Account.id == account_id)).one()
    return {"account": account_id, "name": account or person, "email": email}
