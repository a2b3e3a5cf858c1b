"""The cast of every test: Layla owns an account with credit, Omar is on her team, Zaid is a stranger, Noor is staff.

Permission tests ask Zaid. Each of them comes to life when first spoken to, through the product's own rules.
"""

from dataclasses import dataclass
from functools import cached_property

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.extensions import db
from portal.models import Account, Membership, User
from portal.services import accounts, api_keys, ledger
from tests.services.portal_app import csrf_token

PASSWORD = "nakhla-marsa-3ashra"
LAYLAS_CREDIT = 1_000_000
"""Milli-credits: on top of the sign-up credit."""


@dataclass(frozen=True)
class Person:
    """Somebody who is registered. `api_key` belongs to `account_id`, the account they own."""

    name: str
    email: str
    phone: str
    user_id: str
    account_id: str
    api_key: str
    password: str = PASSWORD

    @property
    def bearer(self) -> dict[str, str]:
        """The header of their API calls."""
        return {"Authorization": f"Bearer {self.api_key}"}


class Cast:
    def __init__(self, app: Flask) -> None:
        self.app = app

    @cached_property
    def layla(self) -> Person:
        """Owns an account with 1,000 credits on top of the sign-up credit."""
        person = self._register("layla", "+96550000101")
        with self.app.app_context():
            ledger.adjust(
                person.account_id, LAYLAS_CREDIT, reference="cast:layla", actor="test", reason="Layla has credit"
            )
            db.session.commit()
        return person

    @cached_property
    def omar(self) -> Person:
        """A plain member of Layla's team, with an account of his own."""
        person, layla = self._register("omar", "+96550000102"), self.layla
        with self.app.app_context():
            db.session.add(Membership(account_id=layla.account_id, user_id=person.user_id, role="member"))
            db.session.commit()
        return person

    @cached_property
    def zaid(self) -> Person:
        """A stranger to everybody else."""
        return self._register("zaid", "+96550000103")

    @cached_property
    def noor(self) -> Person:
        """Staff."""
        person = self._register("noor", "+96550000104")
        with self.app.app_context():
            db.session.execute(sa.update(User).where(User.id == person.user_id).values(role="staff"))
            db.session.commit()
        return person

    def sign_in(self, person: Person) -> FlaskClient:
        """A browser of theirs, signed in through the form."""
        client = self.app.test_client()
        form = {"csrf_token": csrf_token(client, "/login"), "email": person.email, "password": person.password}
        answer = client.post("/login", data=form)
        assert answer.status_code in (302, 303), f"{person.name} could not sign in: {answer.status_code}"
        return client

    def _register(self, name: str, phone: str) -> Person:
        email = f"{name}@example.com"
        with self.app.app_context():
            new = accounts.NewUser(email=email, phone=phone, password=PASSWORD, name=name.title())
            user_id = accounts.register(new, "127.0.0.1")
            account_id = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user_id)).one()
            secret = api_keys.create(account_id, user_id, label=f"{name}'s key", scopes=("read", "write")).secret
            db.session.commit()
        return Person(name, email, phone, user_id, account_id, secret)


@pytest.fixture
def cast(app: Flask) -> Cast:
    """The four people, in the portal of `app`. For another portal: `Cast(that_app)`."""
    return Cast(app)
