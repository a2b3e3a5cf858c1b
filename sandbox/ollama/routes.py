"""The doors of one server: which path is answered by what, 404 for an unknown one, 405 for a wrong method."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

from sandbox.journal import Entry
from sandbox.wire import Exchange

from . import embedding, faults, listing, native_request, openai_request
from .answering import Answer, Dress, Refused, admit
from .catalogue import InvalidModelName, Model
from .dress_native import NativeDress, error_body as native_error, now
from .dress_openai import ChatDress, error_body as openai_error
from .gojson import BadBody, dumps, loads, typed
from .job import Job
from .server import OllamaServer

JSON = "application/json; charset=utf-8"
Route = Callable[["OllamaServer", Exchange, Entry], None]


def dispatch(server: OllamaServer, exchange: Exchange, entry: Entry, path: str) -> None:
    """Find the route and answer; refusals take the shape of the door they came through."""
    request = exchange.request
    _keep_body(entry, request.body)
    if _stopped_at_the_door(server, exchange, entry, path):
        return
    methods = server.routes().get("/v1/models/{id}" if path.startswith("/v1/models/") else path)
    if methods is None:
        exchange.answer(404, b"404 page not found", "text/plain")
        entry.outcome = "refused"
        return
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        exchange.answer(405, b"405 method not allowed", "text/plain", [("Allow", ", ".join(methods))])
        entry.outcome = "refused"
        return
    try:
        route(server, exchange, entry)
    except (BadBody, Refused) as refusal:
        status = refusal.status if isinstance(refusal, Refused) else 400
        entry.outcome = "refused"
        exchange.answer(status, *_shaped(path, status, str(refusal)))
        return
    if entry.outcome == "running":
        entry.outcome = "done"


def _shaped(path: str, status: int, text: str) -> tuple[bytes, str]:
    """An error's body and content type, in the shape of the door."""
    if path.startswith("/v1/"):
        return dumps(openai_error(status, text)).encode(), "application/json"
    return dumps(native_error(text)).encode(), JSON


def _stopped_at_the_door(server: OllamaServer, exchange: Exchange, entry: Entry, path: str) -> bool:
    """What befalls every request alike: a server that is down, a key that is missing or wrong."""
    knobs = server.board.peek()
    if knobs.down is not None:
        entry.fault, entry.outcome = knobs.down, "fault"
        faults.answer_before(exchange, knobs.down, knobs, entry.model or "", lambda *told: _shaped(path, *told))
        return True
    if knobs.key is None or (knobs.open_lists and path in LISTS):
        return False
    if exchange.request.headers.get("authorization") == f"Bearer {knobs.key}":
        return False
    entry.outcome = "refused"
    exchange.answer(401, dumps(native_error("unauthorized")).encode(), JSON)  # so on /v1 too
    return True


def _keep_body(entry: Entry, body: bytes) -> None:
    if not body:
        return
    try:
        entry.body = json.loads(body)
    except ValueError:
        entry.body = body.decode("utf-8", "replace")[:100_000]
    if isinstance(entry.body, dict) and isinstance(entry.body.get("model"), str):
        entry.model = entry.body["model"]


def _say(exchange: Exchange, value: Any, content_type: str = JSON) -> None:
    exchange.answer(200, dumps(value).encode(), content_type)


def known(server: OllamaServer, name: str, text: str = "model '{}' not found") -> Model:
    """The model that is meant. Raises Refused."""
    if not name:
        raise Refused(400, "model is required")
    try:
        model = server.catalogue.find(name)
    except InvalidModelName as error:
        raise Refused(400, str(error)) from None
    if model is None:
        raise Refused(404, text.format(name))
    return model


# -- answers of a model ------------------------------------------------------------------------------------------------


def _answer(
    server: OllamaServer, exchange: Exchange, entry: Entry, job: Job, purpose: str, dress: Callable[[], Dress]
) -> None:
    entry.native = job.record()
    admit(server, job, purpose)
    entry.model = job.model.name if job.model else entry.model
    Answer(server, exchange, entry, job, dress()).run()


def _openai_chat(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    job, include_usage = openai_request.chat_job(exchange.request.body)
    _answer(server, exchange, entry, job, "chat", lambda: ChatDress(job, include_usage))


def _native_chat(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    job = native_request.chat_job(exchange.request.body)
    if not job.messages and _load_or_unload(server, exchange, job, {"message": {"role": "assistant", "content": ""}}):
        return
    _answer(server, exchange, entry, job, "chat", lambda: NativeDress(job))


def _generate(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    job = native_request.generate_job(exchange.request.body)
    if not job.messages and _load_or_unload(server, exchange, job, {"response": ""}):
        return
    _answer(server, exchange, entry, job, "generate", lambda: NativeDress(job, generate=True))


def _load_or_unload(server: OllamaServer, exchange: Exchange, job: Job, said: dict[str, Any]) -> bool:
    """A call without anything to answer warms the model up, or with keep_alive 0 puts it out of memory."""
    model = known(server, job.requested)
    name = server.called(model) or job.requested
    keep = native_request.keep_alive_seconds(job.keep_alive)
    if keep == 0:
        server.runners.unload(model.name)
        reason = "unload"
    else:
        knobs = server.board.peek(model.name)
        server.runners.ensure_loaded(model, knobs, exchange.peer.left)
        if keep is not None:
            server.runners.of(model).expires_at = exchange.request.arrived + keep
        reason = "load"
    _say(exchange, {"model": name, "created_at": now(), **said, "done": True, "done_reason": reason})
    return True


# -- embeddings --------------------------------------------------------------------------------------------------------


def _vectors(server: OllamaServer, asked: dict[str, Any], given: Any) -> tuple[list[list[float]], int]:
    model = known(server, asked.get("model") or "")
    if isinstance(given, str):
        texts = [given]
    elif isinstance(given, list) and all(isinstance(one, str) for one in given):
        texts = given
    else:
        raise Refused(400, "invalid input type")
    knobs = server.board.draw(model.name)
    if knobs.fault in ("crash_before", "404", "503_busy"):
        statuses = {"crash_before": 400, "404": 404, "503_busy": 503}
        raise Refused(statuses[knobs.fault], f"model '{model.name}' failed")
    width = asked.get("dimensions") or model.embedding_length
    return [embedding.embed(text, width) for text in texts], embedding.count(texts, model.context)


def _embed(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    asked = typed(loads(exchange.request.body), "api.EmbedRequest", {"model": "string", "dimensions": "int"})
    vectors, count = _vectors(server, asked, asked.get("input", []))
    answer = {"model": asked["model"], "embeddings": vectors, "total_duration": 1_500_000, "load_duration": 500_000}
    _say(exchange, {**answer, "prompt_eval_count": count} if count else answer)


def _old_embeddings(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    asked = typed(loads(exchange.request.body), "api.EmbeddingRequest", {"model": "string", "prompt": "string"})
    vectors, _ = _vectors(server, asked, asked.get("prompt") or "")
    _say(exchange, {"embedding": vectors[0]})


def _openai_embeddings(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    fields = {"model": "string", "dimensions": "int", "encoding_format": "string"}
    asked = typed(loads(exchange.request.body), "openai.EmbedRequest", fields)
    encoding = (asked.get("encoding_format") or "float").lower()
    if encoding not in ("float", "base64"):
        given = asked["encoding_format"]
        raise Refused(400, f"Invalid value for 'encoding_format' = {given}. Supported values: ['float', 'base64'].")
    if asked.get("input") is None or asked["input"] == []:
        raise Refused(400, "invalid input")
    vectors, count = _vectors(server, asked, asked["input"])

    def told(vector: list[float]) -> Any:
        return vector if encoding == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

    data = [{"object": "embedding", "embedding": told(vector), "index": at} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": count, "total_tokens": count}
    _say(exchange, {"object": "list", "data": data, "model": asked["model"], "usage": usage}, "application/json")


# -- lists -------------------------------------------------------------------------------------------------------------


def _root(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    exchange.answer(200, b"Ollama is running", "text/plain; charset=utf-8")


def _version(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    _say(exchange, listing.version(server.board.peek()))


def _status(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    _say(exchange, {"cloud": {"disabled": True, "source": "env"}})


def _tags(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    _say(exchange, listing.tags(server.catalogue))


def _show(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    asked = typed(loads(exchange.request.body), "api.ShowRequest", {"model": "string", "name": "string"})
    _say(exchange, listing.show(known(server, asked.get("model") or asked.get("name") or "")))


def _ps(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    _say(exchange, listing.loaded(server.runners, server.board.peek))


def _models(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    _say(exchange, listing.openai_models(server.catalogue), "application/json")


def _one_model(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    name = exchange.request.path.removeprefix(server.prefix + "/v1/models/")
    _say(exchange, listing.openai_model(name, known(server, name)), "application/json")


CALLS = frozenset((
    "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/embeddings",
))  # fmt: skip
"""What asks a model for an answer, and so counts as in flight."""
LISTS = frozenset(("/", "/api/tags", "/api/version", "/v1/models"))

TABLE: dict[str, dict[str, Route]] = {
    "/": {"GET": _root},
    "/api/version": {"GET": _version},
    "/api/status": {"GET": _status},
    "/api/tags": {"GET": _tags},
    "/api/ps": {"GET": _ps},
    "/api/show": {"POST": _show},
    "/api/chat": {"POST": _native_chat},
    "/api/generate": {"POST": _generate},
    "/api/embed": {"POST": _embed},
    "/api/embeddings": {"POST": _old_embeddings},
    "/v1/chat/completions": {"POST": _openai_chat},
    "/v1/models": {"GET": _models},
    "/v1/models/{id}": {"GET": _one_model},
    "/v1/embeddings": {"POST": _openai_embeddings},
}
