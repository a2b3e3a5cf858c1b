"""Something happened that has consequences: an event, written in the transaction of what happened, and its steps.

An event is the run of its kind's graph (`tasks/graph.py`). Its steps are rows that a worker makes from the declaration;
each is a piece of work that is claimed, tried again and, when it is given up, seen.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact
from portal.models.work import Work


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        sa.UniqueConstraint("kind", "occasion"),
        sa.CheckConstraint("state in ('new', 'running', 'done', 'dead')", name="state"),
        sa.Index("ix_events_state_created_at", "state", "created_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(exact(40))
    """Such as `cloud_budget_warning`; `services/events` has the list."""
    occasion: Mapped[str] = mapped_column(exact(120))
    """What makes it happen once: a day, a provider and an instant."""
    facts: Mapped[Any] = mapped_column(sa.JSON)
    state: Mapped[str] = mapped_column(exact(10), default="new")
    """new: its steps are not there yet. dead: a step was given up, and what depends on it waits for people."""
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class EventStep(Work, Base):
    """One step of an event's graph.

    pending: its parents are not done. waiting, running, done: as every work. dead: given up after the last try.
    blocked: a parent is dead; running that again brings it back to pending.
    """

    __tablename__ = "event_steps"
    __table_args__ = (
        sa.UniqueConstraint("event_id", "name"),
        sa.CheckConstraint("state in ('pending', 'waiting', 'running', 'done', 'dead', 'blocked')", name="state"),
        sa.Index("ix_event_steps_state_due_at", "state", "due_at"),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    event_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("events.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(exact(40))
    result: Mapped[Any] = mapped_column(sa.JSON, default=dict)
    """What it found out, for the steps after it: plain values."""
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    duration_ms: Mapped[int | None]
    """Of the latest attempt."""
