"""JSON as Go reads and writes it: the decoder's complaints and the encoder's habits.

Ollama's 400s for bad bodies are the texts of Go's decoder, and its output escapes `<`, `>` and `&`. A gateway that
looks for raw bytes in an answer would be proved right by Python's json and wrong by the real server.
"""

from __future__ import annotations

import json
from typing import Any

_GO_NAMES = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_GO_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "bool": (bool,), "int": (int,), "float64": (int, float), "list": (list,), "object": (dict,),
}  # fmt: skip


class BadBody(ValueError):
    """The text that Ollama would send with 400."""


def dumps(value: Any) -> str:
    """Compact, UTF-8 kept, HTML characters escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def loads(body: bytes) -> Any:
    """The decoded body, or `BadBody` with Go's words."""
    try:
        text = body.decode("utf-8", "replace")
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise BadBody("EOF") from None
        if error.pos >= len(text.rstrip()):
            raise BadBody("unexpected EOF") from None
        sign = text[error.pos]
        place = "looking for beginning of value" if "value" in error.msg else "in object or array"
        if "property name" in error.msg:
            place = "looking for beginning of object key string"
        raise BadBody(f"invalid character '{sign}' {place}") from None


def typed(body: Any, struct: str, fields: dict[str, str]) -> dict[str, Any]:
    """The body as a Go struct would take it: unknown keys stay, wrong types are refused, null counts as absent."""
    if not isinstance(body, dict):
        raise BadBody(f"json: cannot unmarshal {_go_name(body)} into Go value of type {struct}")
    for name, wanted in fields.items():
        value = body.get(name)
        if value is None:
            continue
        good = isinstance(value, _GO_TYPES[wanted]) and (wanted == "bool" or not isinstance(value, bool))
        if not good:
            found = _go_name(value)
            if wanted == "int" and isinstance(value, float):
                found = f"number {value}"
            go_type = {"list": "[]interface {}", "object": "map[string]interface {}"}.get(wanted, wanted)
            tail = struct.rpartition(".")[2]
            raise BadBody(f"json: cannot unmarshal {found} into Go struct field {tail}.{name} of type {go_type}")
    return body


def _go_name(value: Any) -> str:
    return "null" if value is None else _GO_NAMES[type(value)]
