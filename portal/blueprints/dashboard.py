"""The dashboard: what is left, the plan and until when, the keys, and the latest requests. Every figure is a row's."""

from collections.abc import Sequence

import sqlalchemy as sa
from flask import Blueprint, render_template

from portal.blueprints.guards import current_caller
from portal.clock import utcnow
from portal.extensions import db
from portal.models import Usage
from portal.services import api_keys, standing

bp = Blueprint("dashboard", __name__)
LATEST = 8


@bp.get("/dashboard")
def show() -> str:
    caller = current_caller()
    rows, now = api_keys.of_account(caller.account.id), utcnow()
    return render_template(
        "dashboard/show.html",
        account=caller.account,
        plan=caller.account.plan,
        standing=standing.of_account(caller.account.id, now),
        wallet=caller.wallet,
        keys=[key for key in rows if key.revoked_at is None],
        labels={key.id: key.label for key in rows},
        requests=_latest_requests(caller.account.id),
        now=now,
    )


def _latest_requests(account_id: str) -> Sequence[Usage]:
    query = (
        sa.select(Usage)
        .where(Usage.account_id == account_id)
        .order_by(Usage.created_at.desc(), Usage.id.desc())
        .limit(LATEST)
    )
    return db.session.scalars(query).all()
