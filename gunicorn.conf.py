"""gunicorn's settings: `gunicorn -c gunicorn.conf.py wsgi:app`.

BIND or PORT, and WEB_CONCURRENCY, come from the environment.
"""

import os
from pathlib import Path

bind = os.environ.get("BIND") or f"127.0.0.1:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gevent"
worker_connections = 10_000  # open streams a worker may hold; raise `ulimit -n` with it
backlog = 4096
timeout = 60
graceful_timeout = 30
keepalive = 75  # longer than any proxy's, so that it's the proxy who closes idle connections
max_requests = 0
accesslog = None  # the portal logs its own lines, with the request id
loglevel = os.environ.get("GUNICORN_LOGLEVEL", "warning")
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  (its heartbeat file belongs into memory)


def post_fork(server, worker):
    """A worker cuts what is still open, and settles it, some seconds before the master kills the worker itself.

    Both had the same grace: the master's kill came first, and cut streams stayed on hold for the sweep.
    """
    worker.cfg.set("graceful_timeout", max(1, worker.cfg.graceful_timeout - 4))


def worker_exit(server, worker):
    """The gateway says farewell, so that nobody waits for its sign of life."""
    app = getattr(worker, "wsgi", None)
    door = getattr(app, "extensions", {}).get("chat_door") if app is not None else None
    if door is not None:
        door.stop()
