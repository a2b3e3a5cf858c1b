"""What the timetable did: one row a job, for the clock to go by and for people to see.

`next_at` decides when a job is due; whoever moves it on by a conditional UPDATE runs it. The store's own entries only
say when to look.
"""

import datetime as dt

from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import MYSQL, Base, UtcDateTime, exact


class ScheduledJob(Base):
    __tablename__ = "scheduled_jobs"
    __table_args__ = (MYSQL,)

    name: Mapped[str] = mapped_column(exact(60), primary_key=True)
    next_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    run: Mapped[int] = mapped_column(default=0)
    """The number of the latest run: a result is written by the latest alone."""
    running_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    """A run that has not ended by then died; until then no other begins."""
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    succeeded_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    duration_ms: Mapped[int | None]
    error: Mapped[str] = mapped_column(exact(300), default="")
    """Of the latest run; empty when it went well."""
    failures: Mapped[int] = mapped_column(default=0)
    """In a row."""
    failing_since: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
