"""A simulated WhatsApp reseller (Resayil, a Wassenger white label) and the phones its messages arrive on.

`server.py` ties it together, `routes.py` is its API, `delivery.py` moves messages, `webhooks.py` tells of it,
`inbox.py` is the page of the customers' phones. sandbox/README.md says what is known of the real service and what is
guessed.
"""

from .server import WhatsApp

__all__ = ["WhatsApp"]
