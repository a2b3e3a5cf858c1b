"""What a key may look at: the models of its plan, and what one request cost. Not hot: rows are asked each time."""

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
from portal.services.catalog import CatalogModel
from portal.services.catalog_rows import read_catalog


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
    return jsonify(object="list", data=[_told(model) for model in catalog.listing(caller)])


@bp.get("/models/<path:name>")
def one_model(name: str) -> ResponseReturnValue:
    """API-05: one model; ids may hold `/` and `:`."""
    caller = _caller()
    return jsonify(_told(read_catalog(current_app.config["PORTAL"]).permit(caller, name)))


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
        state=usage.state,
        outcome=usage.outcome or None,
        stream=usage.streamed,
        usage={
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.answer_tokens,
            "estimated": usage.estimated,
        },
        credits=money.credits_number(usage.cost),
        held=money.credits_number(usage.hold if usage.state == "open" else 0),
        created=int(usage.created_at.timestamp()),
        duration_ms=usage.duration_ms,
    )


def _told(model: CatalogModel) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "portal",
        "context_length": model.context_tokens,
        "max_output_tokens": model.answer_tokens,
        "capabilities": sorted(model.capabilities),
    }
