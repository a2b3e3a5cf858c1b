"""Prices, counts and abandoned requests of issue B, as a review broke them; and the move to its unit of prices."""

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask_migrate import upgrade
from hypothesis import given, strategies as st

import portal.clock
from portal.clock import utcnow
from portal.extensions import db
from portal.models import GatewayProcess, Usage
from portal.models.base import database_now
from portal.services.catalog import CatalogModel, Offer
from portal.services.gateway import sweep as sweeping
from portal.services.gateway.reply import BufferedReply, StreamReply
from portal.services.gateway.sweep import GRACE
from portal.services.gateway.ticket import MOST_ATTEMPTS
from portal.services.pricing import MILLION, Rates, dearest
from portal.services.routing.ways import WaysMemory
from tests.ledger.books import Books, a_hold
from tests.services.portal_app import MakeApp

# -- the dearest price -------------------------------------------------------------------------------------------------

DEAR_PROMPT, DEAR_ANSWER = Rates(MILLION + 1, 1, 1), Rates(MILLION, MILLION, 5 * MILLION)


def offer(provider: str, rates: Rates, location: str = "local") -> Offer:
    since = utcnow() - dt.timedelta(days=1)
    return Offer(
        provider, "http://127.0.0.1:9", "", location, 1, 1, "m", frozenset({"completion"}), 8192, ((since, rates),)
    )


def test_of_several_prices_each_part_is_the_dearest() -> None:
    """CRD-03, review 8: the larger of two prices was the one whose first number is larger: a thousandth more for the
    prompt hid an answer that costs five times as much, and the hold did not cover it."""
    assert dearest([DEAR_PROMPT, DEAR_ANSWER]) == Rates(MILLION + 1, MILLION, 5 * MILLION)
    assert dearest(iter([DEAR_ANSWER, DEAR_PROMPT])) == Rates(MILLION + 1, MILLION, 5 * MILLION)
    assert dearest([DEAR_PROMPT]) == DEAR_PROMPT
    assert dearest([]) is None


@given(st.lists(st.builds(Rates, *[st.integers(0, 10**9)] * 3), min_size=1), *[st.integers(0, 10**6)] * 2)
def test_no_request_costs_more_anywhere_than_at_the_dearest_price(
    prices: list[Rates], prompt: int, answer: int
) -> None:
    """CRD-01, review 8: the hold is made before the server is known, so it covers each of them."""
    bound = dearest(prices)
    assert bound is not None
    assert all(price.charge(prompt, answer) <= bound.charge(prompt, answer) for price in prices)


@pytest.mark.parametrize("location", ["local", "cloud"])
def test_a_model_at_servers_of_several_prices_is_offered_and_held_at_the_dearest_of_each_part(location: str) -> None:
    """MODEL-04, review 8: what the list says and what is set aside are the same."""
    offers = (offer("a", DEAR_PROMPT, location), offer("b", DEAR_ANSWER, location))
    model = CatalogModel(
        "m", (), {}, "local", "pro", 2, {}, 8192, 2048, frozenset({"completion"}), 0, offers
    )  # fmt: skip
    ways = WaysMemory().of(model, frozenset({"completion"}), 0)
    its = ways.home if location == "local" else ways.twin
    assert ways.rates(its, utcnow()) == model.rates(utcnow()) == dearest([DEAR_PROMPT, DEAR_ANSWER])


# -- told counts -------------------------------------------------------------------------------------------------------

CACHED_FREE = Rates(2 * MILLION, 0, 2 * MILLION)
NUMBERS = st.sampled_from([-5, 0, 1, 10, 999, 1000, 2000])
COUNTS = st.lists(st.tuples(NUMBERS, st.none() | NUMBERS), min_size=1, max_size=4)
"""(prompt tokens, cached ones of them), as the upstream tells them one after the other; None: nothing said of them."""


def metered() -> dict[str, Any]:
    return {"bounds": (1000, 50), "estimate": 5, "cost": CACHED_FREE.charge}


def told(prompt: int, cached: int | None) -> dict[str, Any]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"prompt_tokens": prompt, "completion_tokens": 1, **details}


def event(usage: dict[str, Any]) -> bytes:
    chunk = {
        "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}],
    }  # fmt: skip
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def credits_of_a_stream(*usages: dict[str, Any]) -> float:
    reply = StreamReply("chatcmpl-1", "m", **metered(), include_usage=True)
    said = reply.feed(b"".join(map(event, usages)) + b"data: [DONE]\n\n")
    last = said.split(b"\n\n")[-3].removeprefix(b"data: ")
    found: float = json.loads(last)["usage"]["credits"]
    return found


def test_fewer_prompt_tokens_than_were_cached_before_cost_no_less_than_nothing() -> None:
    """CRD-02, review 13: 1,000 cached of 1,000, then a prompt of 10: the customer was told −1.978 credits."""
    assert credits_of_a_stream(told(1000, 1000), told(10, None)) == 0.002


@given(COUNTS)
def test_told_credits_are_never_below_zero(counts: list[tuple[int, int]]) -> None:
    """CRD-02, review 13: whatever an upstream counts, in whatever order."""
    assert credits_of_a_stream(*(told(*count) for count in counts)) >= 0
    reply = BufferedReply("chatcmpl-1", "m", **metered())
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a"}}
    whole = json.loads(reply.read(json.dumps({"choices": [choice], "usage": told(*counts[0])}).encode()))
    assert whole["usage"]["credits"] >= 0


# -- the sweep ---------------------------------------------------------------------------------------------------------


def test_a_request_of_a_living_process_is_left_alone_for_as_long_as_it_may_take(
    database_url: str, make_app: MakeApp
) -> None:
    """CRD-01, review 7: it may wait in line and then be tried at four servers, each of which may take its time. After
    the time of one answer it was settled at nothing, and the answer that came was never charged."""
    books = Books(make_app(database_url))
    process = books.app.extensions["chat_door"].process()
    settings = dataclasses.replace(books.app.config["PORTAL"], queue_seconds=600, answer_seconds=900)
    longest = dt.timedelta(seconds=600 + MOST_ATTEMPTS * 900)
    account, till = books.open_account(10_000), books.till()
    young, old = a_hold(account, 700, process_id=process.id), a_hold(account, 300, process_id=process.id)
    with books.app.app_context():
        now = db.session.scalars(sa.select(database_now())).one()
        db.session.rollback()  # the till writes beside this session
        for hold, age in ((young, longest - dt.timedelta(seconds=5)), (old, longest + GRACE + dt.timedelta(seconds=5))):
            till.hold(hold)
            db.session.execute(sa.update(Usage).where(Usage.id == hold.id).values(created_at=now - age))
            db.session.commit()
        assert sweeping.sweep(settings) == 1
    assert books.open_requests() == {young.id}
    assert books.wallet(account).held == 700
    assert books.faults() == []
    till.close()


# -- the release before ------------------------------------------------------------------------------------------------


class _AnHourAhead(dt.datetime):
    """The clock of the host that migrates."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_AnHourAhead":
        real = dt.datetime.now(tz) + dt.timedelta(hours=1)
        return cls(*real.timetuple()[:6], real.microsecond, tz)


class _Calendar:
    """`datetime`, as the module of that name, with that clock."""

    UTC, timedelta, datetime = dt.UTC, dt.timedelta, _AnHourAhead


def sign_of_life(seconds_ago: float) -> None:
    """Of the one web process of the release before."""
    with db.engine.begin() as connection:
        seen = connection.scalars(sa.select(database_now())).one() - dt.timedelta(seconds=seconds_ago)
        its = {"id": "g" * 32, "host": "web-1", "pid": 7, "started_at": seen, "seen_at": seen}
        connection.execute(sa.delete(GatewayProcess))
        connection.execute(sa.insert(GatewayProcess).values(**its))


def at_revision() -> str:
    with db.engine.connect() as connection:
        found: str = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        return found


@pytest.mark.parametrize("clock", ["right", "an hour ahead"])
def test_prices_do_not_change_their_unit_under_a_running_web_process(
    make_app: MakeApp, empty_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clock: str
) -> None:
    """CRD-03, review 14: a worker of the release before took the new rates for those of a thousand tokens, and charged
    a thousand times too much. Whoever's clock is wrong, the database's tells who lives. On all three engines."""
    app = make_app(empty_url)
    if clock != "right":
        monkeypatch.setattr(portal.clock, "dt", _Calendar)
    with app.app_context():
        upgrade(revision="0001")
        sign_of_life(4)
        before = {table: sorted(c["name"] for c in sa.inspect(db.engine).get_columns(table)) for table in TOUCHED}
        db.engine.dispose()
        with pytest.raises(SystemExit):
            upgrade()
        assert "stop them first" in caplog.text
        db.engine.dispose()
        assert at_revision() == "0001"
        after = {table: sorted(c["name"] for c in sa.inspect(db.engine).get_columns(table)) for table in TOUCHED}
        assert after == before
        sign_of_life(31)  # it was killed: no farewell, and no sign of life any more
        db.engine.dispose()
        upgrade()
        assert at_revision() != "0001"


TOUCHED = ("plans", "accounts", "api_keys", "providers", "models", "prices", "usage_records")
