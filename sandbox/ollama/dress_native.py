"""Events in the dress of `/api/chat` and `/api/generate`: one JSON object a line, zeros left out, nanoseconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from .dress_openai import usage_object
from .gojson import dumps
from .job import Calls, Delta, Done, Job


def now() -> str:
    """An instant as Go prints it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def error_body(text: str) -> dict[str, Any]:
    return {"error": text}


def native_calls(calls: Calls) -> list[dict[str, Any]]:
    return [
        {"id": call["id"], "function": {"index": call["index"], "name": call["name"], "arguments": call["arguments"]}}
        for call in calls.calls
    ]


class NativeDress:
    """One answer of `/api/chat`, or of `/api/generate` when `generate` is set."""

    stream_type = "application/x-ndjson"
    buffered_type = "application/json; charset=utf-8"

    def __init__(self, job: Job, generate: bool = False) -> None:
        self.job = job
        self.model = job.echo
        self.generate = generate
        self.started = time.time()
        self.load_ms = 0.0

    def _said(self, text: str, thinking: str = "", calls: Calls | None = None) -> dict[str, Any]:
        extra: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if calls:
            extra["tool_calls"] = native_calls(calls)
        if self.generate:
            return {"response": text, **extra}
        return {"message": {"role": "assistant", "content": text, **extra}}

    def _line(self, **fields: Any) -> bytes:
        return dumps({"model": self.model, "created_at": now(), **fields}).encode() + b"\n"

    def delta(self, event: Delta) -> bytes:
        return self._line(**self._said(event.text, event.thinking), done=False)

    def calls(self, event: Calls) -> bytes:
        return self._line(**self._said("", calls=event), done=False)

    def _metrics(self, done: Done) -> dict[str, Any]:
        usage = usage_object(done, self.job) or {}
        figures = {
            "total_duration": int((time.time() - self.started) * 1e9),
            "load_duration": int(self.load_ms * 1e6),
            "prompt_eval_count": usage.get("prompt_tokens", 0),
            "prompt_eval_duration": int(done.prompt_ms * 1e6),
            "eval_count": usage.get("completion_tokens", 0),
            "eval_duration": int(done.eval_ms * 1e6),
        }
        return {name: value for name, value in figures.items() if value}

    def done(self, event: Done, *, say_done: bool = True, say_finish: bool = True) -> list[bytes]:
        if not say_done:
            return []
        reason = {"done_reason": event.reason} if say_finish and event.reason else {}
        context = {"context": [1, 2, 3, 4]} if self.generate else {}
        return [self._line(**self._said(""), done=True, **reason, **context, **self._metrics(event))]

    def crash(self, text: str) -> list[bytes]:
        return [dumps(error_body(text)).encode() + b"\n"]

    def buffered(self, text: str, thinking: str, calls: Calls | None, done: Done | None) -> bytes:
        if done is None:
            return self._line(**self._said(text, thinking, calls), done=False)
        reason = {"done_reason": done.reason} if done.reason else {}
        return self._line(**self._said(text, thinking, calls), done=True, **reason, **self._metrics(done))

    def error(self, status: int, text: str) -> tuple[bytes, str]:
        return dumps(error_body(text)).encode(), "application/json; charset=utf-8"
