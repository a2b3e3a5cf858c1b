"""What a row needs to be a piece of work: handed out, claimed, tried again, given up, whoever dies meanwhile.

The queue only wakes workers; whether something is to be done, when and how often it was tried stands here. So a store
that forgot everything costs some seconds and loses nothing. The rules are `services/work.py`.
"""

import datetime as dt

from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.models.base import UtcDateTime, exact


class Work:
    """Mixed into a row. A state of `waiting` is due at `due_at`; one of `running` is somebody's until `lease_until`."""

    state: Mapped[str] = mapped_column(exact(10), default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    """How often it was begun; also who holds it: a result is written only by the attempt that is the latest."""
    due_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    handed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    """When it was last given to the queue, which may have lost it."""
    lease_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str] = mapped_column(exact(300), default="")
    """What was wrong with the latest attempt, in our own words."""
