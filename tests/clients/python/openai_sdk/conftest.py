"""Clients of OpenAI's Python SDK, whichever major is installed, and a sandbox as at its start for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from portal_under_test import BASE_URL, KEYS, Requests, calm, sandbox

MakeClient = Callable[..., tuple[Any, Requests]]


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    calm()
    yield
    sandbox.release()


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """`make_client(role, retries)` gives a client and what it received. retries: the SDK's own, 2 as shipped."""
    made: list[Any] = []

    def make(role: str = "customer", retries: int = 2) -> tuple[Any, Requests]:
        seen = Requests()
        http = openai.DefaultHttpxClient(event_hooks={"response": [seen.hook]})
        made.append(
            openai.OpenAI(base_url=BASE_URL, api_key=KEYS[role], max_retries=retries, timeout=30, http_client=http)
        )
        return made[-1], seen

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: MakeClient) -> Any:
    """The customer's client; a failure is not tried again, so that a test sees the first answer."""
    return make_client(retries=0)[0]


@pytest.fixture
def async_client() -> Any:
    """For one `asyncio.run`: `async with async_client() as client`."""
    return lambda role="customer": openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEYS[role], max_retries=0, timeout=30)
