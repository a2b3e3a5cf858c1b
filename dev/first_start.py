"""What `make run` invents at its first start and keeps: the session key, the administrator's password, a key to try.

They lie under instance/secrets/, one small file each, readable by their owner alone.
"""

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path


def private_folder(path: Path) -> Path:
    """Make the folder, for its owner alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def kept(path: Path, invent: Callable[[], str]) -> str:
    """The secret in the file; at the first time `invent` makes it."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return keep(path, invent())


def keep(path: Path, secret: str) -> str:
    """Write the secret, whole or not at all: Ctrl-C between open and write once left an empty session key."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    Path(name).replace(path)
    return secret


def session_key() -> str:
    return secrets.token_urlsafe(48)


def password() -> str:
    return secrets.token_urlsafe(12)
