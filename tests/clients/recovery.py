"""A door of the stage's own: after a test with a failing server, the portal forgets what that server did to it.

Ten failed requests in a row make a server rest, whoever sent them, and one that has not got a model is asked for it no
more until a probe finds it: right for customers, but the next test would be refused for what the one before had done.
"""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import redis
import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.freshness import changing
from portal.models import ModelOffer


def recover(app: Flask, store: redis.Redis) -> None:
    """No server rests, every model is where it is said to be."""
    for keys in ("line:health:*", "line:trial:*"):
        for key in store.scan_iter(keys):
            store.delete(key)
    with app.app_context():
        if db.session.scalar(sa.select(ModelOffer.id).where(ModelOffer.present.is_(False)).limit(1)) is not None:
            with changing("catalog"):
                db.session.execute(sa.update(ModelOffer).values(present=None))
                db.session.commit()


class RecoveryDoor:
    """`POST url` recovers; any free port of this machine."""

    def __init__(self, what: Callable[[], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                what()
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing to tell."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, name="recovery", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
