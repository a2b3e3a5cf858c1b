"""A server that says the same bytes to whoever comes, as slowly as one likes. The sandbox is too well-behaved."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


class Saying:
    """`url` is its address; `heard` has the heads of the requests, in small letters."""

    def __init__(self, said: bytes, pause: float, stay: bool, first: Callable[[], object]) -> None:
        self.heard: list[str] = []
        self.then = said
        """What is said from the second answer on."""
        self._said, self._pause, self._stay, self._first = said, pause, stay, first
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            with line, contextlib.suppress(OSError):
                line.settimeout(5)
                if not self.heard:
                    self._first()
                self.heard.append(line.recv(65536).decode().casefold())
                said = self._said if len(self.heard) == 1 else self.then
                if not self._pause:
                    line.sendall(said)
                    self._over.wait(30 if self._stay else 0)
                    continue
                for byte in said:
                    line.sendall(bytes([byte]))
                    if self._over.wait(self._pause):
                        break


@contextlib.contextmanager
def saying(
    said: bytes, *, pause: float = 0, stay: bool = False, first: Callable[[], object] = lambda: None
) -> Iterator[Saying]:
    """A server, and its end.

    pause: seconds between two bytes. stay: the line stays open afterwards, in silence. first: what happens elsewhere
    before the first answer.
    """
    server = Saying(said, pause, stay, first)
    try:
        yield server
    finally:
        server.close()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
