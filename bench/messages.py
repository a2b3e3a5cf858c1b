"""Ten thousand messages that wait: how many a worker sends in a second, what each costs, and what the worker needs.

    make bench ARGS=--messages      or    python -m bench.messages [--messages N] [--database NAME]… [--workers N]…

The worker is the Procfile's, the carrier the sandbox's WhatsApp without any delay, on the same machine: what that takes
is told beside. Every message must have arrived once, or there is no figure.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from flask import Flask

from bench.accounting import cpu_seconds
from bench.processes import BenchError, Processes
from dev.embedded_redis import server_binary
from portal import create_app
from portal.clock import utcnow
from portal.config import load_settings
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Delivery, Notification, User
from portal.services.notifications import delivery
from sandbox.process import SandboxProcess
from tests.services.environment import ROOT, TOOLS, portal_environment
from tests.services.mariadb import MariaDb
from tests.services.programs import find
from tests.services.redis_server import RedisServer

CUSTOMERS = 1000
LIMIT_SECONDS = 240
"""For one run: then it has failed."""


@dataclass
class Result:
    """seconds: from the sweep to the last message's row. CPU: milliseconds a message, of all workers. Memory in bytes:
    the most that one process held at any moment."""

    database: str
    workers: int
    messages: int
    seconds: float
    cpu: float
    carrier_cpu: float
    parent: int
    job: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print the table. arguments: by default the command line's."""
    options = _arguments(arguments)
    results = []
    for name in options.database or ["sqlite", "mariadb"]:
        if name == "mariadb" and find("mariadbd", "mysqld") is None:
            print("mariadb is not measured: it is not installed (make services installs it)")
            continue
        for workers in options.workers or [1, 2]:
            with tempfile.TemporaryDirectory(prefix="portal-bench-") as home, _database(name, Path(home)) as url:
                results.append(_run(name, url, workers, options, Path(home)))
            print(f"{name}, {workers}: {results[-1].messages / results[-1].seconds:,.0f} messages/s", flush=True)
    print("\n" + table(results))
    return 0


def table(results: Sequence[Result]) -> str:
    """Everything that was measured, as Markdown."""
    head = ("messages", "workers", "messages a second", "CPU ms each", "the carrier's", "memory, worker", "and its job")
    lines = [
        f"| {r.messages:,} on {r.database} | {r.workers} | {r.messages / r.seconds:,.0f} | {r.cpu:.2f} "
        f"| {r.carrier_cpu:.2f} | {r.parent / 2**20:.0f} MiB | {r.job / 2**20:.0f} MiB |"
        for r in results
    ]
    return "\n".join(["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1), *lines])


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.messages", description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--database", action="append", choices=("sqlite", "mariadb"))
    parser.add_argument("--workers", type=int, action="append", help="worker processes; may be repeated (1 and 2)")
    return parser.parse_args(given)


@contextmanager
def _database(name: str, home: Path) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{home / 'portal.db'}"
        return
    server = MariaDb()
    try:
        yield server.empty()
    finally:
        server.stop()


def _run(name: str, url: str, workers: int, options: argparse.Namespace, home: Path) -> Result:
    store = RedisServer(find("redis-server", "valkey-server") or server_binary() or "redis-server")
    store.start()
    processes = Processes(home / "logs")
    try:
        with SandboxProcess() as sandbox:
            sandbox.control(server="whatsapp", deliver_ms=None)
            environ = portal_environment(
                home,
                DATABASE_URL=url,
                REDIS_URL=store.url,
                RESAYIL_API_URL=sandbox.whatsapp_url,
                RESAYIL_API_KEY="sandbox",
            )
            for command in (["db", "upgrade"], ["seed"]):
                subprocess.run([TOOLS / "flask", "--app", "wsgi", *command], cwd=ROOT, env=environ, check=True)
            app = create_app(load_settings(environ))
            with app.app_context():
                _write(options.messages)
            line = next(row for row in (ROOT / "Procfile").read_text().splitlines() if row.startswith("worker: "))
            command = shlex.split(line.removeprefix("worker: ").replace("$REDIS_URL", store.url))
            pids = [
                processes.start(f"worker-{n}", [TOOLS / command[0], *command[1:]], environment=environ, directory=ROOT)
                for n in range(workers)
            ]
            _wait_until_born(store, workers)
            result = _measure(app, sandbox, pids, options.messages)
            arrived = [message["reference"] for message in sandbox.messages()]
            if len(arrived) != len(set(arrived)) or len(arrived) != options.messages:
                raise BenchError(
                    f"{len(arrived)} of {options.messages} messages arrived, {len(set(arrived))} of them once"
                )
            app.extensions["chat_door"].stop()
    finally:
        processes.stop_all()
        store.remove()
    return Result(name, workers, options.messages, *result)


def _write(messages: int) -> None:
    """So many rows as `notify` writes them, of a thousand customers."""
    now = utcnow()
    users = [
        {
            "id": new_id(),
            "email": f"b{n}@example.com",
            "phone": f"+9655{n:07}",
            "password_hash": "-",
            "phone_verified_at": now,
        }
        for n in range(CUSTOMERS)
    ]
    accounts = [{"id": new_id(), "owner_id": user["id"], "plan_id": "basic"} for user in users]
    told, ways = [], []
    for number in range(messages):
        at = number % CUSTOMERS
        told.append({
            "id": new_id(), "recipient": f"account:{accounts[at]['id']}", "account_id": accounts[at]["id"],
            "kind": "topup_confirmed", "occasion": f"bench {number}", "language": ("ar", "en")[number % 2],
            "facts": {"credits": 5_000_000, "balance": 5_000_000 + number},
        })  # fmt: skip
        ways.append({
            "id": new_id(), "notification_id": told[-1]["id"], "channel": "whatsapp", "address": users[at]["phone"],
            "due_at": now, "handed_at": None,
        })  # fmt: skip
    for model, rows in ((User, users), (Account, accounts), (Notification, told), (Delivery, ways)):
        db.session.execute(sa.insert(model), rows)
    db.session.commit()


def _wait_until_born(store: RedisServer, workers: int) -> None:
    deadline = time.monotonic() + 60
    while store.client.scard("rq:workers") < workers:
        if time.monotonic() > deadline:
            raise BenchError("the workers did not come up")
        time.sleep(0.05)


def _measure(
    app: Flask, sandbox: SandboxProcess, pids: Sequence[int], messages: int
) -> tuple[float, float, float, int, int]:
    before = [cpu_seconds(pid) for pid in (*pids, sandbox.pid)]
    most: dict[str, int] = {"parent": 0, "job": 0}
    began = time.monotonic()
    with app.app_context():
        while delivery.sweep():
            pass
    asked = 0.0
    while True:
        for pid in pids:
            most["parent"] = max(most["parent"], _peak(pid))
            most["job"] = max([most["job"], *map(_peak, _children(pid))])
        if time.monotonic() - asked > 0.5:
            asked = time.monotonic()
            if not _left(app):
                break
            if asked - began > LIMIT_SECONDS:
                raise BenchError(f"{_left(app)} messages still wait after {LIMIT_SECONDS} s")
        time.sleep(0.05)
    seconds = time.monotonic() - began
    time.sleep(0.5)  # the last job's parent has still to write down that it ended
    used = [now - then for now, then in zip((cpu_seconds(p) for p in (*pids, sandbox.pid)), before, strict=True)]
    cpu, carrier = (1000 * value / messages for value in (sum(used[:-1]), used[-1]))
    return seconds, cpu, carrier, most["parent"], most["job"]


def _left(app: Flask) -> int:
    with app.app_context(), db.engine.connect().execution_options(sqlite_read_only=True) as connection:
        return connection.scalar(sa.select(sa.func.count()).where(Delivery.state != "done")) or 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak(pid: int) -> int:
    """The most that the process ever held, bytes; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
