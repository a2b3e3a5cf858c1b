"""Who waited in line is looked at again before the request leaves: in two minutes a customer may change their mind."""

import sqlalchemy as sa

from portal.extensions import db
from portal.freshness import changing
from portal.models import Account, LanguageModel, ModelOffer, Provider
from portal.services import api_keys, ledger
from portal.services.routing.line import Line
from sandbox.process import SandboxProcess
from tests.gateway.conftest import QUICK
from tests.gateway.wire import CHAT, Answer, Plain, chat, eventually
from tests.ledger.books import Threads
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp


def in_line(line: Line, count: int) -> None:
    places = line._places
    eventually(lambda: sum(p.asked and not p.server for p in list(places.values())) == count, what=f"{count} in line")


def test_a_key_deleted_while_its_request_waits_opens_nothing(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess
) -> None:
    """KEY-03: nothing leaves for a server in the name of a key that is gone; nothing is charged."""
    app = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, **QUICK)
    layla = Cast(app).layla
    with app.app_context():
        key = api_keys.create(layla.account_id, layla.user_id, label="short-lived", scopes=("read", "write"))
    sandbox.control(hold_after=0)
    first = Threads(lambda: Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat()))
    eventually(lambda: len(sandbox.chats()) == 1, what="the first at the server")
    second = Threads(lambda: Plain(app).ask("POST", CHAT, key=key.secret, body=chat()))
    in_line(app.extensions["chat_door"].process().line, 1)
    with app.app_context():
        api_keys.delete(layla.account_id, key.row.id)
    sandbox.release()
    [answered], [refused] = first.wait(20), second.wait(20)
    assert isinstance(answered, Answer)
    assert isinstance(refused, Answer)
    assert answered.status == 200
    assert (refused.status, refused.error()["code"]) == (401, "key_revoked")
    assert len(sandbox.chats()) == 1
    with app.app_context():
        assert ledger.check() == []


def test_a_server_switched_off_while_a_request_waits_for_it_is_not_asked(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess
) -> None:
    """GW-01: disabled at once on every worker, for those in line too."""
    app = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, **QUICK)
    layla = Cast(app).layla
    sandbox.control(hold_after=0)
    first = Threads(lambda: Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat()))
    eventually(lambda: len(sandbox.chats()) == 1, what="the first at the server")
    second = Threads(lambda: Plain(app).ask("POST", CHAT, key=layla.api_key, body=chat()))
    in_line(app.extensions["chat_door"].process().line, 1)
    with app.app_context(), changing("catalog"):
        # Another server offers the model from now on, so that the model itself stays; it is nowhere to be reached.
        elsewhere = Provider(name="elsewhere", url="http://127.0.0.1:9", slots=1)
        db.session.add(elsewhere)
        db.session.flush()
        model = db.session.scalars(sa.select(LanguageModel.id).where(LanguageModel.name == "llama3.2:3b")).one()
        db.session.add(ModelOffer(provider_id=elsewhere.id, model_id=model, upstream_name="llama3.2:3b"))
        db.session.execute(sa.update(Provider).where(Provider.name == "ollama-1").values(enabled=False))
        db.session.commit()
    sandbox.release()
    [answered], [refused] = first.wait(20), second.wait(20)
    assert isinstance(answered, Answer)
    assert isinstance(refused, Answer)
    assert answered.status == 200
    assert (refused.status, refused.error()["code"]) == (503, "no_provider")
    assert len(sandbox.chats()) == 1
    assert not app.extensions["chat_door"].process().line._places


def test_a_request_that_waits_for_the_twin_comes_home_when_its_owner_says_so(
    sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess
) -> None:
    """Issue B, 3: the customer's own "local only" switch; the price is then the local one."""
    app = make_app(
        sqlite_url, OLLAMA_URL=sandbox.ollama_url, OLLAMA_CLOUD_URL=sandbox.cloud_url, OLLAMA_CLOUD_API_KEY="sandbox",
        QUEUE_LIMIT=0, **QUICK,
    )  # fmt: skip
    layla = Cast(app).layla
    with app.app_context(), changing("catalog", f"account:{layla.account_id}"):
        db.session.execute(sa.update(Provider).where(Provider.name == "ollama-cloud").values(slots=1))
        db.session.execute(sa.update(Account).where(Account.id == layla.account_id).values(plan_id="enterprise"))
        db.session.commit()
    sandbox.control(hold_after=0)
    sandbox.control(hold_after=0, server="ollama-cloud")
    body = chat(model="gpt-oss:20b")
    asked = []
    for waiting in (0, 0, 1):  # at home, at the twin, in line for the twin
        asked.append(Threads(lambda: Plain(app).ask("POST", CHAT, key=layla.api_key, body=body)))
        line = app.extensions["chat_door"].process().line
        eventually(lambda: len(line._places) == len(asked), what="the next request")  # noqa: B023  (called at once)
        in_line(line, waiting)
    with app.app_context(), changing(f"account:{layla.account_id}"):
        db.session.execute(sa.update(Account).where(Account.id == layla.account_id).values(local_only=True))
        db.session.commit()
    sandbox.release(server="ollama-cloud")
    [twin] = asked[1].wait(20)
    sandbox.release()
    [home] = asked[0].wait(20)
    eventually(lambda: len(sandbox.chats()) == 2, what="the third at our own server")
    sandbox.release()
    [third] = asked[2].wait(20)
    for answer in (home, twin, third):
        assert isinstance(answer, Answer)
        assert answer.status == 200
    assert isinstance(third, Answer)
    assert third.headers["x-portal-provider"] == "local"
    assert (len(sandbox.chats()), len(sandbox.chats(server="ollama-cloud"))) == (2, 1)
    with app.app_context():
        assert ledger.check() == []
