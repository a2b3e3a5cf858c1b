"""Errors in the caller's dialect: a page for people, OpenAI's JSON for programs.

Everything that reaches a door as an exception leaves through here; what is not a PortalError becomes one.
"""

import logging

from flask import Flask, Response, current_app, jsonify, make_response, render_template, request
from flask_babel import force_locale
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed as HttpMethodNotAllowed

from portal.blueprints.proxy.dialect import program_language
from portal.errors import (
    AccessDenied,
    FormExpired,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PortalError,
    RequestTooLarge,
)

log = logging.getLogger("portal.errors")


def init_app(app: Flask) -> None:
    app.register_error_handler(PortalError, render)
    app.register_error_handler(CSRFError, lambda _error: render(FormExpired()))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unforeseen)


def render(error: PortalError) -> Response:
    """The error as the door's dialect has it."""
    if _speaks_json():
        with force_locale(program_language(request.environ)):
            response = jsonify(error.body())
    else:
        response = make_response(render_template("error.html", error=error))
    response.status_code = error.status
    response.headers.extend(error.headers())
    return response


def _speaks_json() -> bool:
    doors = current_app.extensions["doors"]
    door = doors.get((request.endpoint or "").rpartition(".")[0])
    if door is not None:
        return bool(door.errors == "openai")
    return (request.path + "/").startswith(("/v1/", "/api/", "/webhooks/"))


def _http(error: HTTPException) -> Response:
    if error.code is not None and error.code < 400:
        return make_response(error.get_response())
    if error.code == 413:
        return render(RequestTooLarge(limit=request.max_content_length))
    known: dict[int, type[PortalError]] = {403: AccessDenied, 404: NotFound, 405: MethodNotAllowed}
    if error.code in known:
        response = render(known[error.code]())
        if isinstance(error, HttpMethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response
    if error.code is not None and error.code < 500:
        return render(InvalidRequest(reason=error.name))
    return _unforeseen(error)


def _unforeseen(error: Exception) -> Response:
    log.error("unforeseen error", exc_info=error, extra={"path": request.path, "method": request.method})
    return render(InternalError())
