"""A private MariaDB on a unix socket. Creating tables is slow there, so databases are emptied and used again.

The log is written at every commit but flushed once a second: no test pulls the plug of the machine.
"""

import atexit
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pymysql

from dev.children import Child
from tests.services.programs import find, missing

Row = tuple[object, ...]
NO_SUCH_THREAD = 1094


class MariaDb:
    name = "mariadb"

    def __init__(self) -> None:
        server, install = find("mariadbd", "mysqld"), find("mariadb-install-db", "mysql_install_db")
        if server is None or install is None:
            missing("MariaDB")
            raise AssertionError
        self.folder = Path(tempfile.mkdtemp(prefix="portal-maria-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)  # also when it never came up
        self.socket = self.folder / "s.sock"
        data, user = self.folder / "data", pwd.getpwuid(os.getuid()).pw_name
        done = subprocess.run(
            [
                install, "--no-defaults", f"--user={user}", f"--datadir={data}", "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        self.process = Child(
            "mariadb",
            [
                server, "--no-defaults", f"--user={user}", f"--datadir={data}", f"--socket={self.socket}",
                "--skip-networking", "--skip-log-bin", "--max-connections=400",
                "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M",
                "--character-set-server=utf8mb4", "--collation-server=utf8mb4_bin",
            ],
            os.environ, self.folder / "log", self.folder,
        )  # fmt: skip
        self._admin = self._wait()
        self._numbers = itertools.count(1)
        self._copies: dict[str, str] = {}  # name of a database → the template it was copied from
        self._idle: list[str] = []

    def empty(self) -> str:
        name = f"t{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name}")
        return self._url(name)

    def copy(self, template: str) -> str:
        source = _name(template)
        name = next((n for n in self._idle if self._copies[n] == source), None)
        self._run("SET foreign_key_checks = 0")
        if name is None:
            name = _name(self.empty())
            self._copies[name] = source
            self._run(f"USE {name}")
            for table in self._tables(source):
                self._run(str(self._run(f"SHOW CREATE TABLE {source}.{table}")[0][1]))
        else:
            self._idle.remove(name)
            self._empty_tables(name)
        for table in self._filled(source):
            self._run(f"INSERT INTO {name}.{table} SELECT * FROM {source}.{table}")
        self._run("SET foreign_key_checks = 1")
        return self._url(name)

    def drop(self, url: str) -> None:
        name = _name(url)
        processes = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        for row in self._run(processes + " AND id <> CONNECTION_ID()"):
            try:
                self._run(f"KILL {row[0]}")  # a client left behind would hold locks in the next test's database
            except pymysql.err.OperationalError as error:
                if error.args[0] != NO_SUCH_THREAD:  # one whose line was cut may have gone by itself meanwhile
                    raise
        if name in self._copies and self._tables(name) == self._tables(self._copies[name]):
            self._idle.append(name)
        else:
            self._copies.pop(name, None)
            self._run(f"DROP DATABASE {name}")

    def stop(self) -> None:
        self._admin.close()
        self.process.kill_group()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _empty_tables(self, name: str) -> None:
        tables = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{name}'"
        counted = {f"`{row[0]}`" for row in self._run(tables + " AND auto_increment IS NOT NULL")}
        for table in self._filled(name):
            self._run(f"TRUNCATE TABLE {name}.{table}" if table in counted else f"DELETE FROM {name}.{table}")

    def _tables(self, name: str) -> list[str]:
        rows = self._run(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{name}' ORDER BY 1")
        return [f"`{row[0]}`" for row in rows]

    def _filled(self, name: str) -> list[str]:
        """The tables that have rows."""
        tables = self._tables(name)
        asked = " UNION ALL ".join(f"SELECT '{t}' FROM DUAL WHERE EXISTS (SELECT 1 FROM {name}.{t})" for t in tables)
        return [str(row[0]) for row in self._run(asked)] if tables else []

    def _url(self, name: str) -> str:
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.socket}"

    def _run(self, statement: str) -> tuple[Row, ...]:
        with self._admin.cursor() as cursor:
            cursor.execute(statement)
            return tuple(cursor.fetchall())

    def _wait(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        deadline = time.monotonic() + 30
        while not self._listens():
            if not self.process.running or time.monotonic() > deadline:
                raise RuntimeError("\n".join(self.process.last_lines(40)))
            time.sleep(0.05)
        return pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True)

    def _listens(self) -> bool:
        # Asked with a plain socket: PyMySQL leaves its own open when nobody answers, and that warning is an error.
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


def _name(url: str) -> str:
    return url.partition("localhost/")[2].partition("?")[0]
