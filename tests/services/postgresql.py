"""A private PostgreSQL on a unix socket. Every test gets a database made from a template.

fsync is off: no test pulls the plug of the machine, and `kill -9` of a portal process loses nothing either way.
"""

import atexit
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from tests.services.programs import find, missing

FOLDERS = "/usr/lib/postgresql/*/bin"
SETTINGS = {
    "listen_addresses": "",  # the socket alone
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "400",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "logging_collector": "off",
}


class PostgreSql:
    name = "postgresql"

    def __init__(self) -> None:
        server, initdb = find("postgres", folders=FOLDERS), find("initdb", folders=FOLDERS)
        if server is None or initdb is None:
            missing("PostgreSQL")
            raise AssertionError
        # Not pytest's own temporary folder: that one is closed to the user the server has to run as.
        self.folder = Path(tempfile.mkdtemp(prefix="portal-pg-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)  # also when it never came up
        self._drop_to = _unprivileged(self.folder)
        self._numbers = itertools.count(1)
        data = self.folder / "data"
        command = [str(Path(initdb).resolve()), "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        done = subprocess.run(
            [*self._drop_to, *command, "--locale=C.UTF-8", "--no-sync"],
            cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                # The kernel ends it with us; a leash of Python's could not be read by that user.
                [
                    "setpriv", "--pdeathsig", "INT", *self._drop_to[1:],
                    str(Path(server).resolve()), "-D", str(data), "-k", str(self.folder), *options,
                ],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._admin = self._wait()

    def empty(self) -> str:
        name = f"t{next(self._numbers)}"
        self._admin.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def copy(self, template: str) -> str:
        name, source = f"t{next(self._numbers)}", _name(template)
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY FILE_COPY")
        return self._url(name)

    def drop(self, url: str) -> None:
        self._admin.execute(f"DROP DATABASE {_name(url)} WITH (FORCE)")

    def stop(self) -> None:
        self._admin.close()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def _wait(self) -> psycopg.Connection:
        deadline = time.monotonic() + 30
        while True:
            try:
                return psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True)
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)


def _name(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def _unprivileged(folder: Path) -> list[str]:
    """How to run a command in `folder` as somebody else when we are root, whom PostgreSQL refuses."""
    if os.getuid() != 0:
        return ["setpriv"]
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
