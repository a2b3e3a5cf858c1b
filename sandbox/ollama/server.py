"""One simulated Ollama server under one prefix, independent of its siblings in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gevent.event import Event

from sandbox.journal import Journal
from sandbox.wire import Exchange, PeerLeft

from .catalogue import SMALL, Catalogue, Model
from .job import Engine
from .knobs import Board
from .runners import Runners
from .scripted import ScriptedEngine

if TYPE_CHECKING:
    from .routes import Route


class OllamaServer:
    """Knobs, models, slots and memory of one server. `real` answers the small model; everything else is scripted."""

    kind = "ollama"

    def __init__(self, prefix: str, real: Engine | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.prefix = prefix
        self.real = real
        self.real_name = SMALL if real is not None else None
        self.catalogue = self.stock()
        # The real engine decodes two at a time; asking it for one would only make `make run` feel slow.
        self.board = Board(defaults, {SMALL: {"slots": 2}} if real is not None else None)
        self.runners = Runners()
        self.journal = Journal()
        self.gate = Event()
        self._open: set[Exchange] = set()
        self._scripted = ScriptedEngine()

    def stock(self) -> Catalogue:
        """The models it has at its start."""
        return Catalogue()

    def called(self, model: Model) -> str | None:
        """The name its answers give to a model; None: as the client wrote it."""
        return None

    def routes(self) -> dict[str, dict[str, Route]]:
        """The doors it has: path, method, who answers."""
        from .routes import TABLE

        return TABLE

    def engine_for(self, model: Model) -> Engine:
        if self.real is not None and model.name == SMALL:
            return self.real
        return self._scripted

    def release(self) -> None:
        """Let everything go that a hold keeps; later holds keep again."""
        old, self.gate = self.gate, Event()
        old.set()

    def reset(self) -> None:
        """As at the start. Answers still running are broken off: they belong to a test that is over."""
        for exchange in list(self._open):
            exchange.peer.gone()
        self.board.reset()
        self.catalogue.restore()
        self.runners = Runners()
        self.journal.clear()
        self.release()

    def handle(self, exchange: Exchange) -> None:
        """Every request under this server's prefix."""
        from . import control, routes

        path = exchange.request.path.removeprefix(self.prefix) or "/"
        if path.startswith("/__"):
            if path in ("/__control", "/__requests"):
                control.handle(self, exchange, path)
            else:
                exchange.answer_json(404, {"error": "there are /__control and /__requests"})
            return
        entry = self.journal.open(exchange, path, call=path in routes.CALLS)
        exchange.before_last.append(lambda: self.journal.over(entry))
        exchange.peer.when_left = lambda: self.journal.over(entry)
        self._open.add(exchange)
        try:
            routes.dispatch(self, exchange, entry, path)
            exchange.end()
        except PeerLeft:
            entry.outcome = "client_left"
            exchange.keep_open = False
        finally:
            self._open.discard(exchange)
            exchange.peer.when_left = None
            self.journal.close(entry, exchange)
