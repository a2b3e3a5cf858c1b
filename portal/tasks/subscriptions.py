"""The days of subscriptions: reminders in the morning, and the end of what has run out."""

from portal.services import subscriptions


def remind_of_expiry() -> int:
    """Returns how many were reminded."""
    return subscriptions.remind()


def end_subscriptions() -> int:
    """Returns how many ended."""
    return subscriptions.end_due()
