"""What a key may look at: the models of its plan, and what one request cost. Not hot: rows are asked each time."""

import json
import logging
import re

import sqlalchemy as sa
from flask import current_app, jsonify, request
from flask.typing import ResponseReturnValue

from portal import money
from portal.blueprints.proxy import bp
from portal.errors import NotFound, ScopeMissing
from portal.extensions import db
from portal.models import Usage
from portal.services import callers
from portal.services.callers import Caller
from portal.services.catalog import CatalogModel, may_move
from portal.services.catalog_rows import read_catalog

log = logging.getLogger("portal.requests")
TOLD = {"account": "error"}
"""That the operator's account was refused somewhere is the operator's business: to customers it is an error."""


def _caller() -> Caller:
    caller = callers.find(callers.key_hash(request.headers.get("Authorization")))
    caller.check()
    if "read" not in caller.scopes:
        raise ScopeMissing(scope="read")
    return caller


@bp.get("/models")
def list_models() -> ResponseReturnValue:
    """API-05: what the caller's plan may use."""
    caller = _caller()
    catalog = read_catalog(current_app.config["PORTAL"])
    return jsonify(object="list", data=[_told(model, caller) for model in catalog.listing(caller)])


@bp.get("/models/<path:name>")
def one_model(name: str) -> ResponseReturnValue:
    """API-05: one model; ids may hold `/` and `:`."""
    caller = _caller()
    return jsonify(_told(read_catalog(current_app.config["PORTAL"]).permit(caller, name), caller))


@bp.get("/requests/<request_id>")
def one_request(request_id: str) -> ResponseReturnValue:
    """API-02: what any request of this account cost."""
    caller = _caller()
    found = re.fullmatch(r"(?:req_|chatcmpl-)?([0-9a-f]{32})", request_id)
    usage = (
        db.session.scalar(sa.select(Usage).where(Usage.id == found[1], Usage.account_id == caller.account_id))
        if found
        else None
    )
    if usage is None:
        raise NotFound
    return jsonify(
        id="req_" + usage.id,
        object="request",
        model=usage.model,
        provider=usage.location,
        failover=usage.failover,
        attempts=_attempts(usage),
        state=usage.state,
        outcome=usage.outcome or None,
        stream=usage.streamed,
        usage={
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.answer_tokens,
            "cached_tokens": usage.cached_tokens,
            "estimated": usage.estimated,
        },
        credits=money.credits_number(usage.cost),
        held=money.credits_number(usage.hold if usage.state == "open" else 0),
        created=int(usage.created_at.timestamp()),
        waited_ms=usage.waited_ms,
        duration_ms=usage.duration_ms,
    )


def _attempts(usage: Usage) -> list[dict[str, object]]:
    """What was tried before: where, what was wrong, after how long. Which server it was is the operator's business."""
    if not usage.attempts:
        return []
    try:
        return [
            {"location": tried["location"], "fault": TOLD.get(tried["fault"], tried["fault"]), "ms": tried["ms"]}
            for tried in json.loads(usage.attempts)
        ]
    except (ValueError, KeyError, TypeError):
        # What a request cost is told all the same: the customer asked for that.
        log.exception("the attempts of a request can't be read", extra={"request": usage.id})
        return []


def _told(model: CatalogModel, caller: Caller) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "portal",
        "context_length": model.context_tokens,
        "max_output_tokens": model.answer_tokens,
        "capabilities": sorted(model.capabilities),
        "location": model.location,
        "cloud_twin": may_move(caller, model),
    }
