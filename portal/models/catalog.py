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
    """What a model costs from an instant on. The price in force when a request is admitted is the price charged."""

    __tablename__ = "prices"
    __table_args__ = (
        sa.UniqueConstraint("model_id", "valid_from"),
        sa.CheckConstraint("rate_in >= 0 and rate_out >= 0", name="rates"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    model_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("models.id", ondelete="CASCADE"))
    valid_from: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    rate_in: Mapped[int]
    """Milli-credits for 1,000 prompt tokens: 1000 is the 1× rate of a local model."""
    rate_out: Mapped[int]
    """Milli-credits for 1,000 answer tokens."""


class Provider(Base):
    __tablename__ = "providers"
    __table_args__ = (
        sa.CheckConstraint("kind in ('ollama', 'ollama-cloud', 'openai-compatible')", name="kind"),
        sa.CheckConstraint("slots > 0", name="slots"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(exact(60), unique=True)
    kind: Mapped[str] = mapped_column(exact(20), default="ollama")
    url: Mapped[str] = mapped_column(exact(255))
    """Where its `/v1` begins: http(s)://host[:port][/prefix]."""
    key_variable: Mapped[str] = mapped_column(exact(60), default="")
    """The environment variable that holds its key. The key itself is never a row."""
    slots: Mapped[int] = mapped_column(default=1)
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)


class ModelOffer(Base):
    """That a provider serves a model, and by what name. A mapping, never a name pasted together."""

    __tablename__ = "model_offers"
    __table_args__ = (sa.UniqueConstraint("provider_id", "model_id"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    provider_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("providers.id", ondelete="CASCADE"))
    model_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("models.id", ondelete="CASCADE"), index=True)
    upstream_name: Mapped[str] = mapped_column(exact(200))
