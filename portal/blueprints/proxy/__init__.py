"""The API's doors in OpenAI's dialect: chat completions (direct, see `chat` and `mount`), models, requests."""

from flask import Blueprint, Flask

from portal.blueprints.proxy.chat import ChatDoor
from portal.blueprints.proxy.mount import Direct, Mount

bp = Blueprint("proxy", __name__)
bp.add_url_rule("/chat/completions", "chat", Direct("chat_door"), methods=["POST"])

from portal.blueprints.proxy import models  # noqa: E402, F401  (adds its routes)


def mount(app: Flask) -> None:
    """Put the direct doors in front of Flask."""
    app.extensions["chat_door"] = ChatDoor(app)
    app.wsgi_app = Mount(app)  # type: ignore[method-assign]
