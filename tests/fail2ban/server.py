"""A private, real fail2ban server with the files that we ship: its own folder, socket, database, log; no firewall."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dev.children import Child, stop
from tests.fail2ban.waiting import eventually
from tests.services.environment import ROOT
from tests.services.programs import find, missing

SHIPPED = ROOT / "deploy" / "fail2ban"
JAIL = "portal-auth"


def program(name: str) -> str:
    """The path of one of fail2ban's programs; without it the test is skipped, or fails in CI."""
    found = find(name)
    if found is None:
        missing("fail2ban")
    assert found is not None
    return found


class Fail2Ban:
    """Reads `auth_log` with our filter and jail; bans with our action alone, through our script."""

    def __init__(self, folder: Path, auth_log: Path, settings: Path) -> None:
        self.folder, self.log = folder, folder / "fail2ban.log"
        for part in ("filter.d", "jail.d", "action.d"):
            shutil.copytree(SHIPPED / part, folder / part)
        (folder / "fail2ban.conf").write_text(
            "[Definition]\nloglevel = INFO\nsyslogsocket = auto\ndbpurgeage = 1d\n"
            f"logtarget = {self.log}\nsocket = {folder}/s.sock\npidfile = {folder}/pid\n"
            f"dbfile = {folder}/bans.sqlite3\n"
        )
        # The last word over the shipped jail: where the log is, no firewall, and a ban after three.
        script = f'portal-http[script="{SHIPPED / "portal-ban"}", settings="{settings}"]'
        (folder / "jail.d" / "test.local").write_text(
            f"[{JAIL}]\nlogpath = {auth_log}\nmaxretry = 3\nignoreip =\naction = {script}\n"
        )
        self._process: Child | None = None

    def start(self) -> None:
        """Up, and reading."""
        command = [program("fail2ban-server"), "-c", str(self.folder), "-f", "-x", "start"]
        self._process = Child("fail2ban", command, _plain_environment(), self.folder / "console.log", self.folder)
        eventually(lambda: self._running() and self.client("status", JAIL, check=False), self._story())

    def stop(self) -> None:
        """Safe to call twice."""
        if self._process is not None:
            stop([self._process], 10)
            self._process = None

    def client(self, *words: str, check: bool = True) -> str:
        """What `fail2ban-client` says; an empty string when it failed and was allowed to."""
        done = subprocess.run(
            [program("fail2ban-client"), "-c", str(self.folder), *words],
            env=_plain_environment(), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"fail2ban-client {' '.join(words)}: {done.stdout}{done.stderr}", pytrace=False)
        return done.stdout if done.returncode == 0 else ""

    def banned(self) -> set[str]:
        return set(self.client("get", JAIL, "banip").split())

    def logged(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _running(self) -> bool:
        if self._process is None or not self._process.running:
            pytest.fail(self._story(), pytrace=False)
        return True

    def _story(self) -> str:
        console = (self.folder / "console.log").read_text(errors="replace")
        return f"fail2ban is up\n{console}\n{self.logged()}"


def _plain_environment() -> dict[str, str]:
    """As under an init system: nothing of ours in it, and the C locale."""
    return {"PATH": os.environ["PATH"] + ":/usr/sbin:/usr/bin", "LC_ALL": "C", "HOME": "/nonexistent"}
