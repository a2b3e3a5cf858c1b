"""Customers for the benchmark, made inside the portal's own environment (run by `ours.py`, not by hand).

    python bench/populate.py make 1000 KEYS_FILE    accounts with credit and a key each, a plan, a model
    python bench/populate.py count                  "<settled> <open>": usage rows by state

Wallets are filled by the portal's ledger, so that its own check holds afterwards.
"""

import datetime as dt
import hashlib
import secrets
import string
import sys
from pathlib import Path

import sqlalchemy as sa

from portal import create_app
from portal.clock import utcnow
from portal.extensions import db
from portal.models import Account, ApiKey, LanguageModel, Membership, ModelOffer, Plan, Price, Provider, Usage, User
from portal.services import ledger

MODEL = "mock"
CREDIT = 10**12  # milli-credits: nobody runs out within a run
ALPHABET = string.ascii_letters + string.digits


def make(accounts: int, keys_file: Path) -> None:
    """Write the rows, and the keys into `keys_file`, one a line."""
    yesterday = utcnow() - dt.timedelta(days=1)
    plan = Plan(
        id="bench", name_ar="قياس", name_en="Bench", rank=1000, price_fils=0, credits=0, requests_per_minute=100_000_000
    )
    # A context and an answer of the usual size: what is set aside for a request is computed as for any other model.
    model = LanguageModel(
        name=MODEL, plan_id=plan.id, context_tokens=131_072, answer_tokens=8192, capabilities="completion tools"
    )
    db.session.add(plan)
    db.session.flush()
    db.session.add(model)
    db.session.flush()
    db.session.add(Price(model_id=model.id, rate_in=1_000_000, rate_out=1_000_000, valid_from=yesterday))
    provider = db.session.scalars(sa.select(Provider).where(Provider.kind == "ollama").order_by(Provider.name)).first()
    if provider is None:
        raise SystemExit("the seeds brought no provider")
    provider.slots = 100_000  # the queue is not what is measured
    db.session.add(ModelOffer(provider_id=provider.id, model_id=model.id, upstream_name=MODEL))
    keys = [_customer(number, plan.id) for number in range(accounts)]
    db.session.commit()
    keys_file.touch(mode=0o600)
    keys_file.write_text("\n".join(keys) + "\n")


def _customer(number: int, plan_id: str) -> str:
    user = User(
        email=f"bench-{number}@portal.example",
        phone=f"+9655{number:07d}",
        password_hash="!",
        phone_verified_at=utcnow(),
    )
    db.session.add(user)
    db.session.flush()
    account = Account(owner_id=user.id, plan_id=plan_id)
    db.session.add(account)
    db.session.flush()
    db.session.add(Membership(account_id=account.id, user_id=user.id, role="owner"))
    ledger.open_wallet(account.id)
    ledger.credit(account.id, CREDIT, kind="grant", reference=f"bench:{account.id}")
    key = "rsk_" + "".join(secrets.choice(ALPHABET) for _ in range(40))
    hashed = hashlib.sha256(key.encode()).hexdigest()
    db.session.add(ApiKey(account_id=account.id, user_id=user.id, label="bench", prefix=key[:12], hash=hashed))
    return key


def count() -> str:
    """Usage rows: settled and open."""
    query = sa.select(Usage.state, sa.func.count()).group_by(Usage.state)
    rows = {row[0]: row[1] for row in db.session.execute(query)}
    return f"{rows.get('settled', 0)} {rows.get('open', 0)}"


if __name__ == "__main__":
    with create_app().app_context():
        if sys.argv[1] == "make":
            make(int(sys.argv[2]), Path(sys.argv[3]))
        else:
            print(count())
