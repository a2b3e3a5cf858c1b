"""When the provider is asked about a payment that nobody has told of: often at first, then seldom, until it is over.

Most payers are back within minutes, and the webhook comes with them; who is asked about later has lost a browser, or a
bank takes its time. The last question is after the invoice's end.
"""

import datetime as dt
from typing import Final

from portal.services.payments.verdict import LATE

MINUTES: Final = (1, 1, 2, 3, 5, 10, 15, 30, 60, 120, 240, 360)
"""Between one question and the next; afterwards the last again."""


def next_ask(asks: int, now: dt.datetime, expires_at: dt.datetime) -> dt.datetime:
    """When to ask again. asks: how often it was asked, this time included."""
    after = now + dt.timedelta(minutes=MINUTES[min(asks, len(MINUTES)) - 1 if asks else 0])
    end = expires_at + LATE + dt.timedelta(seconds=1)
    # Not far beyond the end: the last question is what makes it expired.
    return after if after < end or now >= end else end
