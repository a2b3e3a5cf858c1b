"""SQLite: every test gets a copy of a file."""

import itertools
import shutil
from pathlib import Path


class Sqlite:
    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)

    def empty(self) -> str:
        return f"sqlite:///{self.folder / f'{next(self._numbers)}.db'}"

    def copy(self, template: str) -> str:
        """A database like the one at `template` (an address that `empty` gave)."""
        source, target = _file(template), self.empty()
        left = source.with_name(source.name + "-wal")
        assert not left.exists() or left.stat().st_size == 0, (
            "the template still has a write-ahead log: a copy lacks it"
        )
        shutil.copyfile(source, _file(target))
        return target

    def drop(self, url: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            file = _file(url)
            file.with_name(file.name + suffix).unlink(missing_ok=True)

    def stop(self) -> None:
        """Nothing runs."""


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
