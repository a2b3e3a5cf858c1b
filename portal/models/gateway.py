"""What the gateway leaves: one Usage row per admitted request, and a sign of life per gateway process.

An open Usage row *is* the hold: it is written before the upstream is called, so a crash leaves a row the sweeper can
settle. The hot path writes these tables with plain SQL (`services/ledger/till*.py`); the columns are told here.
"""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact

OUTCOMES = ("ok", "client_left", "upstream_failed", "timed_out", "refused", "abandoned")


class Usage(Base):
    __tablename__ = "usage_records"
    __table_args__ = (
        sa.CheckConstraint("state in ('open', 'settled')", name="state"),
        sa.CheckConstraint("cost >= 0 and cost <= hold", name="cost"),
        sa.CheckConstraint("prompt_tokens >= 0 and answer_tokens >= 0", name="tokens"),
        sa.Index("ix_usage_records_account_id_created_at", "account_id", "created_at"),
        sa.Index("ix_usage_records_state_created_at", "state", "created_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    """The request's own id, as told in `x-request-id` behind `req_`."""
    account_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("wallets.account_id"))
    api_key_id: Mapped[str] = mapped_column(Id)
    process_id: Mapped[str] = mapped_column(Id)
    """The gateway process that runs it: when that process is gone, so is the request."""
    model: Mapped[str] = mapped_column(exact(120))
    provider: Mapped[str] = mapped_column(exact(60), default="")
    location: Mapped[str] = mapped_column(exact(8), default="local")
    failover: Mapped[bool] = mapped_column(default=False)
    """It went to the model's cloud twin, at the twin's price."""
    rate_in: Mapped[int]
    """Milli-credits for a million tokens, as are the other rates."""
    rate_out: Mapped[int]
    rate_cached: Mapped[int]
    streamed: Mapped[bool]
    state: Mapped[str] = mapped_column(exact(8))
    hold: Mapped[int] = mapped_column(sa.BigInteger)
    outcome: Mapped[str] = mapped_column(exact(16), default="")
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    answer_tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0)
    """Those of the prompt's that the upstream had in its cache."""
    estimated: Mapped[bool] = mapped_column(default=False)
    """The upstream gave no counts: delivered pieces were counted instead."""
    cost: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    attempts: Mapped[str] = mapped_column(sa.String(1000), default="")
    """JSON: the providers that were tried before the one above, and what was wrong with each."""
    waited_ms: Mapped[int | None]
    """In line for a slot."""
    first_byte_ms: Mapped[int | None]
    duration_ms: Mapped[int | None]
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    settled_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class GatewayProcess(Base):
    """A gateway process, and when it was last alive. Its open requests are swept when it has been silent for long."""

    __tablename__ = "gateway_processes"
    __table_args__ = (MYSQL,)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    host: Mapped[str] = mapped_column(exact(120))
    pid: Mapped[int]
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, index=True)
