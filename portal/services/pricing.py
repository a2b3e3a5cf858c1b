"""What a token costs: the rates of a model at a provider, at an instant.

A price row is either rates of our own or what the provider asks plus the markup; both end as `Rates`, which a request
takes with it from admission to settlement. Operators add rows (`set_price`) and never edit one that has been in force.
Money moves elsewhere (`ledger`).
"""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from portal.clock import utcnow
from portal.extensions import db
from portal.freshness import changing
from portal.models import LanguageModel, Price, Provider

MILLION = 1_000_000
HIGHEST = 190
"""Of either kind: times the largest markup it still is a whole number of four bytes, which rows of usage hold."""
_DECIMAL = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,6}))?")


class Rates(NamedTuple):
    """Milli-credits for a million tokens: of prompt, of prompt that the upstream had cached, of answer."""

    prompt: int
    cached: int
    answer: int

    def charge(self, prompt: int, answer: int, cached: int = 0) -> int:
        """Milli-credits for so many tokens. cached: those of the prompt's; a part of a milli-credit is rounded up."""
        return -(-((prompt - cached) * self.prompt + cached * self.cached + answer * self.answer) // MILLION)


def dearest(prices: Iterable[Rates]) -> Rates | None:
    """Of each rate the highest; None of none."""
    columns = list(zip(*prices, strict=True))
    return Rates(*(max(column) for column in columns)) if columns else None


def rates(price: Price, markup_percent: int) -> Rates:
    """The rates of a price row. A dollar is 1,000 credits; what a part of a milli-credit is left is rounded up."""
    if price.kind == "cost-plus":
        asked = (price.usd_in, price.usd_in if price.usd_cached is None else price.usd_cached, price.usd_out)
        # Millionths of a dollar for a million tokens are milli-credits for a million tokens: 1e-6 $ = 1e-3 credits.
        return Rates(*(-(-(usd or 0) * (100 + markup_percent) // 100) for usd in asked))
    rate_in = price.rate_in or 0
    return Rates(rate_in, rate_in if price.rate_cached is None else price.rate_cached, price.rate_out or 0)


class BadPrice(ValueError):
    """`str()` says what is wrong with it."""


class Amounts(NamedTuple):
    """A price as an operator states it, in millionths. cached: None for the same as prompt.

    kind `rate`: of a credit for 1,000 tokens (1 is the 1× of a local model). kind `cost-plus`: of a US dollar for a
    million tokens.
    """

    kind: str
    prompt: int
    answer: int
    cached: int | None = None


class DatedPrice(NamedTuple):
    """A price row. provider: where it holds; empty for wherever the model is at home. state: past, now, to come."""

    model: str
    provider: str
    valid_from: dt.datetime
    state: str
    amounts: Amounts


def parse_amount(text: str) -> int:
    """`1.5` → 1,500,000 millionths, exactly. Raises BadPrice."""
    found = _DECIMAL.fullmatch(text.strip())
    amount = -1 if found is None else int(found[1]) * MILLION + int((found[2] or "").ljust(6, "0"))
    if not 0 <= amount <= HIGHEST * MILLION:
        raise BadPrice(f"{text!r} is no amount from 0 to {HIGHEST} with at most six decimals")
    return amount


def tell_amount(millionths: int) -> str:
    """1,500,000 millionths → `1.5`."""
    return f"{millionths // MILLION}.{millionths % MILLION:06d}".rstrip("0").rstrip(".")


def set_price(
    model_name: str, amounts: Amounts, *, provider: str = "", valid_from: dt.datetime | None = None
) -> dt.datetime:
    """Add a price of a model, from now or a later instant on, everywhere or at one provider. Returns that instant.

    One of the same instant is replaced: it is still to come, and nobody has paid it. Raises BadPrice; commits.
    """
    now = utcnow()
    since = now if valid_from is None else valid_from
    if since < now:
        raise BadPrice("A price can't begin in the past: what was charged until now was charged at the price of then")
    model = db.session.scalar(sa.select(LanguageModel).where(LanguageModel.name == model_name))
    if model is None:
        names = db.session.scalars(sa.select(LanguageModel.name).order_by(LanguageModel.name))
        raise BadPrice(f"There is no model {model_name}; there are {', '.join(names)}")
    providers = db.session.scalars(sa.select(Provider.name).order_by(Provider.name)).all()
    if provider and provider not in providers:
        raise BadPrice(f"There is no provider {provider}; there are {', '.join(providers)}")
    prefix = "usd" if amounts.kind == "cost-plus" else "rate"
    values = {prefix + "_in": amounts.prompt, prefix + "_out": amounts.answer, prefix + "_cached": amounts.cached}
    same = sa.and_(Price.model_id == model.id, Price.provider == provider, Price.valid_from == since)
    with changing("catalog"):
        db.session.execute(sa.delete(Price).where(same))
        db.session.add(Price(model_id=model.id, provider=provider, valid_from=since, kind=amounts.kind, **values))
        db.session.commit()
    return since


def dated_prices(model_name: str | None = None) -> Sequence[DatedPrice]:
    """Every price row, or a model's: by model and provider, the newest first."""
    now = utcnow()
    query = sa.select(Price, LanguageModel.name).join(LanguageModel, LanguageModel.id == Price.model_id)
    if model_name is not None:
        query = query.where(LanguageModel.name == model_name)
    found: list[DatedPrice] = []
    in_force: set[tuple[str, str]] = set()
    for row, model in db.session.execute(query.order_by(LanguageModel.name, Price.provider, Price.valid_from.desc())):
        state = "to come" if row.valid_from > now else "past" if (model, row.provider) in in_force else "now"
        if state == "now":
            in_force.add((model, row.provider))
        own = (row.rate_in, row.rate_out, row.rate_cached)
        if row.kind == "cost-plus":
            own = (row.usd_in, row.usd_out, row.usd_cached)
        amounts = Amounts(row.kind, own[0] or 0, own[1] or 0, own[2])
        found.append(DatedPrice(model, row.provider, row.valid_from, state, amounts))
    return found
