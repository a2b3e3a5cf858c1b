"""LangChain's own standard suite for chat models, on the real smollm2:135m: invoke, stream, async, batch, usage, stops.

So small a model calls no tools; those claims are `test_scripted_model.py`'s.
"""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from portal_under_test import BASE_URL, KEYS, PLAIN, TEXT


class TestRealModel(ChatModelIntegrationTests):
    """API-01: LangChain works unchanged."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": PLAIN, "base_url": BASE_URL, "api_key": KEYS["customer"], "temperature": 0, "max_tokens": 48,
            "stream_usage": True, "max_retries": 0, "timeout": 60,
        }  # fmt: skip

    @property
    def model_override_value(self) -> str:
        return TEXT

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_image_inputs(self) -> bool:
        return False

    @property
    def enable_vcr_tests(self) -> bool:
        return False
