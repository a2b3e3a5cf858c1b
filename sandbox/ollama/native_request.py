"""From Ollama's own `/api/chat` and `/api/generate` to a job. `stream` is true unless refused."""

from __future__ import annotations

from typing import Any

from .gojson import BadBody, loads, typed
from .job import Job

_COMMON = {
    "model": "string", "stream": "bool", "options": "object", "top_logprobs": "int", "tools": "list",
    "messages": "list", "prompt": "string", "system": "string", "suffix": "string", "images": "list",
}  # fmt: skip


def chat_job(body: bytes) -> Job:
    """Raises `BadBody`."""
    asked = _asked(body, "api.ChatRequest")
    messages = [message for message in asked.get("messages") or [] if isinstance(message, dict)]
    return _job(asked, messages)


def generate_job(body: bytes) -> Job:
    """A prompt as a job of one user message, after an optional system message."""
    asked = _asked(body, "api.GenerateRequest")
    messages: list[dict[str, Any]] = []
    if asked.get("system"):
        messages.append({"role": "system", "content": asked["system"]})
    if asked.get("prompt"):
        message: dict[str, Any] = {"role": "user", "content": asked["prompt"]}
        if asked.get("images"):
            message["images"] = asked["images"]
        messages.append(message)
    return _job(asked, messages)


def _asked(body: bytes, struct: str) -> dict[str, Any]:
    if not body.strip():
        raise BadBody("missing request body")
    return typed(loads(body), struct, _COMMON)


def _job(asked: dict[str, Any], messages: list[dict[str, Any]]) -> Job:
    return Job(
        requested=asked.get("model") or "",
        messages=messages,
        stream=asked.get("stream") is not False,
        options=dict(asked.get("options") or {}),
        tools=asked.get("tools") or [],
        format=asked.get("format") or None,
        think=asked.get("think"),
        keep_alive=asked.get("keep_alive"),
        top_logprobs=asked.get("top_logprobs") or 0,
    )


def keep_alive_seconds(value: Any) -> float | None:
    """A Go duration ("5m"), seconds, 0 = unload afterwards, negative = for ever; None = not said."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return float("inf") if value < 0 else float(value)
    total, number = 0.0, ""
    text = str(value)
    negative, text = text.startswith("-"), text.lstrip("-")
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    while text:
        unit = next((u for u in units if number and text.startswith(u)), None)
        if unit is None:
            number, text = number + text[0], text[1:]
            if not number.replace(".", "", 1).isdigit():
                raise BadBody(f'time: invalid duration "{value}"')
        else:
            total, number, text = total + float(number) * units[unit], "", text[len(unit) :]
    if number:
        total = float(number)
    return float("inf") if negative else total
