"""What follows from each event: its steps and what each needs before it. Declared here once, drawn from here.

A step is safe to repeat: whoever is told is told once an occasion, whatever ran twice. `flask tasks graph` draws it;
`services/runs.py` carries it out; `flask tasks show RUN` tells where one stands.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, Payment, Plan, Refund, User
from portal.services import credit_alerts, events, summaries
from portal.services.notifications import notify_staff
from portal.services.notifications.kinds import KINDS
from portal.services.payments import reasons
from portal.services.runs import Graph, Run, Step


def tell_customer(run: Run) -> Mapping[str, Any]:
    """The owner of the account, unless credit came meanwhile."""
    return {"told": credit_alerts.tell(run.kind, run.facts["account"], run.facts["credited"])}


def tell_staff(run: Run) -> Mapping[str, Any]:
    """Every administrator, with the facts of the event and what the steps before found out."""
    known = {**run.facts, **{name: value for result in run.results.values() for name, value in result.items()}}
    new = notify_staff(run.kind, run.occasion, **{name: known[name] for name in KINDS[run.kind].facts})
    db.session.commit()
    return {"told": new}


def refused_account(run: Run) -> Mapping[str, Any]:
    """Staff hear of a refused cloud account as of a provider that is down: it is what it means to customers."""
    reason = {401: "key refused", 402: "no money left", 403: "plan too small", 429: "quota used up"}
    status = run.facts["status"]
    new = notify_staff(
        events.PROVIDER_DOWN, run.occasion, provider=run.facts["provider"], reason=f"{reason[status]} ({status})"
    )
    db.session.commit()
    return {"told": new}


def customer(run: Run) -> Mapping[str, Any]:
    """Who they are, for people: name and address of the owner, the plan's names."""
    plan = db.session.get_one(Plan, run.facts["plan"])
    owner = db.session.execute(
        sa.select(User.name, User.email)
        .join(Account, Account.owner_id == User.id)
        .where(Account.id == run.facts["account"])
    ).one()
    names = {"ar": plan.name_ar, "en": plan.name_en}
    return {"name": owner.name or owner.email, "email": owner.email, "plan": names}


def payment(run: Run) -> Mapping[str, Any]:
    """A payment that is held, or that people must look at for another reason."""
    row = db.session.get_one(Payment, run.facts["payment"])
    why = reasons.words(run.facts.get("concern") or run.facts["reason"])
    return {"amount": row.paid_fils, "email": _owner(row.account_id), "reason": why}


def refund(run: Run) -> Mapping[str, Any]:
    """A refund that was not made, for people."""
    row = db.session.get_one(Refund, run.facts["refund"])
    told = {"payment": row.payment_id, "amount": row.amount_fils, "email": _owner(row.account_id)}
    return told | {"error": row.error or row.state}


def _owner(account_id: str) -> str:
    query = sa.select(User.email).join(Account, Account.owner_id == User.id).where(Account.id == account_id)
    return db.session.execute(query).scalar_one()


def figures(run: Run) -> Mapping[str, Any]:
    """The day, counted."""
    return summaries.of_day(dt.date.fromisoformat(run.facts["day"]))._asdict()


def summarise(run: Run) -> Mapping[str, Any]:
    """The figures, to every administrator."""
    new = notify_staff("daily_summary", run.facts["day"], **run.results["figures"])
    db.session.commit()
    return {"told": new}


TELL_STAFF = (Step("tell_staff", tell_staff),)
TELL_STAFF_OF_PAYMENT = (Step("payment", payment), Step("tell_staff", tell_staff, needs=("payment",)))
GRAPH: Graph = {
    events.CREDIT_LOW: (Step("tell_customer", tell_customer),),
    events.CREDIT_EXHAUSTED: (Step("tell_customer", tell_customer),),
    events.CLOUD_BUDGET_WARNING: TELL_STAFF,
    events.CLOUD_BUDGET_EXHAUSTED: TELL_STAFF,
    events.CLOUD_ACCOUNT_REFUSED: (Step("tell_staff", refused_account),),
    events.PROVIDER_DOWN: TELL_STAFF,
    events.PROVIDER_UP: TELL_STAFF,
    events.ADDRESS_BANNED: TELL_STAFF,
    events.JOB_STALE: TELL_STAFF,
    events.ENTERPRISE_CUSTOMER: (
        Step("customer", customer),
        Step("tell_staff", tell_staff, needs=("customer",)),
    ),
    events.PAYMENT_HELD: TELL_STAFF_OF_PAYMENT,
    events.PAYMENT_CONCERN: TELL_STAFF_OF_PAYMENT,
    events.REFUND_FAILED: (
        Step("refund", refund),
        Step("tell_staff", tell_staff, needs=("refund",)),
    ),
    events.DAY_ENDED: (
        Step("figures", figures),
        Step("tell_staff", summarise, needs=("figures",)),
    ),
}


def drawing() -> str:
    """The graph as text, one event a paragraph."""
    lines: list[str] = []
    for kind, steps in GRAPH.items():
        lines.append(kind)
        depth: dict[str, int] = {}
        for step in steps:
            depth[step.name] = 1 + max((depth[name] for name in step.needs), default=0)
            after = f"  (after {', '.join(step.needs)})" if step.needs else ""
            lines.append("  " * depth[step.name] + "→ " + step.name + after)
    return "\n".join(lines)
