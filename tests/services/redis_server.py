"""A private Redis (or Valkey) on a unix socket, emptied before each test; a test may stop and start it."""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from dev.children import Child
from dev.embedded_redis import server_binary
from tests.services.programs import find, missing


class RedisServer:
    """The server. `url` stays the same over a stop and a start; what was stored does not."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="portal-redis-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)  # also when it never came up
        self.socket = self.folder / "s.sock"
        self.url = f"unix://{self.socket}?db=0"
        self.client = redis.Redis.from_url(self.url)
        self._process: Child | None = None

    def start(self) -> None:
        """Nothing happens when it runs."""
        if self._process is not None and self._process.running:
            return
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self.folder),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._process = Child("redis", [self._binary, *options], os.environ, self.folder / "log", self.folder)
        deadline = time.monotonic() + 15
        while True:
            try:
                self.client.ping()
                return
            except redis.RedisError:
                if not self._process.running or time.monotonic() > deadline:
                    raise RuntimeError("\n".join(self._process.last_lines())) from None
                time.sleep(0.02)

    def stop(self) -> None:
        """Gone at once, as with `kill -9`; connections break."""
        if self._process is not None:
            self._process.kill_group()
            self._process = None
            self.client.close()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[RedisServer]:
    binary = find("redis-server", "valkey-server") or server_binary()
    if binary is None:
        missing("Redis or Valkey")
        raise AssertionError
    server = RedisServer(binary)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> RedisServer:
    """The running, empty server; `stop()` and `start()` are the test's to call."""
    _redis_server.start()
    _redis_server.client.flushall()
    return _redis_server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty Redis."""
    return redis_server.url
