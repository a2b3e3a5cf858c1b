"""A past for the pages: requests as the gateway leaves them, all within what the wallet was given; and messages of
every kind, with every fate that a message can have.
"""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from flask import Flask

from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Delivery, Notification, Usage
from portal.services.notifications import notify, notify_staff, samples
from portal.services.notifications.kinds import CUSTOMER, KINDS
from tests.services.cast import Person

REQUESTS = (
    ("smollm2:135m", "ok", 412, 96),
    ("qwen2.5-coder:14b", "ok", 1810, 742),
    ("llama3.2:3b", "client_left", 233, 40),
    ("llama3.2:3b", "ok", 958, 311),
    ("mistral-small3.2:24b", "timed_out", 0, 0),
    ("smollm2:135m", "upstream_failed", 0, 0),
)
ONCE = 1_000_000
"""Milli-credits for a million tokens."""


def give_history(app: Flask, person: Person) -> None:
    """Write settled requests of the last hours, and one that runs."""
    now = utcnow()
    with app.app_context():
        for hours, (model, outcome, prompt, answer) in enumerate(REQUESTS):
            at = now - dt.timedelta(hours=hours, minutes=7)
            db.session.add(
                _usage(person, model, outcome=outcome, prompt_tokens=prompt, answer_tokens=answer, created_at=at)
            )
        db.session.add(_usage(person, "gpt-oss:20b", state="open", created_at=now - dt.timedelta(seconds=9)))
        db.session.commit()


def give_cloud_history(app: Flask, person: Person) -> dict[str, str]:
    """Write what happens when our own servers are busy, after `give_history`. Returns the requests' ids by story."""
    at = utcnow() - dt.timedelta(minutes=2)
    tried = '[{"provider": "ollama-1", "location": "local", "fault": "timed_out", "ms": 3012}]'
    stories = {
        "moved": _usage(
            person, "gpt-oss:20b", failover=True, attempts=tried, provider="ollama-cloud", prompt_tokens=1200,
            answer_tokens=300, cached_tokens=64, cost=3000, created_at=at,
        ),
        "cloud": _usage(
            person, "qwen3.5:cloud", provider="ollama-cloud", prompt_tokens=500, answer_tokens=125, cost=1250,
            created_at=at - dt.timedelta(seconds=20),
        ),
        "waited": _usage(
            person, "gpt-oss:20b", provider="ollama-1", waited_ms=12_340, prompt_tokens=70, answer_tokens=30,
            created_at=at - dt.timedelta(seconds=40),
        ),
    }  # fmt: skip
    stories["moved"].location = stories["cloud"].location = "cloud"
    with app.app_context():
        db.session.add_all(stories.values())
        db.session.commit()
        return {story: row.id for story, row in stories.items()}


FATES: tuple[dict[str, object], ...] = (
    {"state": "waiting"},
    {"state": "waiting", "due_at": dt.timedelta(hours=9)},
    {"state": "waiting", "error": "the carrier can't be reached"},
    {"state": "running"},
    {"state": "done", "accepted_at": dt.timedelta(hours=-3)},
    {"state": "done", "accepted_at": dt.timedelta(hours=-3), "delivered_at": dt.timedelta(hours=-2)},
    {"state": "done", "accepted_at": dt.timedelta(hours=-3), "delivered_at": dt.timedelta(hours=-2),
     "read_at": dt.timedelta(hours=-1)},
    {"state": "dead", "error": "the carrier can't send to this number"},
    {"state": "dead", "error": "that is no e-mail address"},
    {"state": "dead", "error": "the carrier answers with status 500"},
    {"state": "expired", "error": "it would have come too late"},
    {"state": "cancelled"},
)  # fmt: skip
"""Of a delivery; time is from now."""


def give_notifications(app: Flask, person: Person, kinds: Sequence[str] | None = None) -> None:
    """Tell an account (and staff) of every kind that there is, or of these; fates follow one another."""
    now = dt.datetime.now(dt.UTC)
    with app.app_context():
        for number, kind in enumerate(kinds or KINDS):
            facts, occasion = samples.FACTS[kind], f"history {number}"
            if KINDS[kind].audience == CUSTOMER:
                notify(person.account_id, kind, occasion, **facts)
            else:
                notify_staff(kind, occasion, **facts)
        mine = sa.select(Delivery.id).join(Notification).where(Notification.occasion.like("history %"))
        for number, row in enumerate(db.session.scalars(mine.order_by(Delivery.id)).all()):
            fate = FATES[number % len(FATES)]
            values = {name: now + value if isinstance(value, dt.timedelta) else value for name, value in fate.items()}
            db.session.execute(sa.update(Delivery).where(Delivery.id == row).values(**values))
        db.session.commit()


def _usage(person: Person, model: str, *, state: str = "settled", outcome: str = "ok", **values: object) -> Usage:
    usual: dict[str, object] = {
        "prompt_tokens": 0, "answer_tokens": 0, "rate_in": ONCE, "rate_out": ONCE, "rate_cached": ONCE, "hold": 5000,
    }  # fmt: skip
    row = usual | values
    row.setdefault("cost", int(str(row["prompt_tokens"])) + int(str(row["answer_tokens"])))
    return Usage(
        id=new_id(), account_id=person.account_id, api_key_id=new_id(), process_id=new_id(), model=model,
        streamed=True, state=state, outcome=outcome if state == "settled" else "",
        settled_at=row["created_at"] if state == "settled" else None, **row,
    )  # fmt: skip
