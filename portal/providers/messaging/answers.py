"""What an answer of the WhatsApp carrier that is no success means: may it be tried again, may the message be out.

The carrier's words are never our reason: they can hold the key, the number, or the text with its code. They go to the
log, cleaned. `resayil.py` asks, this file reads.
"""

import logging
import re
from typing import Any

import requests
import urllib3

from portal.providers import calling
from portal.providers.messaging import MessagingError

log = logging.getLogger("portal.messaging")

LEAST_WAIT, LONGEST_WAIT = 60, 86_400
"""Seconds after a 429: "wait a minute" is what the carrier says where it says nothing else."""
SESSIONS = {
    "offline": "the sending number is offline: its telephone may be off",
    "timeout": "the sending number is not reached by WhatsApp",
    "conflict": "the sending number is open elsewhere (WhatsApp says conflict)",
    "authorize": "the sending number has to be linked again with its QR code",
    "error": "the sending number's session is broken",
    "loading": "the sending number is only starting",
}
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9:_.\[\]-]{0,39}")
_ECHO = 12
"""So many characters in a row of what we sent, and the carrier is repeating it."""


def fault(status: int, told: Any, retry_after: str | None = None) -> MessagingError:
    """What a status beyond 2xx means. told: its JSON, None for none. retry_after: the header's words."""
    match status:
        case 400 | 422:
            return _refused(status, told)
        case 401 | 403:
            return MessagingError(f"the carrier refuses our key (status {status})")
        case 402:
            return MessagingError("the carrier wants to be paid (status 402)")
        case 404 | 405 | 410:
            return MessagingError(f"the carrier knows no such address (status {status}): is RESAYIL_API_URL right?")
        case 408 | 409:
            return MessagingError(f"the carrier answers with status {status}", in_doubt=True)
        case 429:
            return MessagingError("the carrier wants us to be slower", retry_after=_seconds(retry_after) or LEAST_WAIT)
    if 300 <= status < 400:
        return MessagingError(f"the carrier sends us to another address (status {status})")
    # A 502 of the proxy in front came after the message was accepted, and a second one was delivered.
    return MessagingError(
        f"the carrier answers with status {status}", in_doubt=status >= 500, retry_after=_seconds(retry_after)
    )


def broken(error: Exception, status: int) -> MessagingError:
    """A call that came to no whole answer. status: of its head, 0 where there was none yet."""
    if calling.unreachable(error):
        return MessagingError("the carrier can't be reached", unreachable=True)
    if calling.mistrusted(error):
        return MessagingError("the carrier's certificate is not trusted")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return MessagingError("RESAYIL_API_URL is no address")
    if isinstance(error, (requests.exceptions.InvalidHeader, UnicodeError)):
        return MessagingError("RESAYIL_API_KEY is no key")
    # The head of a refusal is enough to know that the message is not out; the rest would only have told why.
    doubt = status < 300 or status >= 500
    if isinstance(error, (requests.Timeout, urllib3.exceptions.ReadTimeoutError)):
        return MessagingError("the carrier takes too long to answer", in_doubt=doubt, unreachable=True)
    return MessagingError("the carrier's answer did not come whole", in_doubt=doubt)


def tell_of(status: int, told: Any, text: str, key: str) -> None:
    """Write a refusal to the log, for whoever must find out. text, key: what may not be in it."""
    told = told if isinstance(told, dict) else {}
    said = str(told.get("message") or told.get("error") or "")[:300]
    echo = any(text[at : at + _ECHO] in said for at in range(max(1, len(text) - _ECHO + 1))) if text else False
    if echo or (key and key in said):
        said = "[left out: it repeats what we sent]"
    extra = {"status": status, "said": re.sub(r"[0-9]{4,}", "[digits]", said), "about": sorted(_about(told))}
    log.warning("the WhatsApp carrier refuses", extra=extra)


def _refused(status: int, told: Any) -> MessagingError:
    about = {word.partition(":")[0].partition(".")[0] for word in _about(told)}
    if "device" in about:  # no message is at fault, and none must die of it
        return MessagingError("the carrier does not take the sending number (RESAYIL_DEVICE)")
    if "phone" in about:
        return MessagingError("the carrier can't send to this number", permanent=True)
    if "message" in about:
        return MessagingError("the carrier does not take this text", permanent=True)
    return MessagingError(f"the carrier refuses the message (status {status})", permanent=True)


def _about(told: Any) -> set[str]:
    """The identifiers in an error: its codes, and the fields it is about."""
    if not isinstance(told, dict):
        return set()
    errors = told.get("errors")
    paths = [item.get("path") for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    words = [told.get("errorCode"), told.get("code"), *paths]
    return {word for word in words if isinstance(word, str) and _IDENTIFIER.fullmatch(word)}


def _seconds(header: str | None) -> int | None:
    """A Retry-After, in seconds or as a date, within reason; None for none and for nonsense."""
    wait = calling.seconds(header)
    return None if wait is None else max(LEAST_WAIT, min(wait, LONGEST_WAIT))
