"""Booking credit: one conditional UPDATE of the wallet, one entry, inside the caller's transaction.

Nothing here commits. The UPDATE takes the row's lock, so the balance read after it is ours until the commit, and the
entries of a wallet form one unbroken chain.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from portal.clock import utcnow
from portal.extensions import db
from portal.models import LedgerEntry, Wallet


class AlreadyBooked(Exception):
    """An entry of this kind and reference exists: the same thing is never booked twice. Nothing was changed."""


class NotCovered(Exception):
    """The wallet has less available than was to be taken. Nothing was changed."""


def open_wallet(account_id: str) -> Wallet:
    """Give a new account its empty wallet."""
    wallet = Wallet(account_id=account_id, balance=0, held=0, total=0, seq=0)
    db.session.add(wallet)
    db.session.flush()
    return wallet


def lock(account_id: str) -> None:
    """Take the wallet's lock until the caller's transaction ends: before the account, the payment and everything else
    of it, or MariaDB breaks one of two off. Raises LookupError for an account without a wallet."""
    wallet = sa.select(Wallet.account_id).where(Wallet.account_id == account_id).with_for_update()
    if db.session.scalar(wallet) is None:
        raise LookupError(f"account {account_id} has no wallet")


def credit(
    account_id: str,
    amount: int,
    *,
    kind: str,
    reference: str,
    actor: str = "system",
    meta: dict[str, Any] | None = None,
) -> LedgerEntry:
    """Add credit.

    amount: milli-credits, above zero. kind: one of `models.ledger.KINDS`. reference: what it is for, unique by kind.
    Raises AlreadyBooked; ValueError for an amount that is no credit; LookupError for an account without a wallet.
    """
    if amount <= 0:
        raise ValueError("a credit is more than nothing")
    return _book(account_id, amount, kind, reference, actor, meta)


def adjust(account_id: str, amount: int, *, reference: str, actor: str, reason: str) -> LedgerEntry:
    """Add or take credit by hand, with who and why.

    amount: milli-credits; below zero takes, never more than is available.
    Raises NotCovered, AlreadyBooked; ValueError without an amount or a reason.
    """
    if not amount or not reason.strip():
        raise ValueError("an adjustment has an amount and a reason")
    return _book(account_id, amount, "adjustment", reference, actor, {"reason": reason.strip()})


def set_aside(account_id: str, amount: int) -> None:
    """Hold milli-credits that may be taken later, so that nobody spends them meanwhile. Raises NotCovered."""
    _hold(account_id, amount)


def release(account_id: str, amount: int) -> None:
    """Give back what was set aside, in milli-credits. The caller knows by a row of its own that it still is."""
    _hold(account_id, -amount)


def take_aside(
    account_id: str, amount: int, *, kind: str, reference: str, actor: str, meta: dict[str, Any] | None = None
) -> LedgerEntry:
    """Take what was set aside for good. amount: milli-credits, above zero. Raises AlreadyBooked; ValueError."""
    if amount <= 0:
        raise ValueError("what is taken is more than nothing")
    return _book(account_id, -amount, kind, reference, actor, meta, held=amount)


def statement(account_id: str, *, before_seq: int | None = None, limit: int = 50) -> Sequence[LedgerEntry]:
    """A page of the account's entries, newest first. before_seq: where the page before it ended."""
    query = (
        sa.select(LedgerEntry).where(LedgerEntry.account_id == account_id).order_by(LedgerEntry.seq.desc()).limit(limit)
    )
    if before_seq is not None:
        query = query.where(LedgerEntry.seq < before_seq)
    return db.session.scalars(query).all()


def _book(
    account_id: str,
    amount: int,
    kind: str,
    reference: str,
    actor: str,
    meta: dict[str, Any] | None,
    held: int = 0,
) -> LedgerEntry:
    now: dt.datetime = utcnow()
    try:
        with db.session.begin_nested():
            after, seq = _move(account_id, amount, held)
            entry = LedgerEntry(
                account_id=account_id,
                seq=seq,
                kind=kind,
                amount=amount,
                balance_before=after - amount,
                balance_after=after,
                reference=reference,
                actor=actor,
                meta=meta or {},
                created_at=now,
            )
            db.session.add(entry)
            db.session.flush()
    except sa.exc.IntegrityError as error:
        if not _is_booked(kind, reference):
            raise  # a mistaken kind told as "already booked" would be a payment that is never credited
        raise AlreadyBooked(f"{kind} {reference}") from error
    return entry


def _is_booked(kind: str, reference: str) -> bool:
    entry = sa.select(LedgerEntry.id).where(LedgerEntry.kind == kind, LedgerEntry.reference == reference)
    return db.session.scalar(entry) is not None


def _hold(account_id: str, amount: int) -> None:
    if not amount:
        return
    enough = Wallet.balance - Wallet.held >= amount if amount > 0 else Wallet.held >= -amount
    held = sa.update(Wallet).where(Wallet.account_id == account_id, enough).values(held=Wallet.held + amount)
    if db.session.execute(held, execution_options={"synchronize_session": False}).rowcount != 1:  # type: ignore[attr-defined]
        raise NotCovered(account_id)


def _move(account_id: str, amount: int, held: int) -> tuple[int, int]:
    """held: how much of what is taken was set aside before."""
    values: dict[str, Any] = {"held": Wallet.held - held} if held else {}
    values |= {"balance": Wallet.balance + amount, "seq": Wallet.seq + 1}
    if amount > 0:
        values["total"] = Wallet.balance + amount
        values["credited_seq"] = Wallet.seq + 1
    update = (
        sa.update(Wallet)
        .where(Wallet.account_id == account_id, Wallet.balance - Wallet.held + amount + held >= 0, Wallet.held >= held)
        .ordered_values(
            *(
                (getattr(Wallet, name), values[name])
                for name in ("total", "credited_seq", "balance", "held", "seq")
                if name in values
            )
        )
    )
    result = db.session.execute(update, execution_options={"synchronize_session": False})
    if result.rowcount != 1:  # type: ignore[attr-defined]
        if db.session.scalar(sa.select(Wallet.account_id).where(Wallet.account_id == account_id)) is None:
            raise LookupError(f"account {account_id} has no wallet")
        raise NotCovered(account_id)
    row = db.session.execute(sa.select(Wallet.balance, Wallet.seq).where(Wallet.account_id == account_id)).one()
    return row.balance, row.seq
