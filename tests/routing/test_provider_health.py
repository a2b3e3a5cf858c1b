"""What workers tell of a provider: one event an outage, a day's refusal once, a missing model taken off sale."""

import datetime as dt
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.freshness import PREFIX, UNSETTLED
from portal.models import LanguageModel, ModelOffer, Provider
from portal.services import provider_health
from portal.services.catalog_rows import read_catalog
from tests.ledger.books import Threads
from tests.routing.days import NOON, Days, Written, set_clock
from tests.services.portal_app import MakeApp
from tests.services.redis_server import RedisServer

DOWN, UP, REFUSED = "provider_down", "provider_up", "cloud_account_refused"
ONE, TWO, MODEL = "ollama-1", "ollama-2", "llama3.2:3b"
LATER = NOON + dt.timedelta(seconds=90)


class Fleet(Days):
    """A portal with two local servers and the cloud."""

    def provider(self, name: str = ONE) -> tuple[str, str, dt.datetime | None]:
        """(state, reason, since)."""
        with self.app.app_context():
            row = db.session.scalars(sa.select(Provider).where(Provider.name == name)).one()
            return row.state, row.state_reason, row.state_since

    def change(self, name: str = ONE, **values: Any) -> None:
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.update(Provider).where(Provider.name == name).values(**values))

    def offered_by(self, model: str = MODEL) -> set[str]:
        """The providers that a worker finds for the model when it reads the catalogue now."""
        with self.app.app_context():
            found = next((m for m in read_catalog(self.app.config["PORTAL"]).models if m.name == model), None)
            return set() if found is None else {offer.provider for offer in found.offers}


@pytest.fixture
def fleet(make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """On each of the three databases in turn; it is noon."""
    set_clock(monkeypatch, NOON)
    nowhere = "http://127.0.0.1:9"
    fleet = Fleet(make_app(database_url, OLLAMA_URL=f"{nowhere},{nowhere}"))
    with fleet.app.app_context():
        first = db.session.scalars(sa.select(Provider).where(Provider.name == ONE)).one()
        second = Provider(name=TWO, kind="ollama", url="", slots=1)
        db.session.add(second)
        db.session.flush()
        for offer in db.session.scalars(sa.select(ModelOffer).where(ModelOffer.provider_id == first.id)).all():
            name = offer.upstream_name
            db.session.add(ModelOffer(provider_id=second.id, model_id=offer.model_id, upstream_name=name))
        db.session.commit()
    return fleet


def test_twenty_workers_tell_of_one_outage_once(fleet: Fleet) -> None:
    """Issue B: whoever changes the row tells; the state, the reason and the instant are there for the pages."""
    rested = partial(fleet.call, provider_health.rested, ONE, "connection refused", 4.6)
    assert sorted(Threads(*[rested] * 20).wait(), key=str) == [False] * 19 + [True]
    assert fleet.provider() == ("resting", "connection refused", NOON)
    facts = {"provider": ONE, "reason": "connection refused", "seconds": 5}
    assert fleet.events() == [(DOWN, f"{ONE}:{NOON.isoformat()}", facts)]
    assert fleet.provider(TWO)[0] == "unknown"


def test_a_rest_that_grows_is_the_same_outage(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue B: the half-open probe failed and it rests longer: no second event; newest reason, first instant."""
    fleet.call(provider_health.rested, ONE, "connection refused", 5)
    set_clock(monkeypatch, LATER)
    assert fleet.call(provider_health.rested, ONE, "timed out", 10) is False
    assert fleet.provider() == ("resting", "timed out", NOON)
    assert len(fleet.events()) == 1


def test_the_end_of_an_outage_is_told_once_and_the_next_one_anew(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue B: one event for each turn, however many workers see it."""
    fleet.call(provider_health.rested, ONE, "timed out", 5)
    set_clock(monkeypatch, LATER)
    results = Threads(*[partial(fleet.call, provider_health.recovered, ONE)] * 20).wait()
    assert sorted(results, key=str) == [False] * 19 + [True]
    assert fleet.provider() == ("up", "", LATER)
    assert fleet.events()[1:] == [(UP, f"{ONE}:{LATER.isoformat()}", {"provider": ONE, "seconds": 90})]
    assert fleet.call(provider_health.rested, ONE, "timed out", 5) is True
    assert [kind for kind, _, _ in fleet.events()] == [DOWN, UP, DOWN]


def test_a_provider_nobody_knew_of_is_up_without_a_word(fleet: Fleet) -> None:
    """Issue B: the first answer after an installation is no news; the answers after it cost one read."""
    assert fleet.call(provider_health.recovered, ONE) is False
    assert fleet.provider() == ("up", "", NOON)
    with Written(fleet.app) as written:
        assert fleet.call(provider_health.recovered, ONE) is False
        assert fleet.call(provider_health.recovered, "nobody") is False
    assert written.changes == []
    assert fleet.events() == []


def test_what_a_probe_found_down_is_not_told_again_by_the_breaker(fleet: Fleet) -> None:
    """Issue B: it is away already; the probe's word, which knows more, stays. Its return is told."""
    fleet.change(state="down", state_reason="no address", state_since=NOON - dt.timedelta(hours=1))
    assert fleet.call(provider_health.rested, ONE, "connection refused", 5) is False
    assert fleet.provider() == ("down", "no address", NOON - dt.timedelta(hours=1))
    assert fleet.call(provider_health.recovered, ONE) is True
    assert [(kind, facts) for kind, _, facts in fleet.events()] == [(UP, {"provider": ONE, "seconds": 3600})]


def test_a_long_reason_is_cut_and_an_unknown_provider_is_nobody(fleet: Fleet) -> None:
    """Issue B: MariaDB and PostgreSQL would refuse the row, and with it the event."""
    assert fleet.call(provider_health.rested, ONE, "r" * 500, 5) is True
    assert fleet.provider()[1] == "r" * 120
    assert fleet.call(provider_health.rested, "nobody", "r", 5) is False
    assert len(fleet.events()) == 1


def test_a_refused_account_is_told_once_a_day_by_status_and_nothing_else(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never again (the operator's account name in a relayed error): facts are provider and status, our own words."""
    refused = partial(fleet.call, provider_health.account_refused, "ollama-cloud")
    assert sorted(Threads(*[partial(refused, 429)] * 20).wait(), key=str) == [False] * 19 + [True]
    with Written(fleet.app) as written:
        assert refused(429) is False
    assert written.changes == []
    assert refused(402) is True
    set_clock(monkeypatch, dt.datetime(2026, 3, 1, 21, 0, tzinfo=dt.UTC))
    assert refused(429) is True
    assert fleet.events() == [
        (REFUSED, "ollama-cloud:429:2026-03-01", {"provider": "ollama-cloud", "status": 429}),
        (REFUSED, "ollama-cloud:402:2026-03-01", {"provider": "ollama-cloud", "status": 402}),
        (REFUSED, "ollama-cloud:429:2026-03-02", {"provider": "ollama-cloud", "status": 429}),
    ]
    with pytest.raises(ValueError, match="404"):
        refused(404)


@pytest.mark.parametrize("present", [None, True])
def test_a_missing_model_is_taken_off_sale_there_and_every_worker_hears_of_it(
    fleet: Fleet, redis_server: RedisServer, present: bool | None
) -> None:
    """MODEL-01, issue B: what is not there is not offered, at that server alone; the catalogue's token is a new one."""
    with fleet.app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.update(ModelOffer).values(present=present))
    redis_server.client.set(PREFIX + "catalog", "before")
    results = Threads(*[partial(fleet.call, provider_health.missing, ONE, MODEL)] * 10).wait()
    assert sorted(results, key=str) == [False] * 9 + [True]
    token = redis_server.client.get(PREFIX + "catalog")
    assert isinstance(token, bytes) and token != b"before" and not token.startswith(UNSETTLED.encode())
    assert fleet.offered_by() == {TWO}
    assert ONE in fleet.offered_by("smollm2:135m")


def test_what_is_known_to_be_missing_makes_nobody_read_again(fleet: Fleet, redis_server: RedisServer) -> None:
    """Speed: a thousand requests that hear "not found" must not have every worker read the rows a thousand times."""
    assert fleet.call(provider_health.missing, ONE, MODEL) is True
    redis_server.client.set(PREFIX + "catalog", "before")
    with Written(fleet.app) as written:
        for provider, model in ((ONE, MODEL), ("nobody", MODEL), (ONE, "nothing")):
            assert fleet.call(provider_health.missing, provider, model) is False
    assert written.changes == []
    assert redis_server.client.get(PREFIX + "catalog") == b"before"
    with fleet.app.app_context():
        gone = db.session.scalars(sa.select(ModelOffer).where(ModelOffer.present.is_(False))).one()
        assert db.session.get_one(LanguageModel, gone.model_id).name == MODEL
