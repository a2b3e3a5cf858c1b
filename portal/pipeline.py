"""The hot path's line to the store: one connection a process; what is asked in one turn of the hub leaves in one send.

redis-py's pool costs a request twenty times what this does; everything but the gateway uses it all the same (`store`).
Outside a gevent worker (tests, Passenger, commands) `BlockingScripts` does the same through redis-py. Both answer
StoreAway at once while the store is away, and look for it again once a second: nobody waits for a dead cache.
"""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import redis

log = logging.getLogger("portal.store")
CALL_SECONDS = 2.0
CONNECT_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 1.0


Word = str | int | bytes


class StoreAway(Exception):
    """The shared store does not answer."""


class Script:
    """A Lua script and its digest."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts(Protocol):
    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...]) -> Any:
        """Run it; returns its reply (strings as bytes). Raises StoreAway."""

    def tell(
        self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...], heard: Callable[[Any], None] | None = None
    ) -> None:
        """Run it without waiting for its reply, which goes to `heard` (where it must not block), or nowhere when the
        line breaks meanwhile. Raises StoreAway when that is known already."""

    def close(self) -> None:
        """Nobody asks any more."""

    @property
    def losses(self) -> int:
        """How often the line to the store broke: what was changed meanwhile was told to nobody."""


class _Outages:
    """Says once that the store went away and once that it is back."""

    def __init__(self) -> None:
        self.away_until = 0.0
        self.told = False
        self.losses = 0

    def refuse_while_away(self) -> None:
        if self.away_until and time.monotonic() < self.away_until:
            raise StoreAway

    def went_away(self, error: BaseException) -> StoreAway:
        self.away_until = time.monotonic() + LOOK_AGAIN_SECONDS
        self.losses += 1
        if not self.told:
            self.told = True
            log.error("the shared store is away", extra={"error": f"{type(error).__name__}: {error}"})
        return StoreAway()

    def came_back(self) -> None:
        self.away_until = 0.0
        if self.told:
            self.told = False
            log.warning("the shared store is back")


class BlockingScripts:
    """Through redis-py."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=CALL_SECONDS, socket_connect_timeout=CONNECT_SECONDS, retry=None
        )
        self._outages = _Outages()

    def tell(
        self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...], heard: Callable[[Any], None] | None = None
    ) -> None:
        reply = self.run(script, keys, args)
        if heard is not None:
            heard(reply)

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...]) -> Any:
        self._outages.refuse_while_away()
        try:
            try:
                reply = self._client.evalsha(script.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                reply = self._client.eval(script.text, len(keys), *keys, *args)
        except redis.RedisError as error:
            raise self._outages.went_away(error) from error
        self._outages.came_back()
        return reply

    def close(self) -> None:
        self._client.close()

    @property
    def losses(self) -> int:
        return self._outages.losses


class PipelinedScripts:
    """One pipelined connection in gevent's hub. Made in the worker, after the fork."""

    def __init__(self, url: str) -> None:
        import gevent
        from gevent.lock import BoundedSemaphore

        self._gevent = gevent
        self._hub = gevent.get_hub()
        self._address = _Address(url)
        self._outages = _Outages()
        self._connecting = BoundedSemaphore(1)
        self._socket: Any = None
        self._raw: Any = None
        self._watcher: Any = None
        self._writable: Any = None
        self._reader: Any = None
        self._waiting: deque[Any] = deque()
        self._out: list[bytes] = []

    def tell(
        self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...], heard: Callable[[Any], None] | None = None
    ) -> None:
        if self._socket is None:
            self._connect()
        self._enqueue(_command("EVALSHA", script.sha, len(keys), *keys, *args), _Told(self, script, keys, args, heard))

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Word, ...]) -> Any:
        reply = self._call(_command("EVALSHA", script.sha, len(keys), *keys, *args))
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            reply = self._call(_command("EVAL", script.text, len(keys), *keys, *args))
        if isinstance(reply, Exception):
            # Read-only, loading, out of memory: perhaps demoted behind its name, so the name is asked again.
            self._drop(reply)
            raise StoreAway
        return reply

    def close(self) -> None:
        self._hang_up()

    @property
    def losses(self) -> int:
        return self._outages.losses

    def _call(self, data: bytes) -> Any:
        if self._socket is None:
            self._connect()
        waiter = self._gevent.hub.Waiter(self._hub)
        self._enqueue(data, waiter)
        timeout = self._gevent.Timeout.start_new(CALL_SECONDS, StoreAway)
        try:
            reply = waiter.get()
        except StoreAway as error:
            # Replies come in order: with one given up, the rest of this connection belongs to nobody.
            self._drop(TimeoutError("no reply"))
            raise self._outages.went_away(TimeoutError("no reply")) from error
        finally:
            timeout.close()
        if isinstance(reply, _Gone):
            raise StoreAway
        return reply

    def _enqueue(self, data: bytes, waiter: Any) -> None:
        self._waiting.append(waiter)
        self._out.append(data)
        if len(self._out) == 1:
            self._hub.loop.run_callback(self._flush)

    def again(self, data: bytes, waiter: Any) -> None:
        """From a callback of the hub: ask once more, if the line still holds."""
        if self._socket is not None:
            self._enqueue(data, waiter)

    def _connect(self) -> None:
        self._outages.refuse_while_away()
        with self._connecting:
            if self._socket is not None:
                return
            self._outages.refuse_while_away()
            try:
                sock = self._address.connect(CONNECT_SECONDS)
            except (OSError, hiredis.HiredisError) as error:
                raise self._outages.went_away(error) from error
            self._socket, self._raw = sock, sock._sock
            self._reader = hiredis.Reader()
            self._watcher = self._hub.loop.io(sock.fileno(), 1)
            self._watcher.start(self._readable)
            self._outages.came_back()

    def _flush(self) -> None:
        if self._socket is None:
            return
        data, self._out = b"".join(self._out), []
        try:
            sent = self._raw.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._drop(error)
            return
        if sent < len(data):
            self._out.insert(0, data[sent:])
            if self._writable is None:
                self._writable = self._hub.loop.io(self._socket.fileno(), 2)
                self._writable.start(self._room)

    def _room(self) -> None:
        self._writable.stop()
        self._writable.close()
        self._writable = None
        if self._out:
            self._flush()

    def _readable(self) -> None:
        try:
            data = self._raw.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(error)
            return
        if not data:
            self._drop(ConnectionResetError("closed"))
            return
        self._reader.feed(data)
        while self._waiting:
            reply = self._reader.gets()
            if reply is False:
                return
            self._waiting.popleft().switch(reply)

    def _drop(self, error: BaseException) -> None:
        if self._socket is not None:
            self._hang_up()
            self._outages.went_away(error)

    def _hang_up(self) -> None:
        sock, self._socket = self._socket, None
        if sock is None:
            return
        for watcher in (self._watcher, self._writable):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._watcher = self._writable = None
        sock.close()
        self._out = []
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            # From a callback of the hub the waiters may be switched to; from a greenlet only by way of one.
            self._hub.loop.run_callback(waiter.switch, _Gone())


class _Gone:
    """Told to those who waited on a connection that broke."""


class _Told:
    """Stands in line for a reply that nobody waits for."""

    __slots__ = ("_again", "_heard", "_scripts")

    def __init__(
        self,
        scripts: PipelinedScripts,
        script: Script,
        keys: tuple[str, ...],
        args: tuple[Word, ...],
        heard: Callable[[Any], None] | None,
    ) -> None:
        self._scripts, self._heard = scripts, heard
        self._again: tuple[Script, tuple[str, ...], tuple[Word, ...]] | None = (script, keys, args)

    def switch(self, reply: Any) -> None:
        again, self._again = self._again, None
        if isinstance(reply, Exception):
            if again is not None and str(reply).startswith("NOSCRIPT"):
                script, keys, args = again
                self._scripts.again(_command("EVAL", script.text, len(keys), *keys, *args), self)
            else:
                log.error("the store refused what it was told", extra={"error": str(reply)[:200]})
        elif self._heard is not None and not isinstance(reply, _Gone):
            try:
                self._heard(reply)
            except Exception as error:  # left to the hub, it would lose the replies behind this one
                log.error("a reply of the store's was not taken", exc_info=error)


class _Address:
    """redis://[user:password@]host[:port][/db], rediss:// and unix:///path[?db=…&password=…]."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._unix = parts.path if parts.scheme == "unix" else ""
        self._tls = parts.scheme == "rediss"
        if self._tls:
            raise ValueError("rediss:// is served by BlockingScripts")
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 6379
        path = "" if self._unix else parts.path.strip("/")
        self._db = int(path or query.get("db", ["0"])[0])
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "") or query.get("password", [""])[0]

    def connect(self, seconds: float) -> Any:
        """A connected, signed-in, non-blocking gevent socket. Raises OSError, hiredis.HiredisError."""
        from gevent import socket

        if self._unix:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(seconds)
            sock.connect(self._unix)
        else:
            sock = socket.create_connection((self._host, self._port), seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greeting = []
        if self._password:
            greeting.append(_command("AUTH", *([self._user] if self._user else []), self._password))
        greeting.append(_command("SELECT", self._db))
        sock.sendall(b"".join(greeting))
        reader = hiredis.Reader()
        for _ in greeting:
            while (reply := reader.gets()) is False:
                data = sock.recv(65536)
                if not data:
                    raise ConnectionResetError("the store closed the connection")
                reader.feed(data)
            if isinstance(reply, Exception):
                raise ConnectionRefusedError(str(reply))
        sock.settimeout(None)
        return sock


def _command(*words: Word) -> bytes:
    encoded = [w.encode() if isinstance(w, str) else w if isinstance(w, bytes) else b"%d" % w for w in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded)


def open_scripts(url: str) -> Scripts:
    """The line that fits this process: in the hub of a gevent worker, else through redis-py."""
    from gevent import monkey

    if monkey.is_module_patched("socket") and not url.startswith("rediss"):
        return PipelinedScripts(url)
    return BlockingScripts(url)
