"""Settling what a dead process left open, so that no credit stays on hold for a request nobody runs any more.

A request is given up when its process has shown no sign of life for DEAD_AFTER, or when it is older than any answer may
take. What it delivered is not known, and the fault is ours: it costs nothing.
"""

import datetime as dt
import logging

import sqlalchemy as sa

from portal.config import Settings
from portal.extensions import db
from portal.models import GatewayProcess, Usage
from portal.models.base import database_now
from portal.services.gateway.holding import stamp
from portal.services.gateway.process import DEAD_AFTER
from portal.services.gateway.ticket import MOST_ATTEMPTS
from portal.services.ledger.statements import Settlement
from portal.services.ledger.till import Till, TillAway

log = logging.getLogger("portal.gateway")
GRACE = dt.timedelta(minutes=5)
AT_ONCE = 1000


def sweep(settings: Settings) -> int:
    """Settle abandoned requests. Returns how many; safe to run twice and beside itself."""
    now = db.session.scalars(sa.select(database_now())).one()  # the signs of life are by the same clock
    alive = sa.select(GatewayProcess.id).where(GatewayProcess.seen_at >= now - DEAD_AFTER)
    longest = settings.queue_seconds + MOST_ATTEMPTS * settings.answer_seconds
    oldest = now - dt.timedelta(seconds=longest) - GRACE
    # Plain values, not rows of the session: reading an expired row would open a transaction beside the till's, and on
    # SQLite the two would wait for each other.
    abandoned = db.session.execute(
        sa.select(Usage.id, Usage.account_id, Usage.hold, Usage.provider, Usage.process_id)
        .where(Usage.state == "open", sa.or_(Usage.process_id.not_in(alive), Usage.created_at < oldest))
        .order_by(Usage.created_at)
        .limit(AT_ONCE)
    ).all()
    db.session.rollback()
    swept = 0
    till = Till(db.engine)
    for usage in abandoned:
        try:
            settled = till.settle(Settlement.abandoned(usage.id, usage.account_id, usage.hold, usage.provider, stamp()))
        except TillAway:
            continue  # told by the till; the next sweep tries again, and the others need not wait for it
        if settled is not None:
            swept += 1
            log.warning("abandoned request settled", extra={"request": usage.id, "of_process": usage.process_id})
    till.close()
    still_owing = sa.select(Usage.process_id).where(Usage.state == "open")
    db.session.execute(
        sa.delete(GatewayProcess).where(
            GatewayProcess.seen_at < now - 10 * DEAD_AFTER, GatewayProcess.id.not_in(still_owing)
        )
    )
    db.session.commit()
    return swept
