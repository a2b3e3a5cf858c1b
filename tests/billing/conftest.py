"""A portal that takes money at the sandbox, and what its pages say."""

import re
from collections.abc import Callable
from html import unescape

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.doors.shop import Shop, shop
from tests.pages.conftest import new_context
from tests.services.portal_app import CSRF

__all__ = ["main_of", "new_context", "shop", "text_of"]


def main_of(answer: TestResponse) -> str:
    """The page's own part, as HTML."""
    return answer.get_data(as_text=True).partition("<main")[2].partition("</main")[0]


def text_of(answer: TestResponse) -> str:
    """What its reader reads there, in one line."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", main_of(answer)))).replace(" .", ".").replace(" ,", ",")


@pytest.fixture
def layla(shop: Shop) -> FlaskClient:
    """Layla's browser, in English."""
    client = shop.cast.sign_in(shop.cast.layla)
    client.get("/billing?lang=en")
    return client


Send = Callable[..., TestResponse]


@pytest.fixture
def send(layla: FlaskClient) -> Send:
    """`send("/billing/checkout", item="pro", method="kn")`: a form of hers, with its token."""

    def post(path: str, **form: str) -> TestResponse:
        token = CSRF.search(layla.get("/billing").get_data(as_text=True))
        assert token is not None
        return layla.post(path, data={"csrf_token": token[1], **form})

    return post
