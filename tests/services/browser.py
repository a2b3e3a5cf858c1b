"""Chromium as the browser tests drive it: the system's own, in Arabic, in Kuwait."""

from typing import Any

import pytest

from tests.services.programs import find, missing

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Playwright's own browsers are never downloaded."""
    chromium = find("chromium", "chromium-browser", "google-chrome")
    if chromium is None:
        missing("Chromium")
    return {**browser_type_launch_args, "executable_path": chromium, "args": FLAGS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    return {**browser_context_args, "locale": "ar-KW", "timezone_id": "Asia/Kuwait"}
