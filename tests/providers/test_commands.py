"""`flask providers`, `flask prices`, `flask setting`: what is typed is in force at once, and what is wrong is said."""

import datetime as dt

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask

from portal.clock import KUWAIT, utcnow
from portal.extensions import db
from portal.models import LanguageModel, ModelOffer, Price, Provider, Setting
from portal.services import budget, probing
from portal.services.catalog import CatalogModel, Reader
from portal.services.catalog_rows import read_catalog
from sandbox.process import SandboxProcess
from tests.gateway.wire import Hub, chat
from tests.races.street import Street
from tests.services.environment import NOWHERE
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb

KEY = "a-key-that-no-row-and-no-screen-may-show"


@pytest.fixture
def shop(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr(probing, "AGAIN_SECONDS", 0.01)
    sandbox.control(server="ollama-cloud", key=KEY)
    cloud = {"OLLAMA_CLOUD_URL": sandbox.cloud_url, "OLLAMA_CLOUD_API_KEY": KEY}
    return make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url, **cloud)


@pytest.fixture
def street(make_app: MakeApp, start_web: StartWeb, sqlite_url: str, sandbox: SandboxProcess) -> Street:
    """A portal that sells through gunicorns of its own."""
    return Street(make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url), sqlite_url, start_web, sandbox)


def run(shop: Flask, *words: str) -> Result:
    result = shop.test_cli_runner().invoke(args=words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def said(shop: Flask, *words: str) -> str:
    """What a command says that goes well."""
    result = run(shop, *words)
    assert result.exit_code == 0, result.output
    return result.output


def refused(shop: Flask, *words: str) -> str:
    """What a command says that is refused; nothing may have changed."""
    before = rows(shop)
    result = run(shop, *words)
    assert result.exit_code != 0, result.output
    assert rows(shop) == before
    return result.output


def rows(shop: Flask) -> list[list[tuple[object, ...]]]:
    with shop.app_context():
        tables = (Provider, ModelOffer, Price, Setting)
        return [
            [
                tuple(row)
                for row in db.session.execute(sa.select(t.__table__).order_by("id" if t is not Setting else "name"))
            ]
            for t in tables
        ]


def models(shop: Flask) -> dict[str, CatalogModel]:
    with shop.app_context():
        return {model.name: model for model in read_catalog(shop.config["PORTAL"]).listing(Reader())}


def places(shop: Flask, model: str) -> dict[str, str]:
    """Where a model is offered now, and by what name."""
    found = models(shop).get(model)
    return {} if found is None else {offer.provider: offer.upstream_name for offer in found.offers}


# --- providers ------------------------------------------------------------------------------------------------------


def test_the_list_tells_all_but_the_key(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: name, kind, location, address, slots, weight, state with its reason, key, models there and not there."""
    sandbox.control(pulled=["llama3.2:3b"])
    sandbox.control(server="ollama-cloud", down="500")
    before = said(shop, "providers", "list")
    assert "enabled, unknown (never asked)" in before
    assert "not asked yet: Qwen3-VL-32B, " in before
    run(shop, "providers", "probe")
    told = said(shop, "providers", "list")
    ours, cloud, spent = told.split("\n\n")
    assert f"ollama-1  (ollama, local)  {sandbox.ollama_url}" in ours
    assert "enabled, up since " in ours
    assert "version 0.33.0" in ours
    assert "1 slot, weight 1, needs no key" in ours
    assert "  there: llama3.2:3b\n  NOT THERE: Qwen3-VL-32B, " in ours
    assert "down since " in cloud
    assert ": it answers with status 500" in cloud
    assert "3 slots, weight 1, key in OLLAMA_CLOUD_API_KEY, set" in cloud
    assert "qwen3.5:cloud as qwen3.5" in cloud
    assert spent.strip() == "Cloud requests today: 0 of 500"
    assert KEY not in told + before


def test_the_list_tells_how_much_of_the_clouds_day_is_used(shop: Flask, make_app: MakeApp, sqlite_url: str) -> None:
    """CLOUD-01, CLOUD-02: counted, and off when the day's requests are used."""
    with shop.app_context():
        assert budget.take(500) is not None
    assert "Cloud requests today: 1 of 500\n" in said(shop, "providers", "list")
    small = make_app(sqlite_url, CLOUD_DAILY_LIMIT=1)
    assert "Cloud requests today: 1 of 1: off until midnight, Kuwait time" in said(small, "providers", "list")


def test_a_missing_key_and_a_missing_price_are_told(make_app: MakeApp, sqlite_url: str) -> None:
    """GW-01: the two reasons why an offer is none, which no other page would tell."""
    shop = make_app(sqlite_url, OLLAMA_URL="http://somebody:a-password@127.0.0.1:9")
    said(shop, "providers", "offer", "ollama-cloud", "llama3.2:3b")
    told = said(shop, "providers", "list")
    assert "key in OLLAMA_CLOUD_API_KEY, MISSING: nothing of it is offered" in told
    assert "llama3.2:3b UNPRICED" in told
    assert "a-password" not in told


def test_a_probe_tells_how_it_went_and_fails_when_somebody_is_away(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: exit code 1 when one can't be reached, for scripts."""
    sandbox.control(pulled=["llama3.2:3b"])
    told = said(shop, "providers", "probe")
    assert "ollama-1: up, version 0.33.0, 1 of 7 models there\n  not there: Qwen3-VL-32B, gpt-oss:20b" in told
    assert "ollama-cloud: up, version 0.33.0, 3 of 3 models there" in told
    sandbox.control(server="ollama-cloud", down="reset")
    result = run(shop, "providers", "probe")
    assert result.exit_code == 1
    assert "ollama-cloud: DOWN, it can't be reached" in result.output
    assert said(shop, "providers", "probe", "ollama-1").startswith("ollama-1: up")
    assert "There is no provider nobody; there are ollama-1, ollama-cloud." in refused(
        shop, "providers", "probe", "nobody"
    )


def test_a_cloud_without_a_key_is_no_failure_unless_it_was_asked_for(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """GW-01: a portal without a cloud account is in order."""
    shop = make_app(sqlite_url, OLLAMA_URL=sandbox.ollama_url)
    assert "ollama-cloud: not asked, no key: OLLAMA_CLOUD_API_KEY is not set" in said(shop, "providers", "probe")
    assert run(shop, "providers", "probe", "ollama-cloud").exit_code == 1


def test_a_provider_is_switched_off_and_on(shop: Flask, make_app: MakeApp) -> None:
    """GW-01: and stays so after a restart, for it is a row."""
    assert places(shop, "llama3.2:3b") == {"ollama-1": "llama3.2:3b"}
    assert said(shop, "providers", "disable", "ollama-1") == "ollama-1 is disabled.\n"
    assert places(shop, "llama3.2:3b") == {}
    assert places(shop, "gpt-oss:20b") == {"ollama-cloud": "gpt-oss:20b"}
    again = make_app(shop.config["PORTAL"].database_url)
    assert places(again, "llama3.2:3b") == {}
    assert "DISABLED" in said(again, "providers", "list")
    assert said(shop, "providers", "enable", "ollama-1") == "ollama-1 is enabled.\n"
    assert places(shop, "llama3.2:3b") == {"ollama-1": "llama3.2:3b"}
    for verb in ("enable", "disable"):
        told = refused(shop, "providers", verb, "ollama-2")
        assert "There is no provider ollama-2; there are ollama-1, ollama-cloud." in told


def test_every_worker_obeys_at_once(street: Street) -> None:
    """GW-01: workers that remember the catalogue, asked right after the command."""
    _, key = street.customer(10_000_000)
    web = street.open_shop(workers=4)
    hub = Hub(web.url)

    def statuses() -> set[int]:
        return {hub.ask("POST", "/v1/chat/completions", key=key, body=chat(max_tokens=3)).status for _ in range(12)}

    assert statuses() == {200}
    said(street.app, "providers", "disable", "ollama-1")
    assert statuses() == {404}
    said(street.app, "providers", "enable", "ollama-1")
    assert statuses() == {200}
    said(street.app, "providers", "withdraw", "ollama-1", "llama3.2:3b")
    assert statuses() == {404}
    hub.close()
    assert street.faults() == []


def test_a_provider_is_added_and_told_what_it_serves(shop: Flask, sandbox: SandboxProcess) -> None:
    """GW-01: a mapping of names, never a name pasted together."""
    added = said(shop, "providers", "add", "gpu-2", "--url", sandbox.ollama_url + "/", "--slots", "4", "--weight", "2")
    assert "providers offer gpu-2 MODEL" in added
    assert "not offered: " in said(shop, "providers", "probe", "gpu-2")
    long_tag = "hf.co/mistralai/Mistral-Small-3.2-24B:Q4_K_M"
    told = said(shop, "providers", "offer", "gpu-2", "MISTRAL-small3.2:24b", "--as", long_tag)
    assert told == f"gpu-2 offers MISTRAL-small3.2:24b as {long_tag}.\n"
    assert places(shop, "mistral-small3.2:24b") == {"ollama-1": "mistral-small3.2:24b", "gpu-2": long_tag}
    (offer,) = (o for o in models(shop)["mistral-small3.2:24b"].offers if o.provider == "gpu-2")
    assert (offer.url, offer.slots, offer.weight, offer.location) == (sandbox.ollama_url, 4, 2, "local")
    said(shop, "providers", "offer", "gpu-2", "mistral-small3.2:24b")
    assert places(shop, "mistral-small3.2:24b")["gpu-2"] == "mistral-small3.2:24b"
    said(shop, "providers", "set", "gpu-2", "--slots", "1")
    said(shop, "providers", "withdraw", "gpu-2", "mistral-small3.2:24b")
    assert places(shop, "mistral-small3.2:24b") == {"ollama-1": "mistral-small3.2:24b"}
    assert "gpu-2 does not offer mistral-small3.2:24b." in refused(
        shop, "providers", "withdraw", "gpu-2", "mistral-small3.2:24b"
    )
    assert "There is no model nobody:1b; there are Qwen3-VL-32B, " in refused(
        shop, "providers", "offer", "gpu-2", "nobody:1b"
    )


def test_a_second_cloud_account_has_its_own_key(shop: Flask) -> None:
    """CLOUD-01: by name, from the environment, read when the process starts."""
    told = said(shop, "providers", "add", "cloud-2", "--kind", "ollama-cloud", "--key-variable", "SECOND_API_KEY")
    assert "Set SECOND_API_KEY in the environment of web and worker and restart them" in told
    with shop.app_context():
        row = db.session.scalars(sa.select(Provider).where(Provider.name == "cloud-2")).one()
        assert (row.location, row.url, row.key_variable) == ("cloud", "", "SECOND_API_KEY")
    told = said(shop, "providers", "offer", "cloud-2", "llama3.2:3b", "--as", "llama3.2:3b-cloud")
    assert "This is its cloud twin, priced by itself." in told
    assert "It has no price there yet" in told


def test_behind_another_address_nothing_is_known_any_more(shop: Flask) -> None:
    """GW-01: what was found was found at the old one."""
    said(shop, "providers", "probe")
    said(shop, "providers", "set", "ollama-1", "--weight", "3")
    with shop.app_context():
        row = db.session.scalars(sa.select(Provider).where(Provider.name == "ollama-1")).one()
        assert (row.state, row.version, row.weight) == ("up", "0.33.0", 3)
    said(shop, "providers", "set", "ollama-1", "--url", NOWHERE)
    with shop.app_context():
        row = db.session.scalars(sa.select(Provider).where(Provider.name == "ollama-1")).one()
        assert (row.url, row.state, row.version, row.probed_at) == (NOWHERE, "unknown", "", None)
        found = db.session.execute(
            sa.select(ModelOffer.present, ModelOffer.capabilities, ModelOffer.context_tokens)
            .where(ModelOffer.provider_id == row.id).distinct()
        ).all()  # fmt: skip
        assert [tuple(offer) for offer in found] == [(None, None, None)]
    said(shop, "providers", "set", "ollama-1", "--url", "")  # the environment's again


@pytest.mark.parametrize(("words", "why"), [
    (("add", "GPU", "--url", "http://x"), "small letters, digits and hyphens"),
    (("add", "g" * 61, "--url", "http://x"), "small letters, digits and hyphens"),
    (("add", "ollama-1", "--url", "http://x"), "There is a provider ollama-1 already"),
    (("add", "gpu"), "It needs an address"),
    (("add", "vllm", "--kind", "openai-compatible", "--url", "http://x"), "Say where it is"),
    (("add", "gpu", "--url", "ftp://x"), "http(s)://host"),
    (("add", "gpu", "--url", "http://"), "http(s)://host"),
    (("add", "gpu", "--url", "http://x:99999"), "http(s)://host"),
    (("add", "gpu", "--url", "http://x/?a=b"), "http(s)://host"),
    (("add", "gpu", "--url", "http://x y"), "http(s)://host"),
    (("add", "gpu", "--url", "http://a:secret-word@x"), "must hold no password"),
    (("add", "gpu", "--url", "http://x/v1"), "without it"),
    (("add", "gpu", "--url", "http://x", "--slots", "0"), "--slots"),
    (("add", "gpu", "--url", "http://x", "--weight", "1.5"), "--weight"),
    (("add", "gpu", "--url", "http://x", "--kind", "other"), "--kind"),
    (("add", "gpu", "--url", "http://x", "--location", "moon"), "--location"),
    (("add", "gpu", "--url", "http://x", "--key-variable", "SECRET_KEY"), "must look like SOMETHING_API_KEY"),
    (("add", "gpu", "--url", "http://x", "--key-variable", "MYFATOORAH_API_KEY"), "must look like SOMETHING_API_KEY"),
    (("add", "gpu", "--url", "http://x", "--key-variable", "my_api_key"), "must look like SOMETHING_API_KEY"),
    (("add", "gpu", "--kind", "ollama-cloud", "--location", "local"), "is in the cloud"),
    (("set", "ollama-1"), "Say what to change"),
    (("set", "ollama-2", "--slots", "2"), "There is no provider ollama-2"),
    (("set", "ollama-1", "--key-variable", "ADMIN_PASSWORD"), "must look like SOMETHING_API_KEY"),
    (("set", "ollama-cloud", "--location", "local"), "is in the cloud"),
    (("offer", "ollama-1", "llama3.2:3b", "--as", "bge-m3:567m"), "open to no plan"),
    (("offer", "ollama-1", "llama3.2:3b", "--as", "Library/GLM-4.7-Flash"), "open to no plan"),
    (("offer", "ollama-1", "llama3.2:3b", "--as", "x" * 201), "1 to 200"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")  # fmt: skip
def test_what_can_not_be_is_refused_and_told(shop: Flask, words: tuple[str, ...], why: str) -> None:
    """GW-01: nothing is written, and no password is repeated."""
    told = refused(shop, "providers", *words)
    assert why in told
    assert "secret-word" not in told


# --- prices ---------------------------------------------------------------------------------------------------------


def price(shop: Flask, model: str, provider: str, at: dt.datetime | None = None) -> tuple[int, int, int] | None:
    """What is asked for a model at a provider, at an instant."""
    (offer,) = (offer for offer in models(shop)[model].offers if offer.provider == provider)
    rates = offer.rates(at or utcnow())
    return None if rates is None else (rates.prompt, rates.cached, rates.answer)


def test_a_price_of_ours_is_set(shop: Flask) -> None:
    """SUB-01: no price is in a template or in the code; a command sets it, in credits for a thousand tokens."""
    told = said(shop, "prices", "set", "llama3.2:3b", "--in", "0.25", "--out", "1.000001", "--cached", "0")
    assert "llama3.2:3b  (at home)  now, from " in told
    assert "in 0.25, out 1.000001, cached 0  (credits for 1,000 tokens)" in told
    assert price(shop, "llama3.2:3b", "ollama-1") == (250_000, 0, 1_000_001)
    listed = said(shop, "prices", "list", "llama3.2:3b").splitlines()
    assert [line.split("  ")[2].split(",")[0] for line in listed] == ["now", "past"]


def test_cost_plus_is_what_a_provider_asks_and_the_markup(shop: Flask) -> None:
    """GW-02: $0.10 costs $0.115; at 1,000 credits a dollar a million tokens cost 115 credits."""
    told = said(
        shop, "prices", "set", "gpt-oss:20b", "--provider", "ollama-cloud", "--usd-in", "0.10", "--usd-out", "0.4"
    )
    assert "in 0.1, out 0.4  (US$ for a million tokens, plus the markup)" in told
    assert price(shop, "gpt-oss:20b", "ollama-cloud") == (115_000, 115_000, 460_000)
    assert price(shop, "gpt-oss:20b", "ollama-1") == (1_000_000,) * 3, "its price at home is another"
    rates = models(shop)["gpt-oss:20b"].twin[0].rates(utcnow())
    assert rates is not None
    assert rates.charge(1_000_000, 0) == 115_000  # milli-credits
    said(shop, "setting", "set", "markup_percent", "0")
    assert price(shop, "gpt-oss:20b", "ollama-cloud") == (100_000, 100_000, 400_000)


def test_a_price_to_come_does_not_count_before_and_can_be_set_anew(shop: Flask) -> None:
    """Design: prices are dated rows. One at a provider goes before the general one from its own first day on."""
    then = (utcnow() + dt.timedelta(days=3)).astimezone(KUWAIT).replace(microsecond=0, tzinfo=None)
    for rate in ("5", "7"):
        told = said(shop, "prices", "set", "llama3.2:3b", "--provider", "ollama-1", "--in", rate, "--out", rate,
                    "--from", then.isoformat())  # fmt: skip
        assert f"to come, from {then}" in told
    assert price(shop, "llama3.2:3b", "ollama-1") == (1_000_000,) * 3
    instant = then.replace(tzinfo=KUWAIT)
    assert price(shop, "llama3.2:3b", "ollama-1", instant - dt.timedelta(seconds=1)) == (1_000_000,) * 3
    assert price(shop, "llama3.2:3b", "ollama-1", instant) == (7_000_000,) * 3


@pytest.mark.parametrize(("words", "why"), [
    (("--in", "1"), "both"),
    (("--out", "1"), "both"),
    (("--cached", "1"), "both"),
    ((), "Give --in and --out"),
    (("--in", "1", "--out", "1", "--usd-in", "1", "--usd-out", "1"), "Give --in and --out"),
    (("--in", "1e3", "--out", "1"), "no amount"),
    (("--in", "-1", "--out", "1"), "no amount"),
    (("--in", "0.0000001", "--out", "1"), "no amount"),
    (("--in", "1,5", "--out", "1"), "no amount"),
    (("--in", "nan", "--out", "1"), "no amount"),
    (("--in", "١", "--out", "1"), "no amount"),
    (("--in", "190.000001", "--out", "1"), "no amount"),
    (("--in", "1", "--out", "1", "--from", "2020-01-01"), "in the past"),
    (("--in", "1", "--out", "1", "--from", "tomorrow"), "no instant"),
    (("--in", "1", "--out", "1", "--provider", "nobody"), "There is no provider nobody; there are ollama-1"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")  # fmt: skip
def test_a_price_that_can_not_be_is_refused(shop: Flask, words: tuple[str, ...], why: str) -> None:
    """Never again, Money: floats, negative amounts, a price for what was already charged."""
    assert why in refused(shop, "prices", "set", "llama3.2:3b", *words)
    assert "There is no model llama" in refused(shop, "prices", "set", "llama", "--in", "1", "--out", "1")


def test_the_dearest_price_and_the_largest_markup_fit_into_a_row(make_app: MakeApp, database_url: str) -> None:
    """Never again, Money: a rate that a row of usage can't hold would refuse every request on two of the databases."""
    shop = make_app(database_url)
    said(shop, "setting", "set", "markup_percent", "1000")
    said(shop, "prices", "set", "llama3.2:3b", "--usd-in", "190", "--usd-out", "190")
    assert price(shop, "llama3.2:3b", "ollama-1") == (2_090_000_000,) * 3
    assert 2_090_000_000 < 2**31


# --- settings -------------------------------------------------------------------------------------------------------


def test_a_setting_is_typed_listed_and_bounded(shop: Flask) -> None:
    """GW-02: the markup is a setting, 15 % where nobody said otherwise."""
    assert said(shop, "setting", "get", "markup_percent") == "15\n"
    assert "markup_percent = 15  (percent" in said(shop, "setting", "list")
    assert "markup_percent = 20" in said(shop, "setting", "set", "markup_percent", "20")
    assert said(shop, "setting", "get", "markup_percent") == "20\n"
    for value in ("-5", "1001", "1.5", "", "٢٠", "ten", "9" * 5000):
        assert "must be a whole number from 0 to 1000" in refused(shop, "setting", "set", "markup_percent", value)
    for words in (("get", "mark"), ("set", "mark", "1"), ("set", "seeded", "1")):
        assert "there are markup_percent, quiet_from," in refused(shop, "setting", *words)
    with shop.app_context():
        names = db.session.scalars(sa.select(LanguageModel.name)).all()
        assert len(names) > 10
