"""A line to a database server that a test may cut: the server lives on, and for the portal it is gone.

Also cuts at the worst of all instants: after the server has done a COMMIT and before its answer arrives.
"""

import contextlib
import selectors
import socket
import threading
from pathlib import Path

BLOCK = 65_536


class Relay:
    """Listens on a unix socket and passes everything on to another. Starts whole; `cut` and `restore` at will."""

    def __init__(self, listen: Path, target: Path) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()
        self._away = False
        self.swallow: bytes | None = None
        """The answer to the next message that holds these bytes never arrives: the line is cut instead."""
        self.swallowed = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(64)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """The server is away: what is open breaks, and whoever connects is hung up on."""
        self._away = True
        self.hiccup()

    def restore(self) -> None:
        """The server is back."""
        self._away = False

    def hiccup(self) -> None:
        """Every open line breaks; new ones may be opened at once."""
        with self._lock:
            lines, self._lines = self._lines, set()
        for line in lines:
            line.close()

    def close(self) -> None:
        """The end of the test."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._accepting.join(5)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._away:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._target))
            line = _Line(self, client, server)
            with self._lock:
                self._lines.add(line)
            if self._away:  # since it was let in
                line.close()
            threading.Thread(target=line.run, daemon=True).start()


class _Line:
    """One client's connection and ours to the server for it."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay, self._client, self._server = relay, client, server

    def run(self) -> None:
        with selectors.DefaultSelector() as ready, contextlib.suppress(OSError, ValueError):
            ready.register(self._client, selectors.EVENT_READ)
            ready.register(self._server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select(0.1):
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = source.recv(BLOCK)
                    if not data:
                        self.close()
                        return
                    if source is self._server:
                        self._client.sendall(data)
                        continue
                    self._server.sendall(data)
                    marker = self._relay.swallow
                    if marker is not None and marker in data:
                        self._relay.swallow = None
                        self._server.recv(BLOCK)  # it is done; nobody will ever hear of it
                        self._relay.swallowed.set()
                        self._relay.hiccup()
                        return
        self.close()

    def close(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
