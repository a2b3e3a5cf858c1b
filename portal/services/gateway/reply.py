"""Following an answer on its way to the customer: ids and names become ours, tokens are counted, ends are checked.

Works on bytes alone (no socket, no clock), so that every transport meters alike. An upstream that stops without a
finish reason has failed, however politely it closed the stream: both official SDKs take that for a complete answer.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from portal import money
from portal.errors import PortalError, UpstreamError

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
# How Ollama begins every event of a stream. Once seen, the same beginning is swapped without parsing the rest.
_BEGINNING = re.compile(
    rb'data: \{"id":"[^"\\]*","object":"chat\.completion\.chunk","created":[0-9]+,"model":"([^"\\]*)"'
)
BYTES_PER_TOKEN = 4
"""For estimates alone: Latin text has a little more, Arabic about two. It errs in the customer's favour."""
_NULL = Raw(b"null")
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for what is no JSON of ours. One that got away would end in the hub: nobody would answer."""


class _Choice(msgspec.Struct):
    delta: dict[str, Raw] | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens: int | None = None


_choices = msgspec.json.Decoder(list[_Choice] | None).decode
_counts = msgspec.json.Decoder(_Counts | None).decode
_choice_members = msgspec.json.Decoder(list[dict[str, Raw]] | None).decode
Cost = Callable[[int, int, int], int]
"""(prompt tokens, answer tokens, cached prompt tokens) → milli-credits."""


def plainly(error: PortalError) -> bytes:
    """An error as JSON, in nobody's language in particular."""
    return _encode(error.body())


def error_event(tell: Callable[[PortalError], bytes], error: PortalError) -> bytes:
    """How a stream ends that failed. Nothing may follow it."""
    return b"data: " + tell(error) + b"\n\ndata: [DONE]\n\n"


class Reply:
    """What is known of an answer so far. Counts are None until the upstream told them."""

    def __init__(self, answer_id: str, model: str, *, bounds: tuple[int, int], estimate: int, cost: Cost) -> None:
        """bounds: the most prompt and answer tokens; estimate: the prompt's, if the upstream never tells."""
        self.id, self.model = Raw(_encode(answer_id)), Raw(_encode(model))
        self.bounds, self.estimate, self.cost = bounds, estimate, cost
        self.prompt_tokens: int | None = None
        self.cached_tokens = 0
        self.answer_tokens: int | None = None
        self.delivered = 0
        """Pieces of answer seen: exact for Latin text, never more than the true count for any."""
        self.clamped = False
        """The upstream reported a count that can't be; it was brought into bounds."""
        self.finished = False
        """A finish reason was seen."""
        self.failure: PortalError | None = None
        self._details: dict[str, Raw] = {}

    @property
    def counted(self) -> bool:
        return self.prompt_tokens is not None and self.answer_tokens is not None

    def _take_usage(self, raw: Raw | None) -> None:
        if raw is None or bytes(raw) == b"null":
            return
        counts = _counts(raw)
        if counts is None:
            return
        if counts.prompt_tokens is not None:
            self.prompt_tokens = self._bounded(counts.prompt_tokens, self.bounds[0])
        if counts.completion_tokens is not None:
            self.answer_tokens = self._bounded(counts.completion_tokens, self.bounds[1])
        if counts.prompt_tokens_details is not None and counts.prompt_tokens_details.cached_tokens is not None:
            self.cached_tokens = self._bounded(counts.prompt_tokens_details.cached_tokens, self.prompt_tokens or 0)
        self._details = {k: v for k, v in _members(raw).items() if k.endswith("_details")}

    def _bounded(self, count: int, bound: int) -> int:
        if 0 <= count <= bound:
            return count
        self.clamped = True
        return min(max(count, 0), bound)

    def final_counts(self) -> tuple[int, int, bool]:
        """(prompt tokens, answer tokens, estimated) of a complete answer. Explicit zeros are zeros."""
        prompt = self.estimate if self.prompt_tokens is None else self.prompt_tokens
        answer = min(self.delivered, self.bounds[1]) if self.answer_tokens is None else self.answer_tokens
        return prompt, answer, not self.counted

    def _usage(self) -> dict[str, Any]:
        prompt, answer, _ = self.final_counts()
        credits = money.credits_number(self.cost(prompt, answer, min(self.cached_tokens, prompt)))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            **self._details,
            "credits": credits,
        }


class StreamReply(Reply):
    """A streamed answer: bytes of SSE in, bytes of SSE out, whole events only."""

    def __init__(
        self, *args: Any, include_usage: bool, tell: Callable[[PortalError], bytes] = plainly, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.include_usage = include_usage
        self._tell = tell
        self.ended = False
        self._rest = b""
        self._created = Raw(b"0")
        self._theirs = b"\xff"  # no event begins with this
        self._ours = b""

    def feed(self, payload: bytes) -> bytes:
        """Take what the upstream sent; give what goes to the customer."""
        data = self._rest + payload if self._rest else payload
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        events = data.split(b"\n\n")
        self._rest = events.pop()
        out = []
        for event in events:
            if self.ended:
                break
            if event.startswith(self._theirs):
                rest = event[len(self._theirs) :]
                if b'"finish_reason":null' in rest and b'"usage":' not in rest and _says_one_thing(rest):
                    self.delivered += 1
                    out.append(self._ours + rest)
                    continue
            piece = self._event(event)
            if piece:
                out.append(piece)
        if not out:
            return b""
        out.append(b"")
        return b"\n\n".join(out)

    def close(self) -> bytes:
        """The upstream's stream is over: what is left to say to the customer."""
        if self.ended:
            return b""
        if not self.finished:
            return self.fail(self.failure or UpstreamError())
        return self._end() + b"\n\n"

    def fail(self, error: PortalError) -> bytes:
        """End the stream with an error event. Nothing may follow it."""
        if self.ended:
            return b""
        self.failure, self.ended = error, True
        return error_event(self._tell, error)

    def _event(self, event: bytes) -> bytes:
        data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data:
            return b""
        if data == b"[DONE]":
            return self._end() if self.finished else self.fail(UpstreamError()).rstrip()
        try:
            return self._chunk(event, _members(data))
        except UNREADABLE:
            return self.fail(UpstreamError()).rstrip()

    def _chunk(self, event: bytes, members: dict[str, Raw]) -> bytes:
        if "error" in members:
            return self.fail(UpstreamError()).rstrip()
        self._take_usage(members.pop("usage", None))
        choices = _choices(members.get("choices", _NULL))
        if not choices or bytes(members.get("model", b'""')) == b'""':
            return b""  # the usage event, told again at the end; or the empty event Ollama leaves when it crashes
        if any(c.finish_reason for c in choices):
            self.finished = True
        if any(_says_something(c.delta) for c in choices):
            self.delivered += 1
        self._created = members.get("created", self._created)
        members["id"], members["model"] = self.id, self.model
        beginning = _BEGINNING.match(event)
        if beginning is not None:
            self._theirs = beginning[0]
            ours = (self.id, self._created, self.model)
            self._ours = b'data: {"id":%b,"object":"chat.completion.chunk","created":%b,"model":%b' % ours
        return b"data: " + _encode(members)

    def _end(self) -> bytes:
        self.ended = True
        if not self.include_usage:
            return b"data: [DONE]"
        chunk = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.model,
            "choices": [],
            "usage": self._usage(),
        }
        return b"data: " + _encode(chunk) + b"\n\ndata: [DONE]"


def _says_one_thing(event: bytes) -> bool:
    """Whether an event, unparsed, certainly holds a piece of text or of thought; tools and the rest are parsed."""
    if b'"content":"' in event and b'"content":""' not in event:
        return True
    return b'"reasoning":"' in event and b'"reasoning":""' not in event


def _says_something(delta: dict[str, Raw] | None) -> bool:
    if not delta:
        return False
    return any(bytes(value) not in (b'""', b"null", b"[]") for name, value in delta.items() if name != "role")


class BufferedReply(Reply):
    """An answer in one piece."""

    def read(self, body: bytes) -> bytes:
        """The upstream's body → the customer's. Raises UpstreamError for what is no complete answer."""
        try:
            members = _members(body)
            choices = _choice_members(members.get("choices", _NULL))
            reasons = _choices(members.get("choices", _NULL))
            self._take_usage(members.get("usage"))
            if not choices or not reasons or not all(c.finish_reason for c in reasons):
                raise UpstreamError
            members["choices"] = Raw(_encode([_complete(choice) for choice in choices]))
        except UNREADABLE as error:
            raise UpstreamError from error
        self.finished = True
        if self.answer_tokens is None:  # no pieces to count here: measured, as the prompt is
            self.delivered = -(-sum(map(_said_bytes, choices)) // BYTES_PER_TOKEN)
        members["id"], members["model"] = self.id, self.model
        members["usage"] = Raw(_encode(self._usage()))
        return _encode(members)


def _said_bytes(choice: dict[str, Raw]) -> int:
    """How much a choice's message says: text, thoughts and tool calls, without the quotes around them."""
    message = _members(choice["message"]) if "message" in choice else {}
    said = (bytes(raw) for name, raw in message.items() if name not in ("role", "refusal"))
    return sum(len(raw) - 2 for raw in said if raw not in (b'""', b"null", b"[]"))


def _complete(choice: dict[str, Raw]) -> dict[str, Raw]:
    """Ollama leaves out two members that OpenAI's own schema requires."""
    choice.setdefault("logprobs", _NULL)
    if "message" in choice:
        message = _members(choice["message"])
        message.setdefault("refusal", _NULL)
        choice["message"] = Raw(_encode(message))
    return choice
