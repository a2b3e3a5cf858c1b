"""One simulated WhatsApp account under one prefix: knobs, messages, webhooks, journal, and a page of the phones."""

from __future__ import annotations

import time
from typing import Any

from sandbox.journal import Journal
from sandbox.wire import Exchange, PeerLeft

from .book import Book, Message
from .delivery import Delivery
from .knobs import Board, Knobs
from .shapes import EVENTS, SUBSCRIBABLE, dumps, event_json
from .webhooks import Webhook, Webhooks


class WhatsApp:
    """`webhook` is an address that hears of every event from the start, and again after a reset."""

    kind = "whatsapp"

    def __init__(self, prefix: str, webhook: str | None = None) -> None:
        self.prefix = prefix
        self._first_webhook = webhook or None
        self.board = Board()
        self.journal = Journal()
        self.webhooks = Webhooks(lambda: self.board.now)
        self._open: set[Exchange] = set()
        self._empty_book()
        self.only_webhook(self._first_webhook)

    def _empty_book(self) -> None:
        self.book = Book()
        self.delivery = Delivery(
            lambda: self.board.now.session == "online", self._moved, lambda: self.board.now.last_status
        )

    def only_webhook(self, url: str | None) -> None:
        """This address hears of everything and no other of anything; None: nobody does."""
        self.webhooks.registered.clear()
        if url is not None:
            self.webhooks.add(Webhook("sandbox", url, SUBSCRIBABLE))

    def turn(self, values: dict[str, Any]) -> None:
        """Set knobs. Raises KnobError."""
        self.board.turn(values)
        self.delivery.connected()  # whatever still may not go out waits again

    def reset(self) -> None:
        """As at the start. What is still being answered or on its way belongs to a test that is over."""
        for exchange in list(self._open):
            exchange.peer.gone()
        self.board.reset()
        self.delivery.stop()
        self.webhooks.reset()
        self._empty_book()
        self.only_webhook(self._first_webhook)
        self.journal.clear()

    # -- messages ------------------------------------------------------------------------------------------------------

    def accept(self, wanted: dict[str, Any], device: str, deliver_at: float | None, knobs: Knobs) -> Message:
        """Put a checked request into the book and on its way."""
        now = time.time()
        unreachable = "the phone is not registered on WhatsApp" if wanted["phone"] in knobs.unreachable else None
        message = Message(
            phone=wanted["phone"], message=wanted["message"], device=device, reference=wanted.get("reference"),
            priority=wanted.get("priority") or "normal", at=now, deliver_at=max(deliver_at or now, now),
            deliver_ms=knobs.deliver_ms, read_ms=knobs.read_ms, fail_with=knobs.fail_with or unreachable,
            visible_at=now + knobs.hidden_ms / 1000,
        )  # fmt: skip
        self.book.add(message)
        self._tell(message, "new")
        self.delivery.take(message)
        return message

    def _moved(self, message: Message, step: str) -> None:
        self.book.reached[step] += 1
        self._tell(message, step)

    def _tell(self, message: Message, happened: str) -> None:
        name = EVENTS[self.board.now.vintage][happened]
        if self.webhooks.wanted(name):
            self.webhooks.tell(message, name, dumps(event_json(message, happened, self.board.now)))

    def counters(self) -> dict[str, int]:
        return {
            **self.journal.counters, "in_flight": self.journal.in_flight, **self.book.counters(),
            "waiting_for_device": self.delivery.waiting(), **self.webhooks.counters,
        }  # fmt: skip

    # -- the wire ------------------------------------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        """Every request under this prefix."""
        from . import control, inbox, routes

        path = exchange.request.path.removeprefix(self.prefix)
        if path.startswith("/__"):
            control.handle(self, exchange, path)
            return
        if path in ("", "/"):
            inbox.handle(self, exchange)  # not in the journal: an open page asks every three seconds
            return
        bare = path.removeprefix("/v1") if path.startswith("/v1/") else path
        entry = self.journal.open(exchange, bare, call=bare == "/messages" and exchange.request.method == "POST")
        entry.notes.update(v1=bare != path, query=exchange.request.query)
        exchange.before_last.append(lambda: self.journal.over(entry))
        exchange.peer.when_left = lambda: self.journal.over(entry)
        self._open.add(exchange)
        try:
            routes.dispatch(self, exchange, entry, bare)
            exchange.end()
        except PeerLeft:
            entry.outcome = "client_left"
            exchange.keep_open = False
        finally:
            self._open.discard(exchange)
            exchange.peer.when_left = None
            self.journal.close(entry, exchange)
