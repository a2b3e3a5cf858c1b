"""Run by `test_budget` in processes of their own: many who take at once, as workers do, or one that dies over it.

`python -m tests.routing.takers <database address> <folder> <how> <limit> <count>`; it says "ready", waits for a line,
and prints how many places it got. how: `threads`, `greenlets` (a gevent worker), `die-before`, `die-after` the commit.
"""

import sys

if sys.argv[3] == "greenlets":
    from gevent import monkey

    monkey.patch_all()

import os
import signal
import threading
from pathlib import Path

import sqlalchemy as sa

from portal import create_app
from portal.config import load_settings
from portal.extensions import db
from portal.services import budget
from tests.services.environment import portal_environment


def main(url: str, folder: str, how: str, limit: str, count: str) -> None:
    app = create_app(load_settings(portal_environment(Path(folder), DATABASE_URL=url)))
    got: list[object] = []

    def take() -> None:
        with app.app_context():
            got.append(budget.take(int(limit)))

    threads = [threading.Thread(target=take) for _ in range(int(count))]
    if how == "die-before":
        with app.app_context():
            sa.event.listen(db.engine, "commit", lambda _connection: os.kill(os.getpid(), signal.SIGKILL))
    print("ready", flush=True)
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if how == "die-after":
        os.kill(os.getpid(), signal.SIGKILL)
    print(sum(place is not None for place in got), len(got), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
