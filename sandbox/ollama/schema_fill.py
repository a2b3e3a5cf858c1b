"""A valid instance of a JSON schema, filled with values that the conversation suggests.

Small on purpose: the parts of JSON Schema that tool definitions and structured output really use. What it does not know
(patterns beyond the simplest) it fills with plain text rather than guess.
"""

from __future__ import annotations

import re
from typing import Any

from .hints import Hints

_FORMATS = {
    "date": "2026-01-15", "date-time": "2026-01-15T08:30:00Z", "time": "08:30:00", "email": "layla@example.com",
    "uri": "https://example.com/", "url": "https://example.com/", "uuid": "0192f0c1-2b3c-7d4e-8f50-617283940a5b",
    "ipv4": "192.0.2.7", "ipv6": "2001:db8::7", "hostname": "example.com", "duration": "PT5M",
}  # fmt: skip
_PATTERNS = ("2026-01-15", "12345", "abc", "ABC", "A1", "+96550000000", "a@b.co", "12:30", "1", "a")
_DEEPEST = 8


def fill(schema: Any, hints: Hints, root: Any = None, name: str = "", depth: int = 0) -> Any:
    """An instance of `schema`; `name` is the property being filled, for a sensible guess."""
    root = schema if root is None else root
    if not isinstance(schema, dict):
        return {} if schema is True else None
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        lowered = hints.text.lower()
        said = [value for value in schema["enum"] if isinstance(value, str) and value.lower() in lowered]
        return said[0] if said else schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            options = [option for option in schema[union] if _resolved(option, root).get("type") != "null"]
            if depth > _DEEPEST:
                options = [option for option in schema[union] if option not in options] or options
            return fill((options or schema[union])[0], hints, root, name, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    if kind == "object":
        return _object(schema, hints, root, depth)
    if kind == "array":
        return _array(schema, hints, root, name, depth)
    if kind in ("integer", "number"):
        return _number(schema, hints, name, kind == "integer")
    if kind == "boolean":
        return re.search(rf"\b(no|not|false|without)\s+{re.escape(name)}\b", hints.text, re.IGNORECASE) is None
    return _string(schema, hints, name) if kind == "string" else None


def _resolved(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    seen = 0
    while "$ref" in schema and seen < 20:
        target: Any = root
        for step in str(schema["$ref"]).lstrip("#/").split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, dict) else {}
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        seen += 1
    for member in schema.get("allOf") or ():
        part = _resolved(member, root)
        merged = {**part, **schema}
        merged["properties"] = {**part.get("properties", {}), **schema.get("properties", {})}
        merged["required"] = [*part.get("required", ()), *schema.get("required", ())]
        schema = {key: value for key, value in merged.items() if value not in ({}, [])}
    return {key: value for key, value in schema.items() if key != "allOf"}


def _object(schema: dict[str, Any], hints: Hints, root: Any, depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required") or []
    names = list(properties) + [name for name in required if name not in properties]
    if depth > _DEEPEST:
        names = [name for name in names if name in required]
    return {name: fill(properties.get(name, {"type": "string"}), hints, root, name, depth + 1) for name in names}


def _array(schema: dict[str, Any], hints: Hints, root: Any, name: str, depth: int) -> list[Any]:
    prefix = schema.get("prefixItems") or []
    if prefix:
        return [fill(item, hints, root, name, depth + 1) for item in prefix]
    least = int(schema.get("minItems") or 0)
    count = least if depth > _DEEPEST else max(least, 1)
    count = min(count, int(schema.get("maxItems", count)))
    item = schema.get("items", {"type": "string"})
    filled = [fill(item, hints, root, name.removesuffix("s"), depth + 1) for _ in range(count)]
    if schema.get("uniqueItems"):
        filled = [f"{value} {at}" if at and isinstance(value, str) else value for at, value in enumerate(filled)]
    return filled


def _number(schema: dict[str, Any], hints: Hints, name: str, whole: bool) -> int | float:
    low, high = schema.get("minimum"), schema.get("maximum")
    step = 1 if whole else 0.001
    if isinstance(schema.get("exclusiveMinimum"), int | float):
        low = max(low if low is not None else float("-inf"), schema["exclusiveMinimum"] + step)
    if isinstance(schema.get("exclusiveMaximum"), int | float):
        high = min(high if high is not None else float("inf"), schema["exclusiveMaximum"] - step)
    found = hints.number(name)
    value = 7.0 if found is None else found
    if low is not None:
        value = max(value, low)
    if high is not None:
        value = min(value, high)
    if schema.get("multipleOf"):
        multiple = schema["multipleOf"]
        value = round(value / multiple) * multiple
        if low is not None and value < low:
            value += multiple
        if high is not None and value > high:
            value -= multiple
    return int(value) if whole or (isinstance(value, float) and value.is_integer()) else value


def _string(schema: dict[str, Any], hints: Hints, name: str) -> str:
    if str(schema.get("format")) in _FORMATS:
        return _FORMATS[str(schema["format"])]
    pattern = schema.get("pattern")
    value = hints.string(name) or f"A short {name.replace('_', ' ')}".strip()
    if pattern and not re.search(pattern, value):
        value = next((candidate for candidate in _PATTERNS if re.search(pattern, candidate)), value)
    least, most = int(schema.get("minLength") or 0), schema.get("maxLength")
    while len(value) < least:
        value += " and so on"
    return value[:most] if isinstance(most, int) else value
