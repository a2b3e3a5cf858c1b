"""How an account's plan stands at the moment, for the pages: what runs, until when, and what happens then.

The clock is asked, not only the row's state: between an end and the job that carries it out the page must not promise
a plan that is over. The rules are `subscriptions`' and `renewals`'.
"""

import datetime as dt
from typing import Literal, NamedTuple

from portal.models import Subscription
from portal.services import renewable, subscriptions


class Standing(NamedTuple):
    """free: nothing that was paid for runs. over: its end is past, and the account is about to be free.

    kept_until: the end of the grace, while it runs. renews: a kept card is charged before the end.
    """

    state: Literal["free", "active", "cancelled", "grace", "over"]
    subscription: Subscription | None = None
    kept_until: dt.datetime | None = None
    renews: bool = False

    @property
    def ends_at(self) -> dt.datetime | None:
        return None if self.subscription is None else self.subscription.ends_at


def of_account(account_id: str, now: dt.datetime) -> Standing:
    """One query; some more where a card may renew it or its end is past."""
    row = subscriptions.running(account_id)
    if row is None:
        return Standing("free")
    if row.ends_at > now:
        if row.state == "cancelled":
            return Standing("cancelled", row)
        return Standing("active", row, renews=row.card_id is not None and not renewable.obstacle(row))
    if row.state != "cancelled" and (until := subscriptions.grace_ends(row)) > now:
        return Standing("grace", row, kept_until=until)
    return Standing("over", row)
