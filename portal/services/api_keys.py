"""API keys: made, listed, changed, deleted.

The key itself leaves this file once, when it is made; only its SHA-256 is stored.

A deleted key is refused by the very next request on every worker: the deletion marks its account changed, before and
after the commit; so does every other change. Whose key a request carries is asked in the gateway's own file.
"""

import datetime as dt
import hashlib
import secrets
import string
import unicodedata
from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from flask_babel import LazyString, lazy_gettext as _l

from portal.clock import utcnow
from portal.errors import NotFound
from portal.extensions import db
from portal.freshness import changing
from portal.models import ApiKey
from portal.models.api_key import SCOPES
from portal.services.notifications import notify

PREFIX = "rsk_"
SHOWN = 12
"""How many characters people see of a key afterwards."""
MOST = 100
"""Usable keys of one account; who needs more has lost count of them."""
_ALPHABET = string.ascii_letters + string.digits


class NewKey(NamedTuple):
    """A key just made. `secret` is the key itself and is told this once."""

    row: ApiKey
    secret: str


class KeyRefused(Exception):
    """The key can't be made as asked. `problems`: a sentence for each field at fault."""

    def __init__(self, problems: dict[str, LazyString]) -> None:
        super().__init__(", ".join(sorted(problems)))
        self.problems = problems


def create(
    account_id: str,
    user_id: str,
    *,
    label: str,
    scopes: Collection[str] = ("read", "write"),
    days: int | None = None,
    failover: bool = True,
) -> NewKey:
    """Make a key. days: until it expires, None for never. failover: whether it may use the cloud when ours is busy.

    Raises KeyRefused with every problem at once.
    """
    problems: dict[str, LazyString] = {}
    label = "".join(c for c in label if unicodedata.category(c) != "Cc").strip()
    if not label:
        problems["label"] = _l("Give the key a name, so that you recognise it later.")
    elif len(label) > 80:
        problems["label"] = _l("Use at most 80 characters.")
    if not scopes or not set(scopes) <= set(SCOPES):
        problems["scopes"] = _l("Choose at least one permission.")
    if days is not None and not 1 <= days <= 3650:
        problems["expires"] = _l("Choose when the key expires.")
    if not problems and _usable(account_id) >= MOST:
        problems["label"] = _l("This account has 100 keys in use. Delete one that is no longer needed first.")
    if problems:
        raise KeyRefused(problems)

    secret = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(40))
    now = utcnow()
    row = ApiKey(
        account_id=account_id,
        user_id=user_id,
        label=label,
        prefix=secret[:SHOWN],
        hash=hashlib.sha256(secret.encode()).hexdigest(),
        scopes=" ".join(s for s in SCOPES if s in scopes),
        failover=failover,
        created_at=now,
        expires_at=now + dt.timedelta(days=days) if days else None,
    )
    db.session.add(row)
    db.session.flush()
    notify(account_id, "key_created", row.id, label=label, prefix=row.prefix)
    db.session.commit()
    return NewKey(row, secret)


def of_account(account_id: str, *, limit: int = 200) -> Sequence[ApiKey]:
    """The account's keys: those in use first, then the deleted ones, the newest first in each."""
    order = (ApiKey.revoked_at.is_not(None), ApiKey.created_at.desc(), ApiKey.id.desc())
    return db.session.scalars(
        sa.select(ApiKey).where(ApiKey.account_id == account_id).order_by(*order).limit(limit)
    ).all()


def find(account_id: str, key_id: str) -> ApiKey:
    """A key of this account. Raises NotFound for another's, as if there were none."""
    row = db.session.scalar(sa.select(ApiKey).where(ApiKey.id == key_id, ApiKey.account_id == account_id))
    if row is None:
        raise NotFound
    return row


def set_failover(account_id: str, key_id: str, failover: bool) -> None:
    """Let a key's requests move to the cloud while our own servers are busy, or not, from the next request on.

    A deleted key stays as it was. Raises NotFound for another account's key.
    """
    with changing(f"account:{account_id}"):
        find(account_id, key_id)
        db.session.execute(
            sa.update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
            .values(failover=failover)
            .execution_options(synchronize_session=False)
        )
        db.session.commit()


def delete(account_id: str, key_id: str) -> ApiKey:
    """Delete a key: from now on no request may use it. Its row stays, for the usage it caused. Safe to call twice.

    Raises NotFound for another account's key.
    """
    with changing(f"account:{account_id}"):
        db.session.execute(
            sa.update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=utcnow())
            .execution_options(synchronize_session=False)
        )
        row = find(account_id, key_id)
        db.session.commit()
    return row


def _usable(account_id: str) -> int:
    query = (
        sa.select(sa.func.count())
        .select_from(ApiKey)
        .where(ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
    )
    return db.session.scalar(query) or 0
