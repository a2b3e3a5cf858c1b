"""Which time a paid period gives, beside the subscription that runs: the rule that pages tell and payments follow.

new      nothing runs: from now on
extend   the same plan: from its end on, also when that is past and its grace runs
upgrade  a higher plan: from now on, and the time left of the old one is added, at the worth it has in the new one
convert  a lower plan, which checkout does not sell beside a higher one but a slow payment may bring: its worth prolongs
         what runs
Worth is price by time, in whole seconds; the credit of a period that was paid stays whatever happens. Computes only.
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


def terms(running: Subscription | None, plan: Plan, length: dt.timedelta, now: dt.datetime) -> Terms:
    """What `length` of the plan would come to now. running: what the account has, its plan loaded or loadable."""
    if running is not None and running.plan_id == plan.id:
        late = running.ends_at + length <= now  # a period shorter than the grace that it comes out of
        return Terms("new", now + length, length) if late else Terms("extend", running.ends_at + length, length)
    if running is None or running.ends_at <= now:
        return Terms("new", now + length, length)
    if plan.rank > running.plan.rank:
        carried = worth(running.ends_at - now, running.plan, plan)
        return Terms("upgrade", now + length + carried, length + carried, carried)
    given = worth(length, plan, running.plan)
    return Terms("convert", running.ends_at + given, given)


def worth(time: dt.timedelta, of: Plan, in_: Plan) -> dt.timedelta:
    """How long `in_` may be had for what `time` of the other plan costs, in whole seconds, rounded down."""
    if in_.price_fils == 0:
        return dt.timedelta()
    seconds = int(time.total_seconds())
    return dt.timedelta(seconds=seconds * of.price_fils * in_.period_days // (of.period_days * in_.price_fils))
