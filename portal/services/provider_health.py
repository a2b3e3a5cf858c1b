"""What the workers learned of a provider, written down for people: its state, the events, a model that it has not got.

What requests go by is the breaker's, in the shared store; here is what pages show and administrators are told, once for
all workers: whoever changes the row by a conditional UPDATE tells of it, the others find it changed. Needs an app
context; each function is a short transaction of its own. No text of an upstream's ever comes in here.
"""

import sqlalchemy as sa

from portal import clock
from portal.extensions import db
from portal.freshness import changing
from portal.models import Event, LanguageModel, ModelOffer, Provider
from portal.services import events

AWAY = ("resting", "down")
REASON_LENGTH = 120
ACCOUNT_STATUSES = frozenset({401, 402, 403, 429})
"""Our key, our money, our plan, our quota."""


def rested(name: str, reason: str, seconds: float) -> bool:
    """The breaker rests a provider. Returns whether it did not rest before: then the event `provider_down` is written.

    reason: our own word for what was wrong (`connection refused`), at most 120 characters. seconds: how long it rests.
    While it rests already, or a probe found it down, its `state_since` stays: an outage is told of once, however often
    its rest grows. Raises sqlalchemy.exc.DBAPIError when the database can't be written.
    """
    now, reason = clock.utcnow(), reason[:REASON_LENGTH]
    here = sa.update(Provider).where(Provider.name == name)
    with db.engine.begin() as connection:
        new = here.where(Provider.state.not_in(AWAY))
        if connection.execute(new.values(state="resting", state_reason=reason, state_since=now)).rowcount != 1:
            grown = here.where(Provider.state == "resting", Provider.state_reason != reason)
            connection.execute(grown.values(state_reason=reason))
            return False
        occasion = f"{name}:{now.isoformat()}"
        length = round(seconds)
        events.record(connection, events.PROVIDER_DOWN, occasion, provider=name, reason=reason, seconds=length)
    return True


def recovered(name: str) -> bool:
    """The provider answers again. Returns whether an outage ended with it: then the event `provider_up` is written.

    One whose state was not known yet is up from now on, without an event. Costs one read where it is up already.
    Raises sqlalchemy.exc.DBAPIError when the database can't be written.
    """
    query = sa.select(Provider.state, Provider.state_since).where(Provider.name == name)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        row = connection.execute(query).one_or_none()
    if row is None or row.state == "up":
        return False
    now = clock.utcnow()
    with db.engine.begin() as connection:
        claim = sa.update(Provider).where(Provider.name == name, Provider.state == row.state)
        done = connection.execute(claim.values(state="up", state_reason="", state_since=now))
        if done.rowcount != 1 or row.state not in AWAY:
            return False
        away = 0 if row.state_since is None else max(0, round((now - row.state_since).total_seconds()))
        events.record(connection, events.PROVIDER_UP, f"{name}:{now.isoformat()}", provider=name, seconds=away)
    return True


def account_refused(name: str, status: int) -> bool:
    """The provider refused our account. Returns whether it is the first such answer of the day in Kuwait.

    Then the event `cloud_account_refused` is written, with provider and status and nothing else.

    status: 401, 402, 403 or 429, else ValueError. Raises sqlalchemy.exc.DBAPIError when the database can't be written.
    """
    if status not in ACCOUNT_STATUSES:
        raise ValueError(f"{status} says nothing of the account")
    kind, occasion = events.CLOUD_ACCOUNT_REFUSED, f"{name}:{status}:{clock.kuwait_day().isoformat()}"
    told = sa.select(Event.id).where(Event.kind == kind, Event.occasion == occasion)
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        if connection.execute(told).first() is not None:
            return False
    with db.engine.begin() as connection:
        return events.record(connection, kind, occasion, provider=name, status=status)


def missing(provider: str, model: str) -> bool:
    """The server said that it has not got the model: it is not offered there until a probe finds it again.

    provider, model: by our names. Returns whether that is news; if so every worker reads the catalogue anew.
    Raises sqlalchemy.exc.DBAPIError when the database can't be written.
    """
    its = sa.select(Provider.id).where(Provider.name == provider).scalar_subquery()
    of = sa.select(LanguageModel.id).where(LanguageModel.name == model).scalar_subquery()
    offered = (ModelOffer.provider_id == its, ModelOffer.model_id == of, ModelOffer.present.is_not(False))
    with db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        if connection.execute(sa.select(ModelOffer.id).where(*offered)).first() is None:
            return False
    with changing("catalog"), db.engine.begin() as connection:
        return connection.execute(sa.update(ModelOffer).where(*offered).values(present=False)).rowcount == 1
