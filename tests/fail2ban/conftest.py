"""The pieces of the story: a recording hook, the root-only file with its token, a private fail2ban."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fail2ban.recorder import Recorder
from tests.fail2ban.server import Fail2Ban

TOKEN = "canary-Hj3vQ9-hook-token-Zt81"


@pytest.fixture
def hook() -> Iterator[Recorder]:
    recorder = Recorder(TOKEN)
    yield recorder
    recorder.close()


@pytest.fixture
def hook_settings(tmp_path: Path) -> Callable[..., Path]:
    """`hook_settings(url)` writes the file that `portal-ban` reads, for its owner alone, and gives its path."""

    def write(url: str, token: str = TOKEN) -> Path:
        path = tmp_path / "portal-hook.conf"
        path.touch(0o600)
        path.write_text(f"# the portal's\nHOOK_URL={url}\nHOOK_TOKEN='{token}'\n")
        return path

    return write


@pytest.fixture
def start_fail2ban(tmp_path: Path) -> Iterator[Callable[[Path, Path], Fail2Ban]]:
    """`start_fail2ban(auth_log, settings)` gives a server that reads; it is stopped after the test."""
    started: list[Fail2Ban] = []

    def start(auth_log: Path, settings: Path) -> Fail2Ban:
        folder = tmp_path / f"fail2ban-{len(started)}"
        folder.mkdir()
        server = Fail2Ban(folder, auth_log, settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()
