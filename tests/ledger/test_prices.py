"""The price charged is the model's own row, the one in force when the request was let in."""

import datetime as dt
import json

import pytest
import sqlalchemy as sa

from portal.clock import utcnow
from portal.extensions import db
from portal.freshness import changing
from portal.models import LanguageModel, Price, Provider
from portal.services import accounts, ledger
from tests.gateway.wire import Door, Hub, Plain, eventually
from tests.races.street import MODEL, Stream, Street, question
from tests.services.portal_app import MakeApp


@pytest.fixture
def plain(market: Street) -> Door:
    return Plain(market.app)


def rich(market: Street) -> tuple[str, str]:
    """(account, key) of somebody with the largest plan and credit enough."""
    account, key = market.customer(100_000_000)
    market.execute("UPDATE accounts SET plan_id = 'enterprise' WHERE id = :id", id=account)
    return account, key


def set_price(market: Street, name: str, rate: tuple[int, int], *, valid_from: dt.datetime) -> None:
    """A dated price row, told to every worker."""
    with market.app.app_context(), changing("catalog"):
        model = db.session.scalars(sa.select(LanguageModel).where(LanguageModel.name == name)).one()
        db.session.add(Price(model_id=model.id, rate_in=rate[0], rate_out=rate[1], valid_from=valid_from))
        db.session.commit()


def test_every_model_on_sale_charges_its_own_rate_for_a_thousand_tokens(market: Street, plain: Door) -> None:
    """Never again, Money (models with a dot in their id fell back to the default rate; "27b" contains "7b"): each row
    gets a price like no other, and a thousand tokens in and out cost exactly that."""
    _, key = rich(market)
    rates: dict[str, tuple[int, int]] = {}
    with market.app.app_context(), changing("catalog"):
        cloud = db.session.scalars(sa.select(Provider).where(Provider.kind == "ollama-cloud")).one()
        cloud.url, cloud.key_variable = market.sandbox.ollama_url, ""
        models = db.session.scalars(sa.select(LanguageModel).where(LanguageModel.plan_id.is_not(None))).all()
        for number, model in enumerate(models):
            rates[model.name] = (1_003_000 + 17_000 * number, 2_011_000 + 31_000 * number)
            rate_in, rate_out = rates[model.name]
            db.session.add(Price(model_id=model.id, rate_in=rate_in, rate_out=rate_out, valid_from=utcnow()))
            if model.location == "cloud":
                market.sandbox.control(
                    add_model={"name": model.name.removesuffix(":cloud"), "capabilities": ["completion"]}
                )
        db.session.commit()
    assert len(rates) >= 9
    listed = plain.ask("GET", "/v1/models", key=key).json()["data"]
    assert {model["id"] for model in listed} == set(rates)

    for name, (rate_in, rate_out) in rates.items():
        for counts in ((1000, 0), (0, 1000), (1000, 1000)):
            cost = (counts[0] * rate_in + counts[1] * rate_out) // 1_000_000
            market.sandbox.control(tokens=1, reasoning=0,
                                   usage={"prompt_tokens": counts[0], "completion_tokens": counts[1]})  # fmt: skip
            body = {"model": name, "messages": [{"role": "user", "content": "x" * 1000}], "max_tokens": 1000}
            answer = plain.ask("POST", "/v1/chat/completions", key=key, body=body)
            assert answer.status == 200, (name, answer.read())
            assert answer.headers["x-portal-credits"] == f"{cost / 1000:.3f}".rstrip("0").rstrip("."), name
            row = market.usage(answer.request_id)
            assert row is not None
            assert (row.model, row.cost, row.rate_in, row.rate_out) == (name, cost, rate_in, rate_out)
    assert market.faults() == []


def test_what_is_left_of_a_milli_credit_is_rounded_up_once(market: Street, plain: Door) -> None:
    """Never again, Money: three decimals lost. One token of a cheap model costs what a thousand do."""
    _, key = rich(market)
    set_price(market, MODEL, (1_000, 1_000), valid_from=utcnow())
    for tokens, cost in ((1, "0.001"), (600, "0.001"), (0, "0")):
        market.sandbox.control(usage={"prompt_tokens": tokens, "completion_tokens": 0})
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 1000}], "max_tokens": 5}
        answer = plain.ask("POST", "/v1/chat/completions", key=key, body=body)
        assert answer.headers["x-portal-credits"] == cost


def test_a_model_without_a_price_is_neither_listed_nor_sold(market: Street, plain: Door) -> None:
    """Never again, Money: a model with no price cost nothing and voided every limit. No row: it does not exist."""
    account, key = rich(market)
    with market.app.app_context(), changing("catalog"):
        model = db.session.scalars(sa.select(LanguageModel).where(LanguageModel.name == MODEL)).one()
        db.session.execute(sa.delete(Price).where(Price.model_id == model.id))
        db.session.commit()
    assert MODEL not in {model["id"] for model in plain.ask("GET", "/v1/models", key=key).json()["data"]}
    for body in (question(5), question(5, stream=True)):
        answer = plain.ask("POST", "/v1/chat/completions", key=key, body=body)
        assert (answer.status, answer.error()["code"]) == (404, "model_not_found")
    assert market.usages(account) == []
    assert market.sandbox.chats() == []


def test_a_price_of_tomorrow_does_not_count_today(market: Street, plain: Door) -> None:
    """Design: prices are dated rows. Neither does it make a model sold that has no price until then."""
    _, key = rich(market)
    tomorrow = utcnow() + dt.timedelta(days=1)
    set_price(market, MODEL, (9_000_000, 9_000_000), valid_from=tomorrow)
    market.sandbox.control(tokens=5)
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=question(20))
    assert answer.headers["x-portal-credits"] == "0.01"
    market.execute("DELETE FROM prices WHERE valid_from < :now", now=tomorrow.strftime("%Y-%m-%d %H:%M:%S.%f"))
    with market.app.app_context(), changing("catalog"):
        pass
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=question(20))
    assert (answer.status, answer.error()["code"]) == (404, "model_not_found")


def test_the_price_in_force_at_admission_is_the_price_charged(market: Street) -> None:
    """Design: prices are dated rows. Raised in the middle of an answer, it counts from the next question on, on a
    worker that remembers the catalogue."""
    account, key = rich(market)
    web = market.open_shop()
    market.sandbox.control(tokens=5, hold_after=3)
    stream = Stream(web.url, key, question(20, stream=True))
    stream.read_tokens(3)
    set_price(market, MODEL, (7_000_000, 7_000_000), valid_from=utcnow())
    market.sandbox.control(hold_after=None, release=True)
    assert stream.rest().endswith(b"data: [DONE]\n\n")
    stream.close()
    hub = Hub(web.url)
    dearer = hub.ask("POST", "/v1/chat/completions", key=key, body=question(20))
    assert dearer.headers["x-portal-credits"] == "0.07"
    hub.close()
    rows = eventually(
        lambda: [u for u in market.usages(account) if u.state == "settled"][1:] and market.usages(account)
    )
    assert sorted((row.rate_in, row.cost) for row in rows) == [(1_000_000, 10), (7_000_000, 70)]
    assert market.faults() == []


def test_a_provider_priced_in_dollars_is_charged_at_cost_and_markup(market: Street, plain: Door) -> None:
    """GW-02: $0.10 for a million tokens and 15 % are 115 credits; another markup counts from the next request."""
    account, key = rich(market)
    operate(market, "prices", "set", MODEL, "--usd-in", "0.10", "--usd-out", "0.20", "--usd-cached", "0.01")
    counts = {"prompt_tokens": 600, "completion_tokens": 100}
    market.sandbox.control(usage=counts)
    assert cost(plain, key) == "0.092"  # 600 × 115 + 100 × 230 milli-credits for a thousand
    market.sandbox.control(usage=counts, cached_tokens=400)
    assert cost(plain, key) == "0.051"  # 200 × 115 + 400 × 11.5 + 100 × 230
    operate(market, "setting", "set", "markup_percent", "100")
    assert cost(plain, key) == "0.088"  # 200 × 200 + 400 × 20 + 100 × 400
    rows = sorted((row.rate_in, row.rate_cached, row.rate_out) for row in market.usages(account))
    assert rows == [(115_000, 11_500, 230_000)] * 2 + [(200_000, 20_000, 400_000)]
    assert market.faults() == []


def test_a_twin_has_a_price_of_its_own_and_without_one_it_is_none(market: Street, plain: Door) -> None:
    """API-02: 2× in the cloud; never the price at home, and never nothing."""
    account, key = rich(market)
    with market.app.app_context(), changing("catalog"):
        cloud = db.session.scalars(sa.select(Provider).where(Provider.kind == "ollama-cloud")).one()
        cloud.url, cloud.key_variable = market.sandbox.ollama_url, ""
        db.session.commit()
    operate(market, "providers", "disable", "ollama-1")
    market.sandbox.control(usage={"prompt_tokens": 300, "completion_tokens": 100})
    body = {"model": "gpt-oss:20b", "messages": [{"role": "user", "content": "x" * 1000}], "max_tokens": 200}
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=body)
    assert (answer.status, answer.headers["x-portal-provider"]) == (200, "cloud")
    assert answer.headers["x-portal-credits"] == "0.8"
    operate(market, "prices", "set", "gpt-oss:20b", "--provider", "ollama-cloud", "--in", "3", "--out", "5")
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=body)
    assert answer.headers["x-portal-credits"] == "1.4"
    market.execute("DELETE FROM prices WHERE provider = 'ollama-cloud'")
    with market.app.app_context(), changing("catalog"):
        pass
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=body)
    assert (answer.status, answer.error()["code"]) == (404, "model_not_found")
    assert len(market.usages(account)) == 2


def operate(market: Street, *words: str) -> None:
    """A command of the operator's."""
    result = market.app.test_cli_runner().invoke(args=words)
    assert result.exit_code == 0, result.output


def cost(plain: Door, key: str) -> str:
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=question(200))
    assert answer.status == 200, answer.read()
    return answer.headers["x-portal-credits"]


def test_the_hold_is_computed_from_the_same_price(market: Street, plain: Door) -> None:
    """GW-04: 402 names balance and required amount at the price in force; a dear model needs more for the same."""
    _, key = market.customer(1_000)
    set_price(market, MODEL, (3_000_000, 5_000_000), valid_from=utcnow())
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=question(20))
    error = answer.error()
    assert (answer.status, error["code"]) == (402, "insufficient_credits")
    assert (error["balance"], error["required"]) == (1, (656 * 3 + 20 * 5) / 1_000)
    assert "/billing" in error["top_up_url"]


def test_the_sign_up_credit_is_booked_once(make_app: MakeApp, sqlite_url: str) -> None:
    """AUTH-01, CRD-02: the setting's amount, a `grant` for the account, which can't be booked a second time."""
    app = make_app(sqlite_url, SIGNUP_CREDITS=25)
    with app.app_context():
        user = accounts.register(
            accounts.NewUser(email="layla@example.com", phone="+96550000101", password="nakhla-marsa-3ashra"),
            "127.0.0.1",
        )
        account = db.session.scalars(sa.text("SELECT id FROM accounts WHERE owner_id = :user"), {"user": user}).one()
        (entry,) = ledger.statement(account)
        assert (entry.kind, entry.amount, entry.reference) == ("grant", 25_000, f"signup:{account}")
        assert entry.actor == f"user:{user}"
        with pytest.raises(ledger.AlreadyBooked):
            ledger.credit(account, 25_000, kind="grant", reference=f"signup:{account}")
        db.session.rollback()
        assert ledger.check() == []


def test_a_cost_in_json_is_the_cost_in_the_header(market: Street, plain: Door) -> None:
    """Never again, Money: integers from end to end; what is written for people and programs is the same number."""
    _, key = rich(market)
    market.sandbox.control(usage={"prompt_tokens": 123, "completion_tokens": 19})
    answer = plain.ask("POST", "/v1/chat/completions", key=key, body=question(20))
    body = json.loads(answer.read())
    assert (answer.headers["x-portal-credits"], body["usage"]["credits"]) == ("0.142", 0.142)
