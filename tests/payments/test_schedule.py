"""When the provider is asked again: seldomer with a payment's age, whoever asked in between, and not beyond its end."""

import datetime as dt

from portal.services.payments.schedule import MINUTES, next_ask
from portal.services.payments.verdict import LATE

BEGUN = dt.datetime(2026, 11, 21, 6, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
FAR = BEGUN + dt.timedelta(days=9)


def test_questions_widen_until_they_come_every_six_hours() -> None:
    """PAY-03, a widening schedule: the whole of it, as the sweep goes through it."""
    at, gaps = BEGUN, []
    for _ in range(len(MINUTES) + 2):
        after = next_ask(BEGUN, at, FAR)
        gaps.append((after - at) // MINUTE)
        at = after
    assert gaps == [*MINUTES, MINUTES[-1], MINUTES[-1]]


def test_a_page_that_asks_every_two_seconds_puts_nothing_off() -> None:
    """PAY-03: after a minute of it, the next question comes a minute later and not after six hours."""
    after = [next_ask(BEGUN, BEGUN + dt.timedelta(seconds=2 * n), FAR) for n in range(31)]
    assert after[-1] == BEGUN + 2 * MINUTE


def test_the_last_question_is_right_after_the_end() -> None:
    """PAY-03: none far beyond it, which would leave the customer without an answer; what is late is asked again."""
    end = BEGUN + dt.timedelta(hours=24)
    last = end + LATE + dt.timedelta(seconds=1)
    assert next_ask(BEGUN, end - MINUTE, end) == last
    assert next_ask(BEGUN, last - dt.timedelta(seconds=5), end) == last
    assert next_ask(BEGUN, last, end) == last + dt.timedelta(hours=6)
