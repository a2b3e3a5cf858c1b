"""WhatsApp through Resayil's HTTP API, which is Wassenger's under another name: send, look for what was sent, check.

Each answer is read for two things alone: may trying again help, and may the message be out all the same. When to try
again and when to look is `services/notifications`' business. The API knows no idempotency key: `find` stands in for it.
What is known of the API, and what is guessed, is told in `sandbox/README.md`.
"""

import datetime as dt
import json
import math
import os
import re
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

from portal import clock
from portal.providers import calling
from portal.providers.messaging import MessagingError, Sent, answers

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
"""Between two pieces of an answer. An accepted message took up to 13 s to be answered for."""
ALL_SECONDS = 20.0
"""For one call: a body that drips is never silent, and would keep the worker."""
FIND_SECONDS = 40.0
"""For all pages of a search. With a send after it still less than the lease of the row: no second worker takes it."""
LARGEST_ANSWER = 4_000_000
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
RECENT = dt.timedelta(days=2)
"""How far back `find` looks by text: the same words sent last month are another message."""
SKEW = dt.timedelta(minutes=5)
"""The carrier's clock is not ours."""
PAGE, PAGES = 100, 5
SHORTEST_PAGE = 20
"""A page with fewer is the last one, whatever size the carrier caps its pages at."""


class Resayil:
    """One sending number. Keeps its connection between calls; may be used before and after a fork."""

    def __init__(self, base_url: str, key: str, device: str = "") -> None:
        """base_url: the host, its `/v1`, or the whole address of `/messages`. device: the id of the sending number,
        needed when the account has several."""
        self._base, self._key, self._device = _base(base_url), key.strip(), device.strip()
        self._session, self._pid = self._new_session(), os.getpid()

    def send(self, phone: str, text: str, reference: str) -> Sent:
        """Send `text` to the E.164 number. Raises MessagingError."""
        if not E164.fullmatch(phone):
            raise MessagingError("the number is not in international form (+ and digits)", permanent=True)
        body = {"phone": phone, "message": text, "reference": reference}
        if self._device:
            body["device"] = self._device
        told = self._call("POST", "/messages", body=body)
        if not isinstance(told, dict) or told.get("error") or not _id(told):
            answers.tell_of(200, told, text, self._key)
            raise MessagingError("the carrier's answer does not say whether it has the message", in_doubt=True)
        return Sent(_id(told))

    def find(
        self, phone: str, text: str, reference: str, since: dt.datetime | None = None, known: str = ""
    ) -> Sent | None:
        """The message the carrier has: by our reference, or, where it gives no reference back, by number and text.

        since: when it was first sent, by default two days ago. A message that it has and could not deliver counts: its
        receipt tells, and another would fare no better; but not the one with the id `known`, which failed before this
        one was sent: both have one reference. Raises MessagingError (never in doubt) when the carrier can't
        say.
        """
        after = (since or clock.utcnow() - RECENT) - SKEW
        sought = _Sought(phone, _plain(text), reference, after, known)
        query = {"phone": phone.removeprefix("+"), "size": str(PAGE)}
        seen: dict[str, dict[str, Any]] = {}
        until = time.monotonic() + FIND_SECONDS
        for number in range(PAGES):
            listed = self._listed("/messages", {**query, **({"page": str(number)} if number else {})}, until)
            if found := sought.among(listed):
                return Sent(_id(found))
            seen |= {_id(message): message for message in listed}
            if len(listed) < SHORTEST_PAGE or _reach_back(listed, after):
                return None
        # So many to one number, or pages that are all the first: the reference alone can tell.
        listed = self._listed("/messages", {**query, "reference": reference}, until)
        if found := sought.among(listed):
            return Sent(_id(found))
        if not listed and any(message.get("reference") for message in seen.values()):
            return None
        raise MessagingError("the carrier lists too many messages to this number for ours to be looked for")

    def check(self) -> str:
        """What keeps the number from sending, in our own words; empty when all is well. Raises MessagingError."""
        devices = self._listed("/devices")
        ours = [device for device in devices if not self._device or device.get("id") == self._device]
        if not devices:
            return "the account has no sending number"
        if not ours:
            return "the account has no sending number with the id that RESAYIL_DEVICE says"
        if len(ours) > 1:
            return f"the account has {len(ours)} sending numbers: RESAYIL_DEVICE must say which"
        if ours[0].get("status") != "operative":
            return "the sending number is not operative"
        session = ours[0].get("session")
        status = session.get("status") if isinstance(session, dict) else None
        return "" if status == "online" else answers.SESSIONS.get(str(status), "the sending number is not online")

    def connect_webhook(self, url: str, events: list[str]) -> bool:
        """Have the carrier tell `url` (which carries our token) of these events. False: it does already.

        What this host registered earlier under another address or for fewer events is removed. Raises MessagingError.
        """
        name = f"LLM Portal {urlsplit(url).hostname}"
        listed = [hook for hook in self._listed("/webhooks") if url == hook.get("url") or name == hook.get("name")]
        right = [hook for hook in listed if hook.get("url") == url and set(events) <= set(hook.get("events") or ())]
        if not right:
            body = {"name": name, "url": url, "events": events}
            self._call("POST", "/webhooks", body={**body, **({"device": self._device} if self._device else {})})
        for hook in listed:
            if hook not in right[:1] and _id(hook):
                self._call("DELETE", f"/webhooks/{_id(hook)}")
        return not right

    # --- the wire -----------------------------------------------------------------------------------------------------

    def _listed(self, path: str, query: dict[str, str] | None = None, until: float = math.inf) -> list[dict[str, Any]]:
        """A list of objects. What is none is a fault: read as an empty list it would have a message sent twice."""
        try:
            told = self._call("GET", path, query=query, until=until)
        except MessagingError as error:
            passing = MessagingError(error.reason, retry_after=error.retry_after, unreachable=error.unreachable)
            raise passing from error
        if not isinstance(told, list) or not all(isinstance(item, dict) for item in told):
            raise MessagingError(f"what the carrier answers to {path} is no list")
        return told

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
        until: float = math.inf,
    ) -> Any:
        """What is told in a 2xx, as it stands in its JSON. Raises MessagingError for all else."""
        answer = self._ask(method, path, body, query, min(until, time.monotonic() + ALL_SECONDS))
        try:
            told = json.loads(answer.body)
        except (ValueError, RecursionError):
            told = None
        if not 200 <= answer.status < 300:
            answers.tell_of(answer.status, told, str((body or {}).get("message", "")), self._key)
            raise answers.fault(answer.status, told, answer.retry_after)
        if told is None and answer.status != 204:
            raise MessagingError("what the carrier answers is no JSON", in_doubt=True)
        return told

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, query: dict[str, str] | None, until: float
    ) -> "_Answer":
        if not self._key:
            raise MessagingError("there is no key for the carrier (RESAYIL_API_KEY)")
        if self._pid != os.getpid():  # two processes on one connection would read each other's answers
            self._session, self._pid = self._new_session(), os.getpid()
        left = until - time.monotonic()
        if left <= 0:
            raise MessagingError("the carrier takes too long to answer", unreachable=True)
        status = 0
        try:
            with self._session.request(
                method,
                self._base + path,
                json=body,
                params=query,
                timeout=(min(CONNECT_SECONDS, left), min(READ_SECONDS, left)),
                allow_redirects=False,  # the key is for this address
                stream=True,
            ) as answer:
                status = answer.status_code
                came = calling.read(answer, until, LARGEST_ANSWER)
                return _Answer(status, came, answer.headers.get("Retry-After"))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise answers.broken(error, status) from error

    def _new_session(self) -> requests.Session:
        # Bytes: a key with a letter beyond Latin-1 is an answer of the carrier's then, not a crash here.
        return calling.session({"Token": self._key.encode()})


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: str | None


class _Sought(NamedTuple):
    """The message that is looked for."""

    phone: str
    text: str
    reference: str
    after: dt.datetime
    known: str

    def among(self, listed: list[dict[str, Any]]) -> dict[str, Any] | None:
        others = [message for message in listed if not self.known or _id(message) != self.known]
        by_reference = (message for message in others if message.get("reference") == self.reference)
        return next(by_reference, None) or next(filter(self._is_like, others), None)

    def _is_like(self, message: dict[str, Any]) -> bool:
        if message.get("reference"):  # it is somebody else's
            return False
        at = _instant(message)
        same = "".join(re.findall(r"[0-9]", str(message.get("phone")))) == self.phone.removeprefix("+")
        return same and _plain(str(message.get("message"))) == self.text and (at is None or at >= self.after)


def _base(url: str) -> str:
    """Where the API's paths begin: callers configure the host, its /v1, or the whole address of /messages."""
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/").removesuffix("/messages").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path if re.search(r"/v[0-9]+$", path) else path + "/v1", "", ""))


def _id(told: dict[str, Any]) -> str:
    """24 hex digits so far. Empty for none, and for what is none."""
    found = told.get("id")
    return found if isinstance(found, str) and len(found) <= 64 else ""


def _plain(text: str) -> str:
    """A text as it comes back from a service that tidies line ends and margins."""
    return text.replace("\r\n", "\n").strip()


def _instant(message: dict[str, Any]) -> dt.datetime | None:
    """When the carrier took it; None where it does not tell."""
    for name in ("createdAt", "deliverAt", "sentAt"):
        try:
            at = dt.datetime.fromisoformat(message[name])
        except (KeyError, TypeError, ValueError):
            continue
        return at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return None


def _reach_back(listed: list[dict[str, Any]], after: dt.datetime) -> bool:
    """Whether the list, newest first, goes on with what is too old anyway."""
    instants = [at for message in listed if (at := _instant(message))]
    in_order = len(instants) == len(listed) and instants == sorted(instants, reverse=True)
    return in_order and instants[-1] < after
