"""When the provider is asked about a payment that nobody has told of: often at first, then seldom, until it is over.

Most payers are back within minutes, and the webhook comes with them; who is asked about later has lost a browser, or a
bank takes its time. The last question is after the invoice's end.
"""

import bisect
import datetime as dt
import itertools
from typing import Final

from portal.services.payments.verdict import LATE

MINUTES: Final = (1, 1, 2, 3, 5, 10, 15, 30, 60, 120, 240, 360)
"""Between one question and the next; afterwards the last again."""
_AGES: Final = tuple(itertools.accumulate(MINUTES))


def next_ask(begun: dt.datetime, now: dt.datetime, expires_at: dt.datetime) -> dt.datetime:
    """When to ask again. begun: when the payment was.

    By its age, not by how often it was asked: a customer who watched the return page for a minute would else have had
    the next question put off by six hours.
    """
    minutes = (now - begun) // dt.timedelta(minutes=1)
    step = bisect.bisect_right(_AGES, minutes)
    after = now + dt.timedelta(minutes=MINUTES[min(step, len(MINUTES) - 1)])
    end = expires_at + LATE + dt.timedelta(seconds=1)
    # Not far beyond the end: the last question is what makes it expired.
    return after if after < end or now >= end else end
