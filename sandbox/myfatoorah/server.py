"""One simulated merchant's account under one prefix: invoices, what becomes of them, webhooks, journal, pages.

What happens to money is decided here and nowhere else: the page, the direct charge and the tests' door all come to
`settle` and `settle_refund`.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

from sandbox.journal import Journal
from sandbox.wire import Exchange, PeerLeft

from . import times
from .book import (
    CANCELED,
    CAPTURED,
    DUPLICATE,
    FAILED,
    IN_PROGRESS,
    PAID,
    PENDING,
    REFUND_CANCELED,
    REFUND_PENDING,
    REFUNDED,
    Attempt,
    Book,
    Card,
    Invoice,
    Numbers,
    Refund,
)  # fmt: skip
from .events import Event, News, event, state_of
from .knobs import ERRORS, Board, KnobError
from .webhooks import Webhooks

PAGE = "PayInvoice/Checkout"


class MyFatoorah:
    """`webhook` hears of everything from the start, and again after a reset, signed with `secret`."""

    kind = "myfatoorah"

    def __init__(self, prefix: str, webhook: str | None = None, secret: str | None = None) -> None:
        self.prefix = prefix
        self.secret = secret or None
        self._first_webhook = webhook or None
        self.numbers = Numbers()
        self.board = Board()
        self.journal = Journal()
        self.webhooks = Webhooks(self.board)
        self._open: set[Exchange] = set()
        self._empty()

    def _empty(self) -> None:
        self.book = Book()
        self.webhook = self._first_webhook
        self.status_asked: deque[float] = deque()

    def reset(self) -> None:
        """As at the start. What is still being answered or on its way belongs to a test that is over."""
        for exchange in list(self._open):
            exchange.peer.gone()
        self.board.reset()
        self.webhooks.reset()
        self.journal.clear()
        self._empty()

    # -- invoices ------------------------------------------------------------------------------------------------------

    def open_invoice(self, asked: dict[str, Any], value: Decimal, base: str) -> Invoice:
        """Put a checked order into the book. base: this server's address, for the page's URL."""
        now, knobs = self.board.time(), self.board.now
        method = next(name for name, one in knobs.method_ids.items() if one == asked["PaymentMethodId"])
        number, expiry = next(self.numbers.invoices), asked.get("ExpiryDate")
        invoice = Invoice(
            id=number, reference=f"{times.year(now)}{number % 1_000_000:06d}", at=now, value=value, method=method,
            expires_at=times.parse_local(expiry) if expiry else now + knobs.expires_days * 86_400,
            charge=Decimal(knobs.charges[method]), asked=asked,
        )  # fmt: skip
        if method == "direct":
            invoice.url = f"{base}{self.prefix}/v2/DirectPayment/{invoice.key}/{asked['PaymentMethodId']}"
        else:
            query = urlencode({"invoiceKey": invoice.key, "paymentGatewayId": asked["PaymentMethodId"]})
            invoice.url = f"{base}{self.prefix}/{self.language(invoice).capitalize()}/KWT/{PAGE}?{query}"
        self.book.add(invoice)
        return invoice

    @staticmethod
    def language(invoice: Invoice) -> str:
        return "ar" if (invoice.text("Language") or "").upper() == "AR" else "en"

    def expired(self, invoice: Invoice) -> bool:
        return not invoice.paid and invoice.expires_at <= self.board.time()

    def begin(self, invoice: Invoice, method: str | None = None) -> Attempt:
        """The attempt that is under way, a new one when there is none."""
        method = method or invoice.method
        for attempt in invoice.attempts:
            if attempt.status == IN_PROGRESS and attempt.method == method:
                return attempt
        attempt = self.numbers.attempt(invoice, self.board.time(), method)
        self.book.add_attempt(invoice, attempt)
        return attempt

    def settle(
        self,
        invoice: Invoice,
        outcome: str,
        *,
        error_code: str = "MF004",
        method: str | None = None,
        keep_card: bool = False,
        card: Card | None = None,
        anyway: bool = False,
    ) -> Attempt:
        """An attempt ends, `paid` or `failed`; webhooks go out as the knobs say. Raises KnobError for an invoice that
        is paid, canceled or expired, unless `anyway`."""
        if outcome not in ("paid", "failed") or error_code not in ERRORS:
            raise KnobError(f"outcome is paid or failed, error_code one of {', '.join(ERRORS)}")
        if not anyway and (invoice.status != PENDING or self.expired(invoice)):
            state = "Expired" if invoice.status == PENDING else invoice.status
            raise KnobError(f"invoice {invoice.id} is {state}; anyway=True pays it all the same")
        attempt = self.begin(invoice, method)
        if attempt.method != "kn":
            attempt.card = card or self._card(invoice, keep_card and outcome == "paid")
        if outcome == "paid":
            invoice.status = DUPLICATE if invoice.paid else PAID
            attempt.status, attempt.error_code = CAPTURED, ""
        else:
            attempt.status, attempt.error_code = FAILED, error_code
        self._announce([News(invoice, state, attempt) for state in self._states(outcome)])
        return attempt

    def _card(self, invoice: Invoice, keep: bool) -> Card:
        if keep and invoice.customer_key:
            return self.book.keep_card(invoice.customer_key)
        return Card("", invoice.customer_key)

    def _states(self, outcome: str) -> list[str]:
        if outcome == "failed":
            return ["FAILED"]
        others = {"failed_then_success": ["FAILED", "SUCCESS"], "success_then_failed": ["SUCCESS", "FAILED"]}
        return others.get(self.board.now.webhook_events, ["SUCCESS"])

    def way_back(self, invoice: Invoice, attempt: Attempt) -> str:
        """Where the browser goes after an attempt, our own query kept; empty: nowhere."""
        url = invoice.text("CallBackUrl" if attempt.status == CAPTURED else "ErrorUrl")
        if not url or not self.board.now.redirect:
            return ""
        parts = urlsplit(url)
        added = urlencode({"paymentId": attempt.payment_id, "Id": attempt.payment_id})
        return parts._replace(query=f"{parts.query}&{added}" if parts.query else added).geturl()

    def cancel(self, invoice: Invoice) -> None:
        """Staff cancel an unpaid invoice. Nothing is told: there is no event for it."""
        if invoice.status != PENDING:
            raise KnobError(f"invoice {invoice.id} is {invoice.status}")
        invoice.status = CANCELED

    # -- refunds -------------------------------------------------------------------------------------------------------

    def file_refund(self, invoice: Invoice, amount: Decimal, asked: dict[str, Any]) -> Refund:
        """A request to give back, for the vendor's staff."""
        now, number = self.board.time(), next(self.numbers.refunds)
        refund = Refund(
            id=number, reference=f"{times.year(now)}{number % 1_000_000:06d}", invoice_id=next(self.numbers.invoices),
            original=invoice, amount=amount, at=now, external=asked.get("ExternalIdentifier"),
            comment=asked.get("Comment"),
        )  # fmt: skip
        self.book.refunds[number] = refund
        return refund

    def settle_refund(self, refund: Refund, outcome: str) -> None:
        """The vendor's staff carry it out (`refunded`) or do not (`canceled`)."""
        if outcome not in ("refunded", "canceled"):
            raise KnobError("outcome is refunded or canceled")
        if refund.status != REFUND_PENDING:
            raise KnobError(f"refund {refund.id} is {refund.status}")
        refund.done_at = self.board.time()
        if outcome == "refunded":
            refund.status, refund.rrn = REFUNDED, f"{refund.id:012d}"
        else:
            refund.status = REFUND_CANCELED
        original = refund.original
        given_back = original.value - self.book.rest(original)
        self._announce([News(original, outcome.upper(), original.captured, refund, given_back=given_back)])

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def _announce(self, news: list[News]) -> None:
        knobs = self.board.now
        if knobs.webhook_timing == "never":
            return
        times_over = knobs.webhook_copies if knobs.webhook_copies_are_events else 1
        events = [self.word(one) for one in news for _ in range(times_over)]
        if times_over == 1:
            for one in events:
                one.copies = knobs.webhook_copies
        self.webhooks.record(events)
        events = [one for one in events if one.url]
        if knobs.webhook_timing == "before":
            self.webhooks.deliver(events)
        elif knobs.webhook_timing != "none":
            self.webhooks.deliver_soon(events, knobs.webhook_after_ms if knobs.webhook_timing == "after" else 0)

    def word(self, news: News, *, version: str | None = None, signature: str | None = None) -> Event:
        """The event as it will be posted."""
        knobs = self.board.now
        return event(
            news, number=next(self.numbers.events), url=news.invoice.text("WebhookUrl") or self.webhook or "",
            secret=self.secret, knobs=knobs, now=self.board.time(), version=version or knobs.webhook_version,
            signature=signature or knobs.webhook_signature,
        )  # fmt: skip

    def tell_again(self, invoice: Invoice) -> None:
        """Post the last event of an invoice once more, under its reference; of one without events, a new one."""
        last = next((one for one in reversed(self.webhooks.log) if one.invoice is invoice), None)
        if last is None:
            attempt = invoice.captured or (invoice.attempts[-1] if invoice.attempts else None)
            last = self.word(News(invoice, state_of(invoice), attempt))
            self.webhooks.record([last])
        last.copies = 1
        if last.url:
            self.webhooks.deliver_soon([last])

    def counters(self) -> dict[str, int]:
        return {
            **self.journal.counters, "in_flight": self.journal.in_flight, "invoices": len(self.book.invoices),
            "paid": sum(one.paid for one in self.book.invoices.values()), "refunds": len(self.book.refunds),
            **self.webhooks.counters,
        }  # fmt: skip

    # -- the wire ------------------------------------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        """Every request under this prefix."""
        from . import checkout, control, desk, routes

        path = exchange.request.path.removeprefix(self.prefix)
        if path.startswith("/__"):
            control.handle(self, exchange, path)
            return
        if path in ("", "/"):
            desk.handle(self, exchange)
            return
        if path.endswith(f"/KWT/{PAGE}"):
            checkout.handle(self, exchange)  # pages are not in the journal: it is of what the portal asked
            return
        endpoint = routes.endpoint_of(path)
        entry = self.journal.open(exchange, f"/v2/{endpoint}" if endpoint else path)
        entry.notes.update(query=exchange.request.query, target=path)
        exchange.before_last.append(lambda: self.journal.over(entry))
        exchange.peer.when_left = lambda: self.journal.over(entry)
        self._open.add(exchange)
        try:
            routes.dispatch(self, exchange, entry, endpoint)
            exchange.end()
        except PeerLeft:
            entry.outcome = "client_left"
            exchange.keep_open = False
        finally:
            self._open.discard(exchange)
            exchange.peer.when_left = None
            self.journal.close(entry, exchange)
