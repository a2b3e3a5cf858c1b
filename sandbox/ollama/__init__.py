"""Simulated Ollama servers and their cloud: the wire protocol, the queueing, the faults.

`server.py` ties a server together, `routes.py` is its door; `cloud.py` is what the cloud does differently.
"""

from .cloud import OllamaCloud
from .server import OllamaServer

__all__ = ["OllamaCloud", "OllamaServer"]
