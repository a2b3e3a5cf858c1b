"""What the billing page offers, with what choosing it now would come to: told by the rules that will be followed.

The dates are `services/terms`'; that a lower plan waits for a higher one's end is `payments/checkout`'s. Nothing here
decides anything.
"""

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from flask import current_app
from flask_babel import format_date, gettext as _, ngettext

from portal.config import Settings
from portal.models import Pack, Plan, Subscription
from portal.services import payments
from portal.services.papers.months import Month
from portal.services.payments import merchant
from portal.services.payments.ways import Ways
from portal.services.standing import Standing
from portal.services.terms import Terms, terms


class Offer(NamedTuple):
    """A plan as this account can have it now. terms: none while a higher plan runs. left: of the plan that runs."""

    plan: Plan
    terms: Terms | None
    left: dt.timedelta


class Shop(NamedTuple):
    """What is for sale, and how to pay. shut: there is nobody to pay. renewable: cards may be kept for renewals."""

    offers: Sequence[Offer]
    packs: Sequence[Pack]
    ways: Ways
    shut: bool
    renewable: bool

    @property
    def seen(self) -> str:
        """What a form remembers of what its reader saw: each thing with its price, credit and days."""
        return " ".join(_marks([offer.plan for offer in self.offers], self.packs).values())


def shop(standing: Standing, found: Ways, renewals: bool, now: dt.datetime) -> Shop:
    """found: the ways to pay. renewals: whether the operator has opened them."""
    plans, packs = payments.catalogue()
    offers = [_offer(plan, standing.subscription, now) for plan in plans]
    return Shop(offers, packs, found, not merchant.is_open(), renewals and found.direct)


def has_changed(item: str, seen: str) -> bool:
    """Whether this thing is sold at other terms than those that stood beside the button. seen: of the form, empty for
    a program that saw none."""
    now = _marks(*payments.catalogue()).get(item)
    return bool(seen) and now is not None and now not in seen.split()


def form_targets() -> tuple[str, ...]:
    """Where the provider leads a browser that our form has sent: its own pages, and from there a bank's or KNET's.

    Which those are only it knows, and a form is held to our policy through every redirect: any place that is encrypted.
    None while nothing can be paid.
    """
    if not merchant.is_open():
        return ()
    settings: Settings = current_app.config["PORTAL"]
    parts = urlsplit(settings.myfatoorah_base_url)
    return ("https:",) if parts.scheme == "https" else (f"{parts.scheme}://{parts.netloc}",)


def span(time: dt.timedelta) -> str:
    """`12 days and 5 hours`, rounded down to the hour."""
    hours = int(time.total_seconds()) // 3600
    days, hours = divmod(hours, 24)
    in_days = ngettext("%(num)s day", "%(num)s days", days)
    in_hours = ngettext("%(num)s hour", "%(num)s hours", hours)
    if days and hours:
        both: str = _("%(days)s and %(hours)s", days=in_days, hours=in_hours)
        return both
    told: str = in_days if days else in_hours if hours else _("less than an hour")
    return told


def month_of(month: Month) -> str:
    """`November 2026`."""
    return str(format_date(month.first_day, "MMMM yyyy"))


def _marks(plans: Sequence[Plan], packs: Sequence[Pack]) -> dict[str, str]:
    """Each thing by its id, with all that it is sold for."""
    found = {one.id: f"{one.id}:{one.price_fils}:{one.credits}:{one.period_days}" for one in plans}
    return found | {one.id: f"{one.id}:{one.price_fils}:{one.credits}" for one in packs}


def _offer(plan: Plan, running: Subscription | None, now: dt.datetime) -> Offer:
    left = max(running.ends_at - now, dt.timedelta()) if running is not None else dt.timedelta()
    if running is not None and left and running.plan.rank > plan.rank:
        return Offer(plan, None, left)
    return Offer(plan, terms(running, plan, dt.timedelta(days=plan.period_days), now), left)
