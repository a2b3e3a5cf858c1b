"""MyFatoorah's API v2: make an invoice, ask what became of it, charge a kept card, give back, list missed webhooks.

Nothing is believed and nothing is stored here; `services/payments` does both. `orders.py` writes what is sent,
`answers.py` and `invoices.py` read what comes back, `signatures.py` checks what they send by themselves.
"""

import datetime as dt
import logging
import os
import re
import time
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec
import requests
import urllib3

from portal.providers import calling
from portal.providers.payments import (
    KWD,
    Method,
    Notice,
    Opened,
    Order,
    PaymentsError,
    Refunded,
    Status,
    answers,
    invoices,
    orders,
    signatures,
    wire,
)
from portal.providers.payments.answers import Asked

log = logging.getLogger("portal.payments")

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
"""The vendor: wait at least 30 s for an answer."""
LARGEST_ANSWER = 8_000_000
"""A page of webhooks has 500 of them with all their attempts."""
PAGE = 500
LONGEST_COMMENT = 250
# A Decimal as a JSON number with the digits it has: 2.500 leaves as 2.500, never as a float.
_encode = msgspec.json.Encoder(decimal_format="number").encode


class MyFatoorah:
    """One merchant's account. Keeps its connections between calls; may be used before and after a fork."""

    def __init__(
        self, base_url: str, api_key: str, *, seconds: tuple[float, float] = (CONNECT_SECONDS, READ_SECONDS)
    ) -> None:
        """base_url: the host, or its `/v2`. seconds: to be let in, of silence; a call is over after both together."""
        self._base, self._key, self._seconds = _base(base_url), api_key.strip(), seconds
        self._session, self._pid = self._new_session(), os.getpid()

    def methods(self) -> tuple[Method, ...]:
        """The ways to pay that this account has, with what each adds to one dinar. Raises PaymentsError."""
        asked = Asked("InitiatePayment")
        found = invoices.methods(self._call(asked, {"InvoiceAmount": orders.dinars(1000), "CurrencyIso": KWD}))
        if found is None:
            raise answers.unreadable(asked, "methods")
        return found

    def open(self, order: Order) -> Opened:
        """Make an invoice. Raises PaymentsError; ValueError for an amount that is no positive multiple of 10 fils."""
        asked = Asked("ExecutePayment", acts=True, hidden=_payer(order))
        told = self._call(asked, orders.execute_payment(order))
        opened = Opened(wire.identity(wire.member(told, "InvoiceId")), wire.text(wire.member(told, "PaymentURL"), 4000))
        if not opened.invoice or urlsplit(_or_empty(opened.url)).scheme not in ("http", "https"):
            raise answers.unreadable(asked, "invoice with an address to pay at")
        return opened

    def charge(self, opened: Opened, token: str) -> None:
        """Charge a kept card; there is nobody to type a code, so without 3-D Secure. Ask for the status afterwards.

        Raises PaymentsError, permanent where the card was refused.
        """
        url = _or_empty(opened.url)
        if not self._is_theirs(url):
            raise PaymentsError("the address to charge a card at is not the payment provider's", permanent=True)
        if not token:
            raise PaymentsError("there is no card to charge", permanent=True)
        asked = Asked("DirectPayment", acts=True, hidden=(token, url))
        told = self._call(asked, {"PaymentType": "token", "token": token, "Bypass3DS": True}, url=url)
        if wire.member(told, "ErrorMessage"):
            log.warning(
                "a kept card was not charged",
                extra={"invoice": opened.invoice, "said": answers.cleaned(str(told["ErrorMessage"]), asked.hidden)},
            )
            raise PaymentsError("the card was refused", permanent=True)

    def status(self, *, invoice: str = "", reference: str = "") -> Status:
        """What is known of an invoice, by its id, else of the latest with our reference. Raises PaymentsError."""
        if not invoice and not reference:
            raise ValueError("an invoice or a reference")
        asked = Asked("GetPaymentStatus", seeks=True)
        key, kind = (invoice, "InvoiceId") if invoice else (reference, "CustomerReference")
        found = invoices.status(self._call(asked, {"Key": key, "KeyType": kind}))
        if found is None:
            raise answers.unreadable(asked, "invoice")
        return found

    def refund(self, invoice: str, amount_fils: int, reference: str, comment: str) -> Refunded:
        """File a request for money to be given back. Raises PaymentsError; ValueError as `open` does."""
        asked = Asked("MakeRefund", acts=True, hidden=(comment,))
        body = {
            "KeyType": "InvoiceId",
            "Key": invoice,
            "Amount": orders.dinars(amount_fils),
            "ServiceChargeOnCustomer": False,
            "Comment": comment[:LONGEST_COMMENT],
            "ExternalIdentifier": reference,
        }
        made = invoices.refund_made(self._call(asked, body))
        if made is None:
            raise answers.unreadable(asked, "refund")
        return made

    def refunds(self, invoice: str) -> tuple[Refunded, ...]:
        """Every refund that was asked for on an invoice. "Nothing by this key" is none. Raises PaymentsError."""
        asked = Asked("GetRefundStatus", seeks=True)
        try:
            found = invoices.refunds(self._call(asked, {"KeyType": "InvoiceId", "Key": invoice}))
        except PaymentsError as error:
            if error.unknown:
                return ()
            raise
        if found is None:
            raise answers.unreadable(asked, "list of refunds")
        return found

    def missed(self, since: dt.datetime, until: dt.datetime, page: int) -> tuple[tuple[Notice, ...], bool]:
        """The webhooks of payments and refunds between two instants: (those of the page, from 1; another follows)."""
        asked = Asked("GetWebhooks")
        # No EventType: V1 and V2 name theirs differently, and which of the two is set is the account's business.
        told = self._call(asked, {"Start": _utc(since), "End": _utc(until), "Page": page})
        listed, pages = wire.member(told, "Items"), wire.identity(wire.member(told, "Pagination", "TotalPages"))
        if not isinstance(listed, list):
            raise answers.unreadable(asked, "list of webhooks")
        further = len(listed) >= PAGE or (pages.isdigit() and page < int(pages[:9]))
        return signatures.notices(listed), bool(listed) and further

    def forget(self, token: str) -> None:
        """Forget a kept card. Raises PaymentsError."""
        if not token:
            raise PaymentsError("there is no card to forget", permanent=True)
        # In the query, as they want it; a JSON body is not looked at.
        self._call(Asked("CancelToken", hidden=(token,)), None, query={"token": token})

    # --- the wire -----------------------------------------------------------------------------------------------------

    def _call(
        self, asked: Asked, body: dict[str, Any] | None, *, url: str = "", query: dict[str, str] | None = None
    ) -> Any:
        """`Data` of a success. Raises PaymentsError for all else."""
        answer = self._ask(asked, url or f"{self._base}/{asked.endpoint}", body, query)
        return answers.data(asked._replace(hidden=(*asked.hidden, self._key)), *answer)

    def _ask(self, asked: Asked, url: str, body: dict[str, Any] | None, query: dict[str, str] | None) -> "_Answer":
        if not self._key:
            raise PaymentsError("there is no key for the payment provider (MYFATOORAH_API_KEY)")
        if self._pid != os.getpid():  # two processes on one connection would read each other's answers
            self._session, self._pid = self._new_session(), os.getpid()
        sent = None if body is None else _sendable(body)
        status, until = 0, time.monotonic() + sum(self._seconds)
        try:
            with self._session.post(
                url,
                data=sent,
                params=query,
                headers={} if sent is None else {"Content-Type": "application/json"},
                timeout=self._seconds,
                allow_redirects=False,  # the key is for this address
                stream=True,
            ) as answer:
                status = answer.status_code
                return _Answer(status, calling.read(answer, until, LARGEST_ANSWER), answer.headers.get("Retry-After"))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # Not `from error`: its text has the whole address, and with it the token of a card.
            raise answers.broken(asked, error, status) from None

    def _new_session(self) -> requests.Session:
        # Bytes: a key with a letter beyond Latin-1 is an answer of theirs then, not a crash here.
        return calling.session({"Authorization": f"Bearer {self._key}".encode(), "Accept": "application/json"})

    def _is_theirs(self, url: str) -> bool:
        """Whether a card's token may be posted there: the API's own address, or MyFatoorah's over TLS."""
        try:
            there, own = urlsplit(url), urlsplit(self._base)
            if there.username is not None or there.password is not None:
                return False
            host = there.hostname or ""
            named = re.fullmatch(r"(?:[a-z0-9-]+\.)*myfatoorah\.com", host) is not None
            return _origin(there) == _origin(own) or (named and there.scheme == "https" and there.port in (None, 443))
        except ValueError:
            return False


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: str | None


def _base(url: str) -> str:
    """Where the paths of v2 begin: operators configure the host or its /v2."""
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/").removesuffix("/v2")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/v2", "", ""))


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _or_empty(url: str) -> str:
    """An address as it will be asked for. Empty for none: a backslash or a blank is read differently by each reader."""
    try:
        return url if re.fullmatch(r"[!-\[\]-~]+", url) and urlsplit(url).hostname else ""
    except ValueError:
        return ""


def _payer(order: Order) -> tuple[str, ...]:
    """What tells who pays, as we have it and as it was sent."""
    return order.name, orders.name_of(order.name), order.email, order.phone


def _sendable(body: dict[str, Any]) -> bytes:
    try:
        return _encode(body)
    except UnicodeEncodeError:
        raise PaymentsError("there is half of a character in what would be sent", permanent=True) from None


def _utc(at: dt.datetime) -> str:
    if at.tzinfo is None:
        raise ValueError("an instant without its zone")
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
