"""Ollama's cloud, called directly: an Ollama server with a key, one account for all, and names of its own.

What differs from a server in the house, and only that: base names, the account's requests at once (the excess waits and
is then refused), errors in native shape at every door, and no word of limits in any header. Knobs: `knobs.py`.
"""

from __future__ import annotations

from typing import Any

from sandbox.journal import Entry
from sandbox.wire import Exchange

from . import routes
from .catalogue import Catalogue, Model
from .gojson import dumps, loads, typed
from .server import OllamaServer

KEY = "sandbox"
"""The key it takes unless the knob `key` names another."""
MODIFIED_AT = "2026-08-05T00:00:00Z"


def _model(name: str, able: str, context: int, family: str, parameters: str, size: int) -> Model:
    return Model(name, ("completion", *able.split()), context, family, parameters, "", size, 4096)


STOCK = (
    _model("qwen3.5", "tools thinking vision", 262_144, "qwen35moe", "397B", 397_000_000_000),
    _model("deepseek-v3.2", "tools thinking", 163_840, "deepseek3", "671B", 688_586_727_753),
    _model("gpt-oss:20b", "tools thinking", 131_072, "gptoss", "20.9B", 13_780_162_412),
    _model("gpt-oss:120b", "tools thinking", 131_072, "gptoss", "117B", 65_369_818_941),
    _model("qwen3-coder:480b", "tools", 262_144, "qwen3moe", "480B", 510_489_000_000),
    _model("mistral-large-3:675b", "tools vision", 262_144, "mistral3", "675B", 682_000_000_000),
)


def base_name(name: str) -> str:
    """`qwen3.5:cloud` is qwen3.5, `gpt-oss:120b-cloud` is gpt-oss:120b; case does not matter."""
    head, colon, tag = name.rpartition(":")
    if colon and tag.lower() == "cloud":
        return head
    if colon and tag.lower().endswith("-cloud"):
        return f"{head}:{tag[: -len('-cloud')]}"
    return name


class CloudCatalogue(Catalogue):
    """Names have a tag only where there are several sizes."""

    def __init__(self) -> None:
        super().__init__(STOCK)

    def tagged(self, name: str) -> str:
        return base_name(name)


class OllamaCloud(OllamaServer):
    """ollama.com under one prefix. `server_slots` is how many requests the account may have at once."""

    kind = "ollama-cloud"

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix, None, {
            "key": KEY, "slots": 10_000, "server_slots": 10, "slot_wait_ms": 20_000, "num_ctx": 1_048_576,
        })  # fmt: skip

    def stock(self) -> Catalogue:
        return CloudCatalogue()

    def called(self, model: Model) -> str:
        return model.name

    def routes(self) -> dict[str, dict[str, routes.Route]]:
        return TABLE


def _tags(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    """Names and sizes; the details are empty and capabilities are not told. `/api/show` has them."""
    details = {
        "parent_model": "", "format": "", "family": "", "families": None, "parameter_size": "",
        "quantization_level": "",
    }  # fmt: skip
    rows = [
        {
            "name": model.name, "model": model.name, "modified_at": MODIFIED_AT, "size": model.size,
            "digest": model.digest[:12], "details": details,
        }
        for model in server.catalogue.models.values()
    ]  # fmt: skip
    _say(exchange, {"models": rows})


def _show(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    """What can be known of a model that lies elsewhere: no Modelfile, no template."""
    asked = typed(loads(exchange.request.body), "api.ShowRequest", {"model": "string", "name": "string"})
    model = routes.known(server, asked.get("model") or asked.get("name") or "")
    told: dict[str, Any] = {
        "details": {**model.details, "format": "", "quantization_level": ""},
        "model_info": {
            "general.architecture": model.family,
            f"{model.family}.context_length": model.context,
            f"{model.family}.embedding_length": model.embedding_length,
        },
        "capabilities": list(model.capabilities),
        "modified_at": MODIFIED_AT,
    }
    _say(exchange, told)


def _home(server: OllamaServer, exchange: Exchange, entry: Entry) -> None:
    exchange.answer(200, b"<!doctype html>\n<title>Ollama</title>\n", "text/html; charset=utf-8")


def _say(exchange: Exchange, value: Any) -> None:
    exchange.answer(200, dumps(value).encode(), routes.JSON)


_SHARED = (
    "/api/version", "/api/chat", "/api/generate", "/v1/chat/completions", "/v1/models", "/v1/models/{id}",
)  # fmt: skip
TABLE: dict[str, dict[str, routes.Route]] = {
    **{path: routes.TABLE[path] for path in _SHARED},
    "/": {"GET": _home},
    "/api/tags": {"GET": _tags},
    "/api/show": {"POST": _show},
}
