"""How events become TCP writes: one by one, torn in two, several at once, or drop by drop.

Real networks do all of it; a client that takes one read for one event is found here and nowhere else.
"""

from __future__ import annotations

from sandbox.wire import Exchange

from .knobs import Knobs


class Framer:
    """Sends whole events through an exchange in the manner the knobs ask for."""

    def __init__(self, exchange: Exchange, knobs: Knobs, is_sse: bool) -> None:
        self.exchange = exchange
        self.knobs = knobs
        self.crlf = knobs.crlf and is_sse
        self._waiting: list[bytes] = []

    def send(self, event: bytes) -> None:
        if self.crlf:
            event = event.replace(b"\n", b"\r\n")
        if self.knobs.framing == "batch":
            self._waiting.append(event)
            if len(self._waiting) >= self.knobs.batch_size:
                self.flush()
        else:
            self._put(event)

    def flush(self) -> None:
        """Send what a batch still holds back."""
        waiting, self._waiting = b"".join(self._waiting), []
        if waiting:
            self._put(waiting)

    def _put(self, data: bytes) -> None:
        if self.knobs.framing == "split" and len(data) > 1:
            # An odd cut, so that it also falls inside a character of several bytes now and then.
            middle = len(data) // 2 | 1
            self.exchange.send(data[:middle])
            self._pause()
            self.exchange.send(data[middle:])
        elif self.knobs.framing == "drip":
            for at in range(len(data)):
                self.exchange.send(data[at : at + 1])
                self._pause()
        else:
            self.exchange.send(data)

    def _pause(self) -> None:
        self.exchange.peer.left.wait(self.knobs.pause_ms / 1000)
