"""Real gunicorn processes for what only shows there: races between workers, streams, `kill -9`."""

import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.children import Child, stop
from dev.log_watch import LogWatch
from dev.ports import free_port
from tests.services.environment import ROOT, TOOLS, portal_environment


class Web:
    """One gunicorn: `url`, its process and workers, what it logged."""

    def __init__(self, workers: int, environ: dict[str, str], log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.workers, self.log = workers, log
        environ = environ | {"BIND": f"127.0.0.1:{port}", "WEB_CONCURRENCY": str(workers), "BASE_URL": self.url}
        command = [str(TOOLS / "gunicorn"), "-c", "gunicorn.conf.py", "wsgi:app"]
        self.process = Child("web", command, environ, log, ROOT)
        self._wait()

    @property
    def pid(self) -> int:
        """The master's process id."""
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The workers alive at this moment; gunicorn replaces a dead one within about a second."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def kill_worker(self, pid: int) -> None:
        """`kill -9`: no farewell, no settlement."""
        os.kill(pid, signal.SIGKILL)

    def stop(self, seconds: float = 10) -> None:
        """End as in production (SIGTERM), or after the seconds by force. Safe to call twice."""
        stop([self.process], seconds)

    def kill(self) -> None:
        """Master and workers at once, as when the machine loses power."""
        self.process.kill_group()

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    def errors(self) -> list[str]:
        """The errors and tracebacks in the log, in plain words."""
        watch = LogWatch(Path(os.devnull))
        watch.path = self.log
        return watch.errors()

    def _wait(self, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not (_answers(self.url + "/healthz") and len(self.worker_pids()) == self.workers):
            if not self.process.running or time.monotonic() > deadline:
                self.kill()
                pytest.fail(
                    "the web process did not come up:\n" + "\n".join(self.process.last_lines(40)), pytrace=False
                )
            time.sleep(0.05)


StartWeb = Callable[..., Web]


@pytest.fixture
def start_web(tmp_path: Path, redis_url: str) -> Iterator[StartWeb]:
    """`start_web(database_url, workers=1, **settings)` gives a Web that answers; all are stopped after the test.

    settings: variables of the contract by their own names. REDIS_URL is the test's own server unless given.
    """
    started: list[Web] = []

    def start(database_url: str, *, workers: int = 1, **settings: str | int) -> Web:
        instance = tmp_path / "web"
        instance.mkdir(exist_ok=True)
        environ = portal_environment(instance, **{"REDIS_URL": redis_url, "DATABASE_URL": database_url, **settings})
        web = Web(workers, environ, tmp_path / f"web-{len(started)}.log")
        started.append(web)
        return web

    yield start
    for web in started:
        web.stop(5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
