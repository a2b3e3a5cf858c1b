"""A sandbox of one's own for a test: a process on a free port, gone with the test whatever happens.

    with SandboxProcess() as sandbox:
        sandbox.control(delay_first_ms=200)
        ... point the product at sandbox.ollama_url ...
        assert sandbox.requests()[-1]["native"]["options"]["num_predict"] == 50

Uses only the standard library, so that any suite can import it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
READY = "sandbox ready on "
MYFATOORAH_SECRET = "sandbox-webhook-secret"  # noqa: S105
"""What signs MyFatoorah's webhooks unless a test says otherwise; what MYFATOORAH_WEBHOOK_SECRET wants."""


class SandboxError(RuntimeError):
    """The sandbox did not start, or refused a wish; the text is its own."""


class SandboxProcess:
    """Starts `python -m sandbox`; stops it by its pid. Any number of them may run beside each other.

    `servers` are the names of the simulated Ollama servers, `clouds` those of Ollama's cloud, `phones` those of
    WhatsApp accounts, `merchants` those of MyFatoorah; `whatsapp_webhook` and `myfatoorah_webhook` are addresses that
    hear of everything from the start, `myfatoorah_secret` signs what the latter hears (empty: unsigned).
    """

    def __init__(
        self,
        port: int = 0,
        model: str = "scripted",
        *,
        slots: int = 1,
        servers: tuple[str, ...] = ("ollama",),
        clouds: tuple[str, ...] = ("ollama-cloud",),
        phones: tuple[str, ...] = ("whatsapp",),
        merchants: tuple[str, ...] = ("myfatoorah",),
        whatsapp_webhook: str = "",
        myfatoorah_webhook: str = "",
        myfatoorah_secret: str = MYFATOORAH_SECRET,
        wait_s: float = 30,
    ) -> None:
        self.servers, self.clouds, self.phones, self.merchants = servers, clouds, phones, merchants
        self._secret = myfatoorah_secret
        self._wait_s = wait_s
        self._port = port
        self._arguments = ["--model", model, "--slots", str(slots), "--until-stdin-ends"]
        for name in servers:
            self._arguments += ["--ollama", name]
        for name in clouds:
            self._arguments += ["--cloud", name]
        for name in phones:
            self._arguments += ["--whatsapp", name]
        for name in merchants:
            self._arguments += ["--myfatoorah", name]
        if myfatoorah_webhook:
            self._arguments += ["--myfatoorah-webhook", myfatoorah_webhook]
        if whatsapp_webhook:
            self._arguments += ["--whatsapp-webhook", whatsapp_webhook]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> SandboxProcess:
        """Start and wait until it answers; after `stop` or `kill` at the same address as before.

        Raises SandboxError with its last words.
        """
        if self._process is not None:
            return self
        # A file and not a pipe: nobody reads along, and a full pipe would stop the whole process.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "SANDBOX_MYFATOORAH_SECRET": self._secret,
        }
        command = [sys.executable, "-m", "sandbox", "--port", str(self._port), *self._arguments]
        self._process = subprocess.Popen(  # noqa: S603
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )
        self.url = self._await_ready(self._process)
        self._port = int(self.url.rpartition(":")[2])
        return self

    def _await_ready(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        deadline = time.monotonic() + self._wait_s
        os.set_blocking(process.stdout.fileno(), False)
        heard = b""
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                heard += os.read(process.stdout.fileno(), 4096)
            for line in heard.decode(errors="replace").splitlines(keepends=True):
                if line.startswith(READY) and line.endswith("\n"):
                    return line.removeprefix(READY).strip()
            if process.poll() is not None:
                last_words = self.complaints()
                self.stop()
                raise SandboxError(last_words or f"the sandbox left with code {process.returncode}")
            time.sleep(0.01)
        self.stop()
        raise SandboxError(f"the sandbox was not ready within {self._wait_s} s")

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def stop(self) -> None:
        """End it and wait; safe to call twice."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """`kill -9`: every connection breaks, nobody is told. `start` brings it back, with nothing in its memory."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        self._said.close()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def complaints(self) -> str:
        """What it has written to stderr so far: empty unless something is wrong with the sandbox itself."""
        return os.pread(self._said.fileno(), 1_000_000, 0).decode(errors="replace").strip()

    def __enter__(self) -> SandboxProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- addresses -----------------------------------------------------------------------------------------------------

    @property
    def ollama_url(self) -> str:
        """Where the first simulated server lives; what OLLAMA_URL wants."""
        return self.server_url(self.servers[0])

    @property
    def cloud_url(self) -> str:
        """Where the first simulated cloud lives; what OLLAMA_CLOUD_URL wants. Its key is `sandbox`."""
        return self.server_url(self.clouds[0])

    @property
    def whatsapp_url(self) -> str:
        """Where the first simulated WhatsApp API lives; what RESAYIL_API_URL wants. Its key is `sandbox`."""
        return f"{self.server_url(self.phones[0])}/v1"

    @property
    def myfatoorah_url(self) -> str:
        """Where the first simulated MyFatoorah lives; what MYFATOORAH_BASE_URL wants. Its key is `sandbox`."""
        return self.server_url(self.merchants[0])

    def server_url(self, name: str) -> str:
        return f"{self.url}/{name}"

    # -- knobs and journal ---------------------------------------------------------------------------------------------

    def control(self, model: str | None = None, *, server: str | None = None, **knobs: Any) -> dict[str, Any]:
        """Turn knobs for the server, or for one model; returns the state. See sandbox/README.md for the names."""
        body = knobs if model is None else {"model": model, **knobs}
        now: dict[str, Any] = self._call("POST", "__control", server, body)
        return now

    def state(self, *, server: str | None = None) -> dict[str, Any]:
        now: dict[str, Any] = self._call("GET", "__control", server)
        return now

    def next(self, *requests: dict[str, Any], model: str | None = None, server: str | None = None) -> dict[str, Any]:
        """Knobs for the next requests, one dict each."""
        return self.control(model, server=server, next=list(requests))

    def release(self, *, server: str | None = None) -> None:
        """Let go whatever `hold_after` holds."""
        self.control(server=server, release=True)

    def reset(self, *, server: str | None = None) -> None:
        """Everything as at the start: knobs, models, journal, memory, holds. All servers, or the one."""
        for name in [server] if server else self._everything():
            self._call("DELETE", "__control", name)

    def _everything(self) -> tuple[str, ...]:
        return (*self.servers, *self.clouds, *self.phones, *self.merchants)

    def requests(
        self, model: str | None = None, *, path: str | None = None, last: int | None = None, server: str | None = None
    ) -> list[dict[str, Any]]:
        """What arrived, oldest first, optionally of one model or path only."""
        query = {name: value for name, value in (("model", model), ("path", path), ("last", last)) if value is not None}
        found: list[dict[str, Any]] = self._call("GET", "__requests?" + urlencode(query), server)["requests"]
        return found

    def chats(self, *, server: str | None = None) -> list[dict[str, Any]]:
        """Requests for `/v1/chat/completions`, oldest first."""
        return self.requests(path="/v1/chat/completions", server=server)

    def messages(self, phone: str | None = None, *, server: str | None = None) -> list[dict[str, Any]]:
        """Every message that WhatsApp has accepted, oldest first, optionally of one phone: id, phone, message,
        reference, at (epoch seconds), status, deliveryStatus and more."""
        query = "?" + urlencode({"phone": phone}) if phone else ""
        found: list[dict[str, Any]] = self._call("GET", "__messages" + query, server or self.phones[0])
        return found

    # -- money ---------------------------------------------------------------------------------------------------------

    def invoices(self, *, server: str | None = None) -> list[dict[str, Any]]:
        """MyFatoorah's invoices, oldest first: id, reference, status, value, url, attempts, asked and more."""
        found: list[dict[str, Any]] = self._call("GET", "__invoices", server or self.merchants[0])
        return found

    def refunds(self, *, server: str | None = None) -> list[dict[str, Any]]:
        """Refunds that were asked for, oldest first: id, status, amount, invoice, reference and more."""
        found: list[dict[str, Any]] = self._call("GET", "__refunds", server or self.merchants[0])
        return found

    def pay(self, invoice: int | str, outcome: str = "paid", *, server: str | None = None, **more: Any) -> str:
        """An attempt at an invoice (its id, or the order's reference) ends `paid` or `failed`. more: error_code,
        method, keep_card, anyway. Returns the URL the browser would be sent to, empty for none."""
        body = {"invoice": invoice, "outcome": outcome, **more}
        return str(self._call("POST", "__pay", server or self.merchants[0], body)["redirect"])

    def settle_refund(
        self, refund: int | str, outcome: str = "refunded", *, server: str | None = None
    ) -> dict[str, Any]:
        """The vendor's staff carry a refund out (its id, or our ExternalIdentifier), or cancel it (`canceled`)."""
        body = {"refund": refund, "outcome": outcome}
        done: dict[str, Any] = self._call("POST", "__settle_refund", server or self.merchants[0], body)
        return done

    def send_webhook(self, *, server: str | None = None, **more: Any) -> list[int | None]:
        """A webhook of an `invoice` or a `refund`, whatever it says: state, version, times, signature, reference,
        payment, value. Returns what it was answered each time, None for no answer."""
        told: list[int | None] = self._call("POST", "__send_webhook", server or self.merchants[0], more)["statuses"]
        return told

    def cancel_invoice(self, invoice: int | str, *, server: str | None = None) -> None:
        self._call("POST", "__cancel", server or self.merchants[0], {"invoice": invoice})

    def expire_invoice(self, invoice: int | str, *, server: str | None = None) -> None:
        """Its time is up since a second ago."""
        self._call("POST", "__expire", server or self.merchants[0], {"invoice": invoice})

    def keep_card(self, customer: str, *, server: str | None = None) -> str:
        """A card of this customer (what follows `CK-`) that was kept at some time; its token."""
        return str(self._call("POST", "__keep_card", server or self.merchants[0], {"customer": customer})["token"])

    def webhooks(self, *, server: str | None = None) -> list[dict[str, Any]]:
        """MyFatoorah's events, oldest first, each with its body, headers and posts."""
        found: list[dict[str, Any]] = self._call("GET", "__webhooks", server or self.merchants[0])
        return found

    def counters(self, *, server: str | None = None) -> dict[str, int]:
        found: dict[str, int] = self._call("GET", "__requests?last=1", server)["counters"]
        return found

    def forget_requests(self, *, server: str | None = None) -> None:
        self._call("DELETE", "__requests", server)

    def wait_for(
        self, seen: Callable[[list[dict[str, Any]]], bool], seconds: float = 5, *, server: str | None = None
    ) -> list[dict[str, Any]]:
        """Ask for the requests until `seen(requests)`; raises SandboxError when it never comes true."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.requests(server=server)
            if seen(found):
                return found
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"not seen within {seconds} s; the last requests: {json.dumps(found[-3:], indent=1)}"
                )
            time.sleep(0.01)

    def _call(self, method: str, path: str, server: str | None, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.server_url(server or self.servers[0])}/{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise SandboxError(json.load(error)["error"]) from None
