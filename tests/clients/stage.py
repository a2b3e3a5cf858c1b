"""What the suites play on: Redis, a migrated SQLite, the sandbox with the real small model, gunicorn; gone afterwards.

Knows nothing of clients. The story continues in `run.py`, which hands the addresses to each suite.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import sqlalchemy as sa

from dev.embedded_redis import server_binary
from dev.log_watch import TRACEBACK
from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from portal.models import Usage, Wallet
from sandbox.process import SandboxProcess
from tests.clients.cast import prepare
from tests.clients.recovery import RecoveryDoor, recover
from tests.services.environment import ROOT, TOOLS, portal_environment
from tests.services.programs import find
from tests.services.redis_server import RedisServer
from tests.services.web import Web

WORKERS = 2
SLOTS = 8
"""Requests a scripted model answers at once: these suites do not test the queue."""


class StageError(RuntimeError):
    """The portal could not be set up; the text is what its command said."""


class Stage:
    """Use as a context manager; `keys` is suite → role → API key."""

    def __init__(self, suites: Iterable[str]) -> None:
        self._suites = tuple(suites)
        self._stack = ExitStack()
        self.keys: dict[str, dict[str, str]] = {}
        self.url = self.sandbox_url = self.recovery_url = ""

    def __enter__(self) -> Stage:
        with self._stack:
            folder = Path(tempfile.mkdtemp(prefix="portal-clients-"))
            self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
            sandbox = self._stack.enter_context(SandboxProcess(model="real", slots=SLOTS, wait_s=60))
            binary = find("redis-server", "valkey-server") or server_binary()
            if binary is None:
                raise StageError("neither Redis nor Valkey is installed")
            redis_server = RedisServer(binary)
            self._stack.callback(redis_server.remove)
            redis_server.start()
            self._environ = portal_environment(
                folder, OLLAMA_URL=sandbox.ollama_url, REDIS_URL=redis_server.url, SIGNUP_CREDITS=0, HEARTBEAT_SECONDS=1
            )
            for command in (("db", "upgrade"), ("seed",)):
                self.flask(*command)
            self._app = create_app(load_settings(self._environ))
            self._stack.callback(self._leave_app)
            self.keys = prepare(self._app, self._suites)
            door = RecoveryDoor(lambda: recover(self._app, redis_server.client))
            self._stack.callback(door.close)
            self._web = Web(WORKERS, self._environ, folder / "web.log")
            self._stack.callback(self._web.stop)
            self.url, self.sandbox_url, self.recovery_url = self._web.url, sandbox.url, door.url
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _leave_app(self) -> None:
        with self._app.app_context():
            db.engine.dispose()
        self._app.extensions["store"].close()

    def flask(self, *command: str) -> str:
        """Run one of the product's commands. Returns what it said; raises StageError with it when it fails."""
        done = subprocess.run(
            [str(TOOLS / "flask"), "--app", "wsgi", *command],
            cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StageError(f"flask {' '.join(command)}:\n{done.stdout}{done.stderr}".strip())
        return done.stdout.strip()

    def expect_nothing_open(self, seconds: float = 5) -> None:
        """Every request is settled and no credit held. Raises StageError with what is still open after the seconds."""
        deadline = time.monotonic() + seconds
        while left := self._open():
            if time.monotonic() > deadline:
                raise StageError(f"still open: {left}")
            time.sleep(0.1)

    def _open(self) -> list[str]:
        with self._app.app_context():
            usage = db.session.scalars(sa.select(Usage.id).where(Usage.state == "open")).all()
            held = db.session.scalars(sa.select(Wallet.account_id).where(Wallet.held > 0)).all()
        return [f"request {one}" for one in usage] + [f"hold of account {one}" for one in held]

    def expect_no_crash(self) -> None:
        """No traceback in the portal's log. Raises StageError with what was logged of it."""
        told = self._web.errors()
        if any(TRACEBACK in line for line in told):
            raise StageError("\n".join(told))
