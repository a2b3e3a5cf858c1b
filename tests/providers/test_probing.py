"""What a probe finds is what is on offer; what it can't find out changes nothing."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import store
from portal.clock import utcnow
from portal.extensions import db
from portal.freshness import PREFIX
from portal.models import Event, LanguageModel, ModelOffer, Provider
from portal.providers.llm import ollama
from portal.services import probing, provider_health, providers
from portal.services.catalog import Catalog, Reader, bare
from portal.services.catalog_rows import read_catalog
from portal.services.probing import Report
from portal.tasks import routing, schedule
from sandbox.process import SandboxProcess
from tests.providers.saying import answer, saying
from tests.sandbox.client import ask
from tests.services.environment import NOWHERE
from tests.services.portal_app import MakeApp

MODEL = "llama3.2:3b"
CLOUD = "ollama-cloud"


@pytest.fixture
def shop(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess) -> Flask:
    """The seeded catalogue, our own server and the cloud, none of them asked yet."""
    return portal(make_app, sqlite_url, sandbox)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second question does not wait."""
    monkeypatch.setattr(probing, "AGAIN_SECONDS", 0.01)


def portal(make_app: MakeApp, url: str, sandbox: SandboxProcess, **settings: str) -> Flask:
    cloud = {"OLLAMA_CLOUD_URL": sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": "sandbox"}
    return make_app(url, **{"OLLAMA_URL": sandbox.ollama_url, **cloud, **settings})


def probe(shop: Flask, name: str | None = None) -> dict[str, Report]:
    with shop.app_context():
        return {report.name: report for report in probing.probe(shop.config["PORTAL"], name)}


def provider(shop: Flask, name: str = "ollama-1") -> Provider:
    with shop.app_context():
        return db.session.scalars(sa.select(Provider).where(Provider.name == name)).one()


def offer(shop: Flask, model: str = MODEL, name: str = "ollama-1") -> ModelOffer:
    with shop.app_context():
        return db.session.scalars(
            sa.select(ModelOffer).join(Provider).join(LanguageModel)
            .where(Provider.name == name, LanguageModel.name == model)
        ).one()  # fmt: skip


def change(shop: Flask, name: str = "ollama-1", **values: Any) -> None:
    with shop.app_context():
        db.session.execute(sa.update(Provider).where(Provider.name == name).values(**values))
        db.session.commit()


def catalog(shop: Flask) -> Catalog:
    with shop.app_context():
        return read_catalog(shop.config["PORTAL"])


def names(shop: Flask) -> set[str]:
    return {model.name for model in catalog(shop).listing(Reader())}


def happened(shop: Flask) -> list[Event]:
    with shop.app_context():
        return list(db.session.scalars(sa.select(Event).order_by(Event.id)))


def told(event: Event) -> tuple[str, str, str]:
    return event.kind, event.facts["provider"], event.facts["reason"]


def fresh(shop: Flask) -> Any:
    """The catalogue's freshness token: another one is what makes workers read the rows again."""
    with shop.app_context():
        return store.client().get(PREFIX + "catalog")


def test_a_probe_finds_version_models_abilities_and_contexts(
    make_app: MakeApp, database_url: str, sandbox: SandboxProcess
) -> None:
    """GW-01, on every database: at our own server and in the cloud, each by its own names."""
    shop = portal(make_app, database_url, sandbox)
    found = probe(shop)
    assert {name: (r.state, r.version, r.absent, r.changed) for name, r in found.items()} == {
        "ollama-1": ("up", "0.33.0", (), True), CLOUD: ("up", "0.33.0", (), True),
    }  # fmt: skip
    assert found[CLOUD].present == ("deepseek-v3.2:cloud", "gpt-oss:20b", "qwen3.5:cloud")
    row = provider(shop)
    assert (row.state, row.state_reason, row.version) == ("up", "", "0.33.0")
    assert row.state_since is not None
    assert row.probed_at is not None
    there = offer(shop, "Qwen3-VL-32B")  # the server calls it Qwen3-VL-32B:latest
    assert (there.present, there.capabilities) == (True, "completion thinking tools vision")
    assert there.context_tokens == 262_144
    there = offer(shop, "qwen3.5:cloud", CLOUD)
    assert (there.upstream_name, there.present, there.context_tokens) == ("qwen3.5", True, 262_144)
    assert there.capabilities == "completion thinking tools vision"


def test_a_model_that_is_not_there_is_not_offered_and_one_that_comes_back_is(
    shop: Flask, sandbox: SandboxProcess
) -> None:
    """GW-01, MODEL-01: nobody is sent where there is nothing, and nobody has to switch it on again."""
    sandbox.control(pulled=["smollm2:135m", "GPT-OSS:20B"])
    report = probe(shop)["ollama-1"]
    assert report.present == ("gpt-oss:20b", "smollm2:135m")
    assert MODEL in report.absent
    assert names(shop) == {"smollm2:135m", "gpt-oss:20b", "qwen3.5:cloud", "deepseek-v3.2:cloud"}
    sandbox.control(pulled=None)
    assert MODEL in probe(shop)["ollama-1"].present
    assert MODEL in names(shop)


def test_abilities_are_stored_as_found_and_go_before_the_models_own_row(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: our row says tools; the server, that it sees and thinks. Words that are not Ollama's tell nothing."""
    sandbox.control(MODEL, capabilities=["vision", "thinking", "completion", "telepathy"])
    probe(shop)
    assert offer(shop).capabilities == "completion thinking vision"
    (found,) = (model for model in catalog(shop).models if model.name == MODEL)
    assert found.capabilities == {"completion", "thinking", "vision"}


def test_the_context_is_what_the_server_works_with_or_will(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: trained, set and loaded are three numbers; a prompt longer than the last is cut in silence."""
    assert probe(shop)["ollama-1"].changed
    assert offer(shop).context_tokens == 131_072
    sandbox.control(MODEL, modelfile_num_ctx=20_000)
    probe(shop)
    assert offer(shop).context_tokens == 20_000
    sandbox.control(MODEL, num_ctx=7000)
    load(sandbox)
    probe(shop)
    assert offer(shop).context_tokens == 7000
    (found,) = (model for model in catalog(shop).models if model.name == MODEL)
    assert found.context_tokens == 7000


def test_a_model_that_leaves_memory_does_not_seem_to_read_more(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: the window that was seen at work counts until another is seen."""
    load(sandbox)
    probe(shop)
    assert offer(shop).context_tokens == 4096
    unload(sandbox)
    assert not probe(shop)["ollama-1"].changed
    assert offer(shop).context_tokens == 4096
    sandbox.control(MODEL, num_ctx=9000)
    load(sandbox)
    probe(shop)
    assert offer(shop).context_tokens == 9000


@pytest.mark.parametrize(("down", "reason"), [
    ("500", "it answers with status 500"), ("reset", "it can't be reached"), ("502_html", "it answers with status 502"),
    ("401_native", "it refuses our key (status 401)"),
])  # fmt: skip
def test_a_probe_that_fails_changes_no_offer(shop: Flask, sandbox: SandboxProcess, down: str, reason: str) -> None:
    """GW-01: a server that is restarted does not empty the shop; what rests it is the breaker's business."""
    probe(shop)
    before, since, seen = names(shop), provider(shop).state_since, fresh(shop)
    sandbox.control(down=down)
    report = probe(shop)["ollama-1"]
    assert (report.state, report.reason, report.changed) == ("down", reason, False)
    row = provider(shop)
    assert (row.state, row.state_reason, row.version) == ("down", reason, "0.33.0")
    assert row.state_since != since
    assert [told(event) for event in happened(shop)] == [("provider_down", "ollama-1", reason)]
    assert names(shop) == before
    assert fresh(shop) == seen
    again = row.state_since
    probe(shop)
    assert provider(shop).state_since == again, "since when it is so, not when it was last seen"
    sandbox.control(down=None)
    assert probe(shop)["ollama-1"].state == provider(shop).state == "up"
    assert provider(shop).state_reason == ""
    assert [event.kind for event in happened(shop)] == ["provider_down", "provider_up"]


def test_an_outage_is_told_of_once_whoever_saw_it_first(
    make_app: MakeApp, database_url: str, sandbox: SandboxProcess
) -> None:
    """NOTIF-11: the breaker rests it and the probe finds it down, or the other way round: one outage, one message. On
    every database."""
    shop = portal(make_app, database_url, sandbox)
    sandbox.control(down="500")
    with shop.app_context():
        assert provider_health.rested("ollama-1", "no answer", 5)
    since = provider(shop).state_since
    probe(shop, "ollama-1")
    row = provider(shop)
    assert (row.state, row.state_since) == ("down", since)
    with shop.app_context():
        assert not provider_health.rested("ollama-1", "no answer", 5)
    sandbox.control(down=None)
    probe(shop, "ollama-1")
    assert [event.kind for event in happened(shop)] == ["provider_down", "provider_up"]


def test_of_a_server_that_is_switched_off_nobody_is_told(shop: Flask, sandbox: SandboxProcess) -> None:
    """NOTIF-11: an operator who looks whether it is back already knows."""
    change(shop, enabled=False)
    sandbox.control(down="500")
    assert probe(shop, "ollama-1")["ollama-1"].state == "down"
    assert happened(shop) == []


def test_one_fault_makes_no_outage(shop: Flask) -> None:
    """NOTIF-11: nobody is woken because a server was being restarted for the length of a question."""
    with saying(answer(b"", "503 Busy")) as server:
        server.then = answer(b'{"models":[{"name":"llama3.2:3b"}]}')
        change(shop, url=server.url)
        assert probe(shop, "ollama-1")["ollama-1"].state == "up"
    assert happened(shop) == []


def test_workers_read_the_rows_again_only_when_something_changed(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: every minute for nothing would cost every worker six queries."""
    probe(shop)
    seen = fresh(shop)
    assert seen is not None
    assert not any(report.changed for report in probe(shop).values())
    assert fresh(shop) == seen
    sandbox.control(pulled=["smollm2:135m"])
    assert probe(shop)["ollama-1"].changed
    assert fresh(shop) not in (None, seen)


def test_without_a_key_nobody_is_asked_and_nothing_is_offered(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """CLOUD-01: a portal without a cloud account is no broken one."""
    shop = portal(make_app, sqlite_url, sandbox, OLLAMA_CLOUD_API_KEY="")
    report = probe(shop)[CLOUD]
    assert (report.state, report.reason) == ("unknown", "no key: OLLAMA_CLOUD_API_KEY is not set")
    assert provider(shop, CLOUD).state == "unknown"
    assert sandbox.requests(server=CLOUD) == []
    assert "qwen3.5:cloud" not in names(shop)


@pytest.mark.parametrize("open_lists", [False, True])
def test_a_key_that_the_cloud_refuses_is_told_also_where_its_list_is_open(
    shop: Flask, sandbox: SandboxProcess, open_lists: bool
) -> None:
    """CLOUD-01: the list of ollama.com is open to everybody; that says nothing of our key."""
    sandbox.control(server=CLOUD, key="another", open_lists=open_lists)
    report = probe(shop)[CLOUD]
    assert (report.state, report.reason) == ("down", "it refuses our key (status 401)")
    assert offer(shop, "gpt-oss:20b", CLOUD).present is None


def test_where_the_cloud_tells_no_abilities_the_models_own_row_counts(shop: Flask) -> None:
    """CLOUD-01: `/api/show`, `/api/version` and `/api/ps` may be missing there. The list is enough."""
    body = b'{"models":[{"name":"GPT-OSS:20b"},{"name":"qwen3.5:cloud"}]}'
    with saying(answer(body)) as server:
        change(shop, CLOUD, url=server.url)
        report = probe(shop, CLOUD)[CLOUD]
    assert (report.state, report.present) == ("up", ("gpt-oss:20b", "qwen3.5:cloud"))
    assert report.absent == ("deepseek-v3.2:cloud",)
    assert offer(shop, "gpt-oss:20b", CLOUD).capabilities is None
    assert "deepseek-v3.2:cloud" not in names(shop)


def test_a_stub_that_answers_from_the_cloud_is_no_model_of_our_own(shop: Flask) -> None:
    """CLOUD-02, an account that stays here: a signed-in Ollama would send the prompt out of the house."""
    body = b'{"models":[{"name":"llama3.2:3b","remote_host":"https://ollama.com:443"},{"name":"smollm2:135m"}]}'
    with saying(answer(body)) as server:
        change(shop, url=server.url)
        report = probe(shop, "ollama-1")["ollama-1"]
    assert report.present == ("smollm2:135m",)
    assert MODEL in report.absent


def test_a_server_of_openais_dialect_is_asked_in_it(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: vLLM and llama-server know no `/api`."""
    with saying(answer(b'{"data":[{"id":"meta/Llama-3.2-3B","max_model_len":16384}]}')) as server:
        with shop.app_context():
            providers.add("vllm", kind="openai-compatible", url=server.url, location="local")
            providers.offer("vllm", MODEL, "meta/llama-3.2-3b")
            providers.offer("vllm", "smollm2:135m")
        report = probe(shop, "vllm")["vllm"]
    assert (report.state, report.present, report.absent) == ("up", (MODEL,), ("smollm2:135m",))
    there = offer(shop, MODEL, "vllm")
    assert (there.present, there.capabilities, there.context_tokens) == (True, None, 16_384)
    assert sandbox.requests() == []


def test_only_enabled_providers_are_asked_unless_one_is_named(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: an operator looks before switching on."""
    change(shop, enabled=False)
    assert set(probe(shop)) == {CLOUD}
    assert probe(shop, "ollama-1")["ollama-1"].state == "up"
    assert sandbox.requests(path="/api/tags") != []
    assert probe(shop, "nobody") == {}


def test_models_that_are_there_and_not_offered_are_told(shop: Flask) -> None:
    """GW-01: but none that is open to nobody (MODEL-04), and none of the cloud's."""
    with shop.app_context():
        providers.withdraw("ollama-1", MODEL)
    report = probe(shop)["ollama-1"]
    assert report.besides == (MODEL,)


def test_what_an_operator_changes_while_it_is_asked_is_not_overwritten(shop: Flask) -> None:
    """GW-01: what comes is the answer of the old address, or of the old name."""
    body = b'{"models":[{"name":"llama3.2:3b"},{"name":"smollm2:135m"}]}'

    def rename() -> None:
        with shop.app_context():
            providers.offer("ollama-1", MODEL, "another:3b")

    with saying(answer(body), first=rename) as server:
        change(shop, url=server.url)
        assert probe(shop, "ollama-1")["ollama-1"].state == "up"
    assert offer(shop).present is None
    assert offer(shop, "smollm2:135m").present is True

    def move() -> None:
        with shop.app_context():
            providers.change("ollama-1", url=NOWHERE)

    with saying(answer(b'{"models":[]}'), first=move) as server:
        change(shop, url=server.url)
        assert not probe(shop, "ollama-1")["ollama-1"].changed
    assert provider(shop).state == "unknown"
    assert offer(shop, "smollm2:135m").present is None


@pytest.mark.parametrize(("state", "since", "after"), [
    ("resting", dt.timedelta(minutes=1), "resting"), ("resting", dt.timedelta(minutes=31), "up"),
    ("resting", None, "up"), ("down", dt.timedelta(minutes=1), "up"), ("unknown", None, "up"),
])  # fmt: skip
def test_a_server_that_rests_is_not_called_up_for_having_a_list(
    shop: Flask, state: str, since: dt.timedelta | None, after: str
) -> None:
    """The breaker rested it because requests failed there. Who rested it and died is not waited for for ever."""
    change(shop, state=state, state_reason="failing", state_since=None if since is None else utcnow() - since)
    probe(shop, "ollama-1")
    assert provider(shop).state == after
    assert provider(shop).state_reason == ("failing" if after == "resting" else "")


def test_a_dead_server_does_not_keep_the_others_waiting(shop: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """GW-01: all are asked at once, and who answers first is noted first."""
    monkeypatch.setattr(ollama, "READ_SECONDS", 1.0)
    with saying(b"", stay=True) as silent:
        with shop.app_context():
            for number in range(3):
                providers.add(f"silent-{number}", kind="ollama", url=silent.url)
            order = [report.name for report in probing.probe(shop.config["PORTAL"])]
    assert set(order[:2]) == {"ollama-1", CLOUD}
    assert len(order) == 5


def test_the_timetable_probes_every_minute(shop: Flask) -> None:
    """GW-01."""
    job = schedule.JOBS["probe providers"]
    assert (job.does, job.when) == (routing.probe_providers, schedule.Every(60))
    with shop.app_context():
        assert routing.probe_providers() == {"ollama-1": "up", CLOUD: "up"}


@pytest.mark.parametrize(("name", "here", "in_the_cloud"), [
    ("Llama3.2:3B", "llama3.2:3b", "llama3.2:3b"), ("bge-m3:latest", "bge-m3", "bge-m3"),
    ("registry.ollama.ai/library/bge-m3", "bge-m3", "bge-m3"), ("library/bge-m3:LATEST", "bge-m3", "bge-m3"),
    ("qwen3.5:cloud", "qwen3.5:cloud", "qwen3.5"), ("gpt-oss:20b-cloud", "gpt-oss:20b-cloud", "gpt-oss:20b"),
    ("in-the-cloud", "in-the-cloud", "in-the-cloud"), ("x:latest-cloud", "x:latest-cloud", "x"),
    ("someone/model:7b", "someone/model:7b", "someone/model:7b"),
])  # fmt: skip
def test_names_are_compared_without_what_says_nothing(name: str, here: str, in_the_cloud: str) -> None:
    """GW-01: `:cloud` and `-cloud` are marks there, and part of a name here."""
    assert bare(name) == here
    assert bare(name, cloud=True) == in_the_cloud


def load(sandbox: SandboxProcess) -> None:
    """Have the server load the model anew, as the knobs are now."""
    unload(sandbox)
    _native(sandbox, {"model": MODEL, "messages": []})


def unload(sandbox: SandboxProcess) -> None:
    _native(sandbox, {"model": MODEL, "messages": [], "keep_alive": 0})


def _native(sandbox: SandboxProcess, body: dict[str, Any]) -> None:
    assert ask(sandbox, body, "/api/chat").status == 200
