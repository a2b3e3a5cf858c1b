"""The portal in this process: `app` on SQLite, `make_app` on any database, test clients.

pytest-flask's own `client` and `live_server` serve where they fit, but for its open request context: with it, `g` and
so the signed-in person leaked from one request of a test into the next.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from tests.services.environment import portal_environment

MakeApp = Callable[..., Flask]
CSRF = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


@pytest.fixture(autouse=True)
def _push_request_context() -> None:
    """Instead of pytest-flask's fixture of this name: no context is open but the one a test opens."""


@pytest.fixture
def make_app(tmp_path: Path, redis_url: str) -> Iterator[MakeApp]:
    """`make_app(database_url, **settings)` gives a portal; settings are the contract's variables by their own names."""
    made: list[Flask] = []

    def make(database_url: str, **settings: str | int) -> Flask:
        instance = tmp_path / "app"
        instance.mkdir(exist_ok=True)
        environ = portal_environment(instance, **{"REDIS_URL": redis_url, "DATABASE_URL": database_url, **settings})
        app = create_app(load_settings(environ))
        made.append(app)
        return app

    yield make
    for app in made:
        close(app)


def close(app: Flask) -> None:
    """End a portal of this process in good order: the gateway writes its farewell while the database is still open."""
    app.extensions["chat_door"].stop()
    app.extensions["store"].close()
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


@pytest.fixture
def app(sqlite_url: str, make_app: MakeApp, sandbox: object) -> Flask:
    """A portal on SQLite, with the scripted sandbox as its Ollama."""
    return make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url)  # type: ignore[attr-defined]


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser of nobody's."""
    return app.test_client()


def csrf_token(client: FlaskClient, page: str) -> str:
    """The form token that the page carries for this browser."""
    text = client.get(page).get_data(as_text=True)
    found = CSRF.search(text)
    assert found is not None, f"{page} carries no csrf_token"
    return found.group(1)
