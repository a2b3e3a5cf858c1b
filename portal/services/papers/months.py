"""Calendar months in Kuwait, as statements are made of them: their instants, their days, and how they are written."""

import datetime as dt
import re
from typing import NamedTuple

from portal import clock

_WRITTEN = re.compile(r"(2[0-9]{3})-(0[1-9]|1[0-2])")


class Month(NamedTuple):
    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> "Month":
        """`2026-11`. Raises ValueError."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise ValueError(f"not a month such as 2026-11: {text!r}")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, instant: dt.datetime) -> "Month":
        """The month in which an instant lies, in Kuwait."""
        day = clock.kuwait_day(instant)
        return cls(day.year, day.month)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    @property
    def following(self) -> "Month":
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def first_day(self) -> dt.date:
        return dt.date(self.year, self.month, 1)

    @property
    def begins(self) -> dt.datetime:
        """Its first instant, UTC."""
        return _midnight(self.first_day)

    @property
    def ends(self) -> dt.datetime:
        """The first instant of the month after it, UTC."""
        return self.following.begins

    @property
    def days(self) -> list[tuple[dt.date, dt.datetime]]:
        """Each day with its first instant, UTC."""
        count = (self.following.first_day - self.first_day).days
        return [(day, _midnight(day)) for day in (self.first_day + dt.timedelta(days=n) for n in range(count))]


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), clock.KUWAIT).astimezone(dt.UTC)
