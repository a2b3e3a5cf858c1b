"""What carries messages out: WhatsApp through Resayil (`resayil.py`), e-mail (`smtp.py`). Plain data in and out.

A fault says whether trying again may help, and whether the message may be out all the same: only the carrier knows what
its own answers mean, and everything after depends on these two.
"""

import datetime as dt
from typing import NamedTuple, Protocol


class MessagingError(Exception):
    """The message was not accepted, as far as we know.

    reason: in our own words, never the carrier's text unread. permanent: trying again changes nothing. in_doubt: it may
    have been accepted all the same (an answer that was lost), so that it must be looked for before it is sent again.
    retry_after: seconds the carrier asks us to wait. unreachable: it can't be reached, or let us wait until we gave up:
    the next message would wait just as long.
    """

    def __init__(
        self,
        reason: str,
        *,
        permanent: bool = False,
        in_doubt: bool = False,
        retry_after: int | None = None,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.permanent, self.in_doubt, self.retry_after = reason, permanent, in_doubt, retry_after
        self.unreachable = unreachable


class Sent(NamedTuple):
    """A message that the carrier has. id: its own, may be empty for carriers that give none."""

    id: str


class WhatsApp(Protocol):
    """A number that sends WhatsApp messages. Every call gives up by itself after some seconds."""

    def send(self, phone: str, text: str, reference: str) -> Sent:
        """Send `text` to the E.164 number. reference: our own id of it. Raises MessagingError."""
        ...

    def find(
        self, phone: str, text: str, reference: str, since: dt.datetime | None = None, known: str = ""
    ) -> Sent | None:
        """The message the carrier may have accepted earlier: by our reference, or by number and text where it gives
        no references back, and then none older than `since`. known: its id of one that is not meant, since it failed
        and was sent again. Raises MessagingError, never in doubt, when it can't say.
        """
        ...

    def check(self) -> str:
        """What keeps the number from sending, in our own words; empty when all is well. Raises MessagingError."""
        ...


class Mail(Protocol):
    """A mail server."""

    def send(self, address: str, subject: str, text: str, reference: str) -> Sent:
        """Send a plain e-mail. reference becomes its Message-ID. Raises MessagingError."""
        ...
