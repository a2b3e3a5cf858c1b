"""Shuts the way out: a test that would reach beyond this machine fails, whichever library tried.

An audit hook sees every socket of this process, also those of libraries that keep their own reference to `socket`.
"""

import ipaddress
import sys
from typing import Any


class WayOutShut(BaseException):
    """A test tried to leave the machine. Not an Exception: no broad `except` of a client may swallow it."""


def shut() -> None:
    """Refuse connections and name look-ups beyond loopback from here on. Can't be undone."""
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""  # a unix socket's address is a string
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or ""
    else:
        return
    if not _is_ours(host.decode() if isinstance(host, bytes) else str(host)):
        raise WayOutShut(f"the tests may not leave this machine: {event} {host}")


def _is_ours(host: str) -> bool:
    if host in ("", "localhost", "::"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
