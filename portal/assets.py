"""The built front end: addresses that change with a file's content, so that browsers may keep each for a year.

`npm run build` writes the files and `manifest.json` into `static/dist/`. A page without its style sheet is broken, so a
missing build is said at once, in words, and not served.
"""

import json
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, request, url_for

YEAR = 365 * 86_400


def init_app(app: Flask) -> None:
    app.jinja_env.globals["asset"] = asset
    app.after_request(_keep)


def asset(name: str) -> str:
    """`app.css` → `/static/app.css?v=<hash>`.

    Raises RuntimeError when the front end was not built, KeyError for a file it does not have.
    """
    return url_for("static", filename=name, v=_manifest()[name])


def _manifest() -> dict[str, str]:
    path = Path(str(current_app.static_folder)) / "manifest.json"
    known: dict[str, Any] = current_app.extensions.setdefault("assets", {})
    try:
        written = path.stat().st_mtime_ns
        if known.get("written") != written:  # a build while the server runs is seen by the next page
            known.update(files=json.loads(path.read_text()), written=written)
    except FileNotFoundError:
        if "files" not in known:
            raise RuntimeError("the front end is not built: run npm ci && npm run build") from None
    files: dict[str, str] = known["files"]
    return files


def _keep(response: Response) -> Response:
    if request.endpoint == "static" and response.status_code == 304:
        response.close()  # it has no body, so nobody else closes the file that was opened for it
    if request.endpoint == "static" and "v" in request.args and response.status_code in (200, 206, 304):
        response.cache_control.no_cache = None
        response.cache_control.public = True
        response.cache_control.max_age = YEAR
        response.cache_control.immutable = True
    return response
