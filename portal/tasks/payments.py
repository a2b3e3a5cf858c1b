"""Money on its way: what is due to be asked about, webhooks that were lost, renewals, cards to be forgotten."""

from portal.services import reconciliation, renewals


def ask_due() -> int:
    """Returns how many payments and refunds were asked about."""
    return reconciliation.ask_due()


def read_missed_webhooks() -> int:
    """Returns how many notices were of something of ours."""
    return reconciliation.read_missed()


def renew() -> int:
    """Returns how many renewals were begun, and cards forgotten."""
    return renewals.renew_due() + renewals.forget_removed()
