"""Messages that are due, and whether the number that sends them can."""

from flask import current_app

from portal.providers.messaging import MessagingError
from portal.services.notifications import carriers, delivery


def deliver(*delivery_ids: str) -> dict[str, int]:
    """Returns how many came to which state."""
    return delivery.deliver(delivery_ids)


def sweep_deliveries() -> int:
    """Returns how many were handed over."""
    return delivery.sweep()


def check_whatsapp() -> None:
    """Raises MessagingError while the number can't send: three times in a row, and staff hear of it by e-mail."""
    settings = current_app.config["PORTAL"]
    if settings.resayil_api_key and (trouble := carriers.whatsapp(settings).check()):
        raise MessagingError(trouble)
