"""Who calls the portal in these suites: people of its own for each, so that none spends another's minute or credit.

Made through the product's own rules in its own process, before the web server starts. What tests learn of them is a
mapping of role → key (`python/portal_under_test.py` tells the roles).
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable

import sqlalchemy as sa
from flask import Flask

from portal.clock import utcnow
from portal.extensions import db
from portal.models import Account, ApiKey, LanguageModel, ModelOffer, Plan, Price, Provider
from portal.services import accounts, api_keys, ledger

PASSWORD = "nakhla-marsa-3ashra"
PLENTY = 1_000_000_000
"""Milli-credits."""
ONE_REQUEST = 1_000
"""Milli-credits: enough for one request with a limit of 400 tokens, not for two at a time."""
HARDLY_ANY = 5
"""Milli-credits: less than any request sets aside."""
UNHURRIED = 1_000_000
"""Requests a minute: the suites are here to test the dialect, and send more in a minute than people do."""
SLASHED = "portal/tiny:1b"


def prepare(app: Flask, suites: Iterable[str]) -> dict[str, dict[str, str]]:
    """Make everybody; returns suite → role → key. The app's database must be migrated, seeded and without people."""
    numbers = itertools.count(1)
    with app.app_context():
        db.session.execute(sa.update(Plan).where(Plan.id == "enterprise").values(requests_per_minute=UNHURRIED))
        _slashed_model()
        db.session.commit()
        return {suite: _people(suite, numbers) for suite in suites}


def _people(suite: str, numbers: Iterable[int]) -> dict[str, str]:
    number = iter(numbers)
    customer = _account(f"customer-{suite}", next(number), "enterprise", PLENTY)
    keys = {
        "customer": _key(customer),
        "reader": _key(customer, scopes=("read",)),
        "revoked": _key(customer),
        "expired": _key(customer, days=1),
        "newcomer": _key(_account(f"newcomer-{suite}", next(number), "basic", PLENTY)),
        "hasty": _key(_account(f"hasty-{suite}", next(number), "basic", PLENTY)),
        "poor": _key(_account(f"poor-{suite}", next(number), "enterprise", HARDLY_ANY)),
        "thrifty": _key(_account(f"thrifty-{suite}", next(number), "enterprise", ONE_REQUEST)),
    }
    row = db.session.scalars(sa.select(ApiKey).where(ApiKey.prefix == keys["revoked"][: api_keys.SHOWN])).one()
    api_keys.delete(customer.id, row.id)
    yesterday = utcnow() - dt.timedelta(days=1)
    db.session.execute(
        sa.update(ApiKey).where(ApiKey.prefix == keys["expired"][: api_keys.SHOWN]).values(expires_at=yesterday)
    )
    db.session.commit()
    return keys


def _account(name: str, number: int, plan: str, amount: int) -> Account:
    new = accounts.NewUser(
        email=f"{name}@example.com", phone=f"+965500{number:05d}", password=PASSWORD, name=name, language="en"
    )
    user_id = accounts.register(new, f"127.1.{number // 250}.{number % 250}")
    account = db.session.scalars(sa.select(Account).where(Account.owner_id == user_id)).one()
    account.plan_id = plan
    ledger.adjust(account.id, amount, reference=f"clients:{name}", actor="test", reason="what the role needs")
    db.session.commit()
    return account


def _key(account: Account, *, scopes: Iterable[str] = ("read", "write"), days: int | None = None) -> str:
    return api_keys.create(account.id, account.owner_id, label="clients", scopes=tuple(scopes), days=days).secret


def _slashed_model() -> None:
    """A model whose id has a `/`, which the shipped catalogue lacks; the simulated server knows it by another name."""
    model = LanguageModel(
        name=SLASHED, plan_id="basic", context_tokens=8192, answer_tokens=512, capabilities="completion",
        summary_ar="نموذج للاختبار", summary_en="A model for tests", location="local",
    )  # fmt: skip
    db.session.add(model)
    db.session.flush()
    db.session.add(Price(model_id=model.id, rate_in=1_000_000, rate_out=1_000_000))
    provider = db.session.scalars(sa.select(Provider).where(Provider.name == "ollama-1")).one()
    db.session.add(ModelOffer(provider_id=provider.id, model_id=model.id, upstream_name="llama3.2:3b"))
