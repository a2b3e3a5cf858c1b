"""The clients' environments, made on demand under `.cache/clients/` and kept until their lock changes.

Each suite's packages are locked with hashes (`requirements/*.txt`, `node/package-lock.json`). uv where there is one,
else venv and pip; Node is the system's or a wheel's, as for the front end (`dev/node.sh`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "clients"
NODE = HERE / "node"


class NotInstalled(RuntimeError):
    """An environment could not be made; the text is the installer's."""


def python(name: str) -> Path:
    """The interpreter of `requirements/NAME.txt`. Raises NotInstalled."""
    folder, lock = CACHE / name, HERE / "requirements" / f"{name}.txt"
    interpreter = folder / "bin" / "python"
    wanted = _fingerprint(lock.read_bytes(), sys.version.encode())
    if _ready(folder) == wanted:
        return interpreter
    install = ["install", "--quiet", "--require-hashes", "-r", str(lock)]
    if uv := shutil.which("uv"):
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        _run([uv, "pip", *install, "--python", str(interpreter)])
    else:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(interpreter), "-m", "pip", *install, "--disable-pip-version-check"])
    _set_ready(folder, wanted)
    return interpreter


def node() -> Path:
    """A folder with the Node suites and their packages. Raises NotInstalled."""
    folder = CACHE / "node"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.mjs"):
        old.unlink()
    # Node looks for packages beside the importing file: the suites move to their packages, not the packages to them.
    for source in (*NODE.glob("*.mjs"), NODE / "package.json", NODE / "package-lock.json", NODE / ".npmrc"):
        shutil.copyfile(source, folder / source.name)
    wanted = _fingerprint((NODE / "package-lock.json").read_bytes())
    if _ready(folder) != wanted:
        _run(node_command("npm", "ci", "--silent", "--prefix", str(folder)))
        _set_ready(folder, wanted)
    return folder


def node_command(*command: str) -> list[str]:
    """The command, run with a Node that is new enough."""
    return [str(ROOT / "dev" / "node.sh"), *command]


def _fingerprint(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _ready(folder: Path) -> str:
    try:
        return (folder / ".ready").read_text()
    except FileNotFoundError:
        return ""


def _set_ready(folder: Path, fingerprint: str) -> None:
    (folder / ".ready").write_text(fingerprint)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotInstalled(f"{' '.join(command)}\n{done.stdout}{done.stderr}".strip())
