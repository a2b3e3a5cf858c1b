"""LangChain's own standard suite with tools, structured output and images, on a scripted model that has them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from portal_under_test import BASE_URL, KEYS, PNG, TEXT, VISION, calm


@pytest.fixture(autouse=True, scope="module")
def _calm() -> Iterator[None]:
    calm()
    yield
    calm()


@pytest.fixture(autouse=True)
def _picture_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite fetches its picture from the internet, which has no part in these tests."""

    def get(url: str, **_: Any) -> httpx.Response:
        assert url.endswith(".png")
        return httpx.Response(200, content=PNG)

    monkeypatch.setattr(httpx, "get", get)


class TestScriptedModel(ChatModelIntegrationTests):
    """API-01: LangChain works unchanged, tools and structured output among it."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": VISION, "base_url": BASE_URL, "api_key": KEYS["customer"], "temperature": 0,
            "stream_usage": True, "max_retries": 0, "timeout": 60,
        }  # fmt: skip

    @property
    def model_override_value(self) -> str:
        return TEXT

    @property
    def has_tool_calling(self) -> bool:
        return True

    @property
    def has_structured_output(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def enable_vcr_tests(self) -> bool:
        return False
