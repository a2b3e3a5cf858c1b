"""What is sold: plans, packs, models, their dated prices, and the providers that serve them.

Operators edit these rows; no page, no translation and no code names a price, a limit or an amount of credit.
"""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact


class Plan(Base):
    __tablename__ = "plans"
    __table_args__ = (
        sa.CheckConstraint("price_fils >= 0 and price_fils % 10 = 0", name="price"),
        sa.CheckConstraint("requests_per_minute > 0", name="requests_per_minute"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(exact(32), primary_key=True)
    """The code: basic, pro, enterprise."""
    name_ar: Mapped[str] = mapped_column(sa.String(60))
    name_en: Mapped[str] = mapped_column(sa.String(60))
    rank: Mapped[int] = mapped_column(unique=True)
    """A plan has the models of every plan of a lower or equal rank."""
    price_fils: Mapped[int]
    period_days: Mapped[int] = mapped_column(default=30)
    credits: Mapped[int] = mapped_column(sa.BigInteger)
    """Milli-credits granted for a period."""
    requests_per_minute: Mapped[int]
    priority: Mapped[int] = mapped_column(default=0)
    """Its place in line: each step goes ahead of those who came up to `line.AGEING_SECONDS` earlier."""
    failover: Mapped[bool] = mapped_column(default=True)
    """Whether its requests may go to a model's cloud twin while the local servers are busy."""
    enabled: Mapped[bool] = mapped_column(default=True)

    def name(self, language: str) -> str:
        return self.name_ar if language == "ar" else self.name_en


class Pack(Base):
    __tablename__ = "packs"
    __table_args__ = (sa.CheckConstraint("price_fils > 0 and price_fils % 10 = 0", name="price"), MYSQL)

    id: Mapped[str] = mapped_column(exact(32), primary_key=True)
    price_fils: Mapped[int]
    credits: Mapped[int] = mapped_column(sa.BigInteger)
    """Milli-credits."""
    enabled: Mapped[bool] = mapped_column(default=True)


class LanguageModel(Base):
    """One model as customers call it. What a server calls it stands in ModelOffer."""

    __tablename__ = "models"
    __table_args__ = (
        sa.CheckConstraint("location in ('local', 'cloud')", name="location"),
        sa.CheckConstraint("context_tokens > 0 and answer_tokens > 0", name="tokens"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(exact(120), unique=True)
    aliases: Mapped[str] = mapped_column(sa.String(255), default="")
    """Further names, parted by blanks."""
    summary_ar: Mapped[str] = mapped_column(sa.String(255), default="")
    summary_en: Mapped[str] = mapped_column(sa.String(255), default="")
    location: Mapped[str] = mapped_column(exact(8), default="local")
    plan_id: Mapped[str | None] = mapped_column(exact(32), sa.ForeignKey("plans.id"))
    """The lowest plan that has it; none means nobody may use it, under any name (MODEL-04)."""
    context_tokens: Mapped[int] = mapped_column(default=8192)
    answer_tokens: Mapped[int] = mapped_column(default=8192)
    """The longest answer it gives: what a request without a limit of its own sets aside."""
    capabilities: Mapped[str] = mapped_column(exact(120), default="completion")
    """Ollama's words, parted by blanks: completion, tools, vision, thinking, embedding."""
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    plan: Mapped[Plan | None] = relationship()


class Price(Base):
    """What a model costs from an instant on. The price in force when a request is admitted is the price charged.

    kind `rate`: rates in milli-credits for a million tokens; 1,000,000 is the 1× of a local model.
    kind `cost-plus`: what a provider asks, in millionths of a US dollar for a million tokens; the markup is a setting.
    Without a cached rate, cached prompt tokens cost as much as others.
    """

    __tablename__ = "prices"
    __table_args__ = (
        sa.UniqueConstraint("model_id", "provider", "valid_from"),
        sa.CheckConstraint(
            "(kind = 'rate' and rate_in >= 0 and rate_out >= 0 and (rate_cached is null or rate_cached >= 0)) or "
            "(kind = 'cost-plus' and usd_in >= 0 and usd_out >= 0 and (usd_cached is null or usd_cached >= 0))",
            name="rates",
        ),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    model_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("models.id", ondelete="CASCADE"))
    provider: Mapped[str] = mapped_column(exact(60), default="")
    """A provider's name: the price there alone. Empty: wherever the model is at home (`LanguageModel.location`)."""
    valid_from: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    kind: Mapped[str] = mapped_column(exact(10), default="rate")
    rate_in: Mapped[int | None]
    rate_out: Mapped[int | None]
    rate_cached: Mapped[int | None]
    usd_in: Mapped[int | None] = mapped_column(sa.BigInteger)
    usd_out: Mapped[int | None] = mapped_column(sa.BigInteger)
    usd_cached: Mapped[int | None] = mapped_column(sa.BigInteger)


class Provider(Base):
    """One upstream. Workers note its state here for people to see; what they go by is in the shared store."""

    __tablename__ = "providers"
    __table_args__ = (
        sa.CheckConstraint("kind in ('ollama', 'ollama-cloud', 'openai-compatible')", name="kind"),
        sa.CheckConstraint("location in ('local', 'cloud')", name="location"),
        sa.CheckConstraint("state in ('unknown', 'up', 'resting', 'down')", name="state"),
        sa.CheckConstraint("slots > 0", name="slots"),
        sa.CheckConstraint("weight > 0", name="weight"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(exact(60), unique=True)
    """Small letters, digits and hyphens."""
    kind: Mapped[str] = mapped_column(exact(20), default="ollama")
    location: Mapped[str] = mapped_column(exact(8), default="local")
    """`cloud` counts against the day's budget, and what asks to stay local never goes there."""
    url: Mapped[str] = mapped_column(exact(255))
    """Where its `/v1` begins: http(s)://host[:port][/prefix]."""
    key_variable: Mapped[str] = mapped_column(exact(60), default="")
    """The environment variable that holds its key. The key itself is never a row."""
    slots: Mapped[int] = mapped_column(default=1)
    """Requests it answers at once."""
    weight: Mapped[int] = mapped_column(default=1)
    """How much more a slot of it can do than one of another: its share of the requests."""
    enabled: Mapped[bool] = mapped_column(default=True)
    state: Mapped[str] = mapped_column(exact(8), default="unknown")
    state_reason: Mapped[str] = mapped_column(exact(120), default="")
    state_since: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[str] = mapped_column(exact(40), default="")
    probed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)


class ModelOffer(Base):
    """That a provider serves a model, and by what name. A mapping, never a name pasted together.

    An offer at a cloud provider of a model that is at home locally is the model's cloud twin.
    """

    __tablename__ = "model_offers"
    __table_args__ = (sa.UniqueConstraint("provider_id", "model_id"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    provider_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("providers.id", ondelete="CASCADE"))
    model_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("models.id", ondelete="CASCADE"), index=True)
    upstream_name: Mapped[str] = mapped_column(exact(200))
    present: Mapped[bool | None]
    """As the last probe found it; None until the first. What is not there is not offered."""
    capabilities: Mapped[str | None] = mapped_column(exact(120))
    """As found; None where the provider doesn't tell, and the model's own row counts."""
    context_tokens: Mapped[int | None]
    """As found."""
