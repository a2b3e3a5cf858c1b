"""How one can pay at the moment, for pages: a provider that is away is no reason for a page not to stand."""

from collections.abc import Sequence
from typing import NamedTuple

from portal.providers.payments import Method, PaymentsError
from portal.services.payments import merchant


class Ways(NamedTuple):
    """methods: KNET first, none while they can't be read. direct: kept cards can be charged."""

    methods: Sequence[Method] = ()
    direct: bool = False


def ways() -> Ways:
    """As the provider tells; none while it does not, or nothing can be paid here. Asks over HTTP now and then: outside
    any transaction."""
    if not merchant.is_open():
        return Ways()
    try:
        return Ways(merchant.methods(), merchant.direct_method() is not None)
    except PaymentsError:
        return Ways()
