"""From `/v1/chat/completions` to a native job, with Ollama's own refusals (`FromChatRequest` in Ollama's openai.go).

What Ollama ignores in silence is ignored here too, above all `max_completion_tokens`: a gateway that does not copy it
to `max_tokens` must see its cap lost.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from .gojson import BadBody, loads, typed
from .job import Job

_FIELDS = {
    "model": "string", "messages": "list", "stream": "bool", "stream_options": "object", "max_tokens": "int",
    "seed": "int", "temperature": "float64", "frequency_penalty": "float64", "presence_penalty": "float64",
    "top_p": "float64", "response_format": "object", "tools": "list", "reasoning": "object",
    "reasoning_effort": "string", "logprobs": "bool", "top_logprobs": "int",
}  # fmt: skip
_EFFORTS = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "max",
    "ultra": "max",
}  # fmt: skip
_IMAGE_PREFIXES = (*(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")), "data:;base64,")


def chat_job(body: bytes) -> tuple[Job, bool]:
    """The job and whether usage was asked for. Raises `BadBody`."""
    asked = typed(loads(body), "openai.ChatCompletionRequest", _FIELDS)
    try:
        return _job(asked)
    except BadBody:
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        # Whatever we stumble over has another type than Ollama's structs, and there the decoder would have said so.
        raise BadBody(
            "json: cannot unmarshal array into Go struct field ChatCompletionRequest.messages of type openai.Message"
        ) from None


def _job(asked: dict[str, Any]) -> tuple[Job, bool]:
    messages = asked.get("messages") or []
    if not messages:
        raise BadBody("[] is too short - 'messages'")
    native: list[dict[str, Any]] = []
    for message in messages:
        native.extend(_native_messages(message, messages))
    job = Job(
        requested=asked.get("model") or "",
        messages=native,
        stream=bool(asked.get("stream")),
        options=_options(asked),
        tools=asked.get("tools") or [],
        format=_format(asked.get("response_format")),
        think=_think(asked),
        top_logprobs=asked.get("top_logprobs") or 0,
        tool_choice=asked.get("tool_choice"),
    )
    include_usage = (asked.get("stream_options") or {}).get("include_usage")
    if include_usage is not None and not isinstance(include_usage, bool):
        raise BadBody(
            "json: cannot unmarshal string into Go struct field ChatCompletionRequest.stream_options.include_usage"
            " of type bool"
        )
    return job, bool(include_usage)


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    stop = asked.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif isinstance(stop, list):
        options["stop"] = [item for item in stop if isinstance(item, str)]
    if asked.get("max_tokens") is not None:
        options["num_predict"] = asked["max_tokens"]
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if asked.get(name) is not None:
            options[name] = asked[name]
    # Absent means 1.0 and not the Modelfile's own value.
    for name in ("temperature", "top_p"):
        options[name] = asked[name] if asked.get(name) is not None else 1.0
    return options


def _format(wanted: dict[str, Any] | None) -> Any:
    kind = str((wanted or {}).get("type") or "").strip().lower()
    if kind == "json_object":
        return "json"
    if kind == "json_schema":
        held = typed(wanted, "openai.ChatCompletionRequest.response_format", {"json_schema": "object"})
        return (held.get("json_schema") or {}).get("schema")
    return None


def _think(asked: dict[str, Any]) -> Any:
    reasoning = asked.get("reasoning")
    effort = (reasoning.get("effort") or "") if reasoning is not None else (asked.get("reasoning_effort") or "")
    if effort == "":
        return None
    if effort not in _EFFORTS:
        raise BadBody(
            f'invalid reasoning value: "{effort}" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max",'
            ' or "none")'
        )
    return _EFFORTS[effort]


def _native_messages(message: Any, everything: list[Any]) -> list[dict[str, Any]]:
    if not isinstance(message, dict):
        raise BadBody(
            "json: cannot unmarshal string into Go struct field ChatCompletionRequest.messages of type openai.Message"
        )
    role, content, calls = message.get("role") or "", message.get("content"), message.get("tool_calls")
    extra: dict[str, Any] = {}
    if str(role).lower() == "tool":
        extra["tool_name"] = message.get("name") or _name_of_call(everything, message.get("tool_call_id"))
    if message.get("tool_call_id"):
        extra["tool_call_id"] = message["tool_call_id"]
    if isinstance(content, str):
        native = {"role": role, "content": content, **extra}
        if calls:
            native["tool_calls"] = _calls(calls)
        return [native]
    if isinstance(content, list):
        # Each part becomes a message of its own; this is what Ollama does, odd as it looks.
        parts = [_part(role, part) for part in content]
        if parts and calls:
            parts[-1].update(extra, tool_calls=_calls(calls))
        return parts
    if calls is None:
        found = {type(None): "<nil>", dict: "map[string]interface {}", bool: "bool"}.get(type(content), "float64")
        raise BadBody(f"invalid message content type: {found}")
    return [{"role": role, "content": "", "tool_calls": _calls(calls), **extra}]


def _part(role: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"role": role, "content": part["text"]}
    if kind == "image_url":
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, dict) else url
        if isinstance(url, str):
            return {"role": role, "content": "", "images": [_image(url)]}
    if kind == "input_audio":
        audio = part.get("input_audio")
        if not isinstance(audio, dict):
            raise BadBody("invalid input_audio format")
        if not isinstance(audio.get("data"), str):
            raise BadBody("invalid input_audio format: missing data")
        return {"role": role, "content": "", "images": [audio["data"]]}
    raise BadBody("invalid message format")


def _image(url: str) -> str:
    if url.startswith(("http://", "https://")):
        raise BadBody("image URLs are not currently supported, please use base64 encoded data instead")
    prefix = next((prefix for prefix in _IMAGE_PREFIXES if url.startswith(prefix)), None)
    try:
        if prefix is None:
            raise ValueError
        base64.b64decode(url[len(prefix) :], validate=True)
    except (ValueError, binascii.Error):
        raise BadBody("invalid image input") from None
    return url[len(prefix) :]


def _calls(calls: list[Any]) -> list[dict[str, Any]]:
    native = []
    for call in calls:
        function = call.get("function") or {} if isinstance(call, dict) else {}
        try:
            arguments = json.loads(function.get("arguments") or "")
            if not isinstance(arguments, dict):
                raise ValueError
        except (ValueError, TypeError):
            raise BadBody("invalid tool call arguments") from None
        native.append(
            {"id": call.get("id", ""), "function": {"name": function.get("name", ""), "arguments": arguments}}
        )
    return native


def _name_of_call(messages: list[Any], call_id: Any) -> str:
    for message in reversed(messages):
        for call in (message.get("tool_calls") or []) if isinstance(message, dict) else []:
            if isinstance(call, dict) and call.get("id") == call_id:
                return str((call.get("function") or {}).get("name", ""))
    return ""
