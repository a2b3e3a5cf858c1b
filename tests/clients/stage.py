"""What the suites play on: an own Redis, a migrated SQLite, the sandbox with the real small model, gunicorn; all of it gone afterwards.

Knows nothing of clients. The story continues in `run.py`, which hands the addresses to each suite.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from dev.embedded_redis import server_binary
from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from sandbox.process import SandboxProcess
from tests.clients.cast import prepare
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
        self.url = self.sandbox_url = ""

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
            self.keys = self._cast()
            self._web = Web(WORKERS, self._environ, folder / "web.log")
            self._stack.callback(self._web.stop)
            self.url, self.sandbox_url = self._web.url, sandbox.url
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _cast(self) -> dict[str, dict[str, str]]:
        app = create_app(load_settings(self._environ))
        keys = prepare(app, self._suites)
        with app.app_context():
            db.engine.dispose()
        app.extensions["store"].close()
        return keys

    def flask(self, *command: str) -> str:
        """Run one of the product's commands. Returns what it said; raises StageError with it when it fails."""
        done = subprocess.run(
            [str(TOOLS / "flask"), "--app", "wsgi", *command],
            cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StageError(f"flask {' '.join(command)}:\n{done.stdout}{done.stderr}".strip())
        return done.stdout.strip()

    def errors(self) -> list[str]:
        """The errors the portal logged so far, in plain words."""
        return self._web.errors()
