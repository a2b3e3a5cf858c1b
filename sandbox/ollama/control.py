"""The tests' own door: `/__control` turns knobs, `/__requests` shows what arrived. No Ollama has these.

POST /__control  {knob: value, …}                    for the whole server
                 {"model": name, knob: value, …}     for one model
                 {"next": [{…}, {…}], "model"?: …}   for the next requests, one object each
                 {"release": true}                   let go what `hold_after` holds
                 {"unload": true | name}             models out of memory
                 {"add_model": {…}} {"remove_model": name} {"pulled": [name, …] | null}
                 {"model": name, "capabilities": […], "context": 8192, "modelfile_num_ctx": 4096, …}   what it is
                 {"reset": true}                     knobs, catalogue, journal, loaded models, holds: as at the start
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from sandbox.wire import Exchange

from .catalogue import DESCRIPTION
from .knobs import FAULTS_BEFORE, FAULTS_MID, KnobError

if TYPE_CHECKING:
    from .server import OllamaServer


def handle(server: OllamaServer, exchange: Exchange, path: str) -> None:
    """Answer `/__control` or `/__requests`."""
    method = exchange.request.method
    try:
        if path == "/__requests":
            if method == "DELETE":
                server.journal.clear()
                server.runners.reset_figures()
            exchange.answer_json(200, _requests(server, exchange.request.query))
            return
        if method == "POST":
            turn(server, json.loads(exchange.request.body or b"{}"))
        elif method == "DELETE":
            server.reset()
        exchange.answer_json(200, state(server))
    except (KnobError, ValueError, TypeError) as error:
        exchange.answer_json(400, {"error": str(error)})


def turn(server: OllamaServer, wish: dict[str, Any]) -> None:
    """Carry out one wish. Raises KnobError or ValueError with a sentence."""
    if not isinstance(wish, dict):
        raise KnobError("send a JSON object")
    wish = dict(wish)
    if wish.pop("reset", False):
        server.reset()
    name = wish.pop("model", None)
    if (added := wish.pop("add_model", None)) is not None:
        server.catalogue.add(added)
    if (removed := wish.pop("remove_model", None)) is not None:
        server.catalogue.remove(removed)
    if "pulled" in wish:
        _pull(server, wish.pop("pulled"))
    described = {fact: wish.pop(fact) for fact in DESCRIPTION if fact in wish}
    if described and name is None:
        raise KnobError(f"{', '.join(described)}: of which model?")
    model = None
    if name is not None:
        found = server.catalogue.find(str(name))
        if found is None:
            raise KnobError(f"no model {name!r}")
        model = found.name
        if described:
            server.catalogue.describe(model, described)
    if unload := wish.pop("unload", False):
        server.runners.unload(model if unload is True else str(unload))
    if (queued := wish.pop("next", None)) is not None:
        server.board.queue(model, list(queued))
    release = wish.pop("release", False)
    server.board.turn(model, wish)
    if release:
        server.release()


def _pull(server: OllamaServer, names: Any) -> None:
    if names is None:
        server.catalogue.restore()
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise KnobError("pulled must be a list of model names, or null for the stock of the start")
    server.catalogue.pull_exactly(names)
    for name in set(server.runners.all) - {model.name for model in server.catalogue.models.values()}:
        server.runners.unload(name)


def state(server: OllamaServer) -> dict[str, Any]:
    """Everything a test may want to read."""
    return {
        "server": server.prefix,
        "kind": server.kind,
        "real_model": server.real_name,
        "knobs": dataclasses.asdict(server.board.peek()),
        "models": server.board.models,
        "next": {key or "*": list(queue) for key, queue in server.board.queued.items()},
        "catalogue": [model.name for model in server.catalogue.models.values()],
        "runners": {name: runner.figures() for name, runner in server.runners.all.items()},
        "counters": counters(server),
        "faults": {**FAULTS_BEFORE, **FAULTS_MID},
    }


def counters(server: OllamaServer) -> dict[str, int]:
    return {**server.journal.counters, "in_flight": server.journal.in_flight, **server.runners.figures()}


def _requests(server: OllamaServer, query: dict[str, str]) -> dict[str, Any]:
    last = int(query["last"]) if query.get("last") else None
    entries = server.journal.entries(query.get("model"), query.get("path"), last)
    return {"requests": [dataclasses.asdict(entry) for entry in entries], "counters": counters(server)}
