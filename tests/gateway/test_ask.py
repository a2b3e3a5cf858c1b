"""Reading a request: a fault is told by its member's name, a prompt is never touched, nothing slips past the limit."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from portal.errors import InvalidRequest, PortalError, UnsupportedCapability
from portal.services.catalog import CatalogModel
from portal.services.gateway.ask import BYPASSES, IMAGE_TOKENS, TEMPLATE_TOKENS, Ask, read_ask

MESSAGES = [{"role": "user", "content": "مرحبا"}]


def ask(**members: Any) -> Ask:
    return read_ask(json.dumps({"model": "m", "messages": MESSAGES, **members}, ensure_ascii=False).encode())


def refused(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_ask(body)
    return caught.value


def upstream(request: Ask, limit: int = 50) -> dict[str, Any]:
    """What the server gets. Read as pairs: a member told twice would be read differently by every parser."""
    pairs: list[tuple[str, Any]] = json.loads(request.upstream_body("theirs", limit), object_pairs_hook=list)
    assert len(pairs) == len({name.casefold() for name, _ in pairs}), pairs
    return json.loads(request.upstream_body("theirs", limit))  # type: ignore[no-any-return]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"), ({"model": 7}, "model"), ({"model": ["m"]}, "model"),
    ({"messages": None}, "messages"), ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"),
    ({"messages": {}}, "messages"),
    ({"stream": "yes"}, "stream"), ({"stream": 1}, "stream"),
    ({"stream": True, "stream_options": 1}, "stream_options"), ({"stream_options": {}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": "9"}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"), ({"max_tokens": True}, "max_tokens"), ({"max_tokens": []}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"), ({"max_completion_tokens": {}}, "max_completion_tokens"),
    ({"n": 2}, "n"), ({"n": "1"}, "n"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "param"), BAD, ids=str)
def test_a_bad_member_is_named(members: dict[str, Any], param: str) -> None:
    """API-01: 400 in OpenAI's words, `param` names the field."""
    error = refused(json.dumps({"model": "m", "messages": MESSAGES, **members}).encode())
    assert (error.status, error.code, error.param) == (400, "invalid_request", param)
    assert param in error.values["reason"]


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_member_is_named(missing: str) -> None:
    """API-01."""
    body = {"model": "m", "messages": MESSAGES}
    del body[missing]
    assert refused(json.dumps(body).encode()).param == missing


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b'{"model":"m"', b'"text"', b'{"model":"m","messages":[{]}', b"model=m&messages=hi",
        b'{"model":"m","messages":[1]}x', b'\xef\xbb\xbf{"model":"m","messages":[1]}', b'{"mod\xffel":"m"}',
        b'{"model":"\xff","messages":[1]}', b'{"\\ud800":1}', b'{"model":"\\ud800","messages":[1]}',
        b'{"x":' + b"[" * 100_000, b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"max_tokens":' + b"9" * 5000 + b',"model":"m","messages":[1]}',
    ],
    ids=lambda body: repr(body[:30]),
)  # fmt: skip
def test_what_is_no_json_object_is_a_400_and_never_a_500(body: bytes) -> None:
    """API-01: broken UTF-8, half a surrogate, a nest without end: none of it is our fault."""
    assert refused(body).status == 400


@given(st.binary(max_size=200))
def test_no_body_makes_anything_but_a_request_or_a_400(body: bytes) -> None:
    """API-01."""
    for candidate in (body, b'{"model":"m","messages":[' + body + b"]}", b'{"model":' + body + b',"messages":[1]}'):
        try:
            read_ask(candidate)
        except InvalidRequest:
            pass


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=12))  # fmt: skip
def test_prompts_and_unknown_members_reach_the_server_byte_by_byte(anything: Any) -> None:
    """API-01: what a server learns tomorrow works tomorrow; the prompt is neither decoded nor written anew."""
    text = json.dumps(anything, indent=1).encode()
    body = b'{"model":"m", "messages" : [' + text + b'], "tomorrow":' + text + b"}"
    sent = read_ask(body).upstream_body("theirs", 5)
    assert b'"messages":[' + text + b"]" in sent
    assert b'"tomorrow":' + text in sent


def test_both_names_of_the_limit_count_and_the_smaller_wins() -> None:
    """never-again, "50 asked, 1,349 tokens answered and billed": LangChain sends max_completion_tokens alone."""
    assert ask(max_tokens=50).limit == 50
    assert ask(max_completion_tokens=50).limit == 50
    assert ask(max_completion_tokens=70, max_tokens=50).limit == 50
    assert ask(max_completion_tokens=50, max_tokens=70).limit == 50
    assert ask(max_tokens=None, max_completion_tokens=None).limit is None
    assert ask(max_tokens=10**30).limit == 10**30
    assert upstream(ask(max_completion_tokens=50), 50)["max_tokens"] == 50


def test_a_server_is_always_told_the_limit_of_the_hold_and_its_own_name_of_the_model() -> None:
    """never-again, "50 asked …": whether the customer named a limit or not."""
    sent = upstream(ask(), 123)
    assert (sent["model"], sent["max_tokens"]) == ("theirs", 123)


def test_usage_is_always_asked_for_in_a_stream_and_never_elsewhere() -> None:
    """API-02: metering needs it; whether the customer sees it is another question."""
    assert upstream(ask(stream=True))["stream_options"] == {"include_usage": True}
    assert upstream(ask(stream=True, stream_options={"include_usage": False, "x": 1}))["stream_options"] == {
        "include_usage": True
    }
    assert "stream_options" not in upstream(ask())
    assert ask(stream=True, stream_options={"include_usage": True}).include_usage
    assert not ask(stream=True, stream_options=None).include_usage


@pytest.mark.parametrize("name", sorted(BYPASSES))
def test_members_that_pass_the_limit_by_are_left_out(name: str) -> None:
    """never-again, "50 asked …": engines have their own names for how much is generated."""
    assert name not in upstream(ask(**{name: 1}))


@pytest.mark.parametrize(
    "name",
    [
        "Max_Tokens", "MAX_TOKENS", "max_to\u212aens", "max_token\u017f", "Model", "MODEL", "\u017ftream", "Stream",
        "Stream_Options", "\u017ftream_option\u017f", "Options", "KEEP_ALIVE", "Num_Predict", "Max_Completion_Tokens",
    ],
)  # fmt: skip
def test_another_spelling_of_a_member_of_ours_does_not_reach_the_server(name: str) -> None:
    """MODEL-04, never-again, "Restricted models reachable …": Go reads member names without regard to case, K and ſ
    included, and the last one wins: `Model` would choose the model and `Max_Tokens` lift the limit of the hold."""
    sent = upstream(ask(**{name: 99_999}))
    assert name not in sent
    assert (sent["model"], sent["max_tokens"]) == ("theirs", 50)


@pytest.mark.parametrize("name", ["Messages", "Tools", "N"])
def test_another_spelling_of_what_was_looked_at_does_not_reach_the_server_either(name: str) -> None:
    """API-01: what is checked and measured must be what runs."""
    assert name not in upstream(ask(**{name: [1]}))


def test_of_a_member_told_twice_the_last_is_read_and_sent() -> None:
    """never-again, "50 asked …": read one and send the other, and the limit is gone."""
    request = read_ask(b'{"model":"a","max_tokens":5,"model":"b","messages":[1],"max_\\u0074okens":7,"messages":[2]}')
    assert (request.model, request.limit) == ("b", 7)
    assert upstream(request, 7) == {"model": "theirs", "messages": [2], "max_tokens": 7}


PICTURE = "data:image/png;base64," + "A" * 9000
IMAGE_MESSAGES = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"image_url": {"detail": "low", "url": PICTURE}, "type": "image_url"},
        {"type": "image_url", "image_url": PICTURE},
    ],
    ids=["object", "other order", "string"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_an_image_counts_as_an_image_and_not_as_its_base64(part: dict[str, Any], indent: int | None) -> None:
    """API-01: the text of a picture says nothing of what it costs; a photo would need more credit than anybody has."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is it"}, part, part]}]
    request = read_ask(json.dumps({"model": "m", "messages": messages}, indent=indent).encode())
    assert request.images == 2
    assert request.prompt_bytes < 2000
    assert request.prompt_bound == request.prompt_bytes + 2 * IMAGE_TOKENS + TEMPLATE_TOKENS


@pytest.mark.parametrize("escaped", ["\\u0069mage_url", "image\\u005furl", "\\u0069\\u006d\\u0061ge_url"])
def test_an_image_in_escaped_letters_is_an_image(escaped: str) -> None:
    """API-02: no encoder writes plain letters so; who does would send pictures past the hold."""
    body = json.dumps({"model": "m", "messages": IMAGE_MESSAGES}).replace('"type": "image_url"', f'"type": "{escaped}"')
    assert escaped in body
    request = read_ask(body.encode())
    assert request.images == 1


@pytest.mark.parametrize(
    "text",
    [
        "data: [DONE]", 'my json: {"type":"image_url","url":"data:image/png;base64,AAAA"}', '"type":"image_url"',
        "say \\u0069mage_url and \u0001 \\\\u0041",
    ],
)  # fmt: skip
def test_text_that_speaks_of_images_is_text(text: str) -> None:
    """API-01: a question about our own API is no picture."""
    request = ask(messages=[{"role": "user", "content": text}])
    assert request.images == 0
    assert request.prompt_bytes > len(text)


def test_the_prompt_is_never_thought_shorter_than_it_can_be() -> None:
    """API-02: a token is at least a byte; the estimate is for the customer's good."""
    request = ask(messages=[{"role": "user", "content": "ن" * 400}])
    assert request.prompt_bytes > 800
    assert request.prompt_bound > 1000
    assert 200 <= request.prompt_estimate < request.prompt_bound


def model(*capabilities: str) -> CatalogModel:
    return CatalogModel(
        "m", (), {}, "local", "basic", 1, {}, 8192, 2048, frozenset(capabilities), 0, (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("capabilities", "members", "param"),
    [
        (("embedding",), {}, "model"),
        (("completion",), {"tools": [{"type": "function"}]}, "tools"),
        (("completion",), {"messages": IMAGE_MESSAGES}, "messages"),
        (("completion", "tools"), {"tools": [{}], "messages": IMAGE_MESSAGES}, "messages"),
    ],
)
def test_what_a_model_cannot_do_is_refused_before_anything_runs(
    capabilities: tuple[str, ...], members: dict[str, Any], param: str
) -> None:
    """never-again, "Embedding models offered for chat": 400 in OpenAI's shape."""
    with pytest.raises(UnsupportedCapability) as caught:
        ask(**members).require(model(*capabilities))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert isinstance(caught.value, PortalError)


def test_what_a_model_can_do_is_let_through() -> None:
    """API-01: an empty list of tools asks for none."""
    ask(tools=[]).require(model("completion"))
    ask(tools=None).require(model("completion"))
    ask(tools=[{}]).require(model("completion", "tools"))
    ask(messages=IMAGE_MESSAGES).require(model("completion", "vision"))
