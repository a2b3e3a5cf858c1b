"""One served portal for the browser tests of a file: Layla's account, whose plan uses the cloud, is full of things,
Zaid's is empty."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page
from werkzeug.serving import make_server

from dev.ports import free_port
from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from portal.models import Account
from tests.pages.history import give_cloud_history, give_history, give_notifications
from tests.services.cast import PASSWORD, Cast, Person
from tests.services.databases import Engine
from tests.services.environment import portal_environment
from tests.services.redis_server import RedisServer

NewContext = Callable[..., BrowserContext]


@dataclass(frozen=True)
class Site:
    """A portal that a browser can reach, and the people in it."""

    url: str
    cast: Cast


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, sqlite_engine: Engine, _redis_server: RedisServer) -> Iterator[Site]:
    _redis_server.start()
    _redis_server.client.flushall()
    url = f"http://127.0.0.1:{free_port()}"
    database = sqlite_engine.fresh("seeded")
    settings = portal_environment(
        tmp_path_factory.mktemp("site"), DATABASE_URL=database, REDIS_URL=_redis_server.url, BASE_URL=url,
        OLLAMA_CLOUD_API_KEY="the-operators-own",
    )  # fmt: skip
    app = create_app(load_settings(settings))
    cast = Cast(app)
    give_history(app, cast.layla)
    give_cloud_history(app, cast.layla)
    give_notifications(app, cast.layla)
    with app.app_context():
        db.session.execute(sa.update(Account).where(Account.id == cast.layla.account_id).values(plan_id="pro"))
        db.session.commit()
    assert cast.zaid
    server = make_server("127.0.0.1", int(url.rpartition(":")[2]), app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Site(url, cast)
    server.shutdown()
    thread.join()
    server.server_close()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    app.extensions["store"].close()
    sqlite_engine.server.drop(database)


@pytest.fixture
def new_context(browser: Browser) -> Iterator[NewContext]:
    """`new_context(width=360, lang="en", …)` gives a browser window of somebody new."""
    opened: list[BrowserContext] = []

    def make(*, width: int = 1280, lang: str = "ar", site: Site | None = None, **options: Any) -> BrowserContext:
        options = {"color_scheme": "dark", "locale": "ar-KW", "timezone_id": "Asia/Kuwait"} | options
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        context.set_default_timeout(15_000)
        if site is not None:
            context.add_cookies([{"name": "lang", "value": lang, "url": site.url}])
        opened.append(context)
        return context

    yield make
    for context in opened:
        context.close()


def sign_in(page: Page, site: Site, person: Person) -> None:
    """Through the form, as people do."""
    page.goto(site.url + "/login")
    page.fill("[name=email]", person.email)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url("**/dashboard")
