"""`python -m sandbox`: one process with all the outsides. This file is the table of contents.

An outside is anything with a `prefix` and a `handle(exchange)`; `outsides()` lists them. Its first line on stdout,
`sandbox ready on http://…`, is what `process.py` and `make run` wait for.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import gevent

from .myfatoorah import MyFatoorah
from .ollama import OllamaCloud, OllamaServer
from .posting import possible
from .whatsapp import WhatsApp
from .wire import Exchange, Server


class Outside(Protocol):
    """One stand-in: the path it lives under and what it does there."""

    prefix: str

    def handle(self, exchange: Exchange) -> None: ...


def outsides(options: argparse.Namespace, engine: Any) -> list[Outside]:
    """Every stand-in of this process."""
    servers: list[Outside] = [
        OllamaServer("/" + name.strip("/"), engine if at == 0 else None, {"slots": options.slots})
        for at, name in enumerate(options.ollama or ["ollama"])
    ]
    clouds = [OllamaCloud("/" + name.strip("/")) for name in options.cloud or ["ollama-cloud"]]
    phones = [WhatsApp("/" + name.strip("/"), options.whatsapp_webhook) for name in options.whatsapp or ["whatsapp"]]
    merchants = [
        MyFatoorah("/" + name.strip("/"), options.myfatoorah_webhook, os.environ.get("SANDBOX_MYFATOORAH_SECRET"))
        for name in options.myfatoorah or ["myfatoorah"]
    ]
    return [*servers, *clouds, *phones, *merchants]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="Stand-ins of the outside, for development and tests."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("SANDBOX_PORT") or 8090), help="0 = any free port"
    )
    parser.add_argument("--model", choices=("real", "scripted"), default="scripted", help="who answers smollm2:135m")
    parser.add_argument("--slots", type=int, default=1, help="requests a scripted model answers at once")
    parser.add_argument(
        "--ollama", action="append", metavar="NAME", help="an Ollama server under /NAME; may be repeated"
    )
    parser.add_argument("--cloud", action="append", metavar="NAME", help="an Ollama cloud under /NAME; may be repeated")
    parser.add_argument("--whatsapp", action="append", metavar="NAME", help="a WhatsApp API and its inbox under /NAME")
    parser.add_argument(
        "--whatsapp-webhook", type=_webhook, metavar="URL", help="hears of every message",
        default=os.environ.get("SANDBOX_WHATSAPP_WEBHOOK"),  # it may hold a token, which others could read here
    )  # fmt: skip
    parser.add_argument(
        "--myfatoorah", action="append", metavar="NAME", help="a MyFatoorah account and its payment pages under /NAME"
    )
    parser.add_argument(
        "--myfatoorah-webhook", type=_webhook, metavar="URL", help="hears of every payment and refund, signed with "
        "SANDBOX_MYFATOORAH_SECRET", default=os.environ.get("SANDBOX_MYFATOORAH_WEBHOOK"),
    )  # fmt: skip
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop when whoever started this is gone")
    return parser.parse_args(arguments)


def _webhook(url: str) -> str:
    if not possible(url):
        raise argparse.ArgumentTypeError(f"{url!r} is no address that begins with http://")
    return url


def _watch_stdin(stop: Any) -> None:
    """Our parent holds the other end of stdin; when it dies, even by kill -9, we read the end and go."""
    from gevent.os import tp_read

    while tp_read(0, 1024):
        pass
    stop.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    options = _arguments(arguments)
    engine: Any = None
    if options.model == "real":
        from .ollama.engine import EngineMissing, RealEngine

        try:
            engine = RealEngine()
        except EngineMissing as missing:
            print(f"sandbox: {missing}", file=sys.stderr)
            return 2
    everything = outsides(options, engine)
    table = {outside.prefix: outside.handle for outside in everything}
    if len(table) < len(everything):
        print("sandbox: two servers of one name", file=sys.stderr)
        return 2

    def index(exchange: Exchange) -> None:
        status = 200 if exchange.request.path == "/" else 404
        found: dict[str, Any] = {"sandbox": sorted(table)}
        if status == 404:
            found["error"] = f"nothing is at {exchange.request.path}; there are {', '.join(sorted(table))}"
        exchange.answer_json(status, found)

    server = Server(options.host, options.port, table, index)
    stop = gevent.event.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(sign, stop.set)
    try:
        port = server.start()
    except OSError as error:
        print(f"sandbox: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        if engine is not None:
            engine.start()
        print(f"sandbox ready on http://{options.host}:{port}", flush=True)
        if options.until_stdin_ends:
            gevent.spawn(_watch_stdin, stop)
        stop.wait()
    finally:
        server.stop()
        if engine is not None:
            engine.stop()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Open streams and the thread that reads stdin must not keep a stand-in alive that was told to stop.
    os._exit(code)
