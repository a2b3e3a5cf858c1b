"""Something happened that others want to know of: written in the transaction of what happened, once an occasion."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.ids import new_id
from portal.models.base import MYSQL, Base, Id, UtcDateTime, exact


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (sa.UniqueConstraint("kind", "occasion"), MYSQL)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(exact(40))
    """Such as `cloud_budget_warning`; `services/events` has the list."""
    occasion: Mapped[str] = mapped_column(exact(120))
    """What makes it happen once: a day, a provider and an instant."""
    facts: Mapped[Any] = mapped_column(sa.JSON)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)
