"""Money in: `checkout` begins a payment, `confirming` is the one room where it comes to count, `held` is for people.

`transitions` says what may follow what, `verdict` what the provider's word means, `schedule` when it is asked again,
`merchant` how often. Who tells of a payment is in doubt until the provider was asked.
"""

from portal.services.payments.checkout import Item, begin, catalogue
from portal.services.payments.confirming import NoSuchPayment, confirm, read, settle

__all__ = ["Item", "NoSuchPayment", "begin", "catalogue", "confirm", "read", "settle"]
