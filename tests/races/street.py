"""A street of portals on one database: gunicorns to sell, the app in this process to look into the books.

The catalogue is the seeded one; requests a minute are raised on the plan's row, so that the wallet alone decides.
"""

import datetime as dt
import http.client
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import Flask

from portal.clock import utcnow
from portal.extensions import db
from portal.models import Account, GatewayProcess, Usage
from portal.services import api_keys
from portal.services.gateway import sweep as sweeping
from portal.services.gateway.process import DEAD_AFTER
from sandbox.process import SandboxProcess
from tests.gateway.wire import Answer, Hub
from tests.ledger.books import Books
from tests.services.web import StartWeb, Web

MODEL, SMALL = "llama3.2:3b", "smollm2:135m"
BODY = 400
"""Bytes of every question, so that every hold is known beforehand."""
TEMPLATE = 256
"""What admission adds for the chat template (`ask.TEMPLATE_TOKENS`)."""


def question(limit: int | None = None, *, model: str = MODEL, stream: bool = False) -> bytes:
    """A chat request of exactly BODY bytes."""
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": ""}], "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
    if limit is not None:
        asked["max_tokens"] = limit
    asked["messages"][0]["content"] = "x" * (BODY - len(json.dumps(asked)))
    return json.dumps(asked).encode()


def held_for(limit: int) -> int:
    """Milli-credits on hold for such a question, at the local rate."""
    return BODY + TEMPLATE + limit


class Street(Books):
    """One database, its gunicorns, and customers with keys."""

    def __init__(self, app: Flask, url: str, start_web: StartWeb, sandbox: SandboxProcess) -> None:
        super().__init__(app)
        self.url, self.sandbox = url, sandbox
        self._start_web = start_web
        self.execute("UPDATE plans SET requests_per_minute = 1000000")
        self.execute("UPDATE providers SET slots = 1000")  # no line, unless a test is about it

    def open_shop(self, workers: int = 1, *, url: str = "", **settings: str | int) -> Web:
        """A gunicorn on the street's database. url: another way to the same one."""
        return self._start_web(url or self.url, workers=workers, **{"OLLAMA_URL": self.sandbox.ollama_url, **settings})

    def customer(self, credit: int, plan: str = "basic") -> tuple[str, str]:
        """(account, key) of somebody with so many milli-credits."""
        account = self.open_account(credit)
        self.execute("UPDATE accounts SET plan_id = :plan WHERE id = :id", plan=plan, id=account)
        with self.app.app_context():
            owner = db.session.get_one(Account, account).owner_id
            return account, api_keys.create(account, owner, label="theirs").secret

    def usages(self, account_id: str) -> Sequence[Usage]:
        """All requests of an account that were admitted."""
        with self.app.app_context():
            return db.session.scalars(sa.select(Usage).where(Usage.account_id == account_id)).all()

    def sweep(self) -> int:
        with self.app.app_context():
            return sweeping.sweep(self.app.config["PORTAL"])

    def half_a_minute_later(self, *pids: int) -> None:
        """The signs of life of these processes grow so old as they would if one waited."""
        old = utcnow() - DEAD_AFTER - dt.timedelta(seconds=1)
        with self.app.app_context():
            db.session.execute(sa.update(GatewayProcess).where(GatewayProcess.pid.in_(pids)).values(seen_at=old))
            db.session.commit()

    def processes(self) -> dict[int, str]:
        """Process ids of the gateways that say they live, and their ids in the rows."""
        with self.app.app_context():
            return {row.pid: row.id for row in db.session.scalars(sa.select(GatewayProcess))}

    def open_streams(self, web: Web, key: str, count: int, *, tokens: int = 3) -> "list[Stream]":
        """So many streams that have said `tokens` words each and wait in the middle of their answer.

        The sandbox must hold them there (`hold_after`).
        """
        streams = [Stream(web.url, key) for _ in range(count)]
        for stream in streams:
            stream.read_tokens(tokens)
        return streams


class Stream:
    """A streamed answer, read as it comes."""

    def __init__(self, url: str, key: str, body: bytes = b"") -> None:
        self._hub = Hub(url)
        self.answer: Answer = self._hub.ask(
            "POST", "/v1/chat/completions", key=key, body=body or question(20, stream=True)
        )

    def read_tokens(self, count: int) -> None:
        """Until so many words have come."""
        seen = b""
        while seen.count(b'"content":"') < count:
            piece = self.answer.piece()
            assert piece, f"the stream ended early: {seen!r}"
            seen += piece

    def rest(self) -> bytes:
        """All of it, to the end; what came before it broke off, if it did."""
        try:
            return self.answer.read()
        except (http.client.HTTPException, OSError):
            return b"".join(data for _, data in self.answer.arrived)

    def close(self) -> None:
        self._hub.close()


@contextmanager
def closing(streams: "list[Stream]") -> Iterator[None]:
    try:
        yield
    finally:
        for stream in streams:
            stream.close()


class Customer:
    """One connection that asks one question after the other."""

    def __init__(self, web: Web, key: str) -> None:
        parts = urlsplit(web.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, body: bytes) -> tuple[int, str, int]:
        """(status, request id or the error's code, milli-credits it cost as the answer tells)."""
        self._connection.request("POST", "/v1/chat/completions", body, self._headers)
        response = self._connection.getresponse()
        data = response.read()
        if response.status != 200:
            return response.status, json.loads(data)["error"]["code"], 0
        request = str(response.headers["x-request-id"]).removeprefix("req_")
        told = response.headers["x-portal-credits"]
        if told is None:
            told = next(
                json.loads(line[6:])["usage"]["credits"]
                for line in data.split(b"\n")
                if line.startswith(b"data: {") and b'"credits"' in line
            )
        return 200, request, round(float(told) * 1000)

    def close(self) -> None:
        self._connection.close()
