"""What the provider remembers: invoices with their attempts, refunds, kept cards. A payment is in here or never was.

Ids go on where they were after a reset and begin anew with the clock after a restart: the portal's database outlives
this process, and an invoice id that came twice would be another customer's payment. JSON is made in `shapes.py`.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from . import times

PENDING, PAID, CANCELED, DUPLICATE = "Pending", "Paid", "Canceled", "DuplicatePayment"
IN_PROGRESS, CAPTURED, FAILED = "InProgress", "Succss", "Failed"  # sic: so it is on the wire
REFUND_PENDING, REFUNDED, REFUND_CANCELED = "Pending", "Refunded", "Canceled"


@dataclass(slots=True)
class Card:
    """A kept card. `customer` is the key after `CK-`; without one it is of nobody and has no token."""

    token: str
    customer: str
    number: str = "512345xxxxxx0008"
    brand: str = "Mastercard"
    name: str = "SANDBOX CUSTOMER"
    month: str = "01"
    year: str = "39"
    canceled: bool = False


@dataclass(slots=True)
class Attempt:
    """One transaction of an invoice."""

    at: float
    method: str
    payment_id: str
    transaction_id: str
    track_id: str
    reference_id: str
    authorization_id: str
    status: str = IN_PROGRESS
    error_code: str = ""
    card: Card | None = None


@dataclass(slots=True)
class Invoice:
    """One invoice. Instants are epoch seconds, `value` is KWD."""

    id: int
    reference: str
    at: float
    expires_at: float
    value: Decimal
    charge: Decimal
    method: str
    asked: dict[str, object]
    url: str = ""  # where it is paid: the page, or for a direct method where a token is posted
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    status: str = PENDING
    attempts: list[Attempt] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """A text of the order, null when it was not given."""
        given = self.asked.get(name)
        return given if isinstance(given, str) else None

    @property
    def customer_key(self) -> str:
        """Whose cards the page may keep; empty: nobody's."""
        given = self.text("UserDefinedField") or ""
        return given[3:] if given.startswith("CK-") else ""

    @property
    def paid(self) -> bool:
        return self.status in (PAID, DUPLICATE)

    @property
    def captured(self) -> Attempt | None:
        return next((attempt for attempt in self.attempts if attempt.status == CAPTURED), None)

    def item(self) -> str:
        """What is bought, in the order's words."""
        items = self.asked.get("InvoiceItems")
        names = [str(one.get("ItemName")) for one in items] if isinstance(items, list) else []
        return ", ".join(names)


@dataclass(slots=True)
class Refund:
    """A request to give back, until the vendor's staff carry it out."""

    id: int
    reference: str
    invoice_id: int
    original: Invoice
    amount: Decimal
    at: float
    external: str | None
    comment: str | None
    status: str = REFUND_PENDING
    done_at: float | None = None
    rrn: str | None = None


class Numbers:
    """The provider's counters."""

    def __init__(self) -> None:
        start = 1_000_000 + int(time.time()) // 4 % 8_000_000
        # Far apart: with one beginning for all, a refund's id found the invoice, and the mistake found its test.
        self.invoices, self.tracks = itertools.count(start), itertools.count(start + 1_000_000)
        self.refunds, self.events = itertools.count(start // 10), itertools.count(start + 20_000_000)

    def attempt(self, invoice: Invoice, at: float, method: str) -> Attempt:
        """A new transaction with ids of the form its gateway has."""
        track = next(self.tracks)
        day = times.knet_day(at)
        card_id = f"0707{invoice.id}{track}75"
        return Attempt(
            at, method, f"100{day}{track:08d}" if method == "kn" else card_id, f"{day[3:]}{track:08d}"[-15:],
            f"{times.track_day(at)}_{track}", f"{day[3:]}{track:08d}", f"B{track % 100_000:05d}",
        )  # fmt: skip


class Book:
    """All of it, oldest first, with an index for each way it is asked for."""

    def __init__(self) -> None:
        self.invoices: dict[int, Invoice] = {}
        self.refunds: dict[int, Refund] = {}
        self.cards: dict[str, Card] = {}
        self._by_key: dict[str, Invoice] = {}
        self._by_reference: dict[str, list[Invoice]] = {}
        self._by_payment: dict[str, Invoice] = {}

    def add(self, invoice: Invoice) -> None:
        self.invoices[invoice.id] = self._by_key[invoice.key] = invoice
        self._by_reference.setdefault(invoice.text("CustomerReference") or "", []).append(invoice)

    def add_attempt(self, invoice: Invoice, attempt: Attempt) -> None:
        invoice.attempts.append(attempt)
        self._by_payment[attempt.payment_id] = invoice

    def keep_card(self, customer: str) -> Card:
        card = Card("TKN-" + secrets.token_hex(12), customer)
        self.cards[card.token] = card
        return card

    def cards_of(self, customer: str) -> list[Card]:
        return [card for card in self.cards.values() if customer and card.customer == customer and not card.canceled]

    def by_page(self, key: str) -> Invoice | None:
        return self._by_key.get(key)

    def find(self, key: str, key_type: str) -> Invoice | None:
        """By InvoiceId, PaymentId, or CustomerReference (the latest that carries it). Raises LookupError for a type
        that there is not."""
        kind = key_type.lower()
        if kind == "invoiceid":
            return self.invoices.get(int(key)) if key.isascii() and key.isdecimal() else None
        if kind == "paymentid":
            return self._by_payment.get(key)
        if kind == "customerreference":
            found = self._by_reference.get(key) if key else None
            return found[-1] if found else None
        raise LookupError(key_type)

    def refunds_of(self, invoice: Invoice) -> list[Refund]:
        return [refund for refund in self.refunds.values() if refund.original is invoice]

    def rest(self, invoice: Invoice) -> Decimal:
        """What can still be asked back."""
        gone = (r.amount for r in self.refunds_of(invoice) if r.status != REFUND_CANCELED)
        return invoice.value - sum(gone, Decimal(0))

    def newest(self) -> Iterator[Invoice]:
        return reversed(self.invoices.values())
