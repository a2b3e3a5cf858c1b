"""How the hot doors stand in front of Flask: a WSGI middleware made from the URL map.

The URL map stays the truth: a view that is a `Direct` is a whole WSGI door, and the mount sends its POSTs there without
Flask's routing, request object and hooks. Whatever else comes to those addresses is Flask's (405, `?lang=` on errors…).
"""

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, current_app, request

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Direct:
    """A view that is a WSGI door. extension: where the app keeps the door itself."""

    def __init__(self, extension: str) -> None:
        self.extension = extension
        self.__name__ = extension

    def __call__(self) -> Response:
        """The same answer by way of Flask, for whoever calls the view without the mount in front."""
        door: Wsgi = current_app.extensions[self.extension]
        return Response.from_app(door, request.environ)  # type: ignore[return-value]


class Mount:
    """Sends the POSTs of direct doors to them, and everything else to Flask."""

    def __init__(self, app: Flask) -> None:
        self._flask = app.wsgi_app
        self._doors: dict[str, Wsgi] = {}
        for rule in app.url_map.iter_rules():
            view = app.view_functions[rule.endpoint]
            if isinstance(view, Direct):
                self._doors[rule.rule] = app.extensions[view.extension]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            door = self._doors.get(environ["PATH_INFO"])
            if door is not None:
                return door(environ, start_response)
        return self._flask(environ, start_response)
