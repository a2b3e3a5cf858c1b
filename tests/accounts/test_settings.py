"""The switch that keeps an account on our own servers: who may turn it, what it says, and that it holds at once."""

import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal import store
from portal.clock import utcnow
from portal.errors import AccessDenied
from portal.extensions import db
from portal.models import Account, LanguageModel, Membership, ModelOffer, Plan, Price
from portal.services import account_settings
from sandbox.process import SandboxProcess
from tests.pages.reading import Page
from tests.services.cast import Cast, Person
from tests.services.portal_app import MakeApp, csrf_token

CLOUD = {"OLLAMA_CLOUD_API_KEY": "sandbox"}
TWIN = "gpt-oss:20b"
"""At home on our servers, and in the cloud as well."""


@pytest.fixture
def cloudy(sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess) -> Flask:
    """A portal whose operator has a cloud account."""
    return make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, OLLAMA_CLOUD_URL=sandbox.cloud_url, **CLOUD)


def _text(client: FlaskClient, path: str = "/settings") -> str:
    address = f"{path}{'&' if '?' in path else '?'}lang=en"
    html = client.get(address).get_data(as_text=True).partition("<main")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


def _turn(client: FlaskClient, on: bool) -> TestResponse:
    form = {"csrf_token": csrf_token(client, "/settings"), "local_only_shown": "1"}
    return client.post("/settings", data=form | ({"local_only": "on"} if on else {}))


def _change(app: Flask, statement: sa.Executable) -> None:
    with app.app_context():
        db.session.execute(statement)
        db.session.commit()


def _on_plan(app: Flask, person: Person, plan: str) -> None:
    _change(app, sa.update(Account).where(Account.id == person.account_id).values(plan_id=plan))


def _local_only(app: Flask, person: Person) -> bool | None:
    with app.app_context():
        return db.session.scalar(sa.select(Account.local_only).where(Account.id == person.account_id))


def _is_ticked(client: FlaskClient) -> bool:
    found = re.search(r'<input type="checkbox" role="switch"[^>]*>', client.get("/settings").get_data(as_text=True))
    assert found is not None
    return " checked" in found[0]


def test_the_switch_is_turned_by_a_plain_form(app: Flask, cast: Cast) -> None:
    """AUTH-05, QUEUE-02: on and off again, and the page says which."""
    client = cast.sign_in(cast.layla)
    assert not _is_ticked(client)
    for on, words in ((True, "nothing of this account leaves"), (False, "is not kept from the cloud any more")):
        answer = _turn(client, on)
        assert answer.status_code == 302
        assert words in _text(client, answer.location)
        assert _is_ticked(client) is on
        assert _local_only(app, cast.layla) is on
        assert "Saved" not in _text(client), "said once, not of every later visit"


def test_it_is_ones_own_account_alone(app: Flask, cast: Cast) -> None:
    """QUEUE-02: Zaid's switch is Zaid's."""
    _turn(cast.sign_in(cast.zaid), True)
    assert _local_only(app, cast.zaid) is True
    assert _local_only(app, cast.layla) is False


def test_a_member_may_not_turn_it_an_admin_may(app: Flask, cast: Cast) -> None:
    """QUEUE-02, TEAM-02: Omar, on Layla's team; Zaid, on nobody's."""
    layla, omar, zaid = cast.layla, cast.omar, cast.zaid
    with app.app_context():
        for person in (omar, zaid):
            with pytest.raises(AccessDenied):
                account_settings.set_local_only(layla.account_id, person.user_id, True)
    assert _local_only(app, layla) is False
    _change(app, sa.update(Membership).where(Membership.user_id == omar.user_id).values(role="admin"))
    with app.app_context():
        account_settings.set_local_only(layla.account_id, omar.user_id, True)
    assert _local_only(app, layla) is True


def test_who_may_not_turn_it_sees_how_it_stands(app: Flask, cast: Cast) -> None:
    """QUEUE-02: no form that is refused when it is sent; and one that is sent all the same changes nothing."""
    client = cast.sign_in(cast.layla)
    token = csrf_token(client, "/settings")
    _change(app, sa.update(Membership).where(Membership.user_id == cast.layla.user_id).values(role="member"))
    page = client.get("/settings?lang=en").get_data(as_text=True)
    assert 'name="local_only"' not in page
    assert "Only the owner and the admins" in page
    refused = client.post("/settings", data={"csrf_token": token, "local_only": "on"})
    assert refused.status_code == 403
    assert _local_only(app, cast.layla) is False


def test_a_form_of_somebody_elses_changes_nothing(app: Flask, cast: Cast) -> None:
    """OPS-03: without its token; and without the switch, which an unticked box would look like."""
    client = cast.sign_in(cast.layla)
    _turn(client, True)
    assert client.post("/settings", data={"local_only_shown": "1"}).status_code == 400
    other = {"csrf_token": csrf_token(client, "/settings"), "name": "Layla"}
    assert client.post("/settings", data=other).status_code == 400
    assert _local_only(app, cast.layla) is True


def test_the_change_is_marked_for_all_workers(app: Flask, cast: Cast) -> None:
    """QUEUE-02: that mark is what makes it hold for the very next request."""
    client = cast.sign_in(cast.layla)
    _turn(client, True)
    with app.app_context():
        first = store.client().get(f"fresh:account:{cast.layla.account_id}")
    _turn(client, False)
    with app.app_context():
        second = store.client().get(f"fresh:account:{cast.layla.account_id}")
    assert first is not None
    assert second not in (None, first)
    assert not str(second).startswith("b'?"), "the change is committed: what is read now may be remembered"


def test_it_holds_for_the_very_next_request_on_every_worker(
    cloudy: Flask, sqlite_url: str, make_app: MakeApp, sandbox: SandboxProcess
) -> None:
    """QUEUE-02, MODEL-02: cloud models are hidden and refused, by workers that had served them a moment ago."""
    other = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, OLLAMA_CLOUD_URL=sandbox.cloud_url, **CLOUD)
    cast = Cast(cloudy)
    _on_plan(cloudy, cast.layla, "pro")
    client = cast.sign_in(cast.layla)
    ask = {"model": "qwen3.5:cloud", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}

    def answers(app: Flask) -> tuple[int, str, bool, int]:
        api = app.test_client()
        chat = api.post("/v1/chat/completions", json=ask, headers=cast.layla.bearer)
        code = str(chat.get_json().get("error", {}).get("code", ""))
        listed = api.get("/v1/models", headers=cast.layla.bearer).get_json()["data"]
        one = api.get("/v1/models/qwen3.5:cloud", headers=cast.layla.bearer)
        return chat.status_code, code, any(model["location"] == "cloud" for model in listed), one.status_code

    for app in (cloudy, other):
        assert answers(app) == (200, "", True, 200)
    _turn(client, True)
    for app in (other, cloudy):
        assert answers(app) == (403, "cloud_not_allowed", False, 403)
    _turn(client, False)
    for app in (cloudy, other):
        assert answers(app) == (200, "", True, 200)


def _priced(app: Flask, provider: str, prompt: int, answer: int) -> None:
    """The twin costs this from now on: at a provider, or at home where none is named."""
    with app.app_context():
        model_id = db.session.scalars(sa.select(LanguageModel.id).where(LanguageModel.name == TWIN)).one()
        db.session.add(
            Price(model_id=model_id, provider=provider, rate_in=prompt, rate_out=answer, valid_from=utcnow())
        )
        db.session.commit()


@pytest.mark.parametrize(
    ("prompt", "answer", "sentence", "row"),
    [
        (2_000_000, 2_000_000, "The cloud price is 2× our own.", "1,000 credits 2,000 credits 2×"),
        (3_500_000, 3_500_000, "The cloud price is 3.5× our own.", "1,000 credits 3,500 credits 3.5×"),
        (
            1_250_000, 4_000_000, "The cloud price is 1.25× – 4× our own.",
            "1,000 credits prompt: 1,250 creditsanswer: 4,000 credits 1.25× – 4×",
        ),
    ],
)  # fmt: skip
def test_the_cloud_price_is_told_from_the_rows(
    cloudy: Flask, prompt: int, answer: int, sentence: str, row: str
) -> None:
    """QUEUE-02, SUB-01: another price row, another page; no factor is written in a template or a translation."""
    cast = Cast(cloudy)
    _on_plan(cloudy, cast.layla, "pro")
    client = cast.sign_in(cast.layla)
    _priced(cloudy, "ollama-cloud", prompt, answer)
    text = _text(client)
    assert sentence in text
    assert f"{TWIN} {row}" in text
    assert "run in the cloud alone: deepseek-v3.2:cloud, qwen3.5:cloud" in text


def test_a_free_model_has_no_factor(cloudy: Flask) -> None:
    """QUEUE-02: a multiple of nothing is no number."""
    cast = Cast(cloudy)
    _on_plan(cloudy, cast.layla, "pro")
    _priced(cloudy, "", 0, 0)
    text = _text(cast.sign_in(cast.layla))
    assert "×" not in text
    assert f"{TWIN} 0 credits 2,000 credits –" in text


def test_with_the_switch_on_the_page_speaks_of_what_would_be(cloudy: Flask) -> None:
    """QUEUE-02: it does not announce a move that can't happen."""
    cast = Cast(cloudy)
    _on_plan(cloudy, cast.layla, "pro")
    client = cast.sign_in(cast.layla)
    _turn(client, True)
    text = _text(client)
    assert "Your requests stay on our own servers and wait in line" in text
    assert "hidden and refused now: deepseek-v3.2:cloud" in text


def test_a_plan_without_failover_says_so(cloudy: Flask) -> None:
    """QUEUE-02: Plan.failover is a row; the page tells the truth of it."""
    cast = Cast(cloudy)
    client = cast.sign_in(cast.layla)
    _on_plan(cloudy, cast.layla, "pro")
    _change(cloudy, sa.update(Plan).where(Plan.id == "pro").values(failover=False, name_en="Starter"))
    text = _text(client)
    assert "With your plan, Starter, requests never move to the cloud by themselves" in text
    assert "cloud price" not in text
    assert "this counts once another plan allows it" in _text(client, "/keys")


def test_without_a_twin_nothing_is_announced(cloudy: Flask) -> None:
    """QUEUE-02: no offer in the cloud, no promise of one."""
    cast = Cast(cloudy)
    _on_plan(cloudy, cast.layla, "pro")
    model = sa.select(LanguageModel.id).where(LanguageModel.name == TWIN).scalar_subquery()
    _change(cloudy, sa.delete(ModelOffer).where(ModelOffer.model_id == model))
    text = _text(cast.sign_in(cast.layla))
    assert "no model of your plan can be had in the cloud as well" in text
    assert "cloud price" not in text


def test_every_face_of_the_page_speaks_arabic(cloudy: Flask) -> None:
    """Never again "170 missing Arabic strings": with and without twin, failover, switch, and the right to turn it."""
    cast = Cast(cloudy)
    client = cast.sign_in(cast.layla)
    faces = set()

    def read() -> None:
        page = Page(client.get("/settings?lang=ar&saved=where").get_data(as_text=True))
        assert set(re.findall("[A-Za-z]{2,}", page.text)) <= {"LLM", "Portal", "API"}, page.text
        faces.add(page.text)

    read()
    _on_plan(cloudy, cast.layla, "pro")
    read()
    _priced(cloudy, "ollama-cloud", 1_500_000, 3_000_000)
    read()
    _turn(client, True)
    read()
    _change(cloudy, sa.update(Membership).where(Membership.user_id == cast.layla.user_id).values(role="member"))
    read()
    _change(cloudy, sa.delete(ModelOffer))
    read()
    assert len(faces) == 6
