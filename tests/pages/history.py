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


def give_history(app: Flask, person: Person) -> None:
    """Write settled requests of the last hours, and one that runs."""
    now = utcnow()
    with app.app_context():
        for hours, (model, outcome, prompt, answer) in enumerate(REQUESTS):
            db.session.add(
                _usage(person, model, "settled", outcome, prompt, answer, now - dt.timedelta(hours=hours, minutes=7))
            )
        db.session.add(_usage(person, "gpt-oss:20b", "open", "", 0, 0, now - dt.timedelta(seconds=9)))
        db.session.commit()


def _usage(person: Person, model: str, state: str, outcome: str, prompt: int, answer: int, at: dt.datetime) -> Usage:
    return Usage(
        id=new_id(), account_id=person.account_id, api_key_id=new_id(), process_id=new_id(), model=model, rate_in=1000,
        rate_out=1000, streamed=True, state=state, outcome=outcome, hold=5000, prompt_tokens=prompt,
        answer_tokens=answer, cost=prompt + answer, created_at=at, settled_at=at if state == "settled" else None,
    )  # fmt: skip
