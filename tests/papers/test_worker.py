"""A PDF in a real gunicorn worker: made beside its hub, so that whoever else is served there goes on being served."""

import threading
import time

import requests

from portal import clock
from portal.services.papers.months import Month
from tests.papers.past import Story, buy, write
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import CSRF, MakeApp
from tests.services.web import StartWeb


def test_a_long_statement_holds_up_nobody(make_app: MakeApp, sqlite_url: str, start_web: StartWeb) -> None:
    """SUB-21: two thousand postings are a second of computing; meanwhile the one worker answers others all the time."""
    app = make_app(sqlite_url)
    layla, now = Cast(app).layla, clock.utcnow()
    receipt = buy(app, layla.account_id)
    story: Story = [(now, "usage", -100) for _ in range(1_900)]
    write(app, layla.account_id, story)
    web = start_web(sqlite_url)
    browser = requests.Session()
    form = CSRF.search(browser.get(web.url + "/login").text)
    assert form is not None
    browser.post(web.url + "/login", {"csrf_token": form[1], "email": layla.email, "password": PASSWORD})
    paper = browser.get(f"{web.url}/billing/payments/{receipt.payment_id}/receipt.pdf")  # loads libraries and fonts
    assert (paper.status_code, paper.headers["Content-Type"]) == (200, "application/pdf")
    took: dict[str, float] = {}
    statement = threading.Thread(
        target=_fetch, args=(browser, f"{web.url}/billing/statement/{Month.of(now)}.pdf", took)
    )
    statement.start()
    waited = []
    while statement.is_alive():
        begun = time.monotonic()
        assert requests.get(web.url + "/healthz", timeout=10).status_code == 200
        waited.append(time.monotonic() - begun)
        time.sleep(0.01)
    statement.join()
    assert len(waited) > 10, f"on the hub it would be one or two who wait to its end: {waited}, {took}"
    assert web.errors() == []


def _fetch(browser: requests.Session, url: str, took: dict[str, float]) -> None:
    begun = time.monotonic()
    answer = browser.get(url)
    took["seconds"] = time.monotonic() - begun
    assert answer.content.startswith(b"%PDF")
