"""A past for the dashboard: requests as the gateway leaves them, all within what the wallet was given."""

import datetime as dt

from flask import Flask

from portal.clock import utcnow
from portal.extensions import db
from portal.ids import new_id
from portal.models import Usage
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
