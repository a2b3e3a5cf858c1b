"""What an answer of MyFatoorah means: the data of a success, or a fault that says whether to ask again, and whether
what was asked for may have been done all the same.

The provider's words are never our reason: they can hold our key, a card, a customer's number. They go to the log,
cleaned. `myfatoorah.py` asks, this file reads the envelope, `invoices.py` what is in it.
"""

import logging
import re
from typing import Any, NamedTuple

import requests
import urllib3

from portal.providers import calling
from portal.providers.payments import PaymentsError, wire

log = logging.getLogger("portal.payments")

USUAL_WAIT, LONGEST_WAIT = 60, 86_400
"""Seconds after a 429 that does not say how long; and the longest that is believed."""
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,39}")
_KEY_REFUSED = re.compile(r"(?i)token is not valid|not authori[sz]ed to use api|not have the required permission")
_NOTHING_FOUND = re.compile(r"(?i)\bno (?:data|invoice|record|match)|\bnot found|\bnot exist")
_UNDER_WAY = re.compile(r"(?i)already under process")
_TOO_LITTLE = re.compile(r"(?i)insufficient balance")
_EMAIL = re.compile(r"[^\s@,;:\"'<>]+@[^\s@,;:\"'<>]+")
_DIGITS = re.compile(r"\d(?:[ -]?\d){3,}")
_LONG = re.compile(r"[A-Za-z0-9_+/=-]{24,}")


class Asked(NamedTuple):
    """What was asked, as far as its answer needs it.

    acts: asked twice, it is done twice. seeks: something is looked up by a key. hidden: what may not be in a log.
    """

    endpoint: str
    acts: bool = False
    seeks: bool = False
    hidden: tuple[str, ...] = ()


def data(asked: Asked, status: int, body: bytes, retry_after: str | None) -> Any:
    """`Data` of a success, as it stands. Raises PaymentsError for all else."""
    try:
        told = wire.parsed(body)
    except wire.NotJSON:
        told = None
    if 200 <= status < 300 and _succeeded(told) is True:
        return told.get("Data")
    _tell(asked, status, body, told)
    raise _fault(asked, status, body, told, calling.seconds(retry_after))


def unreadable(asked: Asked, what: str) -> PaymentsError:
    """A success that lacks what it is about. Whatever acts has been done, then, and nobody knows by which id."""
    log.error("the payment provider's answer lacks what was asked for", extra={"endpoint": asked.endpoint})
    return PaymentsError(f"the payment provider's answer holds no {what}", in_doubt=asked.acts)


def broken(asked: Asked, error: Exception, status: int) -> PaymentsError:
    """A call that came to no whole answer. status: of its head, 0 where there was none yet."""
    log.warning(
        "no answer from the payment provider",
        extra={"endpoint": asked.endpoint, "status": status, "error": type(error).__name__},
    )
    if calling.unreachable(error):
        return PaymentsError("the payment provider can't be reached")
    if calling.mistrusted(error):
        return PaymentsError("the payment provider's certificate is not trusted")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return PaymentsError("MYFATOORAH_BASE_URL is no address")
    if isinstance(error, (requests.exceptions.InvalidHeader, UnicodeError)):
        return PaymentsError("MYFATOORAH_API_KEY is no key")
    # The head of a refusal is enough to know that nothing was done; the rest would only have told why.
    doubt = asked.acts and (status < 300 or status >= 500)
    if isinstance(error, (requests.Timeout, urllib3.exceptions.ReadTimeoutError)):
        return PaymentsError("the payment provider takes too long to answer", in_doubt=doubt)
    return PaymentsError("the payment provider's answer did not come whole", in_doubt=doubt)


def cleaned(said: str, hidden: tuple[str, ...] = (), most: int = 300) -> str:
    """The provider's words as they may stand in a log or before staff: one line, without digits, tokens, addresses."""
    line = "".join(sign if sign.isprintable() else " " for sign in said[: 4 * most])
    for word in sorted((word for word in hidden if len(word) > 3), key=len, reverse=True):
        line = re.sub(re.escape(word), "[ours]", line, flags=re.IGNORECASE)
    line = _LONG.sub("[token]", _EMAIL.sub("[e-mail]", line))
    return _DIGITS.sub("[digits]", line)[:most]


def _succeeded(told: Any) -> bool | None:
    """`IsSuccess`; the documents call it a string. None where it is no envelope at all."""
    found = wire.member(told, "IsSuccess")
    if isinstance(found, str):
        return {"true": True, "false": False}.get(found.strip().lower())
    return found if isinstance(found, bool) else None


def _fault(asked: Asked, status: int, body: bytes, told: Any, wait: int | None) -> PaymentsError:
    said = _said(told)
    if status == 401 or (not _errors(told) and asked.endpoint != "DirectPayment" and _KEY_REFUSED.search(said)):
        return PaymentsError(f"the payment provider refuses our key for {asked.endpoint} (MYFATOORAH_API_KEY)")
    if status == 403:
        whom = f"our key for {asked.endpoint}" if _succeeded(told) is False else "our address"
        return PaymentsError(f"the payment provider refuses {whom} (status 403)")
    if status == 429:
        wait = USUAL_WAIT if wait is None else max(1, min(wait, LONGEST_WAIT))
        return PaymentsError("the payment provider wants us to be slower", retry_after=wait)
    if status in (408, 409) or status >= 500:
        passing = None if wait is None else max(1, min(wait, LONGEST_WAIT))
        why = f"the payment provider answers {asked.endpoint} with status {status}"
        return PaymentsError(why, in_doubt=asked.acts, retry_after=passing)
    if 300 <= status < 400:
        return PaymentsError(f"the payment provider sends us to another address (status {status})")
    if _succeeded(told) is False:
        return _refused(asked, told, said)
    if status in (404, 405, 410):
        return PaymentsError(f"the payment provider knows no {asked.endpoint}: is MYFATOORAH_BASE_URL right?")
    if status < 300:
        what = "nothing" if not body.strip() else "what can't be read"
        return PaymentsError(f"the payment provider answers {what} to {asked.endpoint}", in_doubt=asked.acts)
    return PaymentsError(f"the payment provider answers {asked.endpoint} with status {status}")


def _refused(asked: Asked, told: Any, said: str) -> PaymentsError:
    """It was understood, and not done."""
    errors = _errors(told)
    names = {wire.text(one.get("Name"), 60) for one in errors}
    about = sorted(name for name in names if _IDENTIFIER.fullmatch(name))
    if _UNDER_WAY.search(said):  # perhaps the very one whose answer was lost
        return PaymentsError("a refund of this payment is under way already", in_doubt=asked.acts)
    if _TOO_LITTLE.search(said):
        return PaymentsError("our balance at the payment provider does not reach for this refund")
    if asked.seeks and ("key" in {name.lower() for name in about} or (not errors and _NOTHING_FOUND.search(said))):
        return PaymentsError("the payment provider has nothing by this key", unknown=True)
    if wire.member(told, "Data", "ErrorMessage"):
        return PaymentsError("the card was refused", permanent=True)
    if not errors and "invalid data" not in said.lower():
        return PaymentsError(f"the payment provider refuses {asked.endpoint} and does not say what is wrong")
    return PaymentsError(
        f"the payment provider refuses {asked.endpoint}: {', '.join(about) or 'its data'}", permanent=True
    )


def _errors(told: Any) -> list[dict[str, Any]]:
    return wire.objects(wire.member(told, "ValidationErrors")) or wire.objects(wire.member(told, "FieldsErrors"))


def _said(told: Any) -> str:
    """All its words: of each error (its name where that has none), of the data, of the message; or the bare string."""
    if isinstance(told, str):
        return told
    words = [one.get("Error") or one.get("Name") for one in _errors(told)]
    words += [wire.member(told, "Data", "ErrorMessage")]
    words += [wire.member(told, name) for name in ("ErrorMessage", "Message", "MessageDetail")]
    return " · ".join(word.strip() for word in words if isinstance(word, str) and word.strip())


def _tell(asked: Asked, status: int, body: bytes, told: Any) -> None:
    """Write a refusal to the log, for whoever must find out."""
    said = _said(told)
    if not said:
        said = "[no words]" if told is not None else "[an empty body]" if not body.strip() else "[no JSON]"
    about = sorted({name for one in _errors(told) if _IDENTIFIER.fullmatch(name := wire.text(one.get("Name"), 60))})
    extra = {"endpoint": asked.endpoint, "status": status, "said": cleaned(said, asked.hidden), "about": about}
    log.warning("the payment provider refuses", extra=extra)
