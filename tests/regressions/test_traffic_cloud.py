"""What the cloud is paid, and how often it is called, as a review broke it: dense prompts and several accounts."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.freshness import changing
from portal.models import Price, Provider
from portal.services import providers
from tests.gateway.fleet import CLOUD, FIRST, TWINNED, AnyDoor, Fleet, attempts
from tests.gateway.wire import eventually
from tests.services.environment import NOWHERE

CLOUDY = "qwen3.5:cloud"
SMALL = 8192
"""The context of our own servers in these tests."""
DENSE = "7 " * 10_000
"""Twenty thousand bytes; by its length 5,000 tokens of Latin text."""
COUNTED = len(DENSE)
"""As an upstream may count it: one token a byte."""
LOCAL = {"x-portal-failover": "off"}


def counts(fleet: Fleet, server: str) -> None:
    """From now on a server tells of every prompt that it has a token a byte."""
    fleet.sandbox.control(usage={"prompt_tokens": COUNTED, "completion_tokens": 1}, server=server)


# -- dense prompts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_dense_prompt_at_the_twin_is_charged_for_all_its_tokens(fleet: Fleet, gate: AnyDoor, stream: bool) -> None:
    """CLOUD-01, CRD-02, review 5: the twin has a larger context than our own servers, which cut what is longer. It was
    charged as if it had been cut there, too: digits and spaces were sold at a fraction of what they cost us."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    fleet.found("ollama-1", TWINNED, context_tokens=SMALL)
    counts(fleet, CLOUD)
    with fleet.occupied(gate, crowd, waiting=2):
        answer = fleet.ask(gate, guest, DENSE, stream=stream, max_tokens=10)
        assert (answer.status, answer.headers["x-portal-provider"]) == (200, "cloud")
        answer.read()
    row = fleet.usage(answer.request_id)
    assert (row.prompt_tokens, row.cost) == (COUNTED, 2 * (COUNTED + 1))
    assert row.cost <= row.hold
    assert fleet.wallet(guest.account_id) == (100_000 - row.cost, 0)
    fleet.books_are_right()


@pytest.mark.parametrize("stream", [False, True])
def test_a_dense_prompt_to_a_cloud_model_is_charged_for_all_its_tokens(
    fleet: Fleet, gate: AnyDoor, stream: bool
) -> None:
    """CLOUD-01, CRD-02, review 5: what we know of a cloud model's context is what somebody wrote down once."""
    guest = fleet.somebody()
    fleet.found("ollama-cloud", CLOUDY, context_tokens=SMALL)
    counts(fleet, CLOUD)
    answer = fleet.ask(gate, guest, DENSE, model=CLOUDY, stream=stream, max_tokens=10)
    assert answer.status == 200
    answer.read()
    row = fleet.usage(answer.request_id)
    assert (row.prompt_tokens, row.cost) == (COUNTED, 2 * (COUNTED + 1))
    assert row.cost <= row.hold
    assert fleet.wallet(guest.account_id) == (100_000 - row.cost, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_dense_prompt_here_is_charged_for_what_our_servers_can_hold(
    fleet: Fleet, gate: AnyDoor, stream: bool
) -> None:
    """CRD-01, review 5: here nobody reads more of it than the context, so no more is set aside, or ever charged."""
    guest = fleet.somebody()
    fleet.found("ollama-1", TWINNED, context_tokens=SMALL)
    counts(fleet, FIRST)
    answer = fleet.ask(gate, guest, DENSE, stream=stream, max_tokens=10, headers=LOCAL)
    assert answer.status == 200
    answer.read()
    row = fleet.usage(answer.request_id)
    assert (row.location, row.prompt_tokens, row.cost) == ("local", SMALL, SMALL + 1)
    assert row.hold == SMALL + 10
    assert fleet.wallet(guest.account_id) == (100_000 - row.cost, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_dense_prompt_that_comes_home_is_bounded_as_at_home(fleet: Fleet, gate: AnyDoor, stream: bool) -> None:
    """CRD-01, CRD-02, review 5: the bound goes with the price. The hold for a whole prompt at the cloud's price is
    given back where our own server answers in the end, and what that server tells is brought into its own context."""
    crowd, guest = fleet.somebody(), fleet.somebody()
    fleet.found("ollama-1", TWINNED, context_tokens=SMALL)
    fleet.sandbox.control(fault="503_native", server=CLOUD)
    counts(fleet, FIRST)
    with fleet.occupied(gate, crowd, waiting=2):
        coming = fleet.later(gate, guest, DENSE, stream=stream, max_tokens=10)
        eventually(lambda: fleet.in_line() == 3, what="a place at home")
        eventually(lambda: fleet.wallet(guest.account_id) == (100_000, SMALL + 10), what="the hold of home")
    answer = coming.result(20)
    assert answer.status == 200
    row = fleet.usage(answer.request_id)
    assert (row.location, row.prompt_tokens, row.cost) == ("local", SMALL, SMALL + 1)
    assert fleet.wallet(guest.account_id) == (100_000 - row.cost, 0)
    fleet.books_are_right()


# -- several accounts --------------------------------------------------------------------------------------------------


@pytest.fixture
def clouds(fleet: Fleet) -> Iterator[Fleet]:
    """Two accounts with the cloud; the request goes to the first of them first, for the other is busier."""
    with fleet.app.app_context():
        if db.session.scalar(sa.select(Provider.id).where(Provider.name == "cloud-b")) is None:
            providers.add("cloud-b", kind="ollama-cloud", url=fleet.sandbox.cloud_url)
        providers.change("cloud-b", url=fleet.sandbox.cloud_url, slots=4)
        providers.offer("cloud-b", CLOUDY, "qwen3.5")
        providers.offer("cloud-b", TWINNED, "gpt-oss:20b")
        price = sa.select(Price).where(Price.provider == "ollama-cloud")
        with changing("catalog"):
            for row in db.session.scalars(price).all():
                values = {c.name: getattr(row, c.name) for c in Price.__table__.columns if c.name != "id"}
                db.session.add(Price(**{**values, "provider": "cloud-b"}))
            db.session.commit()
    fleet.store.client.zadd("line:busy:cloud-b", {"somebody:" + "0" * 32: 4_000_000_000_000})
    yield fleet
    with fleet.app.app_context():
        for model in (CLOUDY, TWINNED):
            providers.withdraw("cloud-b", model)
        for name in ("ollama-cloud", "cloud-b"):
            providers.change(name, url="")
        with changing("catalog"):
            db.session.execute(sa.delete(Price).where(Price.provider == "cloud-b"))
            db.session.commit()


def unreachable(fleet: Fleet, provider: str) -> None:
    with fleet.app.app_context():
        providers.change(provider, url=NOWHERE)


@pytest.mark.parametrize("stream", [False, True])
def test_two_accounts_tried_by_one_request_are_two_of_the_days(clouds: Fleet, gate: AnyDoor, stream: bool) -> None:
    """CLOUD-01, review 6: every request could leave as often as there are accounts, and counted as one."""
    guest = clouds.somebody()
    clouds.sandbox.next({"fault": "503_native"}, {}, server=CLOUD)
    answer = clouds.ask(gate, guest, model=CLOUDY, stream=stream)
    assert answer.status == 200
    answer.read()
    row = clouds.usage(answer.request_id)
    assert (row.provider, attempts(row)) == ("cloud-b", [("ollama-cloud", "busy")])
    assert (clouds.asked(CLOUD), clouds.cloud_used()) == (2, 2)
    clouds.books_are_right()


def test_two_accounts_that_both_fail_are_two_of_the_days(clouds: Fleet, gate: AnyDoor) -> None:
    """CLOUD-01, review 6: what left is not given back because it came to nothing."""
    guest = clouds.somebody()
    clouds.sandbox.control(fault="503_native", server=CLOUD)
    assert clouds.ask(gate, guest, model=CLOUDY).status == 503
    assert (clouds.asked(CLOUD), clouds.cloud_used()) == (2, 2)
    assert clouds.wallet(guest.account_id) == (100_000, 0)


def test_with_one_request_left_of_the_day_the_second_account_is_not_asked(clouds: Fleet, gate: AnyDoor) -> None:
    """CLOUD-02, review 6: the budget is the most that leaves, not the most that customers ask for."""
    clouds.spend_budget(499)
    guest = clouds.somebody()
    clouds.sandbox.control(fault="503_native", server=CLOUD)
    assert clouds.ask(gate, guest, model=CLOUDY).status == 503
    assert (clouds.asked(CLOUD), clouds.cloud_used()) == (1, 500)
    assert clouds.wallet(guest.account_id) == (100_000, 0)
    eventually(lambda: clouds.busy("cloud-b") == 1, what="nothing but the somebody")


@pytest.mark.parametrize(("away", "provider"), [("ollama-cloud", "cloud-b"), ("cloud-b", "")])
def test_a_call_that_never_left_is_none_of_the_days(clouds: Fleet, gate: AnyDoor, away: str, provider: str) -> None:
    """CLOUD-01, review 6: one of the two accounts can't be reached, the first one or the second."""
    unreachable(clouds, away)
    guest = clouds.somebody()
    if not provider:
        clouds.sandbox.control(fault="503_native", server=CLOUD)
    answer = clouds.ask(gate, guest, model=CLOUDY)
    assert answer.status == (200 if provider else 503)
    row = clouds.usage(answer.request_id)
    expected = [("ollama-cloud", "unreached")] if provider else [("ollama-cloud", "busy"), ("cloud-b", "unreached")]
    assert attempts(row) == expected
    assert (clouds.asked(CLOUD), clouds.cloud_used()) == (1, 1)
    clouds.books_are_right()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_tried_two_twins_and_came_home_used_two(clouds: Fleet, gate: AnyDoor, stream: bool) -> None:
    """CLOUD-01, QUEUE-02, review 6: the same for a model that is at home here."""
    crowd, guest = clouds.somebody(), clouds.somebody()
    clouds.sandbox.control(fault="503_native", server=CLOUD)
    with clouds.occupied(gate, crowd, waiting=2):
        coming = clouds.later(gate, guest, stream=stream)
        eventually(lambda: clouds.in_line() == 3, what="a place at home")
        assert (clouds.asked(CLOUD), clouds.cloud_used()) == (2, 2)
    answer = coming.result(20)
    row = clouds.usage(answer.request_id)
    assert (answer.status, row.provider, row.location, row.failover) == (200, "ollama-1", "local", False)
    assert attempts(row) == [("ollama-cloud", "busy"), ("cloud-b", "busy")]
    assert (clouds.asked(CLOUD), clouds.cloud_used()) == (2, 2)
    clouds.books_are_right()
