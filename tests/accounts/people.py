"""Somebody who proves their number or changes what hangs on it: signed in, with the codes that were sent to them."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import Notification, OneTimeCode, User
from portal.services import codes, sessions
from portal.services.recovery import Refused
from portal.services.sessions import Browser
from tests.notifications.outside import Line, notes
from tests.services.cast import Person

NEW = "qahwa-murr-sabah"
HERE = Browser(address="203.0.113.7")
STRANGER = "nobody@example.com"


def me(person: Person) -> User:
    """They, signed in."""
    user = sessions.user_of(signed_in(person))
    assert user is not None
    return user


def signed_in(person: Person) -> str:
    token = sessions.begin(person.user_id, HERE)
    db.session.commit()
    return token


def newest(purpose: str, number: int = -1) -> str:
    """The digits of the code that was sent last."""
    query = sa.select(OneTimeCode.id).where(OneTimeCode.purpose == purpose).order_by(OneTimeCode.id)
    with db.engine.connect() as connection:
        return codes.digits(list(connection.scalars(query))[number])


def wrong(digits: str) -> str:
    return f"{(int(digits) + 1) % 1_000_000:06d}"


def row(person: Person) -> User:
    db.session.rollback()
    return db.session.get_one(User, person.user_id, populate_existing=True)


def fields(call: Callable[[], object]) -> dict[str, str]:
    """What is refused, and in which words."""
    with pytest.raises(Refused) as refused:
        call()
    return {field: str(words) for field, words in refused.value.problems.items()}


def told(person: Person, kind: str) -> list[Line]:
    return notes(Notification.account_id == person.account_id, Notification.kind == kind)


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that fail2ban reads."""
    return [r.getMessage() for r in caplog.records if r.name == "portal.auth" and "auth_failure" in r.getMessage()]
