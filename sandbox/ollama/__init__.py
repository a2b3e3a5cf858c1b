"""A simulated Ollama server: the wire protocol, the queueing, the faults.

`server.py` ties it together; `routes.py` is its door.
"""

from .server import OllamaServer

__all__ = ["OllamaServer"]
