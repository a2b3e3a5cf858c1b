"""What a server's refusal means for the customer.

Its text is read, and never relayed: it may name the operator's account.

Only a fault of the request itself is told as one (400); everything else is ours or the server's.
"""

import logging
import re
from enum import Enum

import msgspec
from flask_babel import lazy_gettext as _l

from portal.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    NoProvider,
    PortalError,
    UnsupportedCapability,
    UpstreamError,
    UpstreamTimeout,
)
from portal.services.gateway.reply import UNREADABLE
from portal.services.gateway.ticket import Ticket

log = logging.getLogger("portal.gateway")


class Fault(Enum):
    """What was wrong with a server, as the usage row tells it."""

    UNREACHED = "unreached"
    FAILED = "failed"
    """It hung up, or spoke nonsense."""
    TIMED_OUT = "timed_out"
    ERROR = "error"
    BUSY = "busy"
    MISSING = "missing"
    """It has not got the model."""
    ACCOUNT = "account"
    """The operator's cloud account was refused: its key, money, plan or quota."""

    @property
    def words(self) -> str:
        """For the staff, where a server rests because of it."""
        return _WORDS[self]

    @property
    def may_be_the_request(self) -> bool:
        """Whether a request could have caused it: some prompts crash a model wherever it runs."""
        return self in (Fault.FAILED, Fault.ERROR, Fault.TIMED_OUT)

    @property
    def another_may_do(self) -> bool:
        """Whether the request is worth another server: one that took too long has had its time already."""
        return self is not Fault.TIMED_OUT


_WORDS = {
    Fault.UNREACHED: "it could not be reached",
    Fault.FAILED: "it hung up or spoke nonsense",
    Fault.TIMED_OUT: "it took too long",
    Fault.ERROR: "it answered with errors",
    Fault.BUSY: "it said that it is busy",
    Fault.MISSING: "it has not got the model",
    Fault.ACCOUNT: "our account was refused",
}


def fault(outcome: str, status: int, location: str) -> Fault | None:
    """What an answer's end says against the server; None for nothing, such as a request that is wrong itself."""
    if outcome == "timed_out":
        return Fault.TIMED_OUT
    if outcome == "upstream_failed":
        return Fault.FAILED
    if outcome != "refused" or status in (400, 413, 422):
        return None
    if status == 404:
        return Fault.MISSING
    if location == "cloud" and status in (401, 402, 403, 429):
        return Fault.ACCOUNT
    return Fault.BUSY if status in (429, 503) else Fault.ERROR


_TOO_LONG = re.compile(r"context (length|size|window)|exceed_context_size|too long", re.IGNORECASE)
_LACKS = re.compile(r"does not support (tools|thinking|chat|insert|vision|images|audio)", re.IGNORECASE)
_WRONG_KIND = re.compile(r"cannot unmarshal .{0,200}? into Go struct field \w+\.([a-z_]+)", re.DOTALL)
_REASONS = (
    (
        re.compile(r"invalid message content type|invalid message format", re.IGNORECASE),
        "messages",
        _l("a message has content of a kind that is not supported"),
    ),
    (
        re.compile(r"invalid tool call arguments", re.IGNORECASE),
        "messages",
        _l("the arguments of a tool call must be JSON text"),
    ),
    (
        re.compile(r"too short - 'messages'", re.IGNORECASE),
        "messages",
        _l("“messages” must be a list with at least one message"),
    ),
    (
        re.compile(r"invalid image|image url", re.IGNORECASE),
        "messages",
        _l("an image must be sent as a data: URL of a JPEG, PNG or WebP file"),
    ),
    (re.compile(r"top_logprobs", re.IGNORECASE), "top_logprobs", _l("“top_logprobs” must be from 0 to 20")),
    (
        re.compile(r"reasoning|think", re.IGNORECASE),
        "reasoning_effort",
        _l("“reasoning_effort” has a value this model does not know"),
    ),
    (
        re.compile(r"response_format|schema|grammar|format", re.IGNORECASE),
        "response_format",
        _l("“response_format” holds a schema that can't be used"),
    ),
    (re.compile(r"\btools?\b", re.IGNORECASE), "tools", _l("“tools” holds a definition that can't be used")),
)


def refusal(ticket: Ticket, status: int, body: bytes) -> PortalError:
    """The error for an upstream's status other than 200."""
    text = _text(body)
    log.warning(
        "upstream refused",
        extra={
            "request": ticket.id,
            "provider": ticket.provider,
            "model": ticket.model.name,
            "status": status,
            "said": text[:300],
        },
    )
    if status in (400, 413, 422):
        return _own_fault(ticket, text)
    if status in (408, 504):
        return UpstreamTimeout()
    if status in (401, 402, 403, 404, 429, 503):
        # The operator's key, money, model or quota: nothing the customer could mend.
        return NoProvider(retry_after=5)
    return UpstreamError()


def _own_fault(ticket: Ticket, text: str) -> PortalError:
    if _TOO_LONG.search(text):
        return ContextLengthExceeded(param="messages", limit=ticket.model.context_tokens)
    if lacks := _LACKS.search(text):
        return UnsupportedCapability(param="model", model=ticket.ask.model, capability=lacks[1].lower())
    if wrong := _WRONG_KIND.search(text):
        return InvalidRequest(param=wrong[1], reason=_l("“%(name)s” has a value of the wrong kind", name=wrong[1]))
    for pattern, param, reason in _REASONS:
        if pattern.search(text):
            return InvalidRequest(param=param, reason=reason)
    return InvalidRequest(reason="the model refused it; please check the messages and parameters")


def _text(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body).get("error", "")
    except (*UNREADABLE, AttributeError):
        return body[:2000].decode("utf-8", "replace")
    return str(error.get("message", "")) if isinstance(error, dict) else str(error)
