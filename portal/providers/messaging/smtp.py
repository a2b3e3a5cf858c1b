"""E-mail through the operator's mail server: one plain text, one connection, one recipient.

An e-mail can't be looked for afterwards. So what matters is the one moment after which it may be out: from the last
line of the text until the server's answer, and nowhere else. The second try is its caller's business.
"""

import email.utils
import ipaddress
import math
import re
import smtplib
import ssl
import time
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from email_validator import EmailNotValidError, validate_email

from portal import clock
from portal.providers.messaging import MessagingError, Sent

SECONDS = 15.0
"""For the connection, and for each answer of the server."""
ALL_SECONDS = 40.0
"""Until the text has left. With the confirmation still less than the lease of the row: no second worker takes it."""
CONFIRM_SECONDS = 30.0
"""For the answer to the text: some servers look for spam first, and no answer means that nobody ever knows."""
_SIGN_IN = {530, 534, 535, 538}
"""Our password is refused, or one is wanted: no address is at fault."""
_ORDER = {500, 501, 502, 503, 504}
"""We are not understood: before an address was named it is the server, or its settings."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]+")


class SmtpMail:
    """The mail server of SMTP_URL."""

    def __init__(self, smtp_url: str, sender: str) -> None:
        """smtp_url: `smtp://user:password@host:587` or `smtps://…:465`, user and password URL-encoded; empty for none.
        sender: the address it comes from. Raises ValueError for what is no address."""
        parts = urlsplit(smtp_url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "smtps"
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._port = parts.port or (465 if self._tls else 587 if self._user else 25)
        self._sender = Address("LLM Portal", addr_spec=sender)

    def send(self, address: str, subject: str, text: str, reference: str) -> Sent:
        """Send a plain e-mail. Its Message-ID is made of the reference. Raises MessagingError; permanent where the
        server refuses this address or this text."""
        to = _recipient(address)
        if not self._host:
            raise MessagingError("there is no mail server (SMTP_URL)")
        until = time.monotonic() + ALL_SECONDS
        try:
            server = self._connected()
        except ssl.SSLCertVerificationError as error:
            raise MessagingError("the mail server's certificate is not trusted") from error
        except smtplib.SMTPResponseException as error:
            raise MessagingError(f"the mail server does not serve us ({_status(error.smtp_code)})") from error
        except (OSError, smtplib.SMTPException) as error:  # every fault of smtplib's is an OSError, and TLS's too
            raise MessagingError("the mail server can't be reached", unreachable=True) from error
        try:
            _hurry(server, until)
            self._sign_in(server)
            _hand_over(server, self._written(to, subject, text, reference), self._sender.addr_spec, to, until)
        except smtplib.SMTPResponseException as error:
            raise MessagingError(f"the mail server breaks off ({_status(error.smtp_code)})") from error
        except OSError as error:
            raise MessagingError("the connection to the mail server broke", unreachable=True) from error
        finally:
            _leave(server)
        return Sent("")

    def _connected(self) -> smtplib.SMTP:
        # Not its own guess of our name: that asks the network for it, and waits.
        name = self._sender.domain if re.fullmatch(r"[A-Za-z0-9.-]*[A-Za-z][A-Za-z0-9.-]*", self._sender.domain) else ""
        name = name or "[127.0.0.1]"
        if self._tls:
            return smtplib.SMTP_SSL(self._host, self._port, name, timeout=SECONDS, context=_context(self._host))
        server = smtplib.SMTP(self._host, self._port, name, timeout=SECONDS)
        try:
            server.ehlo_or_helo_if_needed()
            if server.has_extn("starttls"):
                self._secured(server)
            elif self._user and not _loopback(self._host):
                raise MessagingError("the mail server offers no TLS: it does not get our password")
        except BaseException:
            server.close()
            raise
        return server

    def _secured(self, server: smtplib.SMTP) -> None:
        try:
            server.starttls(context=_context(self._host))
        except smtplib.SMTPResponseException as error:
            if self._user and not _loopback(self._host):
                reason = f"the mail server refuses TLS (status {error.smtp_code}): it does not get our password"
                raise MessagingError(reason) from error

    def _sign_in(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if not self._user:
            return
        try:
            server.login(self._user, self._password)
        except smtplib.SMTPAuthenticationError as error:
            raise MessagingError(f"the mail server refuses our password (status {error.smtp_code})") from error
        except smtplib.SMTPNotSupportedError as error:
            raise MessagingError("the mail server wants no password, and SMTP_URL has one") from error
        except UnicodeError as error:
            raise MessagingError("the password in SMTP_URL has signs that SMTP can't carry") from error

    def _written(self, to: "_To", subject: str, text: str, reference: str) -> EmailMessage:
        # 7bit: what the oldest relay on the way passes on unharmed. Without it Arabic goes out as bare 8-bit lines.
        policy = (SMTPUTF8 if to.utf8 else SMTP).clone(cte_type="7bit")
        message = EmailMessage(policy=policy)
        message["From"] = self._sender
        message["To"] = Address("", *to.address.rsplit("@", 1))
        message["Subject"] = _UNSEEN.sub(" ", subject).strip()
        message["Date"] = email.utils.format_datetime(clock.utcnow())
        message["Message-ID"] = f"<{re.sub(r'[^0-9A-Za-z._-]', '', reference)}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # so that nobody's absence is told to a no-reply address
        message.set_content(text.encode("utf-8", "replace").decode(), charset="utf-8")
        return message


class _To(NamedTuple):
    """utf8: the part before the @ is not ASCII, which only some servers can carry."""

    address: str
    utf8: bool


def _recipient(address: str) -> _To:
    """One address and no more: a comma or a line break in it would have been a second recipient, or a header."""
    try:
        found = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise MessagingError("that is no e-mail address", permanent=True) from error
    return _To(found.ascii_email or f"{found.local_part}@{found.ascii_domain}", found.ascii_email is None)


def _hand_over(server: smtplib.SMTP, message: EmailMessage, sender: str, to: _To, until: float) -> None:
    """The envelope and the text. Raises MessagingError, SMTPResponseException, OSError."""
    if to.utf8 and not server.has_extn("smtputf8"):
        raise MessagingError("the mail server can't write to an address with such letters", permanent=True)
    _hurry(server, until)
    code, _ = server.mail(sender, ["SMTPUTF8", "BODY=8BITMIME"] if to.utf8 else [])
    if code != 250:
        raise _refused(code, "does not take our sender", final=False)
    _hurry(server, until)
    code, why = server.rcpt(to.address)
    if code not in (250, 251):
        # 5.7: a matter of permission ("relay access denied"), which an operator puts right. No fault of the address.
        ours = code in _SIGN_IN | (_ORDER - {501}) or b"5.7." in why[:8]
        raise _refused(code, "does not take this address", final=not ours)
    _hurry(server, until)
    code, _ = server.docmd("DATA")
    if code != 354:
        raise _refused(code, "does not take the message", final=code not in _ORDER)
    _hurry(server, until)
    server.send(re.sub(rb"(?m)^\.", b"..", message.as_bytes()) + b".\r\n")
    _hurry(server, math.inf, CONFIRM_SECONDS)
    try:
        code, _ = server.getreply()
    except OSError as error:
        lost = "the mail server took the message and did not confirm it"
        raise MessagingError(lost, in_doubt=True, unreachable=True) from error
    if not 200 <= code < 600:
        raise MessagingError("what the mail server says to the message is no answer", in_doubt=True)
    if code >= 300:
        raise _refused(code, "does not take the message", final=True)


def _hurry(server: smtplib.SMTP, until: float, seconds: float | None = None) -> None:
    """How long the next answer may take. Raises MessagingError when there is no time left."""
    left = until - time.monotonic()
    if left <= 0:
        raise MessagingError("the mail server takes too long to answer", unreachable=True)
    if server.sock is not None:
        server.sock.settimeout(min(SECONDS if seconds is None else seconds, left))


def _refused(code: int, what: str, *, final: bool) -> MessagingError:
    return MessagingError(f"the mail server {what} ({_status(code)})", permanent=final and 500 <= code < 600)


def _status(code: int) -> str:
    return f"status {code}" if code > 0 else "no answer of a mail server"


def _leave(server: smtplib.SMTP) -> None:
    """Without waiting for its good-bye: the message is out, or is not, already."""
    try:
        server.send(b"QUIT\r\n")
    except OSError:
        pass
    server.close()


def _context(host: str) -> ssl.SSLContext:
    """Trust as the system does. Nobody stands between us and our own machine, whose certificate names nobody."""
    context = ssl.create_default_context()
    if _loopback(host):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
