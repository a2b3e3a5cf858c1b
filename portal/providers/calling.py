"""What every client of somebody else's HTTP API needs: a session that knows nothing but its key, a body that ends, and
why a call came to nothing.

What a fault means for a message or for money is the client's business (`messaging/answers.py`, `payments/answers.py`).
"""

import datetime as dt
import email.utils
import http.cookiejar
import re
import ssl
import time
from collections.abc import Mapping

import requests
import urllib3

from portal import clock
from portal.providers.trust import SystemTrust


def session(headers: Mapping[str, str | bytes]) -> requests.Session:
    """A session that sends these headers and brings nothing along from the machine or from an earlier answer."""
    made = requests.Session()
    # Else a .netrc would add a password of its own, and a proxy of the shell's would be told of the key.
    made.trust_env = False
    made.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    made.mount("https://", SystemTrust())
    made.headers.update({"User-Agent": "llm-portal", "Accept-Encoding": "identity", **headers})
    return made


def read(answer: requests.Response, until: float, largest: int) -> bytes:
    """The whole body. until: of `time.monotonic`; largest: bytes. Raises requests' errors past either."""
    told = b""
    # Not iter_content: it waits for a piece to be full, and a server that drips would never let go of us.
    while piece := answer.raw.read1(65536):
        told += piece
        if time.monotonic() > until:
            raise requests.ReadTimeout
        if len(told) > largest:
            raise requests.RequestException
    return told


def unreachable(error: Exception) -> bool:
    """Whether nobody was there: no name, no answer to the knock, refused. Nothing was sent then."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(getattr(cause, "reason", None), urllib3.exceptions.NewConnectionError)


def mistrusted(error: BaseException | None) -> bool:
    """Whether a certificate was refused: before anything was sent. Other faults of TLS can come in the middle."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        reason = getattr(error.args[0], "reason", None) if error.args else None
        if any(isinstance(one, ssl.SSLCertVerificationError) for one in (error, reason, *error.args)):
            return True
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
    return False


def seconds(header: str | None) -> int | None:
    """A Retry-After, in seconds or as a date; None for none and for nonsense. Negative for a date that is past."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
        return round(((at if at.tzinfo else at.replace(tzinfo=dt.UTC)) - clock.utcnow()).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
