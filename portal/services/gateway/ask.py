"""What a chat request asks for: the top-level members of its body, and nothing below them.

Prompts are copied as bytes, never decoded and never stored. Members that are not ours pass through untouched, so what a
server learns tomorrow works tomorrow; those that would slip past the limit the hold was computed for do not.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from flask_babel import LazyString, lazy_gettext as _l
from msgspec import Raw

from portal.errors import ContextLengthExceeded, InvalidRequest, PortalError, UnsupportedCapability
from portal.services.catalog import CatalogModel
from portal.services.gateway.reply import BYTES_PER_TOKEN, UNREADABLE

BYPASSES = frozenset(
    {
        "n_predict",
        "num_predict",
        "options",
        "keep_alive",
        "best_of",
        "min_tokens",
        "ignore_eos",
        "priority",
        "max_completion_tokens",
    }
)
"""Engine-specific members that change how much is generated, or how long a model stays loaded, behind our back."""
OURS = BYPASSES | {"model", "messages", "stream", "stream_options", "max_tokens", "n", "tools"}
"""Members that are read or replaced here. Ollama finds members without regard to case, and the last one wins: a `Model`
beside our `model` chose the model, a `Max_Tokens` lifted the limit. So no other spelling of these reaches a server."""
IMAGE_TOKENS = 4096
"""What an image may cost at most in a vision model's context; its base64 text says nothing about that."""
IMAGE_ESTIMATE = 512
"""About what an image costs, where the upstream never told."""
LONGEST_NAME = 200
"""Characters of a model's name; the rows hold fewer."""
CHARACTERS_PER_TOKEN = 5
"""More than any tokenizer gets on average out of any language's text: whoever is refused for it is too long indeed."""
TEMPLATE_TOKENS = 256
"""What a chat template adds on its own."""

_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_anything = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# Raw quotes can't stand inside a JSON string, so these match the structure of a message and never its text.
_image_part = re.compile(rb'"type"\s*:\s*"image_url"')
_image_data = re.compile(rb'"(?:image_)?url"\s*:\s*"data:[^"]*"')
# No encoder writes plain letters as escapes; who does would pass an image by as text.
_escaped_letter = re.compile(rb"\\u00[4-7]")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


_stream_options = msgspec.json.Decoder(_StreamOptions | None).decode
_integer = msgspec.json.Decoder(int | None).decode
_boolean = msgspec.json.Decoder(bool | None).decode
_text = msgspec.json.Decoder(str).decode


@dataclass(slots=True)
class Ask:
    """A request, read. limit: the longest answer wanted, in tokens, or None."""

    members: dict[str, Raw]
    model: str
    stream: bool
    include_usage: bool
    limit: int | None
    prompt_bytes: int
    images: int

    @property
    def prompt_bound(self) -> int:
        """The most tokens the prompt can have: a token is at least one byte."""
        return self.prompt_bytes + self.images * IMAGE_TOKENS + TEMPLATE_TOKENS

    @property
    def prompt_estimate(self) -> int:
        """About how many tokens the prompt has, where the upstream never told."""
        return -(-self.prompt_bytes // BYTES_PER_TOKEN) + self.images * IMAGE_ESTIMATE

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that a server must have for it, in Ollama's words."""
        tools = "tools" in self.members and not _empty(self.members["tools"])
        return _NEEDS[tools, self.images > 0]

    def least_tokens(self, context: int) -> int:
        """The fewest tokens the prompt can well have. context: below this nobody needs to know it more exactly."""
        if self.prompt_bytes // CHARACTERS_PER_TOKEN <= context:
            return 0
        messages = bytes(self.members["messages"])
        characters = self.prompt_bytes - (len(messages) - len(messages.translate(None, _CONTINUATION)))
        return max(0, characters - 5 * messages.count(b"\\u")) // CHARACTERS_PER_TOKEN

    def require(self, model: CatalogModel) -> None:
        """Raises UnsupportedCapability when the model can't do what is asked, ContextLengthExceeded when it is too long
        for every server (Ollama would cut it in silence)."""
        for capability, (param, words) in _CAPABILITIES.items():
            if capability in self.needs and capability not in model.capabilities:
                raise UnsupportedCapability(param=param, model=model.name, capability=words)
        if self.least_tokens(model.context_tokens) > model.context_tokens:
            raise ContextLengthExceeded(param="messages", limit=model.context_tokens)

    def no_single_server(self, model: CatalogModel) -> PortalError:
        """What forbids it where the model's servers could do it among them, and none of them can. Told as 400: after a
        503 every SDK would try it again."""
        able = [offer.context_tokens for offer in model.home if self.needs <= offer.capabilities]
        if able:
            return ContextLengthExceeded(param="messages", limit=max(able))
        return UnsupportedCapability(param="tools", model=model.name, capability=_l("tools together with images"))

    def upstream_body(self, upstream_name: str, limit: int) -> bytes:
        """The body for the upstream: its own name of the model, the limit the hold covers, usage always asked for."""
        members = {name: raw for name, raw in self.members.items() if _passes(name)}
        members["model"] = Raw(_encode(upstream_name))
        members["max_tokens"] = Raw(b"%d" % limit)
        if self.stream:
            members["stream_options"] = _WITH_USAGE
        else:
            members.pop("stream_options", None)
        return _encode(members)


_CAPABILITIES = {
    "completion": ("model", _l("chat")),
    "tools": ("tools", _l("tools")),
    "vision": ("messages", _l("images")),
}
_NEEDS = {
    (False, False): frozenset({"completion"}),
    (True, False): frozenset({"completion", "tools"}),
    (False, True): frozenset({"completion", "vision"}),
    (True, True): frozenset({"completion", "tools", "vision"}),
}
_CONTINUATION = bytes(range(0x80, 0xC0))
"""What follows the first byte of a character in UTF-8."""
_WITH_USAGE = Raw(b'{"include_usage":true}')


def read_ask(body: bytes) -> Ask:
    """Read a chat request's body. Raises InvalidRequest naming the member at fault."""
    try:
        members = _decode(body)
    except UNREADABLE as error:
        raise InvalidRequest(reason=_l("the body is not a JSON object")) from error
    if "model" not in members:
        raise InvalidRequest(param="model", reason=_l("“model” is missing"))
    model = _member(members, "model", _text, _l("a string"))
    if len(model) > LONGEST_NAME:
        raise InvalidRequest(param="model", reason=_l("“model” is longer than any model's name"))
    messages = bytes(members.get("messages", b"")).lstrip()
    if not messages.startswith(b"[") or messages[1:].lstrip().startswith(b"]"):
        raise InvalidRequest(param="messages", reason=_l("“messages” must be a list with at least one message"))
    stream = bool(_member(members, "stream", _boolean, _l("true or false")))
    options = _member(members, "stream_options", _stream_options, _l("an object"))
    if options is not None and not stream:
        raise InvalidRequest(param="stream_options", reason=_l("“stream_options” goes only with “stream”: true"))
    limit = None
    for name in ("max_tokens", "max_completion_tokens"):
        value = _member(members, name, _integer, _l("a whole number"))
        if value is not None:
            if value < 1:
                raise InvalidRequest(param=name, reason=_l("“%(name)s” must be at least 1", name=name))
            limit = value if limit is None else min(limit, value)
    if (_member(members, "n", _integer, _l("a whole number")) or 1) != 1:
        raise InvalidRequest(param="n", reason=_l("only “n”: 1 is supported"))
    if _escaped_letter.search(messages):
        messages = _encode(_plainly(messages))
    images = len(_image_part.findall(messages)) if b'"image_url"' in messages else 0
    image_bytes = sum(found.end() - found.start() for found in _image_data.finditer(messages)) if images else 0
    return Ask(members, model, stream, bool(options and options.include_usage), limit, len(body) - image_bytes, images)


def _member(members: dict[str, Raw], name: str, decode, kind: LazyString):  # type: ignore[no-untyped-def]
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return decode(raw)
    except UNREADABLE as error:
        raise InvalidRequest(param=name, reason=_l("“%(name)s” must be %(kind)s", name=name, kind=kind)) from error


def _passes(name: str) -> bool:
    if name in OURS:
        return name not in BYPASSES
    return name.casefold() not in OURS


def _plainly(messages: bytes) -> Any:
    """The messages decoded, to be looked at without their escapes; what goes upstream is what came."""
    try:
        return _anything(messages)
    except UNREADABLE as error:
        raise InvalidRequest(param="messages", reason=_l("“messages” is not valid JSON")) from error


def _empty(raw: Raw) -> bool:
    return bytes(raw).translate(None, b" \t\r\n") in (b"null", b"[]")
