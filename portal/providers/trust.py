"""Whose certificates are trusted when `requests` asks: the system's, as the gateway does.

An operator who adds a certificate authority adds it to the machine, not to a bundle that a Python package brings along.
"""

import ssl
from typing import Any

from requests.adapters import HTTPAdapter


class SystemTrust(HTTPAdapter):
    """To be mounted on a session for `https://`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **kwargs)
