"""What plans and packs cost and give, as staff edit them. In force for the next checkout and on every worker at once.

A price is whole tens of fils: the provider rounds what it charges up to two decimals, and a customer would be charged
another amount than we ask for. What was begun at an earlier price stays at that price (`payments/checkout`).
"""

import logging
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from portal import money
from portal.extensions import db
from portal.freshness import changing
from portal.models import Pack, Plan

log = logging.getLogger("portal.sale")
STEP: Final = 10
"""Fils."""
DEAREST: Final = 10_000_000
"""Fils: ten thousand dinars. Beyond it a slip of the finger is likelier than a price."""
DAYS: Final = (1, 3660)
CREDITS: Final = (1, 1_000_000_000)
"""Whole credits: packs are told by them."""
REQUESTS: Final = (1, 100_000)
"""A minute."""
Row = TypeVar("Row", Plan, Pack)
_CODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)


class BadSale(ValueError):
    """`str()` says what is wrong, and what would be right. Nothing was changed."""


class NotThere(LookupError):
    """`str()` says that there is no such plan or pack, and which there are."""


def price(text: str) -> int:
    """`5.000` → 5000 fils. Raises BadSale for what is no amount, and for what is none of ours (`check_price`)."""
    try:
        fils = money.parse_dinars(text)
    except ValueError:
        raise BadSale(f"{text!r} is no price: dinars with at most three decimals, such as 5.250") from None
    check_price(fils, least=0)
    return fils


def check_price(fils: int, *, least: int = STEP) -> None:
    """Raises BadSale, naming the nearest that is possible. least: 0 where nothing may be asked for it."""
    if not least <= fils <= DEAREST:
        raise BadSale(f"a price is from {money.dinars(least)} to {money.dinars(DEAREST)} dinars")
    if fils % STEP:
        below = fils // STEP * STEP
        near = [money.dinars(one) for one in (below, below + STEP) if least <= one <= DEAREST]
        raise BadSale(
            f"{money.dinars(fils)} is no price: the provider charges in steps of 0.010. Nearest: {' and '.join(near)}"
        )


def plans() -> Sequence[Plan]:
    """Every plan, the smallest first, those not on sale too."""
    return db.session.scalars(sa.select(Plan).order_by(Plan.rank)).all()


def packs() -> Sequence[Pack]:
    """Every pack, the smallest first, those not on sale too."""
    return db.session.scalars(sa.select(Pack).order_by(Pack.price_fils, Pack.id)).all()


def change_plan(
    plan_id: str,
    *,
    price_fils: int | None = None,
    days: int | None = None,
    credits: int | None = None,
    requests_per_minute: int | None = None,
    enabled: bool | None = None,
) -> Plan:
    """Change what is given. credits: whole ones. price_fils 0: it is not sold. Commits. Raises BadSale, NotThere.

    Prices, days and credit are those of the next purchase; requests a minute hold for everybody who has it, at once.
    """
    if price_fils is not None:
        check_price(price_fils, least=0)
    _within("days", days, DAYS)
    _within("credits", credits, CREDITS)
    _within("requests", requests_per_minute, REQUESTS)
    values = {
        "price_fils": price_fils, "period_days": days, "credits": _milli(credits),
        "requests_per_minute": requests_per_minute, "enabled": enabled,
    }  # fmt: skip
    return _change(Plan, plan_id, values)


def change_pack(
    pack_id: str, *, price_fils: int | None = None, credits: int | None = None, enabled: bool | None = None
) -> Pack:
    """As `change_plan`, but a pack is never for nothing."""
    if price_fils is not None:
        check_price(price_fils)
    _within("credits", credits, CREDITS)
    return _change(Pack, pack_id, {"price_fils": price_fils, "credits": _milli(credits), "enabled": enabled})


def add_pack(pack_id: str, *, price_fils: int, credits: int) -> Pack:
    """Put another pack on sale. pack_id: small letters, digits, hyphens. Commits. Raises BadSale."""
    if _CODE.fullmatch(pack_id) is None:
        raise BadSale(f"{pack_id!r} is no code: up to 32 small letters, digits and hyphens, such as pack-100000")
    check_price(price_fils)
    _within("credits", credits, CREDITS)
    # A checkout knows what is bought by its id alone.
    if db.session.get(Plan, pack_id) is not None or db.session.get(Pack, pack_id) is not None:
        raise BadSale(f"there is a plan or a pack {pack_id} already")
    pack = Pack(id=pack_id, price_fils=price_fils, credits=credits * money.MILLI)
    with changing("catalog"):
        db.session.add(pack)
        try:
            db.session.commit()
        except sa.exc.IntegrityError as error:
            db.session.rollback()
            raise BadSale(f"there is a pack {pack_id} already") from error
    log.info("pack added", extra={"pack": pack_id, "fils": price_fils})
    return pack


def _change(model: type[Row], code: str, values: dict[str, Any]) -> Row:
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        raise BadSale("nothing was said to change")
    with changing("catalog"):
        row = db.session.get(model, code, with_for_update=True)
        if row is None:
            known = ", ".join(db.session.scalars(sa.select(model.id).order_by(model.id)))
            db.session.rollback()
            raise NotThere(f"there is no {model.__name__.lower()} {code}; there are {known}")
        for name, value in given.items():
            setattr(row, name, value)
        db.session.commit()
    log.info("sale changed", extra={"what": code} | given)
    return row


def _within(name: str, value: int | None, bounds: tuple[int, int]) -> None:
    if value is not None and not bounds[0] <= value <= bounds[1]:
        raise BadSale(f"{name}: a whole number from {bounds[0]} to {bounds[1]}")


def _milli(credits: int | None) -> int | None:
    return None if credits is None else credits * money.MILLI
