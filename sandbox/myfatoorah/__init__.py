"""A simulated MyFatoorah (API v2): a merchant's account, the page where a customer pays, the vendor's staff.

`server.py` ties it together, `routes.py` is the API, `checkout.py` the page, `desk.py` the list of invoices;
`events.py` and `webhooks.py` tell the merchant. sandbox/README.md says what is known of the real service and what is
guessed.
"""

from .server import MyFatoorah

__all__ = ["MyFatoorah"]
