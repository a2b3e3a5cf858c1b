"""A mail server for one test: real SMTP on a real socket, and it fails where it is told to."""

import base64
import contextlib
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

CUT = ""
"""As an answer: none, and the connection ends."""
STALL = "…"
"""As an answer: none, and the connection stays."""


@dataclass
class MailServer:
    """What it says and what it heard.

    answers: what is said instead of the usual, by command (`banner`, `ehlo`, `mail`, `rcpt`, `data`, `text`, …).
    pause: seconds before each answer. tls: for STARTTLS, or from the first byte on where `wrapped`. Filled: commands
    (with arguments), mails (as they came, dots unstuffed), and whether the latest was sent under TLS.
    """

    answers: dict[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("8BITMIME",)
    password: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    wrapped: bool = False
    pause: float = 0
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    encrypted: bool = False
    port: int = 0

    def mail(self) -> EmailMessage:
        """The only one, read as a mail program reads it."""
        [raw] = self.mails
        assert raw.isascii() or "SMTPUTF8" in self.extensions
        read = message_from_bytes(raw, policy=policy.default)
        assert isinstance(read, EmailMessage)
        return read

    @contextlib.contextmanager
    def running(self) -> Iterator["MailServer"]:
        """From here to the end of the block, at `port`."""
        over = threading.Event()
        server = _Listener(("127.0.0.1", 0), lambda *line: _Talk(self, over, *line))
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            over.set()
            server.shutdown()
            server.server_close()
            thread.join(5)


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


class _Talk(socketserver.StreamRequestHandler):
    """One conversation."""

    def __init__(self, mail_server: MailServer, over: threading.Event, *line: object) -> None:
        self.at, self.over = mail_server, over
        super().__init__(*line)  # type: ignore[arg-type]

    def handle(self) -> None:
        with contextlib.suppress(OSError, _Over):
            if self.at.wrapped:
                self._encrypt()
            self._say("banner", "220 here")
            while line := self.rfile.readline():
                command = line.decode().strip()
                self.at.commands.append(command)
                self._do(command)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
            self.connection.close()

    def _do(self, command: str) -> None:
        match command.partition(" ")[0].casefold():
            case "ehlo":
                offered = ["here", *self.at.extensions]
                if self.at.tls and not self.at.encrypted:
                    offered.append("STARTTLS")
                if self.at.password:
                    offered.append("AUTH PLAIN")
                self._say("ehlo", "\r\n".join([*(f"250-{word}" for word in offered), "250 SIZE 1000000"]))
            case "starttls":
                if self._say("starttls", "220 go on").startswith("2"):
                    self._encrypt()
            case "auth":
                user, password = self.at.password or ("", "")
                right = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
                self._say("auth", "235 good" if command.endswith(" " + right) else "535 5.7.8 who are you")
            case "data":
                if self._say("data", "354 go on").startswith("3"):
                    self._take()
            case "quit":
                self._say("quit", "221 bye")
                raise _Over
            case other:
                self._say(other, "250 good")

    def _take(self) -> None:
        text = b""
        while (line := self.rfile.readline()) and line != b".\r\n":
            text += line.removeprefix(b".") if line.startswith(b"..") else line
        self.at.mails.append(text)
        self._say("text", "250 2.0.0 queued")

    def _encrypt(self) -> None:
        assert self.at.tls is not None
        self.connection = self.request = self.at.tls.wrap_socket(self.connection, server_side=True)
        self.setup()
        self.at.encrypted = True

    def _say(self, what: str, usual: str) -> str:
        said = self.at.answers.get(what, usual)
        self.over.wait(self.at.pause)
        if said == STALL:
            self.over.wait(30)
        if said in (CUT, STALL):
            raise _Over
        self.wfile.write(said.encode() + b"\r\n")
        return said


class _Over(Exception):
    """The conversation ends here."""
