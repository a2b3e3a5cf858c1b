"""Logs: one JSON object a line, with the request id, and without secrets.

Redaction is by shape as well as by name: a key or token that slips into a message is masked before it is written.
What goes to the logger `portal.auth` is also written to a file for fail2ban (`AuthFile`), as plain anchored lines that
`deploy/fail2ban/` reads.
"""

import contextvars
import datetime as dt
import errno
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from portal.clock import KUWAIT

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAMES = re.compile(r"(?i)password|secret|token|authorization|cookie|api_?key$|^key$|^code$|^phone$")
_SECRET_SHAPES = re.compile(
    r"rsk_[0-9A-Za-z]{8,}"
    # MyFatoorah's keys, the new ones by their beginning, the old ones by their length.
    r"|SK_[A-Z]{3}_[0-9A-Za-z_-]{8,}"
    r"|\b[0-9A-Za-z][0-9A-Za-z_-]{99,}"
    r"|\$argon2[^\s,\"')]+"
    # PostgreSQL tells the whole row that a constraint refused, whatever the driver was told to hide.
    r"|(?<=Failing row contains )\([^\n]*"
    r"|(?i:bearer)\s+[^\s\"',]+"
    r"|\+[1-9][0-9]{7,14}\b"
    r"|(?<=/webhooks/resayil/)[^\s\"',?]+"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
    r"|(?i:password|secret|token)[\"']?\s*[=:]\s*[\"']?[^\s\"',&]+"
)
_encode = msgspec.json.Encoder(enc_hook=str).encode


def redact(text: str) -> str:
    """Mask what looks like a key, a bearer token, a phone number or a password in an address.

    Half of a character, as a broken upstream may send it, is written as an escape: the whole line was lost with it.
    """
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return _SECRET_SHAPES.sub("[redacted]", text)


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, event, request_id, and the record's extras."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redact(record.getMessage()),
        }
        if rid := request_id.get():
            line["request_id"] = rid
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = "[redacted]" if _SECRET_NAMES.search(name) else _safe(value)
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return _encode(line).decode()


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {k: "[redacted]" if _SECRET_NAMES.search(str(k)) else _safe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(v) for v in value]
    return value


def write(logger: str, event: str, fields: dict[str, Any]) -> None:
    """The line that every answered request leaves: as `logging` would write it, at a quarter of its cost.

    For fields of our own making alone: nothing is redacted.
    """
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "level": "info", "logger": logger, "event": event, "request_id": request_id.get(), **fields}
    sys.stderr.write(_encode(line).decode() + "\n")


class AuthLines(logging.Formatter):
    """`2026-11-21T07:30:00+03:00 portal.auth WARNING auth_failure ip=203.0.113.9 reason=bad_password email=x@y.z`

    fail2ban bans the address it finds in such a line. An e-mail with a line break or with ` ip=198.51.100.1` in it once
    banned a stranger: so whatever is an argument of the record becomes one word of printable ASCII here, whoever logs.
    """

    LONGEST = 256
    """Characters of one word: a whole line stays far below the 4 KB that are written in one piece."""

    def format(self, record: logging.LogRecord) -> str:
        time = dt.datetime.fromtimestamp(record.created, KUWAIT).isoformat(timespec="seconds")
        args = record.args
        if isinstance(args, dict):
            said = record.msg % {name: self.word(value) for name, value in args.items()}
        else:
            said = str(record.msg) % tuple(self.word(value) for value in args) if args else str(record.msg)
        return f"{time} {record.name} {record.levelname} {self.escaped(said)}"

    def word(self, value: Any) -> Any:
        """A value as it may stand in a line: numbers as they are, all else without spaces, cut, secrets masked."""
        if isinstance(value, (int, float)):
            return value
        return self.escaped(redact(str(value)[: self.LONGEST])).replace(" ", "\\x20")

    @staticmethod
    def escaped(text: str) -> str:
        """Printable ASCII alone: an Arabic letter is a decoding error to a fail2ban that runs in the C locale."""
        ascii_only = text.encode("ascii", "backslashreplace").decode()
        return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in ascii_only)


class AuthFile(logging.Handler):
    """The file that fail2ban reads. All workers of a host append to it; when it was rotated, each opens the new one.

    A full disk never becomes a failed sign-in; it is told on standard error, once for as long as it lasts.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(AuthLines())
        self.path = path
        self._descriptor: int | None = None
        self._told = False

    def prepare(self) -> None:
        """Create the file where it is missing: without it the whole fail2ban server of a host does not start."""
        try:
            missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
            for made in reversed(missing):
                if made == self.path:
                    os.close(self._open())
                else:
                    made.mkdir(mode=0o700, exist_ok=True)
                if os.geteuid() == 0:  # `flask seed` as root left a file that the web process could not write to
                    owner = made.parent.stat()
                    os.chown(made, owner.st_uid, owner.st_gid)
            if not os.access(self.path, os.W_OK):
                raise PermissionError(f"{self.path} is not ours to write")
        except OSError as error:
            self._tell(error)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("ascii") + b"\n"
            # One write for the whole line, past every buffer: other workers append between two of them.
            if os.write(self._current(), line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._told = False
        except OSError as error:
            self._tell(error)
        except Exception:  # noqa: BLE001  (logging's own way with a call that is wrong)
            self.handleError(record)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    def _current(self) -> int:
        """The descriptor of what lies under our path at this moment: logrotate moves the old file away."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        if self._descriptor is not None:
            if there is not None and os.path.samestat(there, os.fstat(self._descriptor)):
                return self._descriptor
            os.close(self._descriptor)
            self._descriptor = None
        self._descriptor = self._open()
        return self._descriptor

    def _open(self) -> int:
        # It names people: for its owner, and a group of the operator's choice. O_APPEND: no line overwrites another's.
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            logging.getLogger("portal.logs").error(
                "AUTH_LOG can't be written: fail2ban sees no failed sign-in",
                extra={"file": str(self.path), "error": str(error)},
            )


def configure(auth_log: Path | None = None, level: str = "INFO") -> None:
    """Send everything to standard error as JSON lines, and what `portal.auth` says to a file too. Safe to call twice.

    auth_log: the file for fail2ban, created where it is missing; None for none. A file that can't be written is an
    error line, not a refusal (that is `config`'s, where it was asked for).
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger("portal")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
    auth = logging.getLogger("portal.auth")
    for old in [h for h in auth.handlers if isinstance(h, AuthFile)]:
        auth.removeHandler(old)
        old.close()
    if auth_log is not None:
        file = AuthFile(auth_log)
        file.prepare()
        auth.addHandler(file)
