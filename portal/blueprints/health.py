"""For operators and load balancers: alive (`/healthz`), and able to serve (`/readyz`, each part with its state).

A timetable that stands still, a WhatsApp number that can't send, a payment provider that does not answer make no host
unfit for customers: it is told, and the answer stays 200.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from flask import Blueprint, Response, current_app, jsonify

from portal.extensions import db
from portal.models import Plan
from portal.services import run_views, timetable
from portal.services.timetable import JobState

bp = Blueprint("health", __name__)
Part = dict[str, object]
CHECK = "check WhatsApp"
"""The job whose latest run tells of the sending number."""
READ_MISSED = "read missed webhooks"
"""The job whose latest run tells whether the payment provider can be asked."""


@bp.get("/healthz")
def alive() -> Response:
    return jsonify(status="ok")


@bp.get("/readyz")
def ready() -> tuple[Response, int]:
    """200 when pages and API can be served; the store may be away where the limits fail open. Two statements."""
    database, waiting = _database(), run_views.waiting()
    states = _states() if database == "ok" else None
    parts = {
        "database": database,
        "store": "away" if waiting is None else "ok",
        "timetable": _timetable(states),
        "queue": {"state": "unknown"} if waiting is None else {"state": "ok", "waiting": waiting},
        "whatsapp": _whatsapp(states),
        "payments": _payments(states),
    }
    able = database == "ok"
    return jsonify(status="ok" if able else "unavailable", parts=parts), 200 if able else 503


def _database() -> str:
    try:
        count = db.session.scalar(sa.select(sa.func.count()).select_from(Plan))
    except sa.exc.SQLAlchemyError:
        return "away"
    return "ok" if count else "empty: run flask --app wsgi db upgrade, then seed"


def _states() -> list[JobState] | None:
    try:
        return timetable.states(current_app.extensions["timetable"])
    except sa.exc.SQLAlchemyError:
        return None


def _timetable(states: Sequence[JobState] | None) -> Part:
    """`not started`: no job was ever seen, as in a portal whose scheduler comes up after its web processes."""
    if states is None:
        return {"state": "unknown"}
    if all(state.row is None for state in states):
        return {"state": "not started"}
    for name, jobs in (("stale", [s for s in states if s.stale]), ("failing", [s for s in states if s.failing])):
        if jobs:
            return {"state": name, "jobs": [job.name for job in jobs]}
    return {"state": "ok"}


def _whatsapp(states: Sequence[JobState] | None) -> Part:
    """`unknown`: nobody has looked yet. Without a key messages wait a day and are given up, which was told nowhere."""
    if not current_app.config["PORTAL"].resayil_api_key:
        return {"state": "not configured"}
    return _latest(states, CHECK)


def _payments(states: Sequence[JobState] | None) -> Part:
    """As the provider was last found; nobody asks it here. webhooks: whether their door is open (it has a secret)."""
    settings = current_app.config["PORTAL"]
    if not settings.myfatoorah_api_key:
        return {"state": "not configured"}
    return _latest(states, READ_MISSED) | {"webhooks": "open" if settings.myfatoorah_webhook_secret else "closed"}


def _latest(states: Sequence[JobState] | None, job: str) -> Part:
    """How the latest run of a job ended."""
    row = next((state.row for state in states or () if state.name == job), None)
    if row is None or row.ended_at is None:
        return {"state": "unknown"}
    return {"state": "failing", "error": row.error[:100]} if row.error else {"state": "ok"}
