"""The shared store (Redis or Valkey) for everything but the hot path, which keeps a pipelined connection of its own.

Nothing that must not be lost lives there: limits, freshness tokens, queues of ids. All of it may be flushed.
"""

import redis
from flask import Flask, current_app


def init_app(app: Flask) -> None:
    """Make the client. It connects at its first command, not here."""
    app.extensions["store"] = redis.Redis.from_url(
        app.config["PORTAL"].redis_url, socket_timeout=3, socket_connect_timeout=1, health_check_interval=30, retry=None
    )


def client() -> redis.Redis:
    """The current app's client. Commands raise `redis.RedisError` when the store is away."""
    store: redis.Redis = current_app.extensions["store"]
    return store
