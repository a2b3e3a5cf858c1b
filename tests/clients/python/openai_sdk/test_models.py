"""The list of models through OpenAI's Python SDK."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from portal_under_test import SLASHED, TEXT, THINKING

HIDDEN = ("glm-4.7-flash", "bge-m3", "nomic-embed-text")


def test_the_list_has_what_the_plan_has(make_client: Any) -> None:
    """API-05, MODEL-01, MODEL-03: more models on the larger plan, all of the smaller one among them."""
    every = {model.id for model in make_client("customer")[0].models.list()}
    basic = {model.id for model in make_client("newcomer")[0].models.list()}
    assert {"llama3.2:3b", "smollm2:135m", "qwen2.5-coder:14b", "mistral-small3.2:24b"} <= basic < every
    assert {"gpt-oss:20b", "qwen3-30b-40k", "Qwen3-VL-32B"} <= every - basic


def test_a_model_is_typed(client: Any) -> None:
    """API-05: the four members OpenAI's schema wants, of their kinds."""
    for model in client.models.list():
        assert model.object == "model" and model.owned_by and model.created > 1_700_000_000


@pytest.mark.parametrize("name", [TEXT, SLASHED, THINKING])
def test_one_model_is_found_by_its_id(client: Any, name: str) -> None:
    """API-05: ids hold `:` and `/`; the SDK escapes what it wants to."""
    assert client.models.retrieve(name).id == name


def test_the_async_client_lists(async_client: Any) -> None:
    """API-05: the async client pages through the same list."""
    import asyncio

    async def names() -> list[str]:
        async with async_client() as client:
            return [model.id async for model in client.models.list()]

    assert TEXT in asyncio.run(names())


def test_a_key_that_may_only_read_lists_models(make_client: Any) -> None:
    """KEY-05: reading is models, balance, usage."""
    assert make_client("reader")[0].models.list().data


@pytest.mark.parametrize("name", [*HIDDEN, "bge-m3:latest", "BGE-M3", "no-such-model"])
def test_what_is_not_offered_does_not_exist(make_client: Any, name: str) -> None:
    """MODEL-04: never listed, never found, never answered, under any spelling."""
    client, seen = make_client()
    assert name not in {model.id for model in client.models.list()}
    with pytest.raises(openai.NotFoundError) as found:
        client.models.retrieve(name)
    with pytest.raises(openai.NotFoundError) as asked:
        client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])
    assert found.value.code == asked.value.code == "model_not_found"
    assert seen.statuses == [200, 404, 404]


def test_a_models_page_without_a_key_is_refused(make_client: Any) -> None:
    """API-05: the list is the caller's, so there is no list without a caller."""
    client = make_client()[0].with_options(api_key="rsk_" + "0" * 40)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()
