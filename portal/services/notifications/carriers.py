"""The carriers of this portal, made from its settings and kept: a connection is used for many messages."""

from urllib.parse import urlsplit

from flask import current_app

from portal.config import Settings
from portal.providers.messaging import Mail, WhatsApp
from portal.providers.messaging.resayil import Resayil
from portal.providers.messaging.smtp import SmtpMail


def whatsapp(settings: Settings) -> WhatsApp:
    """The number that sends."""
    made: WhatsApp | None = current_app.extensions.get("whatsapp")
    if made is None:
        made = Resayil(settings.resayil_api_url, settings.resayil_api_key, settings.resayil_device)
        current_app.extensions["whatsapp"] = made
    return made


def mail(settings: Settings) -> Mail:
    """The mail server of SMTP_URL."""
    made: Mail | None = current_app.extensions.get("mail")
    if made is None:
        sender = settings.mail_from or f"no-reply@{urlsplit(settings.base_url).hostname}"
        made = SmtpMail(settings.smtp_url, sender)
        current_app.extensions["mail"] = made
    return made
