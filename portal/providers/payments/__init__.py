"""Who takes customers' money: MyFatoorah (`myfatoorah.py`). Plain data in and out; amounts are whole fils of KWD.

What a provider tells is told here as it stands; whether it is believed, and what follows, is `services/payments`. A
fault says whether trying again may help, and whether what was asked for may have happened all the same.
"""

import datetime as dt
from typing import Final, Literal, NamedTuple, Protocol

KWD: Final = "KWD"


class PaymentsError(Exception):
    """The provider gave no answer that we can use.

    reason: in our own words, never the provider's text unread. permanent: asking the same again changes nothing.
    in_doubt: what was asked for may have been done all the same (an answer that was lost), so that it must be looked
    for before it is asked again. retry_after: seconds to leave the provider alone. unknown: it has nothing by this key.
    """

    def __init__(
        self,
        reason: str,
        *,
        permanent: bool = False,
        in_doubt: bool = False,
        retry_after: int | None = None,
        unknown: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.permanent, self.in_doubt, self.retry_after = reason, permanent, in_doubt, retry_after
        self.unknown = unknown


class Method(NamedTuple):
    """One way to pay. id: differs between merchants; code: does not (`kn` KNET, `vm` Visa and Mastercard, `ap` Apple
    Pay …). direct: cards are charged by an API call, not on the provider's page. charge_fils: what it adds."""

    id: int
    code: str
    name_ar: str
    name_en: str
    direct: bool
    charge_fils: int


class Order(NamedTuple):
    """What a customer is about to pay.

    reference: ours, fresh for every attempt. user_field: comes back with the status; `CK-<customer>` lets the page keep
    cards. name, email, phone (E.164): the payer's. item: one line of text. language: `ar` or `en`. expires_at: the
    instant from which it can't be paid any more. callback, failure: where the browser is sent back to. webhook: empty
    for the one set at the provider.
    """

    amount_fils: int
    method_id: int
    reference: str
    user_field: str
    name: str
    email: str
    phone: str
    item: str
    language: str
    expires_at: dt.datetime
    callback: str
    failure: str
    webhook: str = ""


class Opened(NamedTuple):
    """An invoice at the provider. url: where the customer pays (or, for a direct method, where the token is posted)."""

    invoice: str
    url: str


class Card(NamedTuple):
    """A card as far as we may know it. token: the provider's, empty where it was not kept. number: masked."""

    token: str
    number: str
    brand: str
    expiry_month: str
    expiry_year: str


class Attempt(NamedTuple):
    """One try to pay an invoice (the provider's transaction). state: `waiting`, `paid`, `failed`, `released`, `held`.
    payment: the provider's payment id, opaque, with its leading zeros. error_code: `MF001` … or empty; error: the
    provider's words, for the log and staff alone."""

    payment: str
    state: Literal["waiting", "paid", "failed", "released", "held"]
    method: str
    reference: str
    error_code: str
    error: str
    card: Card | None
    at: dt.datetime | None


class Status(NamedTuple):
    """What the provider says of an invoice now.

    state: `paid` only with a captured attempt; `canceled`, else `pending`: it can still be paid. value_fils: None where
    it is no whole number of fils. currency: of value, as ISO writes it (`KD` is KWD); empty where it was not told.
    expires_at: from its date and time in Kuwait. attempts: the oldest first.
    """

    invoice: str
    state: Literal["pending", "paid", "canceled"]
    reference: str
    user_field: str
    value_fils: int | None
    currency: str
    expires_at: dt.datetime | None
    attempts: tuple[Attempt, ...]

    @property
    def paid_by(self) -> Attempt | None:
        return next((one for one in self.attempts if one.state == "paid"), None)

    def attempt(self, payment: str) -> Attempt | None:
        """The attempt of this provider's payment id."""
        return next((one for one in self.attempts if payment and one.payment == payment), None)


class Refunded(NamedTuple):
    """A refund at the provider. reference: ours (`ExternalIdentifier`), empty where it does not come back."""

    id: str
    state: Literal["pending", "refunded", "canceled"]
    amount_fils: int | None
    reference: str


class Notice(NamedTuple):
    """A webhook: a hint of what to ask about, never the truth. kind: `payment`, `refund`, or another event's name.
    invoice, reference: of the payment (for a refund: of the original one). key: the same for each delivery of the same
    event; state: as the body says. about: the provider's id of the attempt, or of the refund."""

    kind: str
    key: str
    invoice: str
    reference: str
    state: str
    about: str = ""


class PaymentProvider(Protocol):
    """A merchant's account. Every call gives up by itself; every call raises PaymentsError."""

    def methods(self) -> tuple[Method, ...]:
        """The ways to pay that this account has."""
        ...

    def open(self, order: Order) -> Opened:
        """Make an invoice that can be paid by one method."""
        ...

    def charge(self, opened: Opened, token: str) -> None:
        """Charge a kept card for an invoice of a direct method. That it came back says nothing: ask for the status."""
        ...

    def status(self, *, invoice: str = "", reference: str = "") -> Status:
        """What is known of an invoice, by its id, else by our reference. For none: PaymentsError with `unknown`."""
        ...

    def refund(self, invoice: str, amount_fils: int, reference: str, comment: str) -> Refunded:
        """Ask for money to be given back. Asking twice gives back twice: after a fault in doubt, `refunds` first."""
        ...

    def refunds(self, invoice: str) -> tuple[Refunded, ...]:
        """Every refund that was asked for on an invoice."""
        ...

    def missed(self, since: dt.datetime, until: dt.datetime, page: int) -> tuple[tuple[Notice, ...], bool]:
        """The webhooks of a time, delivered or not: (those of this page, from 1; whether there is another)."""
        ...

    def forget(self, token: str) -> None:
        """Forget a kept card."""
        ...
