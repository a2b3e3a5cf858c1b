"""One chat or completion in Ollama's native terms, and the events that answer it.

Both doors (`/v1` and `/api`) translate into a `Job`; both engines (scripted and real) answer with these events; the
dresses turn events into bytes. So no door knows an engine, and no engine knows a door.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .catalogue import Model
from .knobs import Knobs


@dataclass
class Job:
    """What is to be answered."""

    requested: str  # the model's name exactly as the client wrote it
    messages: list[dict[str, Any]]
    stream: bool
    options: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    format: Any = None
    think: Any = None
    keep_alive: Any = None
    top_logprobs: int = 0
    # Ollama ignores it; the scripted model obeys it, as a clever model would obey a plain request.
    tool_choice: Any = None
    model: Model | None = None
    knobs: Knobs = field(default_factory=Knobs)
    called: str | None = None  # how the server calls the model in its answers; None: as the client wrote it

    @property
    def echo(self) -> str:
        """The model's name in the answer."""
        if self.knobs.model_echo is not None:
            return self.knobs.model_echo
        return self.requested if self.called is None else self.called

    @property
    def limit(self) -> int | None:
        """Most tokens to answer; None when unlimited (absent, zero or negative)."""
        value = self.options.get("num_predict")
        return int(value) if isinstance(value, int | float) and value > 0 else None

    def record(self) -> dict[str, Any]:
        """For the journal: what reached the engine."""
        return {
            "model": self.requested, "messages": self.messages, "options": self.options, "tools": self.tools,
            "format": self.format, "think": self.think, "stream": self.stream,
        }  # fmt: skip


@dataclass
class Delta:
    """One token of text or of thinking."""

    text: str = ""
    thinking: str = ""


@dataclass
class Calls:
    """Whole tool calls: [{"id", "index", "name", "arguments": object}]."""

    calls: list[dict[str, Any]]


@dataclass
class Done:
    """The end, with the counts."""

    reason: str
    prompt_tokens: int
    completion_tokens: int
    prompt_ms: float = 0
    eval_ms: float = 0


Event = Delta | Calls | Done


class EngineFailed(Exception):
    """The engine refused or died; status and text as Ollama passes them on."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Engine(Protocol):
    """Something that answers jobs. `close()` on the iterator stops the generation at once."""

    def run(self, job: Job, left: Any) -> Iterator[Event]:
        """Events for the job; `left` is a gevent event set when the client has gone. Raises EngineFailed."""
        ...
