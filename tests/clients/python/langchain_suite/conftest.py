"""Which of the standard suite's tests are not for us, by name, so that nothing else can be skipped unseen."""

from __future__ import annotations

import pytest

NOT_OFFERED = ("pdf_inputs", "pdf_tool_message", "audio_inputs", "image_tool_message", "anthropic_inputs")
"""Files and sound are no part of our dialect; Anthropic's content blocks belong to another address."""
NEEDS_RECORDINGS = ("stream_time",)
"""A comparison of two recorded runs; we measure time in `openai_sdk/test_streams.py`."""
BEYOND_THE_SMALL_MODEL = (
    "tool_call", "tool_choice", "tool_message", "bind_runnables_as_tools", "agent_loop", "structured", "json_mode",
    "image",
)  # fmt: skip
"""What smollm2:135m can't do. The scripted model runs every one of these."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is named above, and say so in the run's own count ("deselected")."""
    left_out = []
    for item in items:
        unwanted = NOT_OFFERED + NEEDS_RECORDINGS
        if "TestRealModel" in item.nodeid:
            unwanted += BEYOND_THE_SMALL_MODEL
        if any(name in item.name for name in unwanted):
            left_out.append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
