"""Which time a paid period gives, beside the subscription that runs: the rule that pages tell and payments follow.

new      nothing runs: from now on
extend   the same plan: from its end on, also when that is past and its grace runs
upgrade  a higher plan: from now on, and the time left of the old one is added, at the worth it has in the new one
convert  a lower plan, which checkout does not sell beside a higher one but a slow payment may bring: its worth prolongs
         what runs
Worth is what was paid by time, in whole seconds: not today's price, which may have been changed meanwhile. The credit
of a period that was paid stays whatever happens. Computes only.
"""

import datetime as dt
from typing import Literal, NamedTuple

from portal.models import Plan, Subscription


class Terms(NamedTuple):
    """What a period comes to. ends_at: of the subscription, with it. given: by how much later than without it.

    carried: how much of `given` the time left of the old plan has become (`upgrade` alone).
    """

    move: Literal["new", "extend", "upgrade", "convert"]
    ends_at: dt.datetime
    given: dt.timedelta
    carried: dt.timedelta = dt.timedelta()


class Rate(NamedTuple):
    """What so many seconds of a plan cost, in fils."""

    fils: int
    seconds: int


def terms(
    running: Subscription | None, plan: Plan, length: dt.timedelta, now: dt.datetime, fils: int | None = None
) -> Terms:
    """What `length` of the plan would come to now. running: what the account has, its plan loaded or loadable. fils:
    what is paid for it; by default the plan's own price."""
    paid = rate(plan) if fils is None else Rate(fils, int(length.total_seconds()))
    if running is not None and running.plan_id == plan.id:
        late = running.ends_at + length <= now  # a period shorter than the grace that it comes out of
        return Terms("new", now + length, length) if late else Terms("extend", running.ends_at + length, length)
    if running is None or running.ends_at <= now:
        return Terms("new", now + length, length)
    if plan.rank > running.plan.rank:
        carried = worth(running.ends_at - now, rate(running), paid)
        return Terms("upgrade", now + length + carried, length + carried, carried)
    given = worth(length, paid, rate(running)) if running.price_fils else length
    return Terms("convert", running.ends_at + given, given)


def rate(of: Plan | Subscription) -> Rate:
    """A plan as it is sold, or a subscription as it was paid for the latest time."""
    return Rate(of.price_fils, of.period_days * 86_400)


def worth(time: dt.timedelta, of: Rate, in_: Rate) -> dt.timedelta:
    """How long may be had at one rate for what `time` costs at another, in whole seconds, rounded down."""
    if in_.fils == 0:
        return dt.timedelta()
    seconds = int(time.total_seconds())
    return dt.timedelta(seconds=seconds * of.fils * in_.seconds // (of.seconds * in_.fils))
