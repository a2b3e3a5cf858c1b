"""Events in the dress of `/v1/chat/completions`: both SSE dialects, the buffered answer, the error object.

Follows Ollama's `ChatWriter`: from 0.32.6 the role comes once and the finish has a chunk of its own; up to 0.32.5 every
delta repeats the role and the last, empty one carries the finish_reason.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from .gojson import dumps
from .job import Calls, Delta, Done, Job
from .knobs import OLD

DONE_LINE = b"data: [DONE]\n\n"


def error_body(status: int, text: str) -> dict[str, Any]:
    """Always the four keys; only 400 and 404 have a type of their own."""
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


def usage_object(done: Done, job: Job) -> dict[str, Any] | None:
    """Counts as they will be told, after the `usage` knob; None = say nothing."""
    usage: dict[str, Any] = {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
    }
    wish = job.knobs.usage
    if wish == "missing":
        return None
    if wish == "zero":
        usage = dict.fromkeys(usage, 0)
    elif wish == "negative":
        usage = {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12}
    elif wish == "huge":
        usage = {"prompt_tokens": 2**40, "completion_tokens": 2**40, "total_tokens": 2**41}
    elif isinstance(wish, dict):
        usage.update(wish)
        if "total_tokens" not in wish:
            parts = (usage["prompt_tokens"], usage["completion_tokens"])
            usage["total_tokens"] = sum(parts) if all(isinstance(part, int) for part in parts) else None
    if job.knobs.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": job.knobs.cached_tokens}
    return usage


def tool_calls(calls: Calls) -> list[dict[str, Any]]:
    return [
        {
            "id": call["id"],
            "index": call["index"],
            "type": "function",
            "function": {"name": call["name"], "arguments": dumps(call["arguments"])},
        }
        for call in calls.calls
    ]


class ChatDress:
    """One answer of `/v1/chat/completions`."""

    stream_type = "text/event-stream"
    buffered_type = "application/json"

    def __init__(self, job: Job, include_usage: bool) -> None:
        self.job = job
        self.model = job.echo
        self.include_usage = include_usage
        self.id = f"chatcmpl-{secrets.randbelow(999)}"
        self.created = int(time.time())
        self.old = job.knobs.dialect == OLD
        self.first = True
        self.called = False

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        created = int(time.time()) if self.old else self.created
        head = {
            "id": self.id, "object": "chat.completion.chunk", "created": created,
            "model": more.pop("model", self.model), "system_fingerprint": "fp_ollama", "choices": choices,
        }  # fmt: skip
        return f"data: {dumps({**head, **more})}\n\n".encode()

    def _delta(self, finish: str | None = None, **delta: Any) -> bytes:
        if self.old or self.first:
            delta = {"role": "assistant", **delta}
        self.first = False
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": finish}])

    def delta(self, event: Delta) -> bytes:
        if event.thinking:
            return self._delta(content="", reasoning=event.thinking)
        return self._delta(content=event.text)

    def calls(self, event: Calls) -> bytes:
        self.called = True
        return self._delta(content="", tool_calls=tool_calls(event))

    def _finish(self, reason: str) -> str:
        return "tool_calls" if reason == "stop" and self.called else reason

    def done(self, event: Done, *, say_done: bool = True, say_finish: bool = True) -> list[bytes]:
        reason = self._finish(event.reason) if say_finish else None
        frames = []
        if self.old:
            frames.append(self._delta(finish=reason, content=""))
        else:
            if self.first:
                frames.append(self._delta(content=""))
            if say_finish:
                frames.append(self._chunk([{"index": 0, "delta": {}, "finish_reason": reason}]))
        usage = usage_object(event, self.job)
        if self.include_usage and usage is not None:
            frames.append(self._chunk([], usage=usage))
        if say_done:
            frames.append(DONE_LINE)
        return frames

    def crash(self, _text: str) -> list[bytes]:
        """A native error line decoded as an empty reply: this is all a client of /v1 ever sees of a crash."""
        delta: dict[str, Any] = {"content": ""}
        if self.old or self.first:
            delta = {"role": "assistant", "content": ""}
        return [self._chunk([{"index": 0, "delta": delta, "finish_reason": None}], model="")]

    def buffered(self, text: str, thinking: str, calls: Calls | None, done: Done | None) -> bytes:
        """The whole answer; `done` None is the repeat guard's: no finish, zero counts."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["reasoning"] = thinking
        if calls:
            self.called = True
            message["tool_calls"] = tool_calls(calls)
        whole: dict[str, Any] = {
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "message": message, "finish_reason": self._finish(done.reason) if done else None}],
        }  # fmt: skip
        usage = usage_object(done or Done("", 0, 0), self.job)
        if usage is not None:
            whole["usage"] = usage
        return dumps(whole).encode() + b"\n"

    def error(self, status: int, text: str) -> tuple[bytes, str]:
        return dumps(error_body(status, text)).encode() + b"\n", "application/json"
