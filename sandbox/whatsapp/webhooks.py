"""Telling the customer's own server what became of a message: registered addresses, signed posts, patient retries.

Posts of one message keep their order (until one has to be retried), those of different messages run beside each other.
It knows the events' bodies only as bytes; `shapes.py` makes them.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.queue import Queue

from sandbox.posting import post

from .book import Message, new_id
from .knobs import Knobs

LANES = 8
KEEP = 5000


@dataclass
class Webhook:
    """A registered address and the events it wants."""

    name: str
    url: str
    events: frozenset[str]
    device: str | None = None
    id: str = field(default_factory=new_id)

    def told(self) -> dict[str, Any]:
        return {
            "id": self.id, "name": self.name, "url": self.url, "events": sorted(self.events), "device": self.device,
            "status": "active",
        }  # fmt: skip


@dataclass
class _Post:
    webhook: Webhook
    event: str
    body: bytes
    message: Message
    tries: int = 0


class Webhooks:
    """The registered addresses and what is on its way to them."""

    def __init__(self, knobs: Callable[[], Knobs]) -> None:
        self._knobs = knobs
        self.registered: dict[str, Webhook] = {}
        self._start()

    def _start(self) -> None:
        self.posts: deque[dict[str, Any]] = deque(maxlen=KEEP)
        self.counters = {"webhook_posts": 0, "webhook_refused": 0, "webhook_given_up": 0, "webhook_pending": 0}
        self._lanes: list[Queue] = []
        self._working: list[gevent.Greenlet] = []
        self._later: set[gevent.Greenlet] = set()

    def reset(self) -> None:
        """Nobody is registered, nothing is on its way: it belonged to a test that is over."""
        for greenlet in (*self._working, *self._later):
            greenlet.kill(block=False)
        self.registered.clear()
        self._start()

    def add(self, webhook: Webhook) -> None:
        self.registered[webhook.id] = webhook

    def wanted(self, event: str) -> bool:
        return any(event in webhook.events for webhook in self.registered.values())

    def tell(self, message: Message, event: str, body: bytes) -> None:
        """Post it to everybody who wants it; returns at once."""
        for webhook in self.registered.values():
            if event in webhook.events and webhook.device in (None, message.device):
                for _ in range(2 if self._knobs().webhook_twice else 1):
                    self.counters["webhook_pending"] += 1
                    self._enqueue(_Post(webhook, event, body, message))

    def _enqueue(self, post: _Post) -> None:
        if not self._lanes:
            self._lanes = [Queue() for _ in range(LANES)]
            self._working = [gevent.spawn(self._work, lane) for lane in self._lanes]
        # By the random end of the id: two events of one message must not overtake each other on two lanes.
        self._lanes[int(post.message.id[-2:], 16) % LANES].put(post)

    def _work(self, lane: Queue) -> None:
        while True:
            self._attempt(lane.get())

    def _attempt(self, post: _Post) -> None:
        if post.webhook.id not in self.registered:
            self.counters["webhook_pending"] -= 1
            return
        knobs = self._knobs()
        post.tries += 1
        at = time.time()
        status, error = _send(post.webhook.url, post.body, knobs)
        self.counters["webhook_posts"] += 1
        self.posts.append({
            "at": at, "url": post.webhook.url, "event": post.event, "message": post.message.id, "attempt": post.tries,
            "status": status, "error": error, "ms": round((time.time() - at) * 1000, 3),
        })  # fmt: skip
        if status is not None and 200 <= status < 300:
            post.message.webhook_status = "delivered"
            self.counters["webhook_pending"] -= 1
            return
        self.counters["webhook_refused"] += 1
        if post.tries >= knobs.webhook_tries:
            post.message.webhook_status = "failed"
            self.counters["webhook_given_up"] += 1
            self.counters["webhook_pending"] -= 1
            return
        # The others of this lane do not wait for it.
        later = gevent.spawn_later(knobs.webhook_gap_ms / 1000 * 2 ** (post.tries - 1), self._enqueue, post)
        self._later.add(later)
        later.link(self._later.discard)


def _send(url: str, body: bytes, knobs: Knobs) -> tuple[int | None, str | None]:
    headers = {}
    if knobs.webhook_secret is not None:
        digest = hmac.new(knobs.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Wassenger-Signature"] = f"sha256={digest}"
    return post(url, body, headers, knobs.webhook_timeout_ms)
