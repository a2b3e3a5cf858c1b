"""Everything that people are told of: for whom, with which facts, how urgent, and what they may do without.

A kind is a name that rows carry; its words are in `texts_*` and, where staff changed them, in `message_templates`.
Facts are plain values as they are stored: how each is written for a reader is its `Fact`.
"""

from enum import Enum
from typing import Final, NamedTuple


class Fact(Enum):
    """How a stored value becomes words."""

    TEXT = "text"
    """What people typed: cleaned of what could disturb a message, nothing in it a link, some 120 characters at most."""
    LATIN = "latin"
    """A name, a number or an address that is Latin in every language: isolated in Arabic."""
    PHONE = "phone"
    """E.164; all but its last three digits are hidden."""
    NUMBER = "number"
    CREDITS = "credits"
    """Milli-credits."""
    DINARS = "dinars"
    """Fils."""
    DAY = "day"
    """An ISO instant or day, written as a day in Kuwait."""
    MOMENT = "moment"
    """An ISO instant, written with day and time in Kuwait."""
    DURATION = "duration"
    """Seconds."""
    BILINGUAL = "bilingual"
    """{"ar": …, "en": …}"""
    CODE = "code"
    """The id of a one-time code: its digits are computed when the message is written, and stored nowhere."""


CUSTOMER, STAFF = "customer", "staff"


class Kind(NamedTuple):
    """One thing that people are told.

    facts: every placeholder of its texts but `{link}`, and how it is written. link: the page it leads to, if any.
    urgent: told at night as well. optional: the customer may do without it by WhatsApp or e-mail.
    by_email: whether e-mail is a second channel for it. in_centre: whether the portal's notification centre shows it.
    secret: its text is kept nowhere. minutes: after so long it is of no use any more.
    """

    name: str
    audience: str
    facts: dict[str, Fact]
    link: str = ""
    urgent: bool = True
    optional: bool = False
    by_email: bool = True
    in_centre: bool = True
    secret: bool = False
    minutes: int | None = None


F = Fact
_PLAN = {"plan": F.BILINGUAL}
_BUDGET = {"day": F.DAY, "used": F.NUMBER, "limit": F.NUMBER}

# fmt: off
_ALL = (
    # --- customers (NOTIF-01 to 06, 11) ---
    # No name: it goes to a number that nobody has proved, and a stranger would choose the words.
    Kind("welcome", CUSTOMER, {"credits": F.CREDITS}, "/keys"),
    Kind("subscription_confirmed", CUSTOMER, {**_PLAN, "credits": F.CREDITS, "expires": F.DAY}, "/dashboard"),
    Kind("credit_low", CUSTOMER, {"balance": F.CREDITS, "total": F.CREDITS}, "/billing", optional=True),
    Kind("credit_exhausted", CUSTOMER, {"balance": F.CREDITS}, "/billing"),
    Kind("topup_confirmed", CUSTOMER, {"credits": F.CREDITS, "balance": F.CREDITS}, "/dashboard"),
    Kind("subscription_expiring", CUSTOMER, {**_PLAN, "expires": F.DAY}, "/billing", urgent=False, optional=True),
    Kind("subscription_ended", CUSTOMER, {**_PLAN, "expires": F.DAY}, "/billing", urgent=False),
    Kind("one_time_code", CUSTOMER, {"code": F.CODE, "minutes": F.NUMBER}, by_email=False, in_centre=False,
         secret=True, minutes=10),
    Kind("password_changed", CUSTOMER, {"at": F.MOMENT}, "/forgot"),
    Kind("phone_changed", CUSTOMER, {"phone": F.PHONE, "at": F.MOMENT}, "/settings"),
    Kind("key_created", CUSTOMER, {"label": F.TEXT, "prefix": F.LATIN}, "/keys", optional=True),
    Kind("payment_failed", CUSTOMER, {"amount": F.DINARS, "reason": F.BILINGUAL}, "/billing"),
    Kind("refund_made", CUSTOMER, {"amount": F.DINARS, "credits": F.CREDITS, "balance": F.CREDITS}, "/billing"),
    Kind("invoice_ready", CUSTOMER, {"number": F.LATIN, "amount": F.DINARS}, "/billing", urgent=False, optional=True),
    Kind("member_invited", CUSTOMER, {"account": F.TEXT, "inviter": F.TEXT}, "/team", in_centre=False),
    Kind("member_removed", CUSTOMER, {"account": F.TEXT}, urgent=False),
    Kind("credit_adjusted", CUSTOMER, {"credits": F.CREDITS, "balance": F.CREDITS, "reason": F.TEXT}, "/dashboard",
         urgent=False),
    Kind("account_suspended", CUSTOMER, {"reason": F.TEXT}),
    Kind("account_restored", CUSTOMER, {}, "/dashboard"),
    # --- staff (NOTIF-07 to 11) ---
    Kind("cloud_budget_warning", STAFF, _BUDGET, "/admin"),
    Kind("cloud_budget_exhausted", STAFF, _BUDGET, "/admin"),
    Kind("address_banned", STAFF, {"address": F.LATIN, "jail": F.LATIN, "failures": F.NUMBER}, "/admin/health"),
    Kind("enterprise_customer", STAFF, {"name": F.TEXT, "email": F.LATIN, **_PLAN}, "/admin/users"),
    Kind("payment_held", STAFF, {"payment": F.LATIN, "amount": F.DINARS, "email": F.LATIN, "reason": F.BILINGUAL},
         "/admin/payments"),
    Kind("payment_concern", STAFF, {"payment": F.LATIN, "amount": F.DINARS, "email": F.LATIN, "reason": F.BILINGUAL},
         "/admin/payments"),
    Kind("refund_failed", STAFF, {"payment": F.LATIN, "amount": F.DINARS, "email": F.LATIN, "error": F.LATIN},
         "/admin/payments"),
    Kind("provider_down", STAFF, {"provider": F.LATIN, "reason": F.LATIN}, "/admin/providers"),
    Kind("provider_up", STAFF, {"provider": F.LATIN, "seconds": F.DURATION}, "/admin/providers"),
    Kind("job_stale", STAFF, {"job": F.LATIN, "since": F.MOMENT, "reason": F.LATIN}, "/admin/tasks"),
    Kind("step_dead", STAFF, {"event": F.LATIN, "step": F.LATIN, "run": F.LATIN, "error": F.LATIN}, "/admin/tasks"),
    Kind("codes_exhausted", STAFF, {"day": F.DAY, "limit": F.NUMBER}, "/admin"),
    Kind("alerts_muted", STAFF, {"about": F.BILINGUAL, "count": F.NUMBER}, "/notifications?of=staff"),
    Kind("daily_summary", STAFF, {
        "day": F.DAY, "new_users": F.NUMBER, "requests": F.NUMBER, "failed": F.NUMBER, "spent": F.CREDITS,
        "sold": F.CREDITS, "cloud": F.NUMBER, "limit": F.NUMBER, "undelivered": F.NUMBER,
    }, "/admin", minutes=12 * 60),
)
# fmt: on
KINDS: Final = {kind.name: kind for kind in _ALL}
"""By name, in the order that people see them."""
LANGUAGES: Final = ("ar", "en")
