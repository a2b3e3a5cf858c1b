"""For operators and load balancers: alive (`/healthz`), and able to serve (`/readyz`, each part with its state)."""

import redis
import sqlalchemy as sa
from flask import Blueprint, Response, jsonify

from portal import store
from portal.extensions import db
from portal.models import Plan

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def alive() -> Response:
    return jsonify(status="ok")


@bp.get("/readyz")
def ready() -> tuple[Response, int]:
    """200 when pages and API can be served; the store may be away where the limits fail open."""
    parts = {"database": _database(), "store": _store()}
    able = parts["database"] == "ok"
    return jsonify(status="ok" if able else "unavailable", parts=parts), 200 if able else 503


def _database() -> str:
    try:
        count = db.session.scalar(sa.select(sa.func.count()).select_from(Plan))
    except sa.exc.SQLAlchemyError:
        return "away"
    return "ok" if count else "empty: run flask --app wsgi db upgrade, then seed"


def _store() -> str:
    try:
        store.client().ping()
    except redis.RedisError:
        return "away"
    return "ok"
