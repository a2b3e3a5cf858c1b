"""Finds what a person must see in a growing log: errors and tracebacks. Everything else stays in the file."""

import json
import re
from pathlib import Path

TRACEBACK = "Traceback (most recent call last)"
PLAIN_ERROR = re.compile(r"\b(ERROR|CRITICAL|FATAL|Error:|error:)|\[ERROR\]")


class LogWatch:
    """Reads on from where it stopped. `errors()` gives the new lines worth showing, JSON lines in plain words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._in_traceback = False

    def errors(self) -> list[str]:
        try:
            with self.path.open("rb") as log:
                log.seek(self._offset)
                new = log.read()
        except FileNotFoundError:
            return []
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return [shown for line in lines if (shown := self._worth_showing(line.decode(errors="replace")))]

    def _worth_showing(self, line: str) -> str | None:
        if line.startswith("{"):
            return _from_json(line)
        if TRACEBACK in line:
            self._in_traceback = True
            return line
        if self._in_traceback:
            self._in_traceback = line.startswith(" ") or not line
            return line
        return line if PLAIN_ERROR.search(line) else None


def _from_json(line: str) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("level") not in ("error", "critical"):
        return None
    story = f"{record.get('logger', '')}: {record.get('event', '')}"
    details = {k: v for k, v in record.items() if k not in ("time", "level", "logger", "event", "exception")}
    if details:
        story += " " + json.dumps(details, ensure_ascii=False)
    exception = str(record.get("exception") or "").rstrip()
    return f"{story}\n{exception}" if exception else story
