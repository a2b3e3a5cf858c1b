"""What a model can't do or hold is refused before anything is spent; where servers differ, the able one is asked."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.freshness import changing
from portal.models import LanguageModel, ModelOffer, Price, Provider
from tests.gateway.fleet import CLOUD, FIRST, SECOND, TWINNED, AnyDoor, Fleet
from tests.gateway.wire import CHAT, chat
from tests.services.cast import Person

SMALL, CONTEXT = "smollm2:135m", 8192
VISION = "mistral-small3.2:24b"
ENGLISH = "The quick brown fox jumps over the lazy dog and runs home before the rain begins. "
ARABIC = "يقفز الثعلب البني السريع فوق الكلب الكسول ويعود إلى بيته قبل أن يبدأ المطر. "
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
LOCAL = {"x-portal-failover": "off"}


def long(text: str, characters: int) -> str:
    return (text * (characters // len(text) + 1))[:characters]


def picture(size: int = 300) -> list[dict[str, Any]]:
    """A message with an image of so many bytes."""
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(size)).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]


TOO_LONG = {
    "Latin": json.dumps(chat(long(ENGLISH, 60_000), model=SMALL)).encode(),
    "Arabic": json.dumps(chat(long(ARABIC, 60_000), model=SMALL), ensure_ascii=False).encode(),
    "Arabic, escaped": json.dumps(chat(long(ARABIC, 45_000), model=SMALL)).encode(),
}
FITS = {
    "Latin": json.dumps(chat(long(ENGLISH, 36_000), model=SMALL)).encode(),
    "Arabic": json.dumps(chat(long(ARABIC, 24_000), model=SMALL), ensure_ascii=False).encode(),
    "Arabic, escaped": json.dumps(chat(long(ARABIC, 24_000), model=SMALL)).encode(),
}


def refused_unspent(fleet: Fleet, answer: Any, person: Person, code: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.error()
    assert (answer.status, error["code"]) == (400, code)
    assert fleet.usages(person.account_id) == []
    assert fleet.wallet(person.account_id) == (100_000, 0)
    assert (fleet.asked(FIRST), fleet.asked(SECOND), fleet.asked(CLOUD)) == (0, 0, 0)
    assert (fleet.in_line(), fleet.busy()) == (0, 0)
    return error


@pytest.mark.parametrize("script", TOO_LONG)
def test_a_prompt_that_is_too_long_is_refused_before_anything_is_spent(
    fleet: Fleet, gate: AnyDoor, script: str
) -> None:
    """never-again, "503 or silent cut for long prompts": 400 naming the limit; no row, no hold, no slot."""
    guest = fleet.somebody()
    answer = gate.ask("POST", CHAT, key=guest.api_key, body=TOO_LONG[script])
    error = refused_unspent(fleet, answer, guest, "context_length_exceeded")
    assert error["param"] == "messages"
    assert str(CONTEXT) in error["message"]


@pytest.mark.parametrize("script", FITS)
def test_a_prompt_that_may_fit_is_let_through(fleet: Fleet, gate: AnyDoor, script: str) -> None:
    """API-01: English has about four letters a token, Arabic two or three; the server's own counting decides."""
    answer = gate.ask("POST", CHAT, key=fleet.somebody().api_key, body=FITS[script])
    assert answer.status == 200, answer.read()
    answer.read()


def test_a_picture_is_no_text(fleet: Fleet, gate: AnyDoor) -> None:
    """API-01: two hundred thousand letters of base64 are one image."""
    fleet.found("ollama-1", VISION, context_tokens=CONTEXT)
    guest = fleet.somebody()
    answer = fleet.ask(gate, guest, model=VISION, messages=picture(150_000))
    assert answer.status == 200, answer.read()
    too_long = [*picture(), {"role": "user", "content": long(ENGLISH, 60_000)}]
    refused = fleet.ask(gate, guest, model=VISION, messages=too_long)
    assert (refused.status, refused.error()["code"]) == (400, "context_length_exceeded")


# -- servers that differ -----------------------------------------------------------------------------------------------


@pytest.fixture
def both(fleet: Fleet) -> Fleet:
    """Two servers, of which the second has something to do already."""
    fleet.switch("ollama-2", on=True)
    with fleet.app.app_context(), changing("catalog"):
        db.session.execute(sa.update(Provider).where(Provider.location == "local").values(slots=4))
        db.session.commit()
    fleet.store.client.zadd("line:busy:ollama-2", {"somebody:" + "0" * 32: 4_000_000_000_000})
    return fleet


def asked(fleet: Fleet, gate: AnyDoor, **members: Any) -> str:
    """Which server it was."""
    answer = fleet.ask(gate, fleet.somebody(), headers=LOCAL, **members)
    assert answer.status == 200, answer.read()
    answer.read()
    return fleet.usage(answer.request_id).provider


def test_a_long_prompt_goes_to_the_server_that_can_hold_it(both: Fleet, gate: AnyDoor) -> None:
    """Issue B, 1 and 3: the context is each server's own."""
    both.found("ollama-1", TWINNED, context_tokens=4096)
    both.found("ollama-2", TWINNED, context_tokens=32_768)
    text = [{"role": "user", "content": long(ENGLISH, 50_000)}]
    assert asked(both, gate) == "ollama-1"
    assert asked(both, gate, messages=text) == "ollama-2"
    assert asked(both, gate) == "ollama-1"
    guest = both.somebody()
    longer = [{"role": "user", "content": long(ENGLISH, 200_000)}]
    refused = both.ask(gate, guest, messages=longer, headers=LOCAL)
    assert (refused.status, refused.error()["code"]) == (400, "context_length_exceeded")
    assert "32768" in refused.error()["message"]


def test_tools_and_pictures_go_to_the_server_that_knows_them(both: Fleet, gate: AnyDoor) -> None:
    """Issue B, 1 and 3: the capabilities are as a probe found them at each."""
    both.found("ollama-1", VISION, capabilities="completion")
    assert asked(both, gate, model=VISION) == "ollama-1"
    assert asked(both, gate, model=VISION, tools=TOOLS) == "ollama-2"
    assert asked(both, gate, model=VISION, messages=picture()) == "ollama-2"
    assert asked(both, gate, model=VISION, messages=picture(), tools=TOOLS) == "ollama-2"


def test_what_no_single_server_can_do_is_refused_for_good(both: Fleet, gate: AnyDoor) -> None:
    """Issue B, 6: a 503 would be tried again for ever."""
    both.found("ollama-1", VISION, capabilities="completion tools")
    both.found("ollama-2", VISION, capabilities="completion vision")
    guest = both.somebody()
    answer = both.ask(gate, guest, model=VISION, messages=picture(), tools=TOOLS)
    assert (answer.status, answer.error()["code"]) == (400, "unsupported_capability")
    assert both.usages(guest.account_id) == []


def test_what_is_too_long_for_the_one_server_that_knows_tools_is_refused_for_good(both: Fleet, gate: AnyDoor) -> None:
    """Issue B, 6: naming the limit that holds for this request."""
    both.found("ollama-1", TWINNED, capabilities="completion tools", context_tokens=4096)
    both.found("ollama-2", TWINNED, capabilities="completion", context_tokens=32_768)
    both.switch("ollama-cloud", on=False)
    guest = both.somebody()
    text = [{"role": "user", "content": long(ENGLISH, 50_000)}]
    answer = both.ask(gate, guest, messages=text, tools=TOOLS)
    assert (answer.status, answer.error()["code"]) == (400, "context_length_exceeded")
    assert "4096" in answer.error()["message"]
    assert both.usages(guest.account_id) == []


# -- kinds of models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": SMALL, "tools": TOOLS}, "tools"),
        ({"model": "llama3.2:3b", "messages": picture()}, "messages"),
    ],
)
def test_a_text_model_refuses_tools_and_pictures(
    fleet: Fleet, gate: AnyDoor, members: dict[str, Any], param: str
) -> None:
    """Issue B, 6; never-again, "Embedding models offered for chat": 400 in OpenAI's shape."""
    guest = fleet.somebody()
    for stream in (False, True):
        answer = fleet.ask(gate, guest, stream=stream, **members)
        assert refused_unspent(fleet, answer, guest, "unsupported_capability")["param"] == param


@pytest.fixture
def embedder(fleet: Fleet) -> Iterator[str]:
    """An embedding model that an operator has opened to every plan."""
    name = "all-minilm"
    with fleet.app.app_context(), changing("catalog"):
        model = LanguageModel(
            name=name, plan_id="basic", context_tokens=512, answer_tokens=1, capabilities="embedding",
            summary_ar="للاختبار", summary_en="For tests", location="local",
        )  # fmt: skip
        db.session.add(model)
        db.session.flush()
        provider = db.session.scalars(sa.select(Provider.id).where(Provider.name == "ollama-1")).one()
        db.session.add(Price(model_id=model.id, rate_in=1_000_000, rate_out=1_000_000))
        db.session.add(ModelOffer(provider_id=provider, model_id=model.id, upstream_name=name))
        db.session.commit()
    yield name
    with fleet.app.app_context(), changing("catalog"):
        for row in (Price, ModelOffer):
            of = sa.select(LanguageModel.id).where(LanguageModel.name == name).scalar_subquery()
            db.session.execute(sa.delete(row).where(row.model_id == of))
        db.session.execute(sa.delete(LanguageModel).where(LanguageModel.name == name))
        db.session.commit()


def test_an_embedding_model_refuses_to_chat(fleet: Fleet, gate: AnyDoor, embedder: str) -> None:
    """never-again, "Embedding models offered for chat"."""
    guest = fleet.somebody()
    answer = fleet.ask(gate, guest, model=embedder)
    assert refused_unspent(fleet, answer, guest, "unsupported_capability")["param"] == "model"
